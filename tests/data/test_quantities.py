"""Names of quantities, with heights and levels, as archives spell them, and their units."""

import pytest

from atmoloss.data import open_fields
from atmoloss.data.quantities import VARIABLES, parse, quantity
from atmoloss.errors import DataError
from tests.data.conftest import field

xr = pytest.importorskip("xarray")

U10 = ["u10", "U10", "10u", "u10m", "U10M", "U_10M", "VAR_10U", "uas", "ugrd10m", "UGRD_10maboveground",
       "UGRD:10 m above ground", "10m_u_component_of_wind", "u_component_of_wind_10m", "ugrd10m-hag-fc-gauss",
       "eastward_wind_10m", "10_metre_u_wind_component"]  # fmt: skip
U850 = ["u850", "U850", "ua850", "UGRD_850mb", "UGRD:850 mb", "u_850hPa", "u850hpa", "u_component_of_wind_850"]
BARE = ["u", "U", "ua", "uwnd", "UGRD", "ugrdprs", "u_component_of_wind", "u-component_of_wind_isobaric",
        "U_component_of_wind_isobaric", "u-component_of_wind_height_above_ground", "UGRD_P0_L100_GLL0"]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "key", "place"),
    [
        (U10, "u", (10.0, "m")),
        (["u100", "100u", "100m_u_component_of_wind"], "u", (100.0, "m")),
        (["u80", "UGRD_80maboveground"], "u", (80.0, "m")),
        (["200u"], "u", (200.0, "m")),
        (U850, "u", (850.0, "hPa")),
        (["u200", "U200", "ua200", "u_20000pa"], "u", (200.0, "hPa")),
        (["U010"], "u", (10.0, "hPa")),  # CESM
        (BARE, "u", None),
        (["t2m", "T2M", "2t", "VAR_2T", "2m_temperature", "tas", "T_2M", "T2", "tmp2m", "TMP_2maboveground"], "t",
         (2.0, "m")),
        (["t850", "T850", "ta850", "TMP_850mb"], "t", (850.0, "hPa")),
        (["t", "T", "ta", "TMP", "temperature", "Temperature_isobaric", "tmpprs"], "t", None),
        (["q", "hus", "QV", "SPFH", "specific_humidity"], "q", None),
        (["QV2M", "SPFH_2maboveground", "huss"], "q", (2.0, "m")),
        (["msl", "MSLP", "PRMSL", "prmslmsl", "psl", "slp", "mean_sea_level_pressure", "PMSL", "VAR_MSL",
          "PRMSL_meansealevel", "Pressure_reduced_to_MSL_msl"], "msl", None),
        (["sp", "ps", "PSFC", "PRES_surface", "surface_pressure"], "sp", None),
        (["z", "geopotential", "FI"], "z", None),
        (["z500"], "z", (500.0, "hPa")),
        (["gh", "zg", "HGT", "geopotential_height", "hgtprs"], "gh", None),
        (["zg500", "HGT_500mb", "gh500"], "gh", (500.0, "hPa")),
        (["tcwv", "prw", "PWAT", "TQV", "total_column_water_vapour"], "tcwv", None),
        (["tp", "APCP", "TOT_PREC", "total_precipitation"], "tp", None),
        (["vo", "relative_vorticity", "RELV"], "vorticity", None),
        (["vo850", "RELV_850mb"], "vorticity", (850.0, "hPa")),
        (["d", "divergence", "div"], "divergence", None),
    ],
)  # fmt: skip
def test_names(names, key, place):
    assert {name: parse(name) for name in names} == dict.fromkeys(names, (key, place))
    assert len({quantity(name) for name in names}) == 1


