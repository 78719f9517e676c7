"""How coordinates are recognised, and how axes are ordered.

CF attributes decide first, names serve where attributes are absent. Horizontal coordinates are degrees only
where something says so: see :func:`horizontal_axes`. For variables see :mod:`atmoloss.data.variables`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

# Kind of coordinate → (CF standard names, usual names).
_COORDINATES = {
    "level": (
        "air_pressure model_level_number atmosphere_hybrid_sigma_pressure_coordinate atmosphere_sigma_coordinate "
        "height altitude",
        "level pressure_level isobaricinhpa isobaricinpa plev lev pressure hybrid model_level sigma height "
        "heightaboveground height_above_ground isobaric lv_isbl lv_htgl",
    ),
    "number": ("realization", "number member ensemble realization ens"),
    "step": ("forecast_period", "step prediction_timedelta forecast_period lead_time leadtime"),
    "reference": (
        "forecast_reference_time",
        "forecast_reference_time reference_time reftime init_time initial_time init",
    ),
    "valid": ("time", "time valid_time"),
}
# As coordinates spell them → unit of levels, and the divisor that brings values to it.
_LEVEL_UNITS = {
    **dict.fromkeys(("pa", "pascal", "pascals"), ("hPa", 100.0)),
    **dict.fromkeys(("mbar", "millibar", "millibars", "hpa"), ("hPa", 1.0)),
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), ("m", 1.0)),
}
_DEGREES, _RADIANS = "(deg(ree)?s?|°)", "rad(ian)?s?"
_TOWARDS = {"latitude": f"{_DEGREES}_?n(orth)?", "longitude": f"{_DEGREES}_?e(ast)?"}
_NAMES = {
    "latitude": r"(nav_|x|g\d+_)?lat(itude)?(_?\d+)?",
    "longitude": r"(nav_|x|g\d+_)?lon(g|gitude)?(_?\d+)?",
}
# Two-dimensional coordinates go by more names: lat_rho, TLAT, gridlat_0, XLAT_M, geolon_t.
_NAMES_2D = {
    "latitude": r"(.*_|grid|geo|[xtuv])?lat(itude)?s?(_.*|\d.*)?",
    "longitude": r"(.*_|grid|geo|[xtuv])?lon(g|gitude)?s?(_.*|\d.*)?",
}
_REGRID = "regrid to a regular latitude-longitude grid first, e.g. with xesmf or cdo remapbil"


def coordinate(field: xr.DataArray, kind: str, dims: Iterable[str] | None = None) -> str | None:
    """Return the name of the coordinate (or bare dimension) of a kind of the table, ``None`` where there is none.

    Only coordinates that live on ``dims`` count (scalars do); ``None``: on those of the field.
    """
    standard_names, names = (text.split() for text in _COORDINATES[kind])
    allowed = set(map(str, field.dims)) if dims is None else set(dims)
    usable = [str(c) for c in field.coords if set(map(str, field.coords[c].dims)) <= allowed]
    # A dimension coordinate describes its axis better than an auxiliary one of the same kind.
    usable.sort(key=lambda c: (c not in field.dims, field.coords[c].ndim == 0))
    for name in usable:
        if field.coords[name].attrs.get("standard_name") in standard_names:
            return name
    for name in [*usable, *(str(d) for d in field.dims if d in allowed and d not in field.coords)]:
        # thredds and NCL number the axes of one kind: isobaric3, lv_HTGL0.
        plain = name.lower().rstrip("0123456789") if kind == "level" else name.lower()
        if plain in names and field[name].attrs.get("standard_name") in (None, "unknown"):
            return name
    return None


def horizontal_axes(field: xr.DataArray) -> tuple[list[str], tuple[np.ndarray, np.ndarray]]:
    """Return the dimensions and the values in degrees of latitude and longitude; radians are converted.

    An axis counts where its CF ``standard_name`` or its units (``degrees_north``, …) say so, or its name
    (``lat``, ``nav_lon``, …) does and neither contradicts; one called ``y`` or ``x`` only where it is in degrees.
    """
    latitude, longitude = (_horizontal(field, kind) for kind in _NAMES)
    if latitude is None or longitude is None:
        raise DataError(_why_no_axes(field))
    if latitude.dims == longitude.dims:
        raise DataError(
            f"{field.name}: got latitude and longitude along one dimension {latitude.dims[0]!r} (a reduced Gaussian or "
            f"unstructured grid), without a latitude and a longitude axis; {_REGRID}, or cdo setgridtype,regular"
        )
    north, east = _in_degrees(latitude), _in_degrees(longitude)
    if all(_units(axis) in ("", "1") for axis in (latitude, longitude)) and _is_globe_in_radians(north, east):
        raise DataError(
            f"{latitude.name}, {longitude.name}: got values up to {np.abs(north).max():.3g} and {east.max():.3g} "
            "without units, which look like radians, expected degrees; set the attribute units, to 'radian' if they are"
        )
    return [str(latitude.dims[0]), str(longitude.dims[0])], (north, east)


def _horizontal(field: xr.DataArray, kind: str) -> xr.DataArray | None:
    """Return the one-dimensional latitude or longitude: by attributes, then by name where there is no other."""
    # A dimension coordinate describes its axis better than an auxiliary one.
    axes: list[xr.DataArray] = sorted(
        (c for c in field.coords.values() if c.ndim == 1), key=lambda c: c.name not in field.dims
    )
    for axis in axes:
        if _says(axis, kind):
            return axis
    for axis in [] if any(_is_curvilinear(c, kind) for c in field.coords.values()) else axes:
        name = str(axis.name).lower()
        named = re.fullmatch(_NAMES[kind], name)
        in_degrees = name == {"latitude": "y", "longitude": "x"}[kind] and re.fullmatch(_DEGREES, _units(axis))
        if _standard_name(axis) is None and (named or in_degrees):
            return axis
    return None


def _says(axis: xr.DataArray, kind: str) -> bool:
    """Say whether the attributes of a coordinate make it a latitude or longitude."""
    standard = _standard_name(axis)
    return standard == kind or (standard is None and bool(re.fullmatch(_TOWARDS[kind], _units(axis))))


def _standard_name(axis: xr.DataArray) -> str | None:
    name = axis.attrs.get("standard_name")
    return None if name in (None, "", "unknown") else str(name)


def _units(axis: xr.DataArray) -> str:
    return str(axis.attrs.get("units", "")).strip().lower()


def _in_degrees(axis: xr.DataArray) -> np.ndarray:
    """Return the values of a latitude or longitude in degrees; without units they are taken to be."""
    values = np.asarray(axis.values, dtype=np.float64)
    if re.fullmatch(_RADIANS, _units(axis)):
        return np.asarray(np.rad2deg(values))
    if _units(axis) in ("", "1") or re.fullmatch(f"{_DEGREES}|{'|'.join(_TOWARDS.values())}", _units(axis)):
        return values
    raise DataError(f"{axis.name}: got units {axis.attrs['units']!r}, expected degrees or radians; {_REGRID}")


def _is_globe_in_radians(latitude: np.ndarray, longitude: np.ndarray) -> bool:
    """Say whether rows stay within ±π/2 and columns close after 2π: no region in degrees does both."""
    if min(latitude.size, longitude.size) < 2 or np.abs(latitude).max() > np.pi / 2 + 1e-6:
        return False
    return bool(abs(np.ptp(longitude) * longitude.size / (longitude.size - 1) - 2 * np.pi) < 0.01)


def _is_curvilinear(axis: xr.DataArray, kind: str) -> bool:
    """Say whether a coordinate is a latitude or longitude of several dimensions, in any spelling."""
    named = re.fullmatch(_NAMES_2D[kind], str(axis.name).lower())
    return axis.ndim > 1 and (bool(named) or _says(axis, kind))


def _why_no_axes(field: xr.DataArray) -> str:
    """Return the sentence that says why a field has no latitude and longitude axis, and what to do."""
    start = f"{field.name}: got dimensions {field.dims} without a latitude and a longitude axis"
    two = [str(c.name) for c in field.coords.values() if any(_is_curvilinear(c, kind) for kind in _NAMES)]
    if two:
        return f"{start} but two-dimensional {', '.join(two)} (a curvilinear, rotated or projected grid); {_REGRID}"
    units = {str(d): field[d].attrs.get("units") for d in field.dims}
    said = ", ".join(f"{d!r} in {u!r}" if u else f"{d!r} without units" for d, u in units.items())
    return (
        f"{start} in degrees ({said}); if they are degrees say so by units 'degrees_north' and 'degrees_east', "
        f"else {_REGRID}"
    )


def levels(field: xr.DataArray) -> tuple[np.ndarray, str] | None:
    """Return the values and the unit of a field's level axis or scalar (pressure in hPa)."""
    name = coordinate(field, "level")
    if name is None or name not in field.coords:
        return None
    axis = field.coords[name]
    given = str(axis.attrs.get("units", ""))
    unit, divisor = _LEVEL_UNITS.get(given.lower(), (given, 1.0))
    return np.atleast_1d(np.asarray(axis.values, dtype=np.float64)) / divisor, unit


