"""Fields of several sources brought to one grid, where they are on the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from atmoloss.data.calendars import calendar_of
from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

Fields = TypeVar("Fields", "xr.Dataset", "xr.DataArray")


def on_grid_of(
    a: xr.Dataset | xr.DataArray, b: Fields, names: tuple[str, str] = ("A", "B"), kind: type[ValueError] = DataError
) -> Fields:
    """Return ``b``, turned in longitude to start where ``a`` does, with the coordinates of ``a``.

    Latitudes descend and longitudes ascend. Where grids or calendars differ an error of this kind has these names.
    """
    calendars = [calendar_of(d) if "time" in d.coords else "" for d in (a, b)]
    if all(calendars) and calendars[0] != calendars[1]:
        raise kind(
            f"{names[0]} and {names[1]}: got times in the calendars {calendars[0]} and {calendars[1]}, expected one"
        )
    shapes = [(d.sizes["latitude"], d.sizes["longitude"]) for d in (a, b)]
    if shapes[0] == shapes[1]:
        start = a["longitude"].values[0]
        shift = int(np.abs((b["longitude"].values - start + 180) % 360 - 180).argmin())
        turned = b.roll(longitude=-shift, roll_coords=True) if shift else b
        east = (turned["longitude"].values - a["longitude"].values + 180) % 360 - 180
        north = turned["latitude"].values - a["latitude"].values
        tolerance = 0.01 * abs(a["latitude"].values[0] - a["latitude"].values[1])  # float32 coordinates pass
        if max(np.abs(east).max(), np.abs(north).max()) < tolerance:
            return turned.assign_coords(latitude=a["latitude"], longitude=a["longitude"])
    raise kind(
        f"{names[0]} and {names[1]}: got fields on {_grid(a)} and on {_grid(b)}, expected one grid; "
        "interpolate one of them"
    )


def _grid(data: xr.Dataset | xr.DataArray) -> str:
    latitude, longitude = data["latitude"].values, data["longitude"].values
    return (
        f"{latitude.size}x{longitude.size} points ({latitude[0]:g} to {latitude[-1]:g}°N, "
        f"{longitude[0]:g} to {longitude[-1]:g}°E)"
    )
