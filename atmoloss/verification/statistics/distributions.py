"""Histograms and tails, weighted by area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.verification.statistics.grid import Grid

if TYPE_CHECKING:
    import xarray as xr

TAILS = (0.1, 99.9)
"""Percentiles of the two tails."""


def area_shares(values: np.ndarray, edges: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the share of area (T, K), sum 1, in each bin of values (T, H, W); those outside count in the outer bins.

    ``edges`` (K + 1,) are evenly spaced.
    """
    k, columns = edges.size - 1, values.shape[2]
    weights = np.repeat(grid.row_weights / columns, columns)
    bins = ((values.reshape(len(values), -1) - edges[0]) * (k / (edges[-1] - edges[0]))).clip(0, k - 1).astype(np.intp)
    return np.stack([np.bincount(row, weights, k) for row in bins])


def percentiles_of_histogram(shares: np.ndarray, edges: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """Return percentiles (…, P) of histograms (…, K) of any sum that is not zero, linear within a bin."""
    wanted = np.asarray(percentiles, np.float64) / 100

    def of_one(histogram: np.ndarray) -> np.ndarray:
        total = np.concatenate(([0.0], np.cumsum(histogram)))
        total /= total[-1]
        # Of several edges with one share the last below and the first above bound the bins that hold something.
        keep = np.concatenate(([True], np.diff(total) > 0))
        keep[:-1] |= keep[1:]
        return np.asarray(np.interp(wanted, total[keep], edges[keep]))

    out: np.ndarray = np.apply_along_axis(of_one, -1, shares)
    return out


def bin_edges(fields: Sequence[xr.DataArray], n_bins: int) -> np.ndarray:
    """Return edges of even bins from the smallest to the largest value of all fields."""
    low, high = min(float(f.min()) for f in fields), max(float(f.max()) for f in fields)
    if not high > low:  # constant fields: one bin must still have a width
        high = low + max(abs(low), 1.0)
    return np.linspace(low, high, n_bins + 1)
