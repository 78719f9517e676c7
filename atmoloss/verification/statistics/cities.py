"""Distributions of what happens over time at cities: places where people are, spread evenly over the land.

The 150 cities of ``cities.csv`` (GeoNames, CC BY 4.0) have at least a million inhabitants. They were drawn with
probabilities inverse to the number of such cities around them, as in the original evaluation.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.verification.statistics.grid import Field, Grid

if TYPE_CHECKING:
    import xarray as xr

PERCENTILES = (2.0, 9.0, 25.0, 50.0, 75.0, 91.0, 98.0)
"""Percentiles of the original evaluation."""


def load_cities() -> xr.Dataset:
    """Return the 150 cities: ``latitude``, ``longitude`` (−180 to 180), ``country`` and ``population`` by ``city``."""
    xarray = require("xarray", "eval")
    lines = Path(__file__).with_name("cities.csv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    columns: dict[str, tuple[type, dict[str, str]]] = {
        "latitude": (float, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": (float, {"units": "degrees_east", "standard_name": "longitude"}),
        "country": (str, {"long_name": "ISO 3166 alpha-2 code"}),
        "population": (int, {"units": "1"}),
    }
    out: xr.Dataset = xarray.Dataset(
        {name: ("city", [kind(row[name]) for row in rows], attrs) for name, (kind, attrs) in columns.items()},
        coords={"city": [row["city"] for row in rows]},
        attrs={"source": "GeoNames (https://www.geonames.org), CC BY 4.0"},
    )
    return out


def at_cities(field: xr.DataArray, cities: xr.Dataset | None = None) -> xr.DataArray:
    """Return the values at the grid points nearest to the cities.

    Args:
        field: (time, latitude, longitude), global or a region; longitudes in any convention.
        cities: ``latitude`` and ``longitude`` (degrees, any convention) by ``city``; ``None``: :func:`load_cities`.

    Returns:
        (time, city), units of the field; only cities on the grid, i.e. within half a step of a grid point.
    """
    data = Field.of(field)
    places, rows, columns = nearest_points(data.grid, cities)
    values = np.asarray(data.array.values[:, rows, columns], np.float64)
    if not np.isfinite(values).all():
        raise InputError("field: has missing or infinite values at cities, expected none")
    wrapped = data.wrap(values, {"city": places["city"].values}, units=data.units(), long_name="values at cities")
    out: xr.DataArray = wrapped.assign_coords({name: places[name] for name in ("latitude", "longitude")})
    return out


def nearest_points(grid: Grid, cities: xr.Dataset | None = None) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Return the cities that lie on a grid, and the row and the column of the point nearest to each."""
    places = load_cities() if cities is None else cities
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


def city_percentiles(field: xr.DataArray, percentiles: Sequence[float] = PERCENTILES) -> xr.DataArray:
    """Return percentiles over time at the cities, (percentile, city), units of the field."""
    values = at_cities(field)
    quantiles = values.quantile(np.asarray(percentiles) / 100, dim="time").rename(quantile="percentile")
    out: xr.DataArray = quantiles.assign_coords(percentile=list(percentiles)).assign_attrs(units=values.attrs["units"])
    return out


def city_wasserstein(field: xr.DataArray, truth: xr.DataArray) -> xr.DataArray:
    """Return the Wasserstein-1 distance between the values over time of a field and of the truth, at each city.

    The order of times does not matter, nor whether both have as many: it compares climates, not forecasts.

    Returns:
        (city), units of the field; 0 for equal distributions, the shift for shifted ones.
    """
    a, b = at_cities(field), at_cities(truth)
    if not np.array_equal(a["city"].values, b["city"].values):
        raise InputError("field, truth: lie at different cities, expected one region")
    once = [np.ones((array.sizes["time"], 1)) for array in (a, b)]
    distances = [wasserstein(x, y, *once)[0] for x, y in zip(a.values.T, b.values.T, strict=True)]
    out: xr.DataArray = b.isel(time=0, drop=True).copy(data=distances)
    out.attrs = {"units": b.attrs["units"], "long_name": "Wasserstein-1 distance of the values over time"}
    return out


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
