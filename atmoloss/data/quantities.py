"""Quantities by all their names, with heights and levels, and their units.

A name is a quantity with or without a place: ``u``, ``u10`` (10 m), ``u850`` (850 hPa). The many spellings
(``10u``, ``VAR_10U``, ``UGRD_10maboveground``, ``10m_u_component_of_wind``, ``U_component_of_wind_isobaric``)
are one grammar, see :func:`parse`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


Place = tuple[float, str]
"""Value and unit, ``"m"`` or ``"hPa"``."""


@dataclass(frozen=True)
class Quantity:
    """A quantity that can be asked for."""

    standard_names: tuple[str, ...]  # of CF, the usual one first
    names: tuple[str, ...]  # usual ones without a place, lower case
    units: str  # that it is returned in
    heights: tuple[float, ...] = ()  # numbers that mean metres after a name (``u10``, ``t2``); others mean hPa
    on_levels: bool = True  # whether it exists on pressure levels
    near_ground: bool = False  # whether it exists at heights above ground
    place: Place | None = None  # height above ground or pressure, where the name asked for says it


def _quantity(standard_names: str, names: str, units: str, **more: Any) -> Quantity:
    return Quantity(tuple(standard_names.split()), tuple(names.split()), units, **more)


def _wind(c: str, standard: str, adjective: str) -> Quantity:
    names = f"{c} {c}a {c}grd {c}wnd {c}_wind {c}_component_of_wind {c}_wind_component {adjective}_wind {standard}"
    return _quantity(standard, names, "m s-1", heights=(10.0, 80.0, 100.0), near_ground=True)


VARIABLES = {
    "divergence": _quantity("divergence_of_wind", "divergence d div", "s-1"),
    "vorticity": _quantity(
        "atmosphere_relative_vorticity atmosphere_upward_relative_vorticity",
        "vorticity vo vor relative_vorticity relv", "s-1",
    ),
    "u": _wind("u", "eastward_wind", "zonal"),
    "v": _wind("v", "northward_wind", "meridional"),
    "t": _quantity(
        "air_temperature", "t ta tmp temp air temperature air_temperature", "K", heights=(2.0,), near_ground=True
    ),
    "q": _quantity("specific_humidity", "q qv hus spfh shum specific_humidity", "kg kg-1", near_ground=True),
    "z": _quantity("geopotential", "z fi geopotential", "m2 s-2"),
    "gh": _quantity("geopotential_height", "gh zg hgt geopotential_height", "m"),
    "msl": _quantity(
        "air_pressure_at_mean_sea_level air_pressure_at_sea_level",
        "msl mslp prmsl psl slp pmsl prmslmsl prmsl_meansealevel mean_sea_level_pressure pressure_reduced_to_msl "
        "pressure_reduced_to_msl_msl", "Pa", on_levels=False,
    ),
    "sp": _quantity(
        "surface_air_pressure", "sp ps psfc pressfc pres_surface pressure_surface surface_pressure", "Pa",
        on_levels=False,
    ),
    "tcwv": _quantity(
        "atmosphere_mass_content_of_water_vapor",
        "tcwv prw pwat tqv pwatclm pwat_entireatmosphere precipitable_water total_column_water_vapour "
        "total_column_water_vapor precipitable_water_entire_atmosphere_single_layer", "kg m-2", on_levels=False,
    ),
    "tp": _quantity(
        "lwe_thickness_of_precipitation_amount precipitation_amount",
        "tp apcp tot_prec apcpsfc apcp_surface total_precipitation", "m", on_levels=False,
    ),
}  # fmt: skip
"""Canonical name → quantity; any of a quantity's names may be asked for, with or without a place."""
# Names that say a height without a number.
_AT_HEIGHT = {"uas": "u10", "vas": "v10", "tas": "t2", "huss": "q2m"}

