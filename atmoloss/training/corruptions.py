"""What generators do to small scales, made on purpose: fields for auxiliary ranking terms of the objective.

A network trained on real fields alone has never met a pattern on a lattice; its features may tell that there is
energy at small scales, and not of which wavelength. A generator trained with it then puts all of that energy
into one wavenumber.

Nor has it met fields that are blurred, or whose detail is uncertain: told apart by where things are, detail in the
wrong place is farther from the truth than none, and a generator is taught to leave out what it does not know.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCKS = (2, 4, 8)
_LATTICES = (2, 4, 8, 16)


def smooth_and_patterned(truth: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return (N, C, H, W) without small scales, and the same with a regular pattern in their place.

    The first is block means of 2, 4 or 8 cells, interpolated back. To the second a wave is added, or the product
    of one along each axis: of a wavelength between 2 and 16 cells, half of the time a divisor of 16, where
    strided networks have their lattices; power between a tenth and all of what was removed, per channel.

    Args:
        truth: normalised fields.
        generator: on the CPU.
    """
    n, channels, height, width = truth.shape
    block = _BLOCKS[int(torch.randint(len(_BLOCKS), (), generator=generator))]
    means = F.avg_pool2d(truth, block, ceil_mode=True)
    smooth = F.interpolate(means, size=(height, width), mode="bilinear")

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=generator)

    lattice = torch.tensor(_LATTICES)[torch.randint(len(_LATTICES), (n, 2), generator=generator)]
    any_length = torch.exp2(uniform(1.0, 4.0, n, 2))
    length = torch.where(uniform(0, 1, n, 1) < 0.5, lattice.float(), any_length)
    phase = uniform(0, 2 * math.pi, n, 2)
    kind = uniform(0, 1, n)
    rows, columns = (
        torch.cos(2 * math.pi * torch.arange(size) / length[:, i, None] + phase[:, i, None])
        for i, size in enumerate((height, width))
    )
    rows, columns = torch.where(kind[:, None] < 1 / 3, 1.0, rows), torch.where(kind[:, None] > 2 / 3, 1.0, columns)
    pattern = rows[:, None, :, None] * columns[:, None, None, :]
    pattern = pattern / pattern.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-3)
    removed = (truth - smooth).square().mean((-2, -1), keepdim=True)
    share = torch.exp(uniform(math.log(0.1), 0.0, n, channels, 1, 1))
    amplitude = (removed * share.to(removed)).sqrt()
    return smooth, smooth + amplitude * pattern.to(truth)


def misplaced_detail(truth: Tensor, smooth: Tensor, lowest: float, generator: torch.Generator) -> Tensor:
    """Return (N, C, H, W) with detail of the truth's power and texture, but only partly where it belongs.

    What ``smooth`` lacks comes back as ρ of itself and √(1 − ρ²) of itself shifted by at least a quarter of the
    field along both axes, the coherence ρ uniform between ``lowest`` and 1, per field.

    Args:
        truth, smooth: normalised fields, and the same without small scales.
        lowest: coherence, in [0, 1).
        generator: on the CPU.
    """
    detail = truth - smooth
    size = torch.tensor(truth.shape[-2:])
    shift = size // 4 + (torch.rand(2, generator=generator) * (size - 2 * (size // 4))).long()
    elsewhere = detail.roll(tuple(shift.tolist()), (-2, -1))
    coherence = lowest + (1 - lowest) * torch.rand(len(truth), 1, 1, 1, generator=generator).to(truth)
    return smooth + coherence * detail + (1 - coherence.square()).sqrt() * elsewhere
