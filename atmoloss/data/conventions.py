"""How variables, dimensions and units are recognised, and how axes are ordered.

CF attributes decide first: a variable whose ``standard_name`` contradicts is never taken for its name
(an ocean model's ``vo`` is no vorticity). Names serve where attributes are absent or fit several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Quantity:
    """A quantity that can be asked for: CF standard names, usual names, units, fixed height in metres."""

    standard_names: tuple[str, ...]
    names: tuple[str, ...]
    units: str
    height: float | None = None


def _wind(component: str, height: int | None = None) -> Quantity:
    """Return the eastward (``u``) or northward (``v``) wind, on levels or at a height above ground."""
    cf = "eastward_wind" if component == "u" else "northward_wind"
    long = f"{component}_component_of_wind"
    if height is None:
        short = (component, f"{component}a", f"{component}grd", f"{component}wnd")
        return Quantity((cf,), (*short, long, cf), "m s-1")
    h, c = height, component
    names = [f"{c}{h}", f"{h}{c}", f"{c}{h}m", f"{h}m_{long}", f"{c}grd{h}m", f"{c}grd_{h}m"]
    if height == 10:
        names.append(f"{c}as")  # CMIP
    return Quantity((cf,), tuple(names), "m s-1", float(height))


VARIABLES: dict[str, Quantity] = {
    "divergence": Quantity(("divergence_of_wind",), ("divergence", "d", "div"), "s-1"),
    "vorticity": Quantity(
        ("atmosphere_relative_vorticity", "atmosphere_upward_relative_vorticity"),
        ("vorticity", "vo", "vor", "relative_vorticity", "relv"),
        "s-1",
    ),
    **{f"{c}{h or ''}": _wind(c, h) for h in (None, 10, 100) for c in ("u", "v")},
}
"""Canonical name → quantity; any of a quantity's names may be asked for."""

WIND_PAIRS = (("u", "v"), ("u10", "v10"), ("u100", "v100"))

# Kind of coordinate → (CF standard names, usual names).
_COORDINATES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "latitude": (("latitude",), ("latitude", "lat", "y", "nav_lat")),
    "longitude": (("longitude",), ("longitude", "lon", "long", "x", "nav_lon")),
    "level": (
        (
            "air_pressure",
            "model_level_number",
            "atmosphere_hybrid_sigma_pressure_coordinate",
            "atmosphere_sigma_coordinate",
            "height",
            "altitude",
        ),
        (
            "level",
            "pressure_level",
            "isobaricinhpa",
            "isobaricinpa",
            "plev",
            "lev",
            "pressure",
            "hybrid",
            "model_level",
            "sigma",
            "height",
            "heightaboveground",
        ),
    ),
    "number": (("realization",), ("number", "member", "ensemble", "realization", "ens")),
    "step": (
        ("forecast_period",),
        ("step", "prediction_timedelta", "forecast_period", "lead_time", "leadtime"),
    ),
    "reference": (
        ("forecast_reference_time",),
        ("forecast_reference_time", "reference_time", "reftime", "init_time", "initial_time", "init"),
    ),
    "valid": (("time",), ("time", "valid_time")),
}
_METRES_PER_SECOND = re.compile(r"(m|met(er|re)s?)(/|per)(s|sec|seconds?)|(m|met(er|re)s?)(s|sec|seconds?)-1")
_PER_SECOND = re.compile(r"1?(/|per)(s|sec|seconds?)|1?(s|sec|seconds?)-1")


def quantity(name: str) -> Quantity | None:
    """Return the quantity that a canonical or usual name means, ``None`` for a name of the file's own."""
    lowered = name.lower()
    return next((q for key, q in VARIABLES.items() if lowered == key or lowered in q.names), None)


def coordinate(field: xr.DataArray, kind: str, dims: Iterable[str] | None = None) -> str | None:
    """Return the name of the coordinate (or bare dimension) of a kind, ``None`` where there is none.

    Args:
        field: whose coordinates and dimensions are looked through.
        kind: ``latitude``, ``longitude``, ``level``, ``number``, ``step``, ``reference`` or ``valid``.
        dims: only coordinates that live on these dimensions count (scalars do); ``None``: all.
    """
    standard_names, names = _COORDINATES[kind]
    allowed = set(map(str, field.dims)) if dims is None else set(dims)
    usable = [str(c) for c in field.coords if set(map(str, field.coords[c].dims)) <= allowed]
    # A dimension coordinate describes its axis better than an auxiliary one of the same kind.
    usable.sort(key=lambda c: (c not in field.dims, field.coords[c].ndim == 0))
    for name in usable:
        attrs = field.coords[name].attrs
        degrees = {"latitude": "degrees_north", "longitude": "degrees_east"}.get(kind)
        if attrs.get("standard_name") in standard_names or (degrees and attrs.get("units") == degrees):
            return name
    for name in [*usable, *(str(d) for d in field.dims if d in allowed and d not in field.coords)]:
        standard = field.coords[name].attrs.get("standard_name") if name in field.coords else None
        if name.lower() in names and standard in (None, "unknown"):
            return name
    return None


