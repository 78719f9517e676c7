"""The grid of a field: ordered axes, exact areas, and whether it covers the globe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data.alignment import on_grid_of
from atmoloss.data.conventions import latitude_order, longitude_order
from atmoloss.errors import DataError, InputError, require
from atmoloss.winds import EARTH_RADIUS, is_periodic

if TYPE_CHECKING:
    import xarray as xr

DIMENSIONS = ("time", "latitude", "longitude")
_FEWEST = 5  # rows and columns
# Share of a grid step by which float32 coordinates may miss the place where they belong.
_TOLERANCE = 0.01


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
        span = f"{_degrees(north, 'NS')} to {_degrees(south, 'NS')}, {_degrees(west, 'EW')} to {_degrees(east, 'EW')}"
        return f"{self.latitude.size} × {self.longitude.size} points, {self.step[0]:.4g}° × {self.step[1]:.4g}°, {span}"

    @property
    def row_weights(self) -> np.ndarray:
        """Share of the covered area that each row has, (H,), sum 1."""
        return row_areas(self.latitude)

    @property
    def spacing_km(self) -> float:
        """Distance between two rows, kilometres."""
        return float(np.deg2rad(self.step[0]) * EARTH_RADIUS / 1e3)


def _degrees(value: float, letters: str) -> str:
    return f"{abs(value):.5g}°{letters[int(value < 0)] if value else ''}"


def row_areas(latitude: np.ndarray) -> np.ndarray:
    """Return the share of area of each row of a grid, (H,), sum 1, in the order of ``latitude``.

    A row stands for the band to the middle between it and its neighbours, an outer row for as much on its
    other side, at most to the pole; the area of a band is the difference of the sines of its edges.

    Args:
        latitude: degrees, (H,) monotonic, H ≥ 2.
    """
    values = np.asarray(latitude, np.float64)
    middle = (values[1:] + values[:-1]) / 2
    outer = 2 * values[[0, -1]] - middle[[0, -1]]
    edges = np.clip(np.concatenate((outer[:1], middle, outer[1:])), -90.0, 90.0)
    areas = np.abs(np.diff(np.sin(np.deg2rad(edges))))
    out: np.ndarray = areas / areas.sum()
    return out


def ordered(field: xr.DataArray, name: str = "field") -> xr.DataArray:
    """Return a field as (time, latitude, longitude), latitude descending, longitude eastward, still lazy.

    Args:
        field: with dimensions latitude and longitude, and time or none.
        name: of the argument, for messages.

    Raises:
        InputError: other dimensions, or axes that are not latitudes and longitudes.
    """
    xarray = require("xarray", "eval")
    if not isinstance(field, xarray.DataArray):
        raise InputError(f"{name}: got {type(field).__name__}, expected an xarray.DataArray")
    if not {"latitude", "longitude"} <= set(field.dims) <= set(DIMENSIONS):
        raise InputError(f"{name}: got dimensions {field.dims}, expected (time, latitude, longitude)")
    if "time" not in field.dims:
        field = field.expand_dims("time")
    if min(field.sizes["latitude"], field.sizes["longitude"]) < _FEWEST or not field.sizes["time"]:
        raise InputError(
            f"{name}: got sizes {dict(field.sizes)}, expected at least 1 time, {_FEWEST} rows and {_FEWEST} columns"
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
    """Return the grid of a field that :func:`ordered` returned.

    Raises:
        InputError: longitudes that are not evenly spaced.
    """
    latitude = field["latitude"].values.astype(np.float64)
    longitude = field["longitude"].values.astype(np.float64)
    periodic = is_periodic(longitude)
    step = float(-np.diff(latitude).mean()), float(np.diff(longitude).mean())
    geometry, missing = _geometry(latitude, step[0]) if periodic else (None, (False, False))
    return Grid(latitude, longitude, step, periodic, geometry, missing)


def _geometry(latitude: np.ndarray, step: float) -> tuple[str | None, tuple[bool, bool]]:
    """Return ducc0's name of rows from pole to pole, and which pole rows are absent."""
    complete = (False, False)
    gaussian = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(latitude.size)[0][::-1]))
    if np.abs(latitude - gaussian).max() < 1e-3 * step:
        return "GL", complete
    if np.abs(np.diff(latitude) + step).max() > _TOLERANCE * step:
        return None, complete
    # How many steps the first and the last row are from their poles.
    gaps = np.array([90.0 - latitude[0], latitude[-1] + 90.0]) / step
    if (np.abs(gaps - 0.5) < _TOLERANCE).all():
        return "F1", complete
    if (np.abs(gaps - np.rint(gaps)) < _TOLERANCE).all() and (gaps < 1.5).all():
        return "CC", (bool(gaps[0] > 0.5), bool(gaps[1] > 0.5))
    return None, complete


