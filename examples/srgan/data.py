"""Pairs of a coarse and a fine patch of the same place and time, in physical units."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmoloss.data.sequences import mirror_sign, read_patch, rows_inside
from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError, InputError


@dataclasses.dataclass(frozen=True)
class PatchSpec:
    """How patches are drawn.

    Attributes:
        patch_size: rows and columns.
        batch_size: patches per batch, of all processes together.
        latitude_band: degrees; the whole patch lies inside.
        mirror: mirror half of the patches north–south, with the sign of vorticity and v flipped.
    """

    patch_size: int = 96
    batch_size: int = 64
    latitude_band: tuple[float, float] = (-75.0, 75.0)
    mirror: bool = True


@dataclasses.dataclass(frozen=True)
class PatchBatch:
    """``fields`` (B, C, H, W) in physical units, float32; ``latitude`` (B, H) degrees north of their rows."""

    fields: Tensor
    latitude: Tensor


class PatchDataset(Dataset[PatchBatch]):
    """Batches of patches of random places and times; item ``i`` is a function of ``(seed, i)``.

    Args:
        sources: with the same channels; each is drawn from in proportion to its ``weight``.
        spec: how to draw.
        seed: of the stream.
        length: number of batches.
        rank, world_size: item ``i`` is patches ``rank::world_size`` of the batch that one process would see.

    Raises:
        DataError: no sources, different channels, or a source that is too small for a patch.
    """

    def __init__(
        self,
        sources: Sequence[FieldSource],
        spec: PatchSpec,
        *,
        seed: int,
        length: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sources = [s for s in sources if s.weight > 0]
        if not self.sources:
            raise DataError("sources: got none with a positive weight, expected at least one")
        channels = {s.channels for s in self.sources}
        if len(channels) != 1:
            raise DataError(f"sources: have channels {sorted(channels)}, expected the same in each")
        self.spec, self.seed, self.length, self.rank, self.world_size = spec, seed, length, rank, world_size
        self._rows = [_first_rows(s, spec) for s in self.sources]
        weights = np.array([s.weight for s in self.sources])
        self._shares = weights / weights.sum()
        self._signs = np.array([mirror_sign(c) for c in self.sources[0].channels], np.float32)[:, None, None]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PatchBatch:
        drawn = [
            self._draw(np.random.default_rng((self.seed, index, item)))
            for item in range(self.rank, self.spec.batch_size, self.world_size)
        ]
        fields, latitudes = (np.stack(part) for part in zip(*drawn, strict=True))
        return PatchBatch(torch.from_numpy(fields), torch.from_numpy(latitudes))

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        size = self.spec.patch_size
        which = rng.choice(len(self.sources), p=self._shares)
        source = self.sources[which]
        time = rng.integers(len(source.times))
        row = int(rng.choice(self._rows[which]))
        width = len(source.longitude)
        column = int(rng.integers(width if source.periodic else width - size + 1))
        patch = read_patch(source, np.array([time]), row, column, size)[0]
        latitude = source.latitude[row : row + size]
        if self.spec.mirror and rng.random() < 0.5:
            patch, latitude = patch[:, ::-1] * self._signs, -latitude[::-1]
        return np.ascontiguousarray(patch), np.ascontiguousarray(latitude)


def _first_rows(source: FieldSource, spec: PatchSpec) -> np.ndarray:
    size, inside = spec.patch_size, np.flatnonzero(rows_inside(source, spec.latitude_band))
    first = inside[: max(0, len(inside) - size + 1)]  # rows inside the band are consecutive
    if size > len(source.longitude) or not len(first):
        raise DataError(
            f"patch_size: {size} does not fit into {source.name} with {len(inside)}x{len(source.longitude)} points "
            f"inside latitude_band {spec.latitude_band}"
        )
    return first


def coarsen(fields: Tensor, latitude: Tensor, factor: int) -> Tensor:
    """Average fields over blocks of factor × factor cells, weighted by the cosine of latitude.

    Args:
        fields: (N, C, H, W) in physical units: averages of log-normalised fields would be other fields.
        latitude: degrees north, (H,) or (N, H).
        factor: cells per block and axis; H and W are multiples of it.

    Returns:
        (N, C, H / factor, W / factor).

    Raises:
        InputError: sizes that do not fit.
    """
    n, c, height, width = fields.shape
    if height % factor or width % factor or latitude.shape not in ((height,), (n, height)):
        raise InputError(
            f"fields: got shape {tuple(fields.shape)} and latitudes {tuple(latitude.shape)}, expected (N, C, H, W) "
            f"with H and W multiples of {factor}, and (H,) or (N, H)"
        )
    # A row at a pole has no area, and its value is that of its neighbour.
    weight = torch.cos(torch.deg2rad(latitude.double())).clamp_min(0).reshape(-1, 1, height // factor, factor, 1, 1)
    weight = (weight / weight.sum(3, keepdim=True)).to(fields)
    blocks = fields.reshape(n, c, height // factor, factor, width // factor, factor)
    return (blocks * weight).sum((3, 5)) / factor
