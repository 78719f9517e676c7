"""Does another way to the same loss pay? Two passes against one, compiled against not, as ratios to what the loss does.

And what does a sharp loss cost, which is another one?

    python benchmarks/speed/variants.py [--size 160] [--batch 32]      # results/variants.md

By default the loss encodes prediction and target in two passes, the second without a graph, uncompiled.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
from loss import published
from rivals import Loss
from timing import described, interleave, machine, report
from torch import Tensor

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.extractor import Extractor
from atmoloss.functional import content_distance


def one_pass(extractor: Extractor, layers: dict[str, float]) -> Loss:
    """Return the loss of both fields encoded as one batch, twice the size, with a graph for all of it."""

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        features = extractor.encode(torch.cat((prediction, target)), tuple(layers))
        n = len(prediction)
        first, second = ({name: f[part] for name, f in features.items()} for part in (slice(n), slice(n, None)))
        return content_distance(first, second, layers).mean()

    return loss


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.manual_seed(1)
    target = torch.randn(arguments.batch, 2, arguments.size, arguments.size, device=device)
    prediction = (target + 0.3 * torch.randn_like(target)).requires_grad_()

    def step(loss: Loss) -> Callable[[], None]:
        def run() -> None:
            prediction.grad = None
            loss(prediction, target).backward()

        return run

    lines = [
        f"`python benchmarks/speed/variants.py`: {arguments.batch} patches of {arguments.size}², float32, forward and "
        f"backward; {described(machine(device))}.",
        "",
        "| network | variant | ms | spread | × as it is | first call, s |",
        "|---" * 6 + "|",
    ]
    for name, extractor, layers in (
        ("published", published().to(device), ("stage4",)),
        ("default", load_extractor().to(device), None),
    ):
        options = {"normalization": None, "validate": False, "mse_weight": 0.0, "scale": "none", "layers": layers}
        plain = AtmoDistLoss(extractor, **options)
        variants: dict[str, Loss] = {
            "as it is": plain,
            "one pass for both": one_pass(plain.extractor, plain.factors),
            "compile=True": AtmoDistLoss(extractor, **options, compile=True),
            "sharp=True": AtmoDistLoss(extractor, **{**options, "mse_weight": 0.5}, sharp=True),
        }
        first = []
        for variant, loss in variants.items():
            began = time.perf_counter()
            step(loss)()
            first.append(time.perf_counter() - began)
            same = torch.isclose(loss(prediction, target), plain(prediction, target), rtol=1e-4)
            assert same or variant == "sharp=True"
        timings = interleave([step(loss) for loss in variants.values()], device, budget=30)
        for variant, timing, seconds in zip(variants, timings, first, strict=True):
            ms, spread, ratio = 1e3 * timing.median, 1e3 * timing.spread, timings[0].median / timing.median
            lines.append(f"| {name} | {variant} | {ms:.0f} | {spread:.0f} | {ratio:.2f} | {seconds:.0f} |")
    report("variants", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
