"""A field and its grid: standard axes, exact areas, and whether the grid covers the globe."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data.conventions import latitude_order, longitude_order
from atmoloss.data.spectral import is_global_gaussian
from atmoloss.errors import DataError, InputError, require
from atmoloss.sphere import EARTH_RADIUS, is_periodic

if TYPE_CHECKING:
    import xarray as xr

DIMENSIONS = ("time", "latitude", "longitude")
FEWEST = 5  # rows and columns
# Share of a grid step by which float32 coordinates may miss the place where they belong.
TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class Grid:
    """A latitude–longitude grid.

    Attributes:
        latitude: degrees north, (H,) descending.
        longitude: degrees east, (W,) ascending, past 360 where a region crosses 0.
        step: mean spacing of latitude and longitude, degrees, positive.
        periodic: whether it closes in longitude.
        geometry: of ducc0 if the grid covers the globe (``CC``, ``F1``, ``GL``), else ``None``.
        missing_poles: whether the northern and the southern pole row must be added to make it ``CC``.
    """

    latitude: np.ndarray
    longitude: np.ndarray
    step: tuple[float, float]
    periodic: bool
    geometry: str | None
    missing_poles: tuple[bool, bool]

    def __str__(self) -> str:
        (north, south), (west, east) = self.latitude[[0, -1]], self.longitude[[0, -1]]
        span = f"{degrees(north, 'NS')} to {degrees(south, 'NS')}, {degrees(west, 'EW')} to {degrees(east, 'EW')}"
        return f"{self.latitude.size} × {self.longitude.size} points, {self.step[0]:.4g}° × {self.step[1]:.4g}°, {span}"

    @property
    def row_weights(self) -> np.ndarray:
        """Share of the covered area that each row has, (H,), sum 1.

        A row stands for the band to the middle between it and its neighbours, an outer row for as much on its
        other side, at most to the pole; the area of a band is the difference of the sines of its edges.
        """
        middle = (self.latitude[1:] + self.latitude[:-1]) / 2
        outer = 2 * self.latitude[[0, -1]] - middle[[0, -1]]
        edges = np.clip(np.concatenate((outer[:1], middle, outer[1:])), -90.0, 90.0)
        areas = np.abs(np.diff(np.sin(np.deg2rad(edges))))
        out: np.ndarray = areas / areas.sum()
        return out

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the area-weighted means (T,) of values (T, H, W)."""
        out: np.ndarray = values.mean(2) @ self.row_weights
        return out

    @property
    def spacing_km(self) -> float:
        """Distance between two rows, kilometres."""
        return float(np.deg2rad(self.step[0]) * EARTH_RADIUS / 1e3)


def degrees(value: float, letters: str) -> str:
    """Return a latitude (``letters`` NS) or a longitude (EW) as text, 18°N."""
    return f"{abs(value):.5g}°{letters[int(value < 0)] if value else ''}"


def standardise_axes(field: xr.DataArray, name: str = "field") -> xr.DataArray:
    """Return a field as (time, latitude, longitude), latitude descending, longitude eastward, still lazy.

    ``name`` is that of the argument in an ``InputError`` about other dimensions or axes.
    """
    xarray = require("xarray", "eval")
    if not isinstance(field, xarray.DataArray):
        raise InputError(f"{name}: got {type(field).__name__}, expected an xarray.DataArray")
    if not {"latitude", "longitude"} <= set(field.dims) <= set(DIMENSIONS):
        raise InputError(f"{name}: got dimensions {field.dims}, expected (time, latitude, longitude)")
    if "time" not in field.dims:
        field = field.expand_dims("time")
    if min(field.sizes["latitude"], field.sizes["longitude"]) < FEWEST or not field.sizes["time"]:
        raise InputError(
            f"{name}: got sizes {dict(field.sizes)}, expected at least 1 time, {FEWEST} rows and {FEWEST} columns"
        )
    try:
        rows = latitude_order(field["latitude"].values.astype(np.float64))
        columns, longitude = longitude_order(field["longitude"].values.astype(np.float64))
    except DataError as error:
        raise InputError(f"{name}: {error}") from error
    field = field.transpose(*DIMENSIONS)
    if not np.array_equal(rows, np.arange(rows.size)):
        field = field.isel(latitude=rows)
    if not np.array_equal(columns, np.arange(field.sizes["longitude"])):
        field = field.isel(longitude=columns)
    out: xr.DataArray = field.assign_coords(longitude=("longitude", longitude, field["longitude"].attrs))
    return out


def grid_of(field: xr.DataArray) -> Grid:
    """Return the grid of a field that :func:`standardise_axes` returned; uneven longitudes raise an ``InputError``."""
    latitude, longitude = (field[axis].values.astype(np.float64) for axis in DIMENSIONS[1:])
    step = float(-np.diff(latitude).mean()), float(np.diff(longitude).mean())
    periodic, geometry, missing = is_periodic(longitude), None, (False, False)
    # How many steps the first and the last row are from their poles.
    gaps = np.array([90.0 - latitude[0], latitude[-1] + 90.0]) / step[0]
    if periodic and is_global_gaussian(latitude, longitude):
        geometry = "GL"
    elif periodic and np.abs(np.diff(latitude) + step[0]).max() <= TOLERANCE * step[0]:
        if (np.abs(gaps - 0.5) < TOLERANCE).all():
            geometry = "F1"
        elif (np.abs(gaps - np.rint(gaps)) < TOLERANCE).all() and (gaps < 1.5).all():
            geometry, missing = "CC", (bool(gaps[0] > 0.5), bool(gaps[1] > 0.5))
    return Grid(latitude, longitude, step, periodic, geometry, missing)


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """A field with standard axes, as numpy functions take it, and the way of their results back to xarray.

    Attributes:
        array: (time, latitude, longitude), latitude descending, longitude eastward.
        label: what messages call it.
    """

    array: xr.DataArray
    label: str = "field"

    @classmethod
    def of(cls, array: xr.DataArray, label: str = "field") -> Field:
        """Return any field in any order of its axes; see :func:`standardise_axes` for what is refused."""
        return cls(standardise_axes(array, label), label)

    @functools.cached_property
    def grid(self) -> Grid:
        """The grid of the field."""
        return grid_of(self.array)

    @functools.cached_property
    def values(self) -> np.ndarray:
        """The values (T, H, W) as float64; missing ones raise an ``InputError``."""
        values = np.asarray(self.array.values, np.float64)
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise InputError(f"{self.label}: {bad} of {values.size} values are missing or infinite, expected none")
        return values

    def units(self, power: int = 1) -> str:
        """Return the CF units of the field, or of its square."""
        units = str(self.array.attrs.get("units", "1"))
        return units if power == 1 or units == "1" else f"({units}){power}"

    def wrap(self, values: np.ndarray, axis: str, coordinate: Any, *, units: str, long_name: str) -> xr.DataArray:
        """Return values (T, N) over time and a further axis."""
        coords: dict[str, Any] = {axis: coordinate}
        if "time" in self.array.coords:
            coords["time"] = self.array["time"]
        out: xr.DataArray = require("xarray", "eval").DataArray(
            values, coords, ("time", axis), self.array.name, {"units": units, "long_name": long_name}
        )
        return out
