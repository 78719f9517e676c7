"""What share of the reference GAN's generator step is the content loss?

    python benchmarks/speed/generator_step.py [--batch 8]      # results/generator_step.md

The step of examples/srgan at its published sizes (1.53 M parameters, 24² to 96²), on random fields: generator,
content loss, discriminator, backward, Adam; with each content loss, and with none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import described, interleave, machine, report
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))

from loss import published  # noqa: E402
from rivals import VGG16  # noqa: E402
from srgan.content import FeatureLoss  # noqa: E402
from srgan.models import Discriminator, Generator, adversarial_loss  # noqa: E402

from atmoloss import AtmoDistLoss  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    options = {"normalization": None, "validate": False}
    contents: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "none": lambda generated, fine: torch.zeros(()),
        "mse": lambda generated, fine: (generated - fine).square().mean(),
        "default": FeatureLoss(AtmoDistLoss(**options)),
        "published": FeatureLoss(
            AtmoDistLoss(published(), layers=("stage4",), scale="none", mse_weight=0.0, **options)
        ),
        "vgg16 relu3_3": VGG16(),
    }
    generator = Generator().to(memory_format=torch.channels_last)
    discriminator = Discriminator(96).to(memory_format=torch.channels_last).requires_grad_(False)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-4)
    coarse, fine = (
        torch.randn(arguments.batch, 2, n, n).contiguous(memory_format=torch.channels_last) for n in (24, 96)
    )

    def step(content: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad()
            generated = generator(coarse)
            (content(generated, fine) + 1e-3 * adversarial_loss(discriminator(generated))).backward()
            optimizer.step()

        return run

    timings = interleave([step(content) for content in contents.values()], torch.device("cpu"), budget=90)
    bare = timings[0].median
    about = described(machine(torch.device("cpu")))
    lines = [f"`python benchmarks/speed/generator_step.py`: {arguments.batch} patches of 96², float32; {about}.", ""]
    lines += ["| content loss | step, ms | spread | share of the step |", "|---|---|---|---|"]
    for name, timing in zip(contents, timings, strict=True):
        share = 100 * (timing.median - bare) / timing.median
        lines.append(f"| {name} | {1e3 * timing.median:.0f} | {1e3 * timing.spread:.0f} | {share:.0f} % |")
    report("generator_step", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
