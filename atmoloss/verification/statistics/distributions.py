"""Histograms and tails, weighted by area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.verification.statistics.grid import Field, Grid

if TYPE_CHECKING:
    import xarray as xr

TAILS = (0.1, 99.9)
"""Percentiles of the two tails."""


def histogram(field: xr.DataArray, edges: Any) -> xr.DataArray:
    """Return the share of area in each bin, for each time.

    Args:
        field: (time, latitude, longitude), global or a region.
        edges: of evenly spaced bins, (K + 1,); values outside count in the outer bins.

    Returns:
        (time, bin), sum 1; ``bin`` holds the middles.

    Raises:
        InputError: missing values, or edges that do not ascend in even steps.
    """
    data, edges = Field.of(field), np.asarray(edges, np.float64)
    steps = np.diff(edges)
    if edges.ndim != 1 or edges.size < 2 or not (steps > 0).all() or np.ptp(steps) > 1e-6 * steps.mean():
        raise InputError(f"edges: got shape {edges.shape}, expected (K + 1,) values that ascend in even steps")
    attrs = {"units": data.units(), "long_name": str(field.attrs.get("long_name", field.name or "value"))}
    axis = (edges[1:] + edges[:-1]) / 2, attrs
    return data.wrap(area_shares(data.values, edges, data.grid), {"bin": axis}, units="1", long_name="share of area")


def area_shares(values: np.ndarray, edges: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the share of area (T, K) in each bin of values (T, H, W), see :func:`histogram`."""
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


def tails(field: xr.DataArray, percentiles: Sequence[float] = TAILS, n_bins: int = 4096) -> xr.DataArray:
    """Return area-weighted percentiles over space and all times together.

    Args:
        field: (time, latitude, longitude), global or a region.
        percentiles: in percent.
        n_bins: bins between the extremes, within which percentiles are interpolated.

    Returns:
        (percentile), units of the field.
    """
    data = Field.of(field)
    edges = bin_edges([data.array], n_bins)
    shares = area_shares(data.values, edges, data.grid).mean(0)
    out: xr.DataArray = require("xarray", "eval").DataArray(
        percentiles_of_histogram(shares, edges, percentiles),
        {"percentile": list(percentiles)},
        name=field.name,
        attrs={"units": data.units()},
    )
    return out


def bin_edges(fields: Sequence[xr.DataArray], n_bins: int) -> np.ndarray:
    """Return edges of even bins from the smallest to the largest value of all fields."""
    low, high = min(float(f.min()) for f in fields), max(float(f.max()) for f in fields)
    if not high > low:  # constant fields: one bin must still have a width
        high = low + max(abs(low), 1.0)
    return np.linspace(low, high, n_bins + 1)
