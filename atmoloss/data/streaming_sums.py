"""Streaming sums, and the normalisation constants of them in one pass, where ``LogNormalization.fit`` needs two.

The spread of log-transformed values depends on the mean and the spread of all values, known only at the end.
So values are counted into fine bins first, with their sums and sums of squares: mean and spread follow exactly,
and the logarithm is integrated over the bins to second order in their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The upper half of a float32: sign, exponent and seven bits, i.e. bins of 0.4 to 0.8 % of their value.
_BINS = 2**16


class StreamingSums:
    """Counts, sums and sums of squares of float32 values per bin."""

    def __init__(self) -> None:
        self.table = np.zeros((3, _BINS))

    def add(self, values: np.ndarray) -> None:
        """Count the float32 values that are finite, of any shape."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        flat = flat[np.isfinite(flat)]
        for start in range(0, flat.size, 2**20):  # bounds the float64 copies
            part = flat[start : start + 2**20]
            bins = (part.view(np.uint32) >> 16).astype(np.intp)
            x = part.astype(np.float64)
            self.table[0] += np.bincount(bins, minlength=_BINS)
            self.table[1] += np.bincount(bins, x, _BINS)
            self.table[2] += np.bincount(bins, x * x, _BINS)

    def merge(self, other: StreamingSums) -> None:
        """Add what another one has counted."""
        self.table += other.table

    def sparse(self) -> np.ndarray:
        """Return the bins that are not empty: (4, n) of number, count, sum and sum of squares."""
        used = np.flatnonzero(self.table[0])
        return np.vstack((used, self.table[:, used]))

    @classmethod
    def from_sparse(cls, rows: np.ndarray) -> StreamingSums:
        """Undo :meth:`sparse`."""
        out = cls()
        out.table[:, rows[0].astype(np.intp)] = rows[1:]
        return out

    def constants(self, alpha: float) -> tuple[float, float, float, float]:
        """Return mean, spread, and mean and spread of the logarithms; the latter NaN where nothing varies."""
        n, sums, squares = self.table[:, self.table[0] > 0]
        centre = sums / n
        variance = np.maximum(squares / n - centre**2, 0.0)  # within each bin
        mean = sums.sum() / n.sum()
        std = np.sqrt((n * (variance + (centre - mean) ** 2)).sum() / n.sum())
        if not std > 0:
            return float(mean), 0.0, float("nan"), float("nan")
        z, z_variance = (centre - mean) / std, variance / std**2
        y = np.sign(z) * np.log1p(alpha * np.abs(z))
        slope = alpha / (1 + alpha * np.abs(z))
        # E f(z) = f(centre) + f''(centre)·variance/2 within a bin; f'' = −sign(z)·slope².
        y_mean = y - 0.5 * np.sign(z) * slope**2 * z_variance
        y_square = y**2 + (slope**2 - np.abs(y) * slope**2) * z_variance
        log_mean = (n * y_mean).sum() / n.sum()
        log_std = np.sqrt((n * y_square).sum() / n.sum() - log_mean**2)
        return float(mean), float(std), float(log_mean), float(log_std)


def normalization_constants(channels: Sequence[StreamingSums], alpha: float = 0.2) -> dict[str, Any] | None:
    """Return the constants of :class:`LogNormalization`, ``None`` where a channel does not vary."""
    rows = [channel.constants(alpha) for channel in channels]
    if not all(row[1] > 0 and row[3] > 0 for row in rows):
        return None
    names = ("mean", "std", "log_mean", "log_std")
    return {**{name: [row[i] for row in rows] for i, name in enumerate(names)}, "alpha": alpha}
