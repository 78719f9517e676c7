"""How right must detail be before a loss prefers it to none?

    python benchmarks/superres/sharpness.py      # results/sharpness.md; two minutes
    python benchmarks/superres/sharpness.py --weights FOLDER ...      # of other weights: printed

What a coarse field does not resolve (rings of wavelengths below 8 cells) is taken out of validation patches, and put
back with the power of the truth in every ring but with a coherence ρ to it: 1 is the truth, 0 has the signs of all
coefficients drawn at random. A loss at ρ over the loss of the patch without detail says what a generator is paid for.
Break-even is the ρ above which detail pays: a generator that cannot know the detail any better is taught to leave
it out. For the squared error it is ½, whatever the fields.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from arms import PRESETS, RESULTS
from srgan import measures
from srgan.config import SrganConfig, read_config
from srgan.content import make_content, make_normalization
from srgan.data import PatchDataset
from torch import Tensor

from atmoloss import load_extractor
from atmoloss.data.splits import split_by_date
from atmoloss.files import write_atomically
from atmoloss.training.loop import open_sources

COHERENCES = np.linspace(0, 1, 11)


def of_weights(folder: str) -> dict[str, Any]:
    """Return the overrides of quick.toml for the distance of some weights."""
    return {"content": "atmodist", "mse_weight": 0.0, "weights": folder}


ARMS = {
    "mse": {"content": "mse"},
    "l1": {"content": "l1"},
    "gradient": {"content": "gradient", "mse_weight": 0.0},
    "log-spectral": {"content": "log-spectral", "mse_weight": 0.0},
    "amse": {"content": "amse"},
    "facl": {"content": "facl"},
    "vgg-random": {"content": "vgg-random", "mse_weight": 0.0, "layers": ["block1", "block2"]},
    "random-encoder": {"content": "random-encoder", "mse_weight": 0.0},
    **{name: of_weights(name) for name in ("default", "winds")},
    **{
        f"{name}, stage {i}": {**of_weights(name), "layers": [f"stage{i}"]}
        for name in ("default", "winds")
        for i in range(1, 5)
    },
}


def with_detail(fields: Tensor, coherence: float, signs: Tensor) -> Tensor:
    """Return normalised fields whose unresolved detail has its power ring by ring, and a coherence to the truth.

    Args:
        fields: (N, C, H, W).
        coherence: ρ in [0, 1]; negative for no detail at all.
        signs: (N, C, H, W) of ±1.
    """
    h, w = fields.shape[-2:]
    x = measures.cosine_transform(fields)
    rings = measures.rings(h, w, x.dtype, x.device)
    unresolved = (rings.argmax(1) >= min(h, w) // 4).reshape(h, w)
    if coherence < 0:
        detail = torch.zeros_like(x)
    else:
        # Random signs are nearly but not quite uncorrelated within a ring: rescaled to the ring's power.
        mixed = (coherence + (1 - coherence**2) ** 0.5 * signs) * x
        ratio = measures.ring_power(x) / measures.ring_power(mixed).clamp_min(1e-12)
        detail = mixed * (ratio.sqrt() @ rings.T).reshape(x.shape)
    return measures.cosine_transform_inverse(torch.where(unresolved, detail, x))


def break_even(ratios: np.ndarray) -> float:
    """Return the coherence at which ratios (over ``COHERENCES``) last come down to 1; 0 where they never exceed it."""
    above = np.flatnonzero(ratios > 1)
    if not above.size:
        return 0.0
    i = int(above[-1])
    if i + 1 == len(ratios):
        return 1.0
    share = (ratios[i] - 1) / (ratios[i] - ratios[i + 1])
    return float(COHERENCES[i] + share * (COHERENCES[i + 1] - COHERENCES[i]))


@torch.no_grad()
def ratios_of(loss: Callable[[Tensor, Tensor], Tensor], fields: Tensor, signs: Tensor) -> np.ndarray:
    """Return the loss of detail of each coherence over that of none."""
    without = loss(with_detail(fields, -1.0, signs), fields).mean()
    return np.array([float(loss(with_detail(fields, float(c), signs), fields).mean() / without) for c in COHERENCES])


@functools.cache
def draw(variables: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Return patches of training and of validation dates, each (32, C, 64, 64) in physical units."""
    config = read_config(PRESETS / "quick.toml", {"batch_size": 32, "variables": variables})
    splits = split_by_date(open_sources(config), config.validation, config.test)
    first, second = (
        PatchDataset(splits[split], config, seed=seed, length=1)[0].fields
        for split, seed in (("train", 1), ("validation", 2))
    )
    return first, second


def measure(overrides: Mapping[str, Any]) -> np.ndarray:
    """Return :func:`ratios_of` the loss that ``overrides`` of quick.toml describe, on fields of its variables."""
    weights = overrides.get("weights")
    variables = load_extractor(weights).info.channel_names if weights else ("divergence", "vorticity")
    arm: SrganConfig = read_config(PRESETS / "quick.toml", {**overrides, "variables": variables})
    sample, truth = draw(variables)
    normalization = make_normalization(arm, sample)
    fields = normalization(truth)
    signs = torch.randint(0, 2, fields.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    return ratios_of(make_content(arm, normalization, sample), fields, signs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=[], metavar="FOLDER", help="these weights only")
    arguments = parser.parse_args()
    arms = {name: of_weights(name) for name in arguments.weights} or ARMS
    lines = [
        f"`python benchmarks/superres/sharpness.py`: 32 validation patches of 64², torch {torch.__version__}.",
        "",
        "| loss | break-even coherence | loss / loss without detail at ρ = 0 | 0.3 | 0.5 | 0.7 | 0.9 |",
        "|---" * 7 + "|",
    ]
    for name, overrides in arms.items():
        ratios = measure(overrides)
        shown = [ratios[int(np.abs(COHERENCES - c).argmin())] for c in (0.0, 0.3, 0.5, 0.7, 0.9)]
        lines.append(f"| {name} | {break_even(ratios):.2f} | " + " | ".join(f"{x:.2f}" for x in shown) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if not arguments.weights:
        write_atomically(RESULTS / "sharpness.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