def has_level(field: xr.DataArray, level: float) -> bool:
    """Say whether a field has a level of that value (hPa for pressure)."""
    axis = levels(field)
    return axis is not None and bool(np.isclose(axis[0], level, rtol=1e-4).any())


def describe_levels(field: xr.DataArray) -> str:
    """Return the levels of a field for an error message."""
    axis = levels(field)
    if axis is None:
        return "none"
    return ", ".join(f"{value:g}" for value in axis[0]) + f" {axis[1]}".rstrip()


def one_member(field: xr.DataArray) -> xr.DataArray:
    """Drop the dimensions of the ensemble, of which there may be one member."""
    for dim in _dims(field, "number"):
        if field.sizes[dim] > 1:
            raise DataError(
                f"{field.name}: got an ensemble dimension {dim!r} of {field.sizes[dim]} members, "
                f"expected one; open the data with xarray and pass dataset.isel({dim}=0)"
            )
        field = field.isel({dim: 0}, drop=True)
    return field


def at_level(field: xr.DataArray, level: float | None) -> xr.DataArray:
    """Drop the dimension of the level, at the one nearest to that asked for; ``None`` takes the only one."""
    axis = levels(field)
    for dim in _dims(field, "level"):
        if level is None and field.sizes[dim] > 1:
            raise DataError(f"level: got None for {field.name!r}, expected one of: {describe_levels(field)}")
        index = 0 if level is None or axis is None else int(np.abs(axis[0] - level).argmin())
        field = field.isel({dim: index}, drop=True)
    return field


