"""What does the loss cost, against everything that a user could pick instead?

    python benchmarks/speed/loss.py                    # everything: results/loss-NAME.json and .md
    python benchmarks/speed/loss.py --target           # 32 patches of 160², the case of the stated targets, alone
    python benchmarks/speed/loss.py --check            # that case against the committed ratios

Cases of one size run in turns in one process; ratios are to the naive port in the same run. The error is the largest of
value and gradient (norm of the difference over the norm) against the same loss in float64.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import rivals
import torch
import torch.nn.functional as F
from timing import described, interleave, machine, roof
from torch import Tensor

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.extractor import Extractor
from atmoloss.files import write_atomically
from atmoloss.weights import WeightsInfo

HERE = Path(__file__).resolve().parent
SIZES, BATCHES = (64, 96, 160, 256), (1, 8, 32)
TARGET = (160, 32)
TOLERANCE = 0.15
Make = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""Of the target: what turns a prediction into a scalar."""


def published() -> Extractor:
    """Return the published network as converted checkpoints are used, on normalised fields, with random weights."""
    encoder = rivals.published_encoder()
    default = load_extractor()
    info = WeightsInfo("published", default.info.channels, encoder.architecture, default.info.normalization)
    return Extractor(encoder, default.normalization, info)


def ours(extractor: Extractor, dtype: str, cached: bool, **options: object) -> Make:
    """Return a case of AtmoDistLoss on normalised fields."""
    loss = AtmoDistLoss(extractor, compute_dtype=dtype, validate=False, normalization=None, mse_weight=0.0, **options)

    def make(target: Tensor) -> Callable[[Tensor], Tensor]:
        goal = loss.features(target) if cached else target
        return lambda prediction: loss(prediction, goal)

    return make


def pairwise(function: rivals.Loss) -> Make:
    """Return a case of a plain function of two fields."""
    return lambda target: lambda prediction: function(prediction, target)


def vgg(dtype: torch.dtype, cached: bool, device: torch.device) -> Make:
    torch.manual_seed(0)
    net = rivals.VGG16(dtype).to(device)

    def make(target: Tensor) -> Callable[[Tensor], Tensor]:
        if not cached:
            return lambda prediction: net(prediction, target)
        with torch.no_grad():
            goal = net.features(target)
        return lambda prediction: F.mse_loss(net.features(prediction), goal)

    return make


def cases(device: torch.device, dtypes: tuple[str, ...] = ("float32", "bfloat16")) -> dict[str, Make]:
    """Return every case by name, the naive port first."""
    paper, default = published().to(device), load_extractor().to(device)
    out = {"naive port": pairwise(rivals.NaivePort(rivals.published_encoder()).to(device))}
    for dtype in dtypes:
        for cached in (False, True):
            tail = f"{dtype}{', cached target' * cached}"
            out[f"published, {tail}"] = ours(paper, dtype, cached, layers=("stage4",), scale="none")
            out[f"default, {tail}"] = ours(default, dtype, cached)
            out[f"vgg16 relu3_3, {tail}"] = vgg(getattr(torch, dtype), cached, device)
    out["ssim"] = pairwise(rivals.ssim)
    out["mse"] = pairwise(F.mse_loss)
    return out | {name: pairwise(function) for name, function in rivals.installed().items()}


