"""Sequence batches: several times of one patch, every pair of which is a training example.

Batch number ``i`` depends on the seed and ``i`` alone, whatever the number of workers, so that an
interrupted run continues with the very batches it would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError

# Patches drawn in a row before data are taken to have missing values everywhere.
_ATTEMPTS = 200
# A north–south mirror is a symmetry of the equations only with these signs flipped.
_ODD_UNDER_MIRROR = ("vorticity", "vo")


def mirror_sign(channel: str) -> float:
    """Return −1 for variables that change sign under a north–south mirror: vorticity, northward wind."""
    return -1.0 if channel.lower() in _ODD_UNDER_MIRROR or _is_wind(channel, "v") else 1.0


def _is_wind(channel: str, letter: str) -> bool:
    """Say whether a channel is the wind component ``letter``: u, u10, u100 …"""
    name = channel.lower()
    return name[0] == letter and (len(name) == 1 or name[1:].isdigit())


@dataclasses.dataclass(frozen=True)
class SequenceSpec:
    """How sequences are drawn.

    Attributes:
        n_times: S, times per sequence.
        n_classes: K, lag classes; the longest lag is K base steps.
        base_step: hours per class.
        patch_sizes: rows and columns; each batch takes one of them in turn.
        batch_size: sequences per batch.
        latitude_band: degrees; the whole patch lies inside.
        mirror: mirror half of the sequences north–south, see :func:`mirror_sign`.
        turn: turn each sequence by a random multiple of 90°, see :func:`turn_patch`. Not quite a symmetry (cells are
            narrower than high, and the Coriolis parameter has a gradient), but eight times the fields with ``mirror``.
        smooth: smooth each sequence by a Gaussian of σ cells, σ uniform between 0 and this, so that
            features do not lean on the roughness of one product.
        coarsen: each sequence takes means over blocks of one of these sizes (where the grid is large enough),
            so that a source serves several resolutions.
        zoom: each sequence is cut from 1/z to z times the patch size (where the grid is large enough) and interpolated
            to it, z uniform in logarithm up to this; 1 for none. Few days, and few grid spacings, go further.
        amplify: multiply each sequence by a factor between 1/a and a, drawn alike: other levels, products and seasons.
    """

    n_times: int = 4
    n_classes: int = 32
    base_step: int = 3
    patch_sizes: tuple[int, ...] = (64,)
    batch_size: int = 16
    latitude_band: tuple[float, float] = (-80.0, 80.0)
    mirror: bool = True
    turn: bool = False
    smooth: float = 0.0
    coarsen: tuple[int, ...] = (1,)
    zoom: float = 1.0
    amplify: float = 1.0


@dataclasses.dataclass(frozen=True)
class SequenceBatch:
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
        drawable = [(s, Lags(s, spec)) for s in sources if s.weight > 0]
        drawable = [(s, lags) for s, lags in drawable if len(lags.anchors)]
        if not drawable:
            raise DataError(
                f"sources: none has {spec.n_times} times within {spec.n_classes * spec.base_step} h of each "
                f"other at multiples of {spec.base_step} h"
            )
        self.sources = [s for s, _ in drawable]
        self._lags = [lags for _, lags in drawable]
        self._rows = [{size: _first_rows(s, size, spec) for size in _drawn_sizes(s, spec)} for s in self.sources]
        weights = np.array([s.weight for s in self.sources])
        self._shares = weights / weights.sum()
        self._signs = np.array([mirror_sign(c) for c in self.sources[0].channels], np.float32)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> SequenceBatch:
        spec = self.spec
        size = spec.patch_sizes[index % len(spec.patch_sizes)]
        fields, hours = [], []
        for item in range(self.rank, spec.batch_size, self.world_size):
            rng = np.random.default_rng((self.seed, index, item))
            patch, times = self._draw_whole(rng, size)
            fields.append(patch)
            hours.append(times)
        return SequenceBatch(torch.from_numpy(np.stack(fields)), torch.from_numpy(np.stack(hours)))

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
        which = rng.choice(len(self.sources), p=self._shares)
        source = self.sources[which]
        lags = self._lags[which]
        anchor = int(rng.choice(lags.anchors))
        later = lags.partners(anchor)
        times = np.sort(np.append(rng.choice(later, spec.n_times - 1, replace=False), anchor))
        block = 1
        if spec.coarsen != (1,):
            block = int(rng.choice([f for f in spec.coarsen if f * size in self._rows[which]] or [1]))
        cells = size * block
        if spec.zoom > 1:
            cells = min(round(cells * _factor(rng, spec.zoom)), _room(source, spec))
            row = int(rng.choice(_first_rows(source, cells, spec)))
        else:
            row = int(rng.choice(self._rows[which][cells]))
        width = len(source.longitude)
        column = int(rng.integers(width if source.periodic else width - cells + 1))
        patch = read_patch(source, times, row, column, cells)
        if cells != size * block:
            patch = _resize(patch, size)
        elif block > 1:
            patch = patch.reshape(*patch.shape[:2], size, block, size, block).mean((3, 5))
        if spec.amplify > 1:
            patch = patch * np.float32(_factor(rng, spec.amplify))
        if spec.smooth:
            patch = smooth_patch(patch, rng.uniform(0, spec.smooth))
        if spec.mirror and rng.random() < 0.5:
            patch = patch[:, :, ::-1] * self._signs[:, None, None]
        if spec.turn:
            patch = turn_patch(patch, int(rng.integers(4)), self.sources[0].channels)
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


def smooth_patch(patch: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth the last two axes by a Gaussian of ``sigma`` cells; edges repeat."""
    radius = int(np.ceil(3 * sigma))
    if radius == 0:
        return patch
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    n = patch.shape[-1]
    source = np.clip(np.arange(n)[:, None] + np.arange(-radius, radius + 1), 0, n - 1)
    matrix = np.zeros((n, n), np.float32)
    np.add.at(matrix, (np.arange(n)[:, None], source), kernel / kernel.sum())
    return np.asarray(matrix @ patch @ matrix.T)


