"""Lag 2AFC (two-alternative forced choice): how often a distance puts the earlier of two later fields nearer.

For an anchor field x(t) and two later ones x(t + a), x(t + b) of the same patch with a < b, a distance
is right when d(x(t), x(t + a)) < d(x(t), x(t + b)); a tie counts one half, chance is 0.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from atmoloss.data.sequences import read_patch, rows_inside
from atmoloss.data.sources import FieldSource
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

PatchFields = dict[str, Tensor]
"""What a distance may look at: ``"fields"`` (T, C, h, w) and, where the data has them, ``"winds"``; and
``"pairs"`` (T, T) bool, where only some distances are needed."""
Measure = Callable[[PatchFields], Tensor | None]
"""From the times of one patch to their distances (T, T), or ``None`` where it lacks its input."""

Kept = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the lags a (n, 1) and b (1, n), hours, to which triples count, (n, n) bool; only some of those with a < b."""


@dataclasses.dataclass(frozen=True)
class Tally:
    """Right answers and triples per anchor time, (T,), summed over patches."""

    right: np.ndarray
    total: np.ndarray
    times: np.ndarray

    @property
    def share(self) -> float:
        """Share of right answers over all triples."""
        return float(self.right.sum() / self.total.sum())


def later_pairs(hours: np.ndarray, run: np.ndarray, max_lag: int = 96) -> np.ndarray:
    """Say for each anchor and time, (T, T) bool, whether the time follows within ``max_lag`` in the same run."""
    lag = hours[None, :] - hours[:, None]
    return np.asarray((lag > 0) & (lag <= max_lag) & (run[None, :] == run[:, None]))


def tally_anchors(
    distances: np.ndarray, hours: np.ndarray, run: np.ndarray, max_lag: int = 96, kept: Kept = np.less
) -> tuple[np.ndarray, np.ndarray]:
    """Count right answers and triples, each (T,), for each anchor time of the distances (T, T) of one patch.

    Triples stay inside one forecast run; ``kept`` says which of them count, by default all.
    """
    right, total = np.zeros(len(hours)), np.zeros(len(hours))
    for t, follows in enumerate(later_pairs(hours, run, max_lag)):
        later = np.flatnonzero(follows)
        d, a = distances[t, later], hours[later] - hours[t]
        earlier = kept(a[:, None], a[None, :])
        answers = (d[:, None] < d[None, :]) + 0.5 * (d[:, None] == d[None, :])
        right[t], total[t] = answers[earlier].sum(), earlier.sum()
    return right, total


Interval = tuple[float, float]


def bootstrap(tallies: Sequence[Tally]) -> tuple[list[Interval | None], list[Interval | None]]:
    """Return 95 % intervals of the share of each tally, and of the first one's minus that of each other one.

    The same blocks of days are drawn for all tallies, which have the same anchor times, so that differences are paired.
    Days count as one block with their neighbours: an anchor is compared with the four days after it. Each interval
    holds the value itself. ``None`` where the triples fill fewer than two blocks (Kish's number, (Σ n)² / Σ n² for n
    triples in each): nothing tells how far another period's share would be.
    """
    used = tallies[0].total > 0
    draws = BlockBootstrap(tallies[0].times[used])
    right = draws.block_sums(np.stack([t.right[used] for t in tallies], 1))
    total = draws.block_sums(tallies[0].total[used])
    if total.sum() ** 2 < 2 * (total**2).sum():
        return [None] * len(tallies), [None] * (len(tallies) - 1)
    shares = draws.ratios(right, total)
    _, low, high = draws.bounds(np.concatenate((shares, shares[:, :1] - shares[:, 1:]), 1))
    pairs: list[Interval | None] = list(zip(low.tolist(), high.tolist(), strict=True))
    return pairs[: len(tallies)], pairs[len(tallies) :]


def patch_size(source: FieldSource, largest: int = 64) -> int:
    """Return the rows and columns of the patches of a source: ``largest``, or what its grid has."""
    return min(largest, len(source.latitude), len(source.longitude))


def tiles(source: FieldSource, size: int, latitude_band: tuple[float, float] = (-80.0, 80.0)) -> list[tuple[int, int]]:
    """Corners (row, column) of the fewest evenly spread patches that cover the band."""
    inside = np.flatnonzero(rows_inside(source, latitude_band))
    first, count = (int(inside[0]), len(inside)) if len(inside) >= size else (0, len(source.latitude))

    def starts(length: int) -> list[int]:
        n = max(1, -(-length // size))
        return [round(k * (length - size) / max(n - 1, 1)) for k in range(n)]

    return [(first + r, c) for r in starts(count) for c in starts(len(source.longitude))]


def iterate_patches(
    source: FieldSource, winds: FieldSource | None, size: int, limit: int | None = None, part: tuple[int, int] = (0, 1)
) -> Iterator[PatchFields]:
    """Yield all times of one patch after the other, of those without missing values; see :func:`measure_source`."""
    corners = tiles(source, size)
    if limit is not None and limit < len(corners):
        corners = [corners[int(k)] for k in np.linspace(0, len(corners) - 1, limit)]
    times = np.arange(len(source.times))
    for row, column in corners[part[0] :: part[1]]:
        patch = {"fields": torch.from_numpy(read_patch(source, times, row, column, size))}
        if winds is not None:
            patch["winds"] = torch.from_numpy(read_patch(winds, times, row, column, size))
        if all(torch.isfinite(values).all() for values in patch.values()):
            yield patch


def measure_source(
    source: FieldSource,
    measures: dict[str, Measure],
    *,
    winds: FieldSource | None = None,
    size: int = 64,
    max_lag: int = 96,
    limit: int | None = None,
    part: tuple[int, int] = (0, 1),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Tally]:
    """Tally every measure on one source.

    Args:
        source: held-out fields.
        measures: by name; those that return ``None`` are left out.
        winds: the same times and grid as winds, for the measures that use them.
        size: rows and columns of the patches.
        max_lag: longest lag, hours.
        limit: at most that many patches, evenly spread.
        part: (i, n): of these the i-th and every n-th after it, one of n processes' share.
        progress: called with a line per patch.

    Returns:
        Name → tally; nothing where the part holds no patch.
    """
    sums: dict[str, list[np.ndarray]] = {}
    pairs = torch.from_numpy(later_pairs(source.hours, source.run, max_lag))
    for number, patch in enumerate(iterate_patches(source, winds, size, limit, part)):
        patch["pairs"] = pairs
        for name, measure in measures.items():
            distances = measure(patch)
            if distances is None:
                continue
            counted = tally_anchors(distances.double().numpy(), source.hours, source.run, max_lag)
            sums[name] = [a + b for a, b in zip(sums.get(name, (0.0, 0.0)), counted, strict=True)]
        if progress:
            progress(f"{source.name}: patch {number + 1}")
    return {name: Tally(right, total, source.times) for name, (right, total) in sums.items()}