def values_of(field: xr.DataArray, name: str = "field") -> np.ndarray:
    """Read the values of an ordered field as float64 (T, H, W).

    Raises:
        InputError: missing values.
    """
    values = np.asarray(field.values, np.float64)
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise InputError(f"{name}: {bad} of {values.size} values are missing or infinite, expected none")
    return values


def aligned(field: xr.DataArray, other: xr.DataArray, names: tuple[str, str]) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two fields ordered and on one grid.

    Raises:
        InputError: other dimensions, or grids that differ.
    """
    first, second = ordered(field, names[0]), ordered(other, names[1])
    return first, on_grid_of(first, second, names, InputError)


def on_common_grid(fields: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return ordered data sets at the rows and columns that all have, with the coordinates of the first.

    Grids may differ in extent, as of a model that covers a region, or leaves out the row at a pole.

    Raises:
        InputError: the points differ, or fewer than 5 rows or columns are common.
    """
    label, first = next(iter(fields.items()))
    positions = {name: _positions(first, data) for name, data in fields.items()}
    latitude, longitude = (np.stack([p[axis] for p in positions.values()]).min(0) >= 0 for axis in (0, 1))
    rows = np.flatnonzero(latitude)
    # Columns may be common on both sides of the seam of a globe: they begin where the one before is not common.
    starts = np.flatnonzero(longitude & ~np.roll(longitude, 1))
    columns = (np.arange(longitude.sum()) + (starts[0] if starts.size else 0)) % longitude.size
    out: dict[str, xr.Dataset] = {}
    for name, data in fields.items():
        north, east = positions[name][0][rows], positions[name][1][columns]
        # Of a grid twice as fine every second point is common, but a field is not what its samples are.
        whole = (np.diff(north) == 1).all() and (np.diff(east) % data.sizes["longitude"] == 1).all()
        over_seam = bool((np.diff(east) < 0).any())
        closed = not over_seam or is_periodic(data["longitude"].values)
        if min(rows.size, columns.size) < _FEWEST or not (whole and closed):
            for other in fields:
                on_grid_of(first, fields[other], (label, other), InputError)  # raises for the one that differs
        # Slices where possible: they copy nothing.
        across = east if over_seam else slice(east[0], east[-1] + 1)
        out[name] = data.isel(latitude=slice(north[0], north[-1] + 1), longitude=across)
    west = first["longitude"].values[columns]
    axes = {
        "latitude": first["latitude"][rows],
        "longitude": ("longitude", west + 360.0 * (west < west[0]), first["longitude"].attrs),
    }
    return {name: data.assign_coords(axes) for name, data in out.items()}


def _positions(reference: xr.Dataset, data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return which row and column of ``data`` each of ``reference`` is, −1 for none."""
    found = []
    for axis in ("latitude", "longitude"):
        wanted, own = (np.asarray(d[axis].values, np.float64) for d in (reference, data))
        apart = np.abs(wanted[:, None] - own)
        if axis == "longitude":
            apart = np.abs((wanted[:, None] - own + 180.0) % 360.0 - 180.0)
        near = apart.min(1) < _TOLERANCE * abs(wanted[1] - wanted[0])
        found.append(np.where(near, apart.argmin(1), -1))
    return found[0], found[1]


def area_mean(field: xr.DataArray) -> xr.DataArray:
    """Return the area-weighted mean over latitude and longitude.

    Args:
        field: any dimensions among which are latitude and longitude, in any order.
    """
    xarray = require("xarray", "eval")
    weights = xarray.DataArray(row_areas(field["latitude"].values), dims="latitude")
    out: xr.DataArray = (field.mean("longitude") * weights).sum("latitude")
    out.attrs = dict(field.attrs)
    return out


def like(field: xr.DataArray, values: Any, dims: tuple[str, ...], **attrs: Any) -> xr.DataArray:
    """Wrap per-time values (time, …) with the time coordinate of ``field``."""
    xarray = require("xarray", "eval")
    coords = {"time": field["time"]} if "time" in field.coords and "time" in dims else {}
    out: xr.DataArray = xarray.DataArray(values, dims=dims, coords=coords, name=field.name, attrs=attrs)
    return out


def units_of(field: xr.DataArray, power: int = 1) -> str:
    """Return the CF units of a field, or of its square."""
    units = str(field.attrs.get("units", "1"))
    if power == 1:
        return units
    return "1" if units == "1" else f"({units}){power}"
