"""Is a set of weights safe as a loss? A small ×4 generator is trained with the loss alone and its spectrum examined.

    python benchmarks/pretext/loss_probe.py default [MORE WEIGHTS …] [--json FILE] [--plot FILE]

The generator gets area means of 4×4 cells of 64×64 patches of 1° divergence and vorticity, on dates of the
training split. It is trained some minutes with ``AtmoDistLoss(weights)`` as a user gets it, and once with the
mean squared error of the same normalised fields: same start, batches and schedule. On other dates the
power spectra of what it makes are divided by those of the truth: over the modulus of the wavenumber, and along
each axis alone, since a pattern on a lattice is a single wavenumber of one axis. A loss passes when, for both channels,

1. in all three spectra no wavenumber has more than 1.5 × the truth,
2. nor has one above 0.1 × the truth more than 3 × both its neighbours,
3. wherever the squared error keeps between 0.3 and 0.9 of the truth, over the modulus, the loss is closer to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.data import open_fields
from atmoloss.data.sequences import read_patch
from atmoloss.data.sources import FieldSource, source_from_dataset
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.files import write_atomically

PATCH, FACTOR = 64, 4
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
DATA = SHARED / "gfs_1p00_10m_2026_train.nc"
PERIODS = ("2026-03-24/2026-04-09", "2026-07-15/2026-07-18")  # of the generator's training, and examined
STEPS = 800
TOO_MUCH, PEAK, VISIBLE = 1.5, 3.0, 0.1
UNRESOLVED = (0.3, 0.9)
Criterion = Callable[[Tensor, Tensor], Tensor]


class Generator(nn.Module):
    """Normalised coarse fields to fine ones: bilinear interpolation plus residual blocks on the coarse grid."""

    def __init__(self, width: int = 48, blocks: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.up = nn.Sequential(
            nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(width, 4 * width // 2, 3, padding=1), nn.PixelShuffle(2), nn.ReLU(),
            nn.Conv2d(width // 2, 2, 3, padding=1),
        )  # fmt: skip

    def forward(self, coarse: Tensor) -> Tensor:
        """Map (N, 2, H, W) to (N, 2, 4 H, 4 W)."""
        x = self.first(coarse)
        for block in self.blocks:
            x = x + block(x)
        return F.interpolate(coarse, scale_factor=FACTOR, mode="bilinear") + self.up(x)


def draw_patches(source: FieldSource, n: int, seed: int) -> Tensor:
    """Draw (n, 2, 64, 64) in s⁻¹ between 80S and 80N."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.abs(source.latitude) <= 80)
    return torch.from_numpy(
        np.concatenate(
            [
                read_patch(
                    source,
                    np.array([rng.integers(len(source.times))]),
                    int(rng.integers(rows[0], rows[-1] - PATCH + 2)),
                    int(rng.integers(len(source.longitude))),
                    PATCH,
                )
                for _ in range(n)
            ]
        )
    )