def errors_of(make: Make, reference: Make, prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """Return the relative errors of value and gradient against ``reference`` in float64."""
    results = []
    for one, dtype in ((make, torch.float32), (reference, torch.float64)):
        p = prediction.to(dtype).requires_grad_()
        value = one(target.to(dtype))(p)
        (gradient,) = torch.autograd.grad(value, p)
        results.append((value.detach().double(), gradient.double()))
    (value, gradient), (true_value, true_gradient) = results
    of_value = float((value - true_value).abs() / true_value.abs())
    return of_value, float((gradient - true_gradient).norm() / true_gradient.norm())


def references(device: torch.device) -> dict[str, Make]:
    """Return the float64 form of each family of cases."""
    return {
        "published": ours(published().to(device), "float64", False, layers=("stage4",), scale="none"),
        "default": ours(load_extractor().to(device), "float64", False),
        "vgg16 relu3_3": vgg(torch.float64, False, device),
    }


def is_bearable(name: str, size: int, batch: int) -> bool:
    """Leave out, beyond the case of the targets, what takes minutes and tells nothing new."""
    return "vgg" not in name or (size, batch) == TARGET or size**2 * batch <= 160**2 * 8


def passes(name: str) -> int:
    """Passes through the encoder that forward and backward must take: two, and one for a target not cached."""
    return 2 if "cached" in name else 3


def measure(size: int, batch: int, device: torch.device, entries: Mapping[str, Make], budget: float) -> list[dict]:
    """Return a row per case and phase."""
    torch.manual_seed(1)
    target = torch.randn(batch, 2, size, size, device=device)
    prediction = (target + 0.3 * torch.randn_like(target)).requires_grad_()
    functions = {name: make(target) for name, make in entries.items()}

    def backward(name: str) -> Callable[[], object]:
        def step() -> None:
            prediction.grad = None
            functions[name](prediction).backward()

        return step

    def forward(name: str) -> Callable[[], object]:
        def step() -> None:
            with torch.no_grad():
                functions[name](prediction)

        return step

    paper, default = rivals.published_encoder().flops(size, size)["stage4"], load_extractor()
    flops = {
        "naive port": paper,
        "published": paper,
        "default": default.encoder.flops(size, size)[max(default.info.layers)],
        "vgg16 relu3_3": sum(
            2 * 9 * i * o * (size // s) ** 2
            for i, o, s in ((2, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 2), (128, 256, 4), *[(256, 256, 4)] * 2)
        ),
    }
    rows = []
    for phase, make in (("forward", forward), ("forward+backward", backward)):
        timings = interleave([make(name) for name in entries], device, budget=budget)
        naive = timings[0].median
        for name, timing in zip(entries, timings, strict=True):
            row = {"size": size, "batch": batch, "phase": phase, "case": name, "ms": round(1e3 * timing.median, 3)}
            row |= {"spread_ms": round(1e3 * timing.spread, 3), "rounds": timing.rounds}
            row["times_faster_than_naive"] = round(naive / timing.median, 3)
            family = name.split(",")[0]
            if family in flops and phase == "forward+backward":
                row["gflops"] = round(passes(name) * batch * flops[family] / timing.median / 1e9, 2)
            rows.append(row)
    return rows


def table(report: dict) -> str:
    """Return the Markdown of the results."""
    lines = [f"`{report['command']}`: {described(report['machine'])}.", ""]
    lines += [
        "Matrix products (the roof): " + ", ".join(f"{k} {v:.0f} GFLOP/s" for k, v in report["roof"].items()),
        "",
    ]
    size, batch = TARGET
    lines += [f"Forward and backward, {batch} patches of {size}²:", ""]
    lines += [
        "| case | ms | spread | × naive port | GFLOP/s | share of the roof | error |",
        "|---" * 7 + "|",
    ]
    for row in report["rows"]:
        if (row["size"], row["batch"], row["phase"]) != (*TARGET, "forward+backward"):
            continue
        dtype = "bfloat16" if "bfloat16" in row["case"] else "float32"
        rate = row.get("gflops")
        share = f"{100 * rate / report['roof'][dtype]:.0f} %" if rate else ""
        error = report["errors"].get(row["case"])
        lines.append(
            f"| {row['case']} | {row['ms']:.1f} | {row['spread_ms']:.1f} | {row['times_faster_than_naive']:.2f} | "
            f"{rate or ''} | {share} | {'' if error is None else f'{error:.1e}'} |"
        )
    for phase in ("forward", "forward+backward"):
        of_phase = [r for r in report["rows"] if r["phase"] == phase]
        columns = sorted({(r["size"], r["batch"]) for r in of_phase})
        lines += ["", f"Times faster than the naive port, {phase}, by patch size × batch:", ""]
        lines += ["| case | " + " | ".join(f"{s}²×{b}" for s, b in columns) + " |", "|---|" + "---|" * len(columns)]
        for name in dict.fromkeys(r["case"] for r in of_phase):
            value = {(r["size"], r["batch"]): r["times_faster_than_naive"] for r in of_phase if r["case"] == name}
            lines.append(f"| {name} | " + " | ".join(f"{value[c]:.2f}" if c in value else "" for c in columns) + " |")
    return "\n".join(lines) + "\n"


def check(device: torch.device, committed: Path) -> int:
    """Compare ratios of the target case with the committed ones; 1 where one fell by more than the tolerance."""
    size, batch = TARGET
    if not committed.is_file():
        print(f"{committed} is missing: run benchmarks/speed/loss.py on this kind of machine first", file=sys.stderr)
        return 1
    before = {
        row["case"]: row["times_faster_than_naive"]
        for row in json.loads(committed.read_text(encoding="utf-8"))["rows"]
        if (row["size"], row["batch"], row["phase"]) == (*TARGET, "forward+backward")
    }
    mine = ("naive", "published", "default")
    entries = {name: make for name, make in cases(device).items() if name.startswith(mine) and name in before}
    slower = 0
    for row in measure(size, batch, device, entries, budget=60):
        if row["phase"] == "forward+backward":
            now, then = row["times_faster_than_naive"], before[row["case"]]
            bad = now < (1 - TOLERANCE) * then
            slower += bad
            print(f"{row['case']:40s} {now:6.2f} x naive, committed {then:6.2f}{'   SLOWER' * bad}")
    return int(slower > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--name", default="", help="of the results (default: the device's type)")
    parser.add_argument("--budget", type=float, default=20, help="seconds per size, batch and phase")
    parser.add_argument("--target", action="store_true", help="only the case of the stated targets")
    parser.add_argument("--check", action="store_true", help="compare with the committed results, write nothing")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    path = HERE / "results" / f"loss-{arguments.name or device.type}.json"
    if arguments.check:
        return check(device, path)
    report: dict = {"command": "python benchmarks/speed/loss.py", "machine": machine(device), "rows": [], "errors": {}}
    # Emulated, bfloat16 takes minutes and says nothing about machines that have it.
    dtypes = ("float32",) if report["machine"]["bfloat16"] == "emulated" else ("float32", "bfloat16")
    report["roof"] = {d: round(roof(getattr(torch, d), device), 1) for d in dtypes}
    entries = cases(device, dtypes)
    torch.manual_seed(2)
    target = torch.randn(2, 2, *(TARGET[0],) * 2, device=device)
    prediction = target + 0.3 * torch.randn_like(target)
    for family, reference in references(device).items():
        for name in entries:
            if name.startswith(family) or (family == "published" and name == "naive port"):
                report["errors"][name] = max(errors_of(entries[name], reference, prediction, target))
    for size, batch in [TARGET] if arguments.target else [(s, b) for s in SIZES for b in BATCHES]:
        chosen = {n: m for n, m in entries.items() if is_bearable(n, size, batch)}
        report["rows"] += measure(size, batch, device, chosen, arguments.budget)
        print(f"{size}² x {batch} done", flush=True)
    print(table(report))
    if not arguments.target:
        write_atomically(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
        write_atomically(path.with_suffix(".md"), table(report).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