def _dims(field: xr.DataArray, kind: str) -> list[str]:
    """Return the dimensions of the coordinate of a kind, or the dimension without one."""
    name = coordinate(field, kind)
    return [] if name is None else [str(d) for d in field[name].dims]


def latitude_order(values: np.ndarray) -> np.ndarray:
    """Return the indices that make latitude descend; it must be monotonic and within ±90."""
    steps = np.diff(values)
    monotonic = (steps > 0).all() or (steps < 0).all()
    if not (monotonic and np.isfinite(values).all() and np.abs(values).max() < 90.001):
        raise DataError(f"latitude: got {values.min():g} to {values.max():g}, expected degrees, monotonic")
    order = np.arange(values.size)
    return order[::-1] if values.size > 1 and steps[0] > 0 else order


def longitude_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices that make longitude run eastward, and the ascending longitudes.

    A grid that closes keeps its values, sorted. A regional grid starts east of its largest gap, so that
    one across the date line (350 … 359, 0 … 10) keeps its physical order and runs on past 360. A second
    copy of a meridian (0 and 360) is dropped.
    """
    if not np.isfinite(values).all():
        raise DataError("longitude: expected finite degrees")
    order = np.argsort(values % 360.0, kind="stable")
    turned = (values % 360.0)[order]
    gaps = np.diff(turned, append=turned[0] + 360.0)
    keep = np.roll(gaps, 1) > 1e-4  # the gap before a meridian; float32 noise is 3e-5
    order, turned = order[keep], turned[keep]
    gaps = np.diff(turned, append=turned[0] + 360.0)
    widest = int(gaps.argmax())
    if gaps[widest] < 1.5 * np.median(gaps):
        order = order[np.argsort(values[order], kind="stable")]
        return order, values[order]
    order, turned = np.roll(order, -widest - 1), np.roll(turned, -widest - 1)
    return order, values[order[0]] + (turned - turned[0]) % 360.0


def from_greenwich(longitude: np.ndarray) -> np.ndarray:
    """Return the indices that make the longitudes of a globe begin at 0 or the first after it; 359.9999 counts as 0."""
    return np.argsort((longitude + 1e-4) % 360.0)
