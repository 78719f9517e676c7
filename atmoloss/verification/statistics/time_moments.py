"""Maps of the mean and the standard deviation over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.statistics.grid import Field, aligned, area_mean

if TYPE_CHECKING:
    import xarray as xr


def time_moments(field: xr.DataArray) -> xr.Dataset:
    """Return the mean and the standard deviation (of the population) over time at every point.

    Args:
        field: (time, latitude, longitude), global or a region.

    Returns:
        ``mean`` and ``std`` (latitude, longitude), units of the field.
    """
    data = Field.of(field)
    values, units = data.array.astype(np.float64), data.units()
    mean = values.mean("time").assign_attrs(units=units, long_name="mean over time")
    std = values.std("time").assign_attrs(units=units, long_name="standard deviation over time")
    out: xr.Dataset = require("xarray", "eval").Dataset({"mean": mean, "std": std})
    return out


def time_moment_errors(field: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Return the area-weighted root mean square differences of the maps of mean and standard deviation.

    Raises:
        InputError: grids that differ.
    """
    true, model = aligned(truth, field, ("truth", "field"))
    difference = time_moments(model.array) - time_moments(true.array)
    out: xr.Dataset = difference.map(lambda x: np.sqrt(area_mean(x**2)))
    for name in out:
        out[name].attrs["units"] = true.units()
    return out