def train(
    criterion: Criterion,
    fine: Tensor,
    normalization: Any,
    steps: int,
    batch: int = 8,
    seed: int = 0,
) -> Generator:
    """Train a generator with ``criterion(made, indices)``; ``made`` in s⁻¹."""
    torch.manual_seed(seed)
    model = Generator()
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    coarse = normalization(F.avg_pool2d(fine, FACTOR))  # area means of physical fields
    for step in range(steps):
        chosen = torch.randint(len(fine), (batch,))
        loss = criterion(normalization.inverse(model(coarse[chosen])), chosen)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % max(steps // 4, 1) == 0:
            print(f"    step {step}: {loss.item():.4f}", file=sys.stderr)
    return model.eval()


def squared_error(normalization: Any, fine: Tensor) -> Criterion:
    """Return the mean squared error of normalised fields."""
    truth = normalization(fine)
    return lambda made, chosen: (normalization(made) - truth[chosen]).square().mean()


@torch.no_grad()
def content(loss: AtmoDistLoss, fine: Tensor) -> Criterion:
    """Return the loss, the targets encoded once."""
    parts = [loss.features(part) for part in fine.split(64)]
    cached = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return lambda made, chosen: loss(made, {name: f[chosen] for name, f in cached.items()})


def power_spectra(fields: Tensor) -> dict[str, np.ndarray]:
    """Return power over wavenumbers 1…32 (cycles per patch) of (N, H, W): radial, zonal, meridional."""
    x = fields.double() - fields.double().mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(x).abs().square().mean(0).numpy()
    k = np.abs(np.fft.fftfreq(PATCH, 1 / PATCH))
    radius = np.rint(np.hypot(k[:, None], k[None, :])).astype(int)
    radial = np.bincount(radius.ravel(), power.ravel())
    along = {axis: np.bincount(k.astype(int), power.sum(1 - i)) for i, axis in enumerate(("meridional", "zonal"))}
    return {name: p[1 : PATCH // 2 + 1] for name, p in {"radial": radial, **along}.items()}


def faults(ratio: np.ndarray, mse_ratio: np.ndarray | None) -> list[str]:
    """Return what is wrong with a spectrum (power over the truth's, wavenumbers 1…), also next to that of the MSE."""
    found = []
    for i in np.flatnonzero(ratio > TOO_MUCH):
        found.append(f"wavenumber {i + 1}: {ratio[i]:.2f} of the truth, more than {TOO_MUCH}")
    neighbours = np.pad(ratio, 1, mode="reflect")
    above = PEAK * np.maximum(neighbours[:-2], neighbours[2:])
    for i in np.flatnonzero((ratio > VISIBLE) & (ratio > above)):
        found.append(f"wavenumber {i + 1}: {ratio[i]:.2f} of the truth, a peak of more than {PEAK:g} × its neighbours")
    if mse_ratio is None:
        return found
    between = (mse_ratio > UNRESOLVED[0]) & (mse_ratio < UNRESOLVED[1])
    for i in np.flatnonzero(between & (np.abs(ratio - 1) >= np.abs(mse_ratio - 1))):
        found.append(f"wavenumber {i + 1}: {ratio[i]:.2f} of the truth, no closer than the MSE's {mse_ratio[i]:.2f}")
    return found


def probe(
    weights: list[str], data: Path, periods: tuple[str, str], steps: int, seed: int, mse_weight: float | None = None
) -> dict[str, Any]:
    """Train with each loss and return ratios of spectra and faults; all weights have the same channels."""
    channels = load_extractor(weights[0]).info.channel_names
    source = source_from_dataset(open_fields(str(data), channels), data.stem)
    known, unknown = (
        draw_patches(source.select(in_periods(source.times, parse_periods([p]))), n, s)
        for p, n, s in ((periods[0], 1024, seed), (periods[1], 512, 10**6))
    )
    out: dict[str, Any] = {
        "data": data.name,
        "periods": periods,
        "steps": steps,
        "seed": seed,
        "torch": torch.__version__,
    }
    mse_ratios: dict[str, np.ndarray] = {}
    for name in ("MSE", *weights):
        loss = AtmoDistLoss(weights[0] if name == "MSE" else name, mse_weight=mse_weight)
        normalization = loss.extractor.normalization
        criterion = squared_error(normalization, known) if name == "MSE" else content(loss, known)
        began = time.perf_counter()
        model = train(criterion, known, normalization, steps, seed=seed)
        with torch.no_grad():
            made = model(normalization(F.avg_pool2d(unknown, FACTOR)))
        truth = normalization(unknown)
        entry: dict[str, Any] = {
            "mse": float((made - truth).square().mean()),
            "seconds": time.perf_counter() - began,
            "ratios": {},
            "faults": {},
        }
        for c, channel in enumerate(channels):
            of_truth, of_made = power_spectra(truth[:, c]), power_spectra(made[:, c])
            for way in of_truth:
                key = f"{channel}, {way}"
                ratio = of_made[way] / of_truth[way]
                entry["ratios"][key] = [round(float(r), 4) for r in ratio]
                if name == "MSE":
                    mse_ratios[key] = ratio
                else:
                    entry["faults"][key] = faults(ratio, mse_ratios[key] if way == "radial" else None)
        out[name] = entry
    return out


def show(result: dict[str, Any], names: list[str]) -> None:
    """Print ratios at some wavenumbers and the verdict."""
    shown = (2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
    for key in result["MSE"]["ratios"]:
        print(f"{key}: power over the truth's at wavenumber\n{'':24s}" + "".join(f"{k:6d}" for k in shown))
        for name in ("MSE", *names):
            print(f"{name[-24:]:24s}" + "".join(f"{result[name]['ratios'][key][k - 1]:6.2f}" for k in shown))
    for name in names:
        wrong = [f"{key}, {text}" for key, texts in result[name]["faults"].items() for text in texts]
        print(f"{name}: {'PASS' if not wrong else f'{len(wrong)} faults'}; MSE {result[name]['mse']:.3f} "
              f"(of the MSE generator {result['MSE']['mse']:.3f}), {result[name]['seconds']:.0f} s")  # fmt: skip
        for text in wrong:
            print(f"  {text}")


def plot(result: dict[str, Any], names: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    keys = list(result["MSE"]["ratios"])
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, sharey=True, layout="constrained")
    for ax, key in zip(axes.flat, keys, strict=True):
        for name in ("MSE", *names):
            ax.plot(range(1, PATCH // 2 + 1), result[name]["ratios"][key], label=Path(name).name)
        ax.axhline(1, color="0.6", lw=0.8)
        ax.axhline(TOO_MUCH, color="0.6", lw=0.8, ls=":")
        ax.set(title=key, yscale="log", ylim=(0.02, 3))
    axes[0, 0].legend()
    for ax in axes[1]:
        ax.set_xlabel("wavenumber (cycles per 64 cells)")
    for ax in axes[:, 0]:
        ax.set_ylabel("power / truth")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="bundled names or weights folders")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--train", default=PERIODS[0], help="dates of the generator's training")
    parser.add_argument("--check", default=PERIODS[1], help="dates whose spectra are examined")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mse-weight", type=float, help="instead of what the weights recommend")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    periods = (arguments.train, arguments.check)
    result = probe(arguments.weights, arguments.data, periods, arguments.steps, arguments.seed, arguments.mse_weight)
    show(result, arguments.weights)
    if arguments.json:
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    if arguments.plot:
        plot(result, arguments.weights, arguments.plot)
    return int(any(texts for name in arguments.weights for texts in result[name]["faults"].values()))


if __name__ == "__main__":
    sys.exit(main())
