"""Histograms and tails, weighted by area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.evaluation.grid import grid_of, like, ordered, units_of, values_of

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
    field = ordered(field)
    edges = np.asarray(edges, np.float64)
    steps = np.diff(edges)
    if edges.ndim != 1 or edges.size < 2 or not (steps > 0).all() or np.ptp(steps) > 1e-6 * steps.mean():
        raise InputError(f"edges: got shape {edges.shape}, expected (K + 1,) values that ascend in even steps")
    weights = np.repeat(grid_of(field).row_weights / field.sizes["longitude"], field.sizes["longitude"])
    k = edges.size - 1
    out = np.empty((field.sizes["time"], k))
    for i, values in enumerate(values_of(field)):
        bins = ((values.ravel() - edges[0]) * (k / (edges[-1] - edges[0]))).clip(0, k - 1).astype(np.intp)
        out[i] = np.bincount(bins, weights, k)
    result = like(field, out, ("time", "bin"), units="1", long_name="share of area")
    attrs = {"units": units_of(field), "long_name": str(field.attrs.get("long_name", field.name or "value"))}
    result.coords["bin"] = ("bin", (edges[1:] + edges[:-1]) / 2, attrs)
    return result


def percentiles_of_histogram(shares: np.ndarray, edges: np.ndarray, percentiles: Sequence[float]) -> np.ndarray:
    """Return percentiles of histograms, linear within a bin.

    Args:
        shares: (…, K), of any sum that is not zero.
        edges: (K + 1,).
        percentiles: in percent.

    Returns:
        (…, len(percentiles)).
    """
    total = np.cumsum(shares, -1)
    total = np.concatenate((np.zeros((*total.shape[:-1], 1)), total), -1)
    total = total / total[..., -1:]
    flat = total.reshape(-1, total.shape[-1])
    wanted = np.asarray(percentiles, np.float64) / 100
    rows = []
    for row in flat:
        # Of several edges with one share the last below and the first above bound the bins that hold something.
        keep = np.concatenate(([True], np.diff(row) > 0))
        keep[:-1] |= keep[1:]
        rows.append(np.interp(wanted, row[keep], edges[keep]))
    return np.array(rows).reshape(*shares.shape[:-1], wanted.size)


def tails(field: xr.DataArray, percentiles: Sequence[float] = TAILS, n_bins: int = 4096) -> xr.DataArray:
    """Return area-weighted percentiles over space and all times together.

    Args:
        field: (time, latitude, longitude), global or a region.
        percentiles: in percent.
        n_bins: bins between the extremes, within which percentiles are interpolated.

    Returns:
        (percentile), units of the field.
    """
    xarray = require("xarray", "eval")
    field = ordered(field)
    edges = bin_edges([field], n_bins)
    shares = histogram(field, edges).mean("time").values
    out: xr.DataArray = xarray.DataArray(
        percentiles_of_histogram(shares, edges, percentiles),
        dims="percentile",
        coords={"percentile": list(percentiles)},
        name=field.name,
        attrs={"units": units_of(field)},
    )
    return out


def bin_edges(fields: Sequence[xr.DataArray], n_bins: int) -> np.ndarray:
    """Return edges of even bins from the smallest to the largest value of all fields."""
    low = min(float(f.min()) for f in fields)
    high = max(float(f.max()) for f in fields)
    if not high > low:  # constant fields: one bin must still have a width
        high = low + max(abs(low), 1.0)
    return np.linspace(low, high, n_bins + 1)