@pytest.mark.parametrize(
    "name",
    ["d2m", "2d", "u1", "u10n", "u10max", "si10", "ws", "tasmax", "t2m_max", "tp6", "total_precipitation_24hr", "tcw",
     "UGRD_tropopause", "u-component_of_wind_sigma", "u_component_of_wind_maximum_wind", "ustar", "theta", "2500m",
     "10m_u_component_of_wind_850", "z0", "Q2", "uv", "cloud", "", "10", "t2m500hPa", "sst", "u_2000hpa1"],
)  # fmt: skip
def test_other_names_are_the_files_own(name):
    assert parse(name) is None
    assert quantity(name) is None


def test_every_canonical_name_means_its_quantity():
    for name, wanted in VARIABLES.items():
        assert quantity(name) == wanted


@pytest.mark.parametrize(
    ("name", "units", "asked", "want", "si"),
    [
        ("2m_temperature", "degC", "t2m", 274.15, "K"),
        ("tas", "K", "t2m", 1, "K"),
        ("T2", "K", "t", 1, "K"),
        ("PRMSL_meansealevel", "hPa", "msl", 100, "Pa"),
        ("psl", "Pa", "mean_sea_level_pressure", 1, "Pa"),
        ("APCP_surface", "kg m-2", "tp", 1e-3, "m"),
        ("q850", "g/kg", "q", 1e-3, "kg kg-1"),
        ("HGT_500mb", "gpm", "gh500", 1, "m"),
        ("z500", "m**2 s**-2", "z", 1, "m2 s-2"),
        ("pwat", "kg m**-2", "tcwv", 1, "kg m-2"),
    ],
)
def test_one_quantity_in_si_units(name, units, asked, want, si):
    got = open_fields(xr.Dataset({name: field(1.0, units)}), asked)[asked]
    assert got.values[0, 0, 0] == pytest.approx(want, rel=1e-6)
    assert got.attrs["units"] == si
    assert got.attrs["standard_name"] == quantity(asked).standard_names[0]


@pytest.mark.parametrize(
    ("name", "units"),
    [
        *(("u10", units) for units in ("m s**-1", "m/s", "m s^-1", "meters per second", "m.s-1", None)),
        *(("vo", units) for units in ("s-1", "s**-1", "1/s", "s^-1")),
    ],
)
def test_spellings_of_units(name, units):
    got = open_fields(xr.Dataset({name: field(2.0, units)}), name)[name]
    assert got.values[0, 0, 0] == 2
    assert got.attrs["units"] == VARIABLES["u" if name == "u10" else "vorticity"].units


@pytest.mark.parametrize(
    ("name", "units", "expected"),
    [
        *(("u10", units, 2 * 1.852 / 3.6) for units in ("knots", "knot", "kt", "kts", "kn")),  # 1852 m an hour
        *(("u10", units, 2 / 3.6) for units in ("km h-1", "km/h", "km h**-1", "kilometers per hour", "kph")),
        *(("vo", units, 2e-5) for units in ("10-5 s-1", "1e-5 s-1", "1.e-05 s-1", "1.0E-5 1/s", "10^-5 s^-1")),
        *(("vo", units, 2e-5) for units in ("10**-5 s**-1", "10-5/s", "1e-5*s-1")),
        ("q", "10-3 kg kg-1", 2e-3),
        ("msl", "1e2 hPa", 2e4),
    ],
)
def test_other_units_are_converted(name, units, expected):
    got = open_fields(xr.Dataset({name: field(2.0, units)}), name)[name]
    assert got.values[0, 0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "units", "asked"),
    [
        *(("u10", units, "u10") for units in ("furlongs per fortnight", "m s-2", "10-5")),
        *(("vo", units, "vorticity") for units in ("1e-5 m s-1", "m s-1", "5e-5 s-1", "10 s-1")),
        ("z500", "m", "z"),
        ("t2m", "degF", "t2m"),
        ("msl", "K", "msl"),
        ("tp", "mm/h", "tp"),
    ],
)
def test_units_that_do_not_fit_are_refused(name, units, asked):
    with pytest.raises(DataError, match=f"{name}: got units '{units}', expected"):
        open_fields(xr.Dataset({name: field(1.0, units)}), asked)
