"""Where does the time go? Forward and backward per stage of the encoder, beside the roof.

    python benchmarks/speed/stages.py [--size 160] [--batch 32]      # results/stages.md

Each stage is run alone on activations of its own input, frozen, as the loss runs it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable

import rivals
import torch
from timing import described, interleave, machine, report, roof
from torch import Tensor

from atmoloss import load_extractor
from atmoloss.folding import fold_batch_norm
from atmoloss.networks import Encoder


def parts(encoder: Encoder) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the stem and the stages as functions of their input."""
    return {"stem": encoder.before_stages, **dict(encoder.stages.items())}


def stem_flops(encoder: Encoder, size: int) -> int:
    """Floating-point operations of the first convolution, one field."""
    return 2 * encoder.stem.kernel_weight().numel() * math.ceil(size / encoder.stem.stride[0]) ** 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    device = torch.device("cpu")
    top = roof(torch.float32, device)
    about = described(machine(device))
    lines = [f"`python benchmarks/speed/stages.py`: {about}; matrix products {top:.0f} GFLOP/s.", ""]
    lines += [
        "| network | part | forward, ms | forward+backward, ms | GFLOP/s | share of the roof |",
        "|---" * 6 + "|",
    ]
    encoders = {"published": fold_batch_norm(rivals.published_encoder()), "default": load_extractor().encoder}
    for name, encoder in encoders.items():
        encoder = encoder.requires_grad_(False).to(memory_format=torch.channels_last)
        x = torch.randn(arguments.batch, 2, arguments.size, arguments.size).contiguous(
            memory_format=torch.channels_last
        )
        flops = encoder.flops(arguments.size, arguments.size)
        done = 0
        for part, function in parts(encoder).items():
            live = x.clone(memory_format=torch.preserve_format).requires_grad_()
            with torch.no_grad():
                y = function(x)
            gradient = torch.randn_like(y)

            def forward(function=function, x=x) -> None:
                with torch.no_grad():
                    function(x)

            def both(function=function, live=live, gradient=gradient) -> None:
                live.grad = None
                function(live).backward(gradient)

            one, two = interleave([forward, both], device, budget=20)
            until = stem_flops(encoder, arguments.size) if part == "stem" else flops[part]
            rate = 2 * arguments.batch * (until - done) / two.median / 1e9
            times = f"{1e3 * one.median:.1f} | {1e3 * two.median:.1f}"
            lines.append(f"| {name} | {part} | {times} | {rate:.0f} | {100 * rate / top:.0f} % |")
            x, done = y, until
    report("stages", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
