"""Sequence batches: several times of one patch, every pair of which is a training example.

Batch number ``i`` depends on the seed and ``i`` alone, whatever the number of workers, so that an
interrupted run continues with the very batches it would have seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError

# Patches drawn in a row before data are taken to have missing values everywhere.
_ATTEMPTS = 200


def mirror_sign(channel: str) -> float:
    """Return −1 for variables that change sign under a north–south mirror: vorticity, northward wind (v, v10, …).

    Only with these signs flipped is the mirror a symmetry of the equations.
    """
    return -1.0 if re.fullmatch(r"v\d*|vo|vorticity", channel.lower()) else 1.0


class SequenceBatch(NamedTuple):
    """``fields`` (B, S, C, H, W) in physical units, float32; ``hours`` (B, S) int64, ascending."""

    fields: Tensor
    hours: Tensor


class SequenceDataset(Dataset[SequenceBatch]):
    """Batches of sequences from one or several sources; item ``i`` is a function of ``(seed, i)``.

    Args:
        sources: with the same channels; grids and steps may differ. Sequences come from each in
            proportion to its ``weight``, patches of all of them share a size in cells.
        spec: how to draw.
        seed: of the stream.
        length: number of batches.
        rank, world_size: this process's share of a distributed run: item ``i`` is then sequence rows
            ``rank::world_size`` of the batch that one process would see.

    Raises:
        DataError: sources with different channels, too small a grid, or no sequence in any source.
    """

    def __init__(
        self,
        sources: Sequence[FieldSource],
        spec: SequenceSpec,
        *,
        seed: int,
        length: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not sources:
            raise DataError("sources: got none, expected at least one")
        channels = {source.channels for source in sources}
        if len(channels) != 1:
            raise DataError(f"sources: have channels {sorted(channels)}, expected the same in each")
        self.spec, self.seed, self.length, self.rank, self.world_size = spec, seed, length, rank, world_size
        drawable = [(s, p) for s in sources if s.weight > 0 and len((p := PartnerIndex(s, spec)).anchors)]
        if not drawable:
            raise DataError(
                f"sources: none has {spec.n_times} times within {spec.n_classes * spec.base_step} h of each "
                f"other at multiples of {spec.base_step} h"
            )
        self._drawable = [(s, p, {n: _first_rows(s, n, spec) for n in spec.patch_sizes}) for s, p in drawable]
        weights = np.array([s.weight for s, _ in drawable])
        self._shares = weights / weights.sum()
        self._signs = np.array([mirror_sign(c) for c in sources[0].channels], np.float32)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> SequenceBatch:
        spec = self.spec
        size = spec.patch_sizes[index % len(spec.patch_sizes)]
        items = range(self.rank, spec.batch_size, self.world_size)
        drawn = [self._draw_whole(np.random.default_rng((self.seed, index, item)), size) for item in items]
        return SequenceBatch(*(torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True)))

    def _draw_whole(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw until a patch has no missing values."""
        for _ in range(_ATTEMPTS):
            patch, times = self._draw(rng, size)
            if np.isfinite(patch).all():
                return patch, times
        raise DataError(
            f"missing: {_ATTEMPTS} patches of {size} cells in a row have missing values, expected some without; "
            "fill them with a value, or draw smaller patches"
        )

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        spec = self.spec
        source, partners, rows = self._drawable[rng.choice(len(self._drawable), p=self._shares)]
        anchor = int(rng.choice(partners.anchors))
        later = partners.after(anchor)
        times = np.sort(np.append(rng.choice(later, spec.n_times - 1, replace=False), anchor))
        row = int(rng.choice(rows[size]))
        width = len(source.longitude)
        column = int(rng.integers(width if source.periodic else width - size + 1))
        patch = read_patch(source, times, row, column, size)
        if spec.mirror and rng.random() < 0.5:
            patch = patch[:, :, ::-1] * self._signs[:, None, None]
        return np.ascontiguousarray(patch), source.hours[times]


def read_patch(source: FieldSource, times: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    """Read (len(times), C, size, size) float32; columns beyond the last wrap around."""
    rows, width = slice(row, row + size), len(source.longitude)
    end = column + size
    patch = np.asarray(source.values[times, :, rows, column : min(end, width)], np.float32)
    if end > width:
        rest = np.asarray(source.values[times, :, rows, 0 : end - width], np.float32)
        patch = np.concatenate((patch, rest), -1)
    return patch


class PartnerIndex:
    """Which times of a source can stand in a sequence together; near-linear in their number.

    Attributes:
        anchors: indices of the times after which enough others follow for a sequence, ascending.
    """

    def __init__(self, source: FieldSource, spec: SequenceSpec) -> None:
        longest = spec.n_classes * spec.base_step
        hours = source.hours - source.hours.min()
        # Only times of one run at the same hour modulo the base step can be partners. Such groups are strung
        # together, further apart than the longest lag, so that one sorted search serves all of them.
        groups = np.stack((source.run, source.hours % spec.base_step), 1)
        group = np.unique(groups, axis=0, return_inverse=True)[1].reshape(-1)
        place = group * (int(hours.max()) + longest + 1) + hours
        self._order = np.argsort(place, kind="stable")
        ordered = place[self._order]
        self._first = np.searchsorted(ordered, place, "right")
        self._end = np.searchsorted(ordered, place + longest, "right")
        self.anchors = np.flatnonzero(self._end - self._first >= spec.n_times - 1)

    def after(self, anchor: int) -> np.ndarray:
        """Return the indices of the times one to K base steps after a time, in its run, ascending."""
        return np.sort(self._order[self._first[anchor] : self._end[anchor]])


def rows_inside(source: FieldSource, latitude_band: tuple[float, float]) -> np.ndarray:
    """Say of each row, (H,) bool, whether it lies in a band of latitude (degrees, both ends included)."""
    south, north = latitude_band
    return np.asarray((source.latitude >= south - 1e-6) & (source.latitude <= north + 1e-6))


def _first_rows(source: FieldSource, size: int, spec: SequenceSpec) -> np.ndarray:
    """First rows of the patches that fit into the latitude band."""
    lat = source.latitude
    if size > min(len(lat), len(source.longitude)):
        raise DataError(
            f"patch_sizes: {size} does not fit into {source.name} with {len(lat)}x{len(source.longitude)} points"
        )
    inside = rows_inside(source, spec.latitude_band)
    first = np.flatnonzero(inside[: len(lat) - size + 1] & inside[size - 1 :])
    if not len(first):
        raise DataError(f"latitude_band: {spec.latitude_band} holds no {size}-row patch of {source.name}")
    return first
