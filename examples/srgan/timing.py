"""Seconds per training step of each content loss, at the sizes of a preset.

    cd examples
    OMP_NUM_THREADS=1 python -m srgan.timing srgan/presets/small.toml --steps 10

Steps of the generator alone, of all losses in turn so that other work on the machine hits each alike, medians; last
the discriminator's step, which an adversarial run adds.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import torch

from atmoloss.training.loop import open_sources

from .config import CONTENTS, read_config
from .content import make_content, make_normalization
from .data import PatchDataset
from .gan import Gan
from .train import pair


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    config = read_config(args.config)
    torch.set_flush_denormal(True)
    config = dataclasses.replace(config, sources=config.sources[:1])
    batch = PatchDataset(open_sources(config), config, seed=0, length=1)[0]
    normalization = make_normalization(config, batch.fields)
    coarse, fine = pair(batch, normalization)
    gans = {}
    for name in CONTENTS:
        own_config = dataclasses.replace(config, content=name, adversarial_weight=0.0)
        gans[name] = Gan(own_config, make_content(own_config, normalization, batch.fields))
    adversary = Gan(config, gans["mse"].content)
    generated = adversary.generator(coarse).detach()
    times: dict[str, list[float]] = {}
    for step in range(1, args.steps + 3):
        for name, gan in gans.items():
            began = time.perf_counter()
            gan.train(coarse, fine, step)
            times.setdefault(name, []).append(time.perf_counter() - began)
        began = time.perf_counter()
        adversary._discriminator_step(generated, fine)
        times.setdefault("(discriminator)", []).append(time.perf_counter() - began)
    medians = {name: statistics.median(values[2:]) for name, values in times.items()}
    print("| content loss | seconds per step | relative to mse |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.2f} | {value / medians['mse']:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
