"""What ``atmoloss report`` does with the fields of its files before they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data import open_fields
from atmoloss.data.forecasts import choose_in, has_runs, lead_hours
from atmoloss.errors import DataError, require
from atmoloss.verification.results import TRUTH
from atmoloss.verification.statistics.grid import grid_of, standardise_axes

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["COARSE", "TRUTH", "interpolate_to", "open_all", "shortest_degree", "split_by_lead", "without_missing"]

COARSE = "coarse"
"""The name of the models' input beside the models."""


def open_all(
    paths: Mapping[str, str], variables: Sequence[str], options: Mapping[str, Any], run: str | None, lead: float | None
) -> dict[str, xr.Dataset]:
    """Open the truth and the models after it, each at the times that can be compared.

    Args:
        paths: by the names of the data.
        variables: of each of them.
        options: further ones of :func:`open_fields`; of ``missing="ignore"`` whole times are left out.
        run, lead: see :func:`choose_in`.

    Raises:
        DataError: data that cannot be opened, without the forecasts asked for, or with missing values at all times.
    """
    data = {name: open_fields(path, variables, **options) for name, path in paths.items()}
    first_model = list(paths)[1]
    data = choose_in(data, run, lead, first_model)
    if options["missing"] == "ignore":
        data = {name: without_missing(fields, name) for name, fields in data.items()}
    return data


def shortest_degree(data: xr.Dataset) -> float:
    """Return the spherical-harmonic degree of the shortest wave of a grid: 180 degrees over its step in latitude."""
    return float(180.0 / grid_of(standardise_axes(next(iter(data.data_vars.values())))).step[0])


def split_by_lead(data: dict[str, xr.Dataset]) -> dict[float | None, dict[str, xr.Dataset]]:
    """Return the fields of each lead time that all forecasts of several runs have, those of other data with each.

    Lead times for whose valid times not all data have fields are left out; without such forecasts the one key is
    ``None``.

    Raises:
        DataError: no lead time is left.
    """
    several = [name for name, fields in data.items() if has_runs(fields)]
    leads = [np.unique(lead_hours(data[name])) for name in several]
    if all(len(hours) == 1 for hours in leads):
        return {None: data}
    out: dict[float | None, dict[str, xr.Dataset]] = {}
    for lead in reduce(np.intersect1d, leads):
        chosen = {n: f.isel(time=np.flatnonzero(lead_hours(f) == lead)) if n in several else f for n, f in data.items()}
        if reduce(np.intersect1d, [fields["time"].values for fields in chosen.values()]).size:
            out[float(lead)] = chosen
    if not out:
        raise DataError(
            f"models: {', '.join(several)} have no lead time for whose valid times all data have fields, expected one"
        )
    return out


def without_missing(data: xr.Dataset, name: str) -> xr.Dataset:
    """Return the times at which no variable has missing values.

    Raises:
        DataError: there is none.
    """
    complete = np.ones(data.sizes["time"], bool)
    for field in data.data_vars.values():
        complete &= np.isfinite(field.transpose("time", "latitude", "longitude").values).all((1, 2))
    if not complete.any():
        raise DataError(f"--missing: {name} has missing values at all times, expected some without, or a value instead")
    kept: xr.Dataset = data.isel(time=np.flatnonzero(complete))
    return kept


def interpolate_to(coarse: xr.Dataset, fine: xr.Dataset) -> xr.Dataset:
    """Interpolate fields bilinearly in latitude and longitude to a finer grid; beyond the outermost points constant.

    Args:
        coarse: of :func:`open_fields`.
        fine: of :func:`open_fields`; only its grid and times count.

    Raises:
        DataError: no time in common.
    """
    xarray = require("xarray", "eval")
    times = np.intersect1d(coarse["time"].values, fine["time"].values)
    if not times.size:
        raise DataError("coarse: has no time in common with the truth, expected fields of the same times")
    data = coarse.sel(time=times)
    grid = grid_of(standardise_axes(data[next(iter(data.data_vars))]))
    west = grid.longitude[0]
    longitude = (fine["longitude"].values - west) % 360.0 + west
    if grid.periodic:
        first = data.isel(longitude=[0])
        data = xarray.concat([data, first.assign_coords(longitude=first["longitude"] + 360.0)], "longitude")
    else:
        # Up to a point left of the first column the nearest end is the first column.
        beyond = longitude - grid.longitude[-1]
        longitude = np.where(beyond > west + 360.0 - longitude, west, np.minimum(longitude, grid.longitude[-1]))
    latitude = np.clip(fine["latitude"].values, grid.latitude[-1], grid.latitude[0])
    places = {
        "latitude": xarray.DataArray(latitude, dims="latitude"),
        "longitude": xarray.DataArray(longitude, dims="longitude"),
    }
    out: xr.Dataset = data.interp(places, method="linear").astype(np.float32)
    out.coords.update({axis: fine[axis] for axis in ("latitude", "longitude")})
    return out