def levels(field: xr.DataArray) -> tuple[np.ndarray, str] | None:
    """Return the values and the unit of a field's level axis or scalar (pressure in hPa)."""
    name = coordinate(field, "level")
    if name is None or name not in field.coords:
        return None
    axis = field.coords[name]
    unit = str(axis.attrs.get("units", ""))
    values = np.atleast_1d(np.asarray(axis.values, dtype=np.float64))
    if unit.lower() in ("pa", "pascal", "pascals"):
        return values / 100.0, "hPa"
    return values, "hPa" if unit.lower() in ("mbar", "millibar", "millibars", "hpa") else unit


def has_level(field: xr.DataArray, level: float) -> bool:
    """Say whether a field has a level of that value (hPa for pressure)."""
    found = levels(field)
    return found is not None and bool(np.isclose(found[0], level, rtol=1e-4).any())


def describe_levels(field: xr.DataArray) -> str:
    """Return the levels of a field for an error message."""
    found = levels(field)
    if found is None:
        return "none"
    return ", ".join(f"{value:g}" for value in found[0]) + f" {found[1]}".rstrip()


def find_variable(datasets: Sequence[xr.Dataset], name: str, level: float | None) -> xr.DataArray | None:
    """Return the one variable that a name means, ``None`` where there is none.

    By CF standard name, then by name; a wind ``u`` is also the 10 m wind of a file that holds no other.

    Raises:
        DataError: several variables fit, or none of those that fit has the level.
    """
    fields = [data[v] for data in datasets for v in data.data_vars]
    wanted = quantity(name)
    if wanted is None:
        fitting = [f for f in fields if f.name == name]
    else:
        known = ("", "unknown", *wanted.standard_names)
        agreeing = [f for f in fields if str(f.attrs.get("standard_name", "")) in known]
        fitting = [f for f in agreeing if _aliases(f) & set(wanted.names)]
        fitting = fitting or [f for f in agreeing if "standard_name" in f.attrs and _fits(f, wanted)]
    # Winds at 10 m have no level to choose: "u10" with level=850 beside "u" is still the 10 m wind.
    if level is not None and fitting and (wanted is None or wanted.height is None):
        at_level = [f for f in fitting if has_level(f, level)]
        if not at_level:
            present = "; ".join(f"{f.name}: {describe_levels(f)}" for f in fitting)
            raise DataError(f"level: got {level:g} for {name!r}, expected one that is present ({present})")
        fitting = at_level
    if len(fitting) > 1:
        present = "; ".join(f"{f.name} (levels: {describe_levels(f)})" for f in fitting)
        raise DataError(f"variables: {name!r} fits several variables, name one of: {present}")
    return fitting[0] if fitting else None


def select(field: xr.DataArray, level: float | None) -> xr.DataArray:
    """Drop the ensemble and the level dimension.

    Raises:
        DataError: an ensemble of several members, or several levels and none asked for.
    """
    member = coordinate(field, "number")
    for dim in [] if member is None else _dims(field, member):
        if field.sizes[dim] > 1:
            raise DataError(
                f"{field.name}: got an ensemble dimension {dim!r} of {field.sizes[dim]} members, "
                f"expected one; open the data with xarray and pass dataset.isel({dim}=0)"
            )
        field = field.isel({dim: 0}, drop=True)
    name = coordinate(field, "level")
    for dim in [] if name is None else _dims(field, name):
        found = levels(field)
        if level is None and field.sizes[dim] > 1:
            raise DataError(f"level: got None for {field.name!r}, expected one of: {describe_levels(field)}")
        index = 0 if level is None or found is None else int(np.abs(found[0] - level).argmin())
        field = field.isel({dim: index}, drop=True)
    return field


def _dims(field: xr.DataArray, name: str) -> list[str]:
    """Return the dimensions of a coordinate, or of a dimension without one."""
    return [str(d) for d in field.coords[name].dims] if name in field.coords else [name]


def _aliases(field: xr.DataArray) -> set[str]:
    """Return the lower-case names that a variable goes by."""
    return {str(field.name).lower(), str(field.attrs.get("GRIB_shortName", "")).lower()}


def _fits(field: xr.DataArray, wanted: Quantity) -> bool:
    """Say whether a variable's standard name and height fit a quantity, whatever its own name."""
    if field.attrs["standard_name"] not in wanted.standard_names:
        return False
    found = levels(field)
    metres = found is not None and found[1] == "m"
    return wanted.height is None or (metres and has_level(field, wanted.height))


def check_units(field: xr.DataArray, wanted: Quantity) -> None:
    """Refuse a field in other units than the quantity's; a field without units is taken to be right.

    Raises:
        DataError: the units are others.
    """
    given = field.attrs.get("units")
    if given is None:
        return
    text = re.sub(r"\*\*|\^|[\s.]", "", str(given).lower())
    pattern = _METRES_PER_SECOND if wanted.units == "m s-1" else _PER_SECOND
    if pattern.fullmatch(text) is None:
        raise DataError(f"{field.name}: got units {given!r}, expected {wanted.units!r}; convert it first")


def latitude_order(values: np.ndarray) -> np.ndarray:
    """Return the indices that make latitude descend.

    Raises:
        DataError: latitudes that are not monotonic or leave ±90.
    """
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
