"""What ``atmoloss report`` does with the fields of its files before they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data import open_fields
from atmoloss.data.forecasts import choose_in, has_runs, lead_hours
from atmoloss.errors import DataError, require
from atmoloss.verification.statistics.grid import grid_of, standardise_axes

if TYPE_CHECKING:
    import xarray as xr

COARSE = "coarse"
"""The name of the models' input beside the models."""


def open_all(
    paths: Mapping[str, str], variables: Sequence[str], options: Mapping[str, Any], run: str | None, lead: float | None
) -> dict[str, xr.Dataset]:
    """Open the truth and the models after it, each at the times that can be compared: ``missing="ignore"`` leaves out
    whole times.
    """
    data = {name: open_fields(path, variables, **options) for name, path in paths.items()}
    data = choose_in(data, run, lead, list(paths)[1])
    if options["missing"] == "ignore":
        for name, fields in data.items():
            data[name] = fields.where(np.isfinite).dropna("time")
            if not data[name].sizes["time"]:
                raise DataError(
                    f"--missing: {name} has missing values at all times, expected some without, or a value instead"
                )
    return data


def shortest_degree(data: xr.Dataset) -> float:
    """Return the spherical-harmonic degree of the shortest wave of a grid: 180 degrees over its step in latitude."""
    return float(180.0 / grid_of(standardise_axes(next(iter(data.data_vars.values())))).step[0])


def split_by_lead(data: dict[str, xr.Dataset]) -> dict[float | None, dict[str, xr.Dataset]]:
    """Return the fields of each lead time that all forecasts of several runs have, those of other data with each.

    Lead times for whose valid times not all data have fields are left out; without such forecasts the one key is
    ``None``.
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


def interpolate_to(coarse: xr.Dataset, fine: xr.Dataset) -> xr.Dataset:
    """Interpolate fields bilinearly to the grid of others, at common times; beyond the outermost points constant."""
    xarray = require("xarray", "eval")
    times = np.intersect1d(coarse["time"].values, fine["time"].values)
    if not times.size:
        raise DataError("coarse: has no time in common with the truth, expected fields of the same times")
    data = coarse.sel(time=times)
    if grid_of(standardise_axes(next(iter(data.data_vars.values())))).periodic:
        first = data.isel(longitude=[0])
        data = xarray.concat([data, first.assign_coords(longitude=first["longitude"] + 360.0)], "longitude")
    west, east = data["longitude"].values[[0, -1]]
    middle = (west + east) / 2  # of a region, points beyond it take the values of the nearer end
    longitude = (fine["longitude"].values - middle + 180.0) % 360.0 + middle - 180.0
    north, south = data["latitude"].values[[0, -1]]
    places = {
        "latitude": xarray.DataArray(np.clip(fine["latitude"].values, south, north), dims="latitude"),
        "longitude": xarray.DataArray(np.clip(longitude, west, east), dims="longitude"),
    }
    out: xr.Dataset = data.interp(places, method="linear").astype(np.float32)
    out.coords.update({axis: fine[axis] for axis in ("latitude", "longitude")})
    return out