def turn_patch(patch: np.ndarray, quarters: int, channels: Sequence[str]) -> np.ndarray:
    """Turn square (S, C, n, n), rows from north to south, anticlockwise by quarters of a full turn, winds as vectors.

    Raises:
        DataError: a wind component without the other.
    """
    patch = np.rot90(patch, quarters, (-2, -1))
    u, v = ([i for i, name in enumerate(channels) if _is_wind(name, letter)] for letter in "uv")
    if len(u) != len(v):
        raise DataError(f"turn: got channels {list(channels)}, expected both wind components or none")
    if u and quarters % 4:
        patch = patch.copy()
        for i, j in zip(u, v, strict=True):
            for _ in range(quarters % 4):
                patch[:, i], patch[:, j] = -patch[:, j], patch[:, i].copy()
    return patch


class Lags:
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

    def partners(self, anchor: int) -> np.ndarray:
        """Return the indices of the times one to K base steps after a time, in its run, ascending."""
        return np.sort(self._order[self._first[anchor] : self._end[anchor]])


def valid_anchors(source: FieldSource, spec: SequenceSpec) -> np.ndarray:
    """Indices of the times after which enough others follow for a sequence."""
    return Lags(source, spec).anchors


def rows_inside(source: FieldSource, latitude_band: tuple[float, float]) -> np.ndarray:
    """Say of each row, (H,) bool, whether it lies in a band of latitude (degrees, both ends included)."""
    south, north = latitude_band
    return np.asarray((source.latitude >= south - 1e-6) & (source.latitude <= north + 1e-6))


def _drawn_sizes(source: FieldSource, spec: SequenceSpec) -> list[int]:
    """Cells per side that patches of this source are cut with: every size × block that fits, and every size."""
    room = _room(source, spec)
    blocks = [f for f in spec.coarsen if f == 1 or f * max(spec.patch_sizes) <= room] or [1]
    return [size * f for size in spec.patch_sizes for f in blocks]


def _room(source: FieldSource, spec: SequenceSpec) -> int:
    """Side of the largest patch that fits into the latitude band."""
    return min(int(rows_inside(source, spec.latitude_band).sum()), len(source.longitude))


def _factor(rng: np.random.Generator, largest: float) -> float:
    """Draw from 1/largest to largest, uniform in logarithm."""
    return float(largest ** rng.uniform(-1, 1))


def _resize(patch: np.ndarray, size: int) -> np.ndarray:
    """Interpolate (S, C, n, n) to (S, C, size, size), bilinear; area means where cells grow."""
    fields = torch.from_numpy(np.ascontiguousarray(patch))
    return F.interpolate(fields, (size, size), mode="bilinear", antialias=True).numpy()


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
