"""Maps of the mean and the standard deviation over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import require
from atmoloss.evaluation.grid import aligned, area_mean, ordered, units_of

if TYPE_CHECKING:
    import xarray as xr


def moments(field: xr.DataArray) -> xr.Dataset:
    """Return the mean and the standard deviation (of the population) over time at every point.

    Args:
        field: (time, latitude, longitude), global or a region.

    Returns:
        ``mean`` and ``std`` (latitude, longitude), units of the field.
    """
    xarray = require("xarray", "eval")
    values = ordered(field).astype(np.float64)
    maps = {"mean": values.mean("time"), "std": values.std("time")}
    text = {"mean": "mean over time", "std": "standard deviation over time"}
    out: xr.Dataset = xarray.Dataset(
        {k: m.assign_attrs(units=units_of(field), long_name=text[k]) for k, m in maps.items()}
    )
    return out


def moment_errors(field: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Return the area-weighted root mean square differences of the maps of mean and standard deviation.

    Raises:
        InputError: grids that differ.
    """
    truth, field = aligned(truth, field, ("truth", "field"))
    difference = moments(field) - moments(truth)
    out: xr.Dataset = difference.map(lambda x: np.sqrt(area_mean(x**2)))
    for name in out:
        out[name].attrs["units"] = units_of(truth)
    return out
