"""Distributions of what happens over time at cities: places where people are, spread evenly over the land.

The 150 cities of ``cities.csv`` (GeoNames, CC BY 4.0) have at least a million inhabitants. They were drawn with
probabilities inverse to the number of such cities around them, as in the original evaluation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.verification.statistics.grid import Field, Grid

if TYPE_CHECKING:
    import xarray as xr


def load_cities() -> xr.Dataset:
    """Return the 150 cities by ``city``: ``latitude``, ``longitude`` (−180 to 180), ``country`` (ISO 3166 alpha-2) and
    ``population``.
    """
    path = Path(__file__).with_name("cities.csv")
    table = require("pandas", "eval").read_csv(path, comment="#", index_col="city", keep_default_na=False)
    out: xr.Dataset = table.to_xarray().assign_attrs(source="GeoNames (https://www.geonames.org), CC BY 4.0")
    return out


def at_cities(field: xr.DataArray) -> xr.DataArray:
    """Return the values at the grid points nearest to the cities.

    Args:
        field: (time, latitude, longitude), global or a region; longitudes in any convention.

    Returns:
        (time, city), units of the field; only cities on the grid, i.e. within half a step of a grid point.
    """
    data = Field.of(field)
    places, rows, columns = nearest_points(data.grid)
    values = np.asarray(data.array.values[:, rows, columns], np.float64)
    if not np.isfinite(values).all():
        raise InputError("field: has missing or infinite values at cities, expected none")
    wrapped = data.wrap(values, "city", places["city"].values, units=data.units(), long_name="values at cities")
    out: xr.DataArray = wrapped.assign_coords({name: places[name] for name in ("latitude", "longitude")})
    return out


def nearest_points(grid: Grid) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Return the cities that lie on a grid, and the row and the column of the point nearest to each."""
    places = load_cities()
    latitude, longitude = (places[name].values.astype(np.float64) for name in ("latitude", "longitude"))
    row = np.abs(latitude[:, None] - grid.latitude).argmin(1)
    # Both sides modulo 360: west of Greenwich −74 and 286 are one place.
    east = (longitude[:, None] - grid.longitude + 180.0) % 360.0 - 180.0
    column = np.abs(east).argmin(1)
    near = np.abs(np.take_along_axis(east, column[:, None], 1)[:, 0]) <= 0.5001 * grid.step[1]
    # No tie to the step for a globe: a pole row may be missing.
    near &= (np.abs(latitude - grid.latitude[row]) <= 0.5001 * grid.step[0]) | (grid.geometry is not None)
    keep = np.flatnonzero(near)
    return places.isel(city=keep), row[keep], column[keep]


def wasserstein(x: np.ndarray, y: np.ndarray, x_weights: np.ndarray, y_weights: np.ndarray) -> np.ndarray:
    """Return Wasserstein-1 distances (B,) of values (N,) and (M,) with weights (N, B) and (M, B) of any sum.

    They are the integral of the absolute difference of the two distribution functions.
    """
    values = np.concatenate((x, y))
    mass = np.concatenate((x_weights / x_weights.sum(0), -y_weights / y_weights.sum(0)))
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    out: np.ndarray = gaps @ np.abs(np.cumsum(mass[order], 0)[:-1])
    return out


def compare_cities(distances: np.ndarray, others: np.ndarray) -> dict[str, int]:
    """Count at how many cities the first of two models is nearer to the truth, from Wasserstein distances (city).

    Distances that differ by at most a tenth of the larger one count as equal, as in the original summary.
    """
    gap = others - distances
    decided = np.abs(gap) > 0.1 * np.maximum(distances, others)
    better, worse = int((decided & (gap > 0)).sum()), int((decided & (gap < 0)).sum())
    return {"better": better, "equal": distances.size - better - worse, "worse": worse}
