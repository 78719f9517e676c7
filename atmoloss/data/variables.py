"""Which variables of a file are the quantity that was asked for.

CF attributes decide first: a variable whose ``standard_name`` contradicts is never taken for its name (an ocean
model's ``vo`` is no vorticity). Names, the level axis, and height or level in a name do the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from atmoloss.data.conventions import describe_levels, has_level, levels
from atmoloss.data.quantities import VARIABLES, Place, Quantity, parse, quantity
from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

Candidate = tuple["xr.DataArray", "Place | None"]
"""A variable and the place that its name says."""
# WeatherBench's pressures have no units.
_AXIS_UNITS = {"m": ("m",), "hPa": ("hPa", "")}


def quantity_of(field: xr.DataArray, name: str) -> Quantity | None:
    """Return the quantity that a name means if a field may be it, ``None`` where the field is the file's own."""
    wanted = quantity(name)
    return wanted if wanted is not None and _agrees(field, wanted) else None


def find_variable(datasets: Sequence[xr.Dataset], name: str, level: float | None) -> xr.DataArray | None:
    """Return the one variable that a name means, by name, then by CF standard name; ``None`` where there is none.

    The level is that of the name (``u10``, ``u850``) or else ``level``, and is looked for on level axes, then in names.
    A name without a place and without ``level`` means the variable without a place, or the only one with one.
    """
    wanted, groups = _groups(datasets, name)
    for group in groups:
        fitting = _at_level(group, wanted, level)
        exact = [f for f in fitting if f.name == name]
        if len(fitting) > 1 and len(exact) != 1:
            present = "; ".join(f"{f.name} (levels: {describe_levels(f)})" for f in fitting)
            raise DataError(f"variables: {name!r} fits several variables, name one of: {present}")
        if fitting and wanted is not None and wanted.units == "s-1":
            _check_beside_winds(datasets, group, name, wanted, level)
        if fitting:
            return (exact or fitting)[0]
    present = "; ".join(f"{f.name}: {describe_levels(f)}" for group in groups for f, _ in group)
    if present and level is not None and (wanted is None or wanted.place is None):
        raise DataError(f"level: got {level:g} for {name!r}, expected one that is present ({present})")
    return None


def _groups(datasets: Sequence[xr.Dataset], name: str) -> tuple[Quantity | None, list[list[Candidate]]]:
    """Return the quantity that a name means (``None``: a name of the file's own) and the variables that may be it."""
    wanted = quantity(name)
    own: list[Candidate] = [(data[v], None) for data in datasets for v in data.data_vars if v == name]
    groups = [own] if wanted is None else _candidates(datasets, wanted)
    if not any(groups) and wanted is not None and wanted.units != "s-1":  # those can be derived
        return None, [own]
    return wanted, groups


def _check_beside_winds(
    datasets: Sequence[xr.Dataset], group: Sequence[Candidate], name: str, wanted: Quantity, level: float | None
) -> None:
    """Refuse ``vo850`` for ``vorticity`` beside winds, from which divergence would come, maybe at another level."""
    if level is None and wanted.place is None and all(place is not None for _, place in group):
        us, vs = (winds_by_place(datasets, component) for component in "uv")
        winds = [f"{us[place][0].name}, {vs[place][0].name}" for place in us if place in vs]
        if winds:
            stored = ", ".join(str(f.name) for f, _ in group)
            raise DataError(f"level: got None for {name!r}, expected the one meant of {stored} and {'; '.join(winds)}")


def winds_by_place(datasets: Sequence[xr.Dataset], component: str) -> dict[Place | None, list[xr.DataArray]]:
    """Return the winds ``u`` or ``v`` of a file by the place that their names or coordinates say."""
    winds: dict[Place | None, list[xr.DataArray]] = {}
    for group in _candidates(datasets, VARIABLES[component]):
        known = set(winds)  # by name; what has a standard name alone only stands in where nothing is
        for field, place in group:
            if (place := place or _height_of(field)) not in known:
                winds.setdefault(place, []).append(field)
    return winds


def _agrees(field: xr.DataArray, wanted: Quantity) -> bool:
    """Say whether nothing in a variable's attributes contradicts a quantity."""
    standard = field.attrs.get("standard_name") or "unknown"
    # CESM's U10 is the wind speed.
    speed = wanted.units == "m s-1" and "speed" in str(field.attrs.get("long_name", "")).lower()
    return standard in ("unknown", *wanted.standard_names) and not speed


def _candidates(datasets: Sequence[xr.Dataset], wanted: Quantity) -> list[list[Candidate]]:
    """Return the variables of a quantity at any place: those known by name, and those by standard name alone."""
    named: list[Candidate] = []
    described: list[Candidate] = []
    for field in (data[v] for data in datasets for v in data.data_vars):
        if not _agrees(field, wanted):
            continue
        parsed = _parse_names(field)
        if parsed is not None:
            if VARIABLES[parsed[0]].names == wanted.names:
                named.append((field, parsed[1]))
        # A daily maximum has the standard name of what it is the maximum of.
        elif field.attrs.get("standard_name") in wanted.standard_names and not re.search(
            "max|min", str(field.attrs.get("cell_methods", ""))
        ):
            described.append((field, None))
    return [named, described]


def _at_level(group: Sequence[Candidate], wanted: Quantity | None, level: float | None) -> list[xr.DataArray]:
    """Return those of the candidates that have the height or level asked for."""
    if wanted is not None and (place := wanted.place) is not None:
        return [f for f, p in group if p == place or (p is None and _axis_has(f, place))]
    if level is not None and (wanted is None or wanted.on_levels):
        on_axis = [f for f, p in group if (p is None and has_level(f, level)) or p == (level, "hPa")]
        return on_axis or [f for f, p in group if p == (level, "m")]
    return [f for f, p in group if p is None] or [f for f, _ in group]


def _axis_has(field: xr.DataArray, place: Place) -> bool:
    axis = levels(field)
    return axis is not None and axis[1] in _AXIS_UNITS[place[1]] and has_level(field, place[0])


def _height_of(field: xr.DataArray) -> Place | None:
    """Return the one height that a field's coordinates say."""
    axis = levels(field)
    return (float(axis[0][0]), "m") if axis is not None and axis[1] == "m" and axis[0].size == 1 else None


def _parse_names(field: xr.DataArray) -> tuple[str, Place | None] | None:
    """Parse the names that a variable goes by; attributes say the unit of a number without one, where they do."""
    keys = ("GRIB_shortName", "short_name")
    for name in (str(field.name), *(str(field.attrs[k]) for k in keys if k in field.attrs)):
        bare, number = "", re.search(r"\d+", name)
        if number is not None:
            text = str(field.attrs.get("long_name", "")).lower()
            said = re.search(rf"(?<!\d){number.group()}[ -]?(m|met\w*|hpa|mb|mbar|mil\w*)\b", text)
            if said is not None:
                bare = "m" if re.match("m$|met", said.group(1)) else "hpa"
            # Not a pressure: the 100 hPa that a selection leaves as a scalar would turn u100 into a wind up there.
            elif _height_of(field) == (float(number.group()), "m"):
                bare = "m"
        parsed = parse(name, bare)
        if parsed is not None:
            return parsed
    return None