# Units as _plain writes them → factor and offset to the quantity's units.
_UNITS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "m s-1": (
        (r"(m|met(er|re)s?)((/|per)(s|sec|seconds?)|(s|sec|seconds?)-1)", 1.0, 0.0),
        (r"(km|kilomet(er|re)s?)((/|per)(h|hr|hours?)|(h|hr|hours?)-1)|kmph|kph", 1 / 3.6, 0.0),
        (r"knots?|kts?|kn", 1852 / 3600, 0.0),
    ),
    "s-1": ((r"1?(/|per)(s|sec|seconds?)|1?(s|sec|seconds?)-1", 1.0, 0.0),),
    "K": (
        (r"(deg(rees?)?_?)?(k|kelvins?)", 1.0, 0.0),
        (r"°c|(deg(rees?)?_?)c(elsius)?|celsius|c", 1.0, 273.15),
    ),
    "kg kg-1": ((r"1|kgkg-1|kg/kg", 1.0, 0.0), (r"gkg-1|g/kg", 1e-3, 0.0)),
    "m2 s-2": ((r"m2s-2|m2/s2|jkg-1|j/kg", 1.0, 0.0),),
    "m": ((r"m|met(er|re)s?|g?pm|mofwaterequivalent", 1.0, 0.0), (r"mm|kgm-2|kg/m2", 1e-3, 0.0)),
    "Pa": ((r"pa|pascals?", 1.0, 0.0), (r"hpa|mb|mbars?|millibars?|hectopascals?", 100.0, 0.0)),
    "kg m-2": ((r"kgm-2|kg/m2|mm", 1.0, 0.0),),
}
# A power of ten before a unit, as GEMPAK and many netCDF files have it: "10-5 s-1", "1e-5 s**-1", "10^-5/s".
_SCALED = re.compile(r"(?:\s*(?:1(?:\.0*)?[eE]|10(?:\*\*|\^)?(?=[+-]))([+-]?\d+)[\s*]*(?=\D))?(.*)", re.DOTALL)
_FEW_HPA = (10.0, 20.0, 30.0, 50.0, 70.0)
_NUMBER = r"(?:(?P<{0}>\d+(?:\.\d+)?)_?(?P<{0}_unit>m|met(?:re|er)s?|hpa|mb|mbar|millibars?|pa)?)"
_ABOVE_GROUND = r"(?:_?(?:above_?ground(?:_level)?|agl))?"
# What servers and converters append: kind of level (thredds, GrADS), GRIB's tables (NCL), stream (NCAR's JRA-3Q).
_TAIL = r"(?:_isobaric|_height_above_ground|_?prs|_pl|_p\d+_l\d+_\w+|_(?:pres|hag)_(?:an|fc)_\w+)?"
_PATTERNS = {
    key: re.compile(
        f"(?:{_NUMBER.format('before')}_?)?(?:{'|'.join(base.names)})"
        f"(?:_?{_NUMBER.format('after')}{_ABOVE_GROUND})?{_TAIL}"
    )
    for key, base in VARIABLES.items()
}


def parse(name: str, bare: str = "") -> tuple[str, Place | None] | None:
    """Return the quantity (a key of the table) and the place that a variable's name says, ``None`` for any other name.

    Understood are, in any case and with ``_ - . :`` or blanks between the parts: a name of the quantity alone; followed
    or led by a number with or without a unit, such as ``u850``, ``t2m``, ``UGRD_10maboveground``, ``10u``,
    ``2m_temperature``, ``U_10M``; a leading ``VAR_``; an appended kind of level.

    A number without a unit that leads is metres, as in GRIB short names. One that follows is metres where that is
    customary (10, 80, 100 m for winds, 2 m for temperature) and it has no leading zero, otherwise hPa.

    ``bare`` is the unit of a number without one, where something else says it.
    """
    plain = re.sub(r"[-:.\s]+", "_", name.strip().lower()).removeprefix("var_")
    plain = _AT_HEIGHT.get(plain, plain)
    for key, pattern in _PATTERNS.items():
        match = pattern.fullmatch(plain)
        if match is None:
            continue
        sides = [side for side in ("before", "after") if match[side] is not None]
        if not sides:
            return key, None
        place = _place(match[sides[0]], match[f"{sides[0]}_unit"] or bare, sides[0] == "before", VARIABLES[key])
        return None if place is None or len(sides) > 1 else (key, place)
    return None


def _place(digits: str, unit: str, leads: bool, base: Quantity) -> Place | None:
    """Return the height or pressure that a number in a name means, ``None`` where it cannot be one."""
    value = float(digits)
    if not unit:
        metres = leads or (value in base.heights and not digits.startswith("0"))
        # 850, 050 and 50 can be pressures, the 1 of u1 numbers something else.
        pressure = 100 <= value <= 1100 or value in _FEW_HPA or (digits.startswith("0") and value > 0)
        unit = "m" if metres else "hpa" if pressure else ""
    if unit == "m" or unit.startswith("met"):
        return (value, "m") if base.near_ground else None
    return (value / 100 if unit == "pa" else value, "hPa") if unit and base.on_levels else None


@functools.cache
def quantity(name: str) -> Quantity | None:
    """Return the quantity that a canonical or usual name means, ``None`` for a name of the file's own."""
    parsed = parse(name)
    return None if parsed is None else replace(VARIABLES[parsed[0]], place=parsed[1])


def plain_units(units: str) -> str:
    """Return units in the one spelling that comparisons use: ``m s**-1`` and ``m.s^-1`` are ``ms-1``."""
    return re.sub(r"\*\*|\^|[\s.]", "", units.lower())


def conversion(field: xr.DataArray, wanted: Quantity) -> tuple[float, float]:
    """Return factor and offset that bring a field to the quantity's units; one without units is taken to be right."""
    given = field.attrs.get("units")
    if given is None:
        return 1.0, 0.0
    power, unit = _SCALED.fullmatch(str(given)).groups()  # type: ignore[union-attr]
    text, scale = plain_units(unit), 10.0 ** int(power or 0)
    for pattern, factor, offset in _UNITS[wanted.units]:
        if re.fullmatch(pattern, text):
            return scale * factor, offset
    raise DataError(f"{field.name}: got units {given!r}, expected {wanted.units!r}; convert it first")
