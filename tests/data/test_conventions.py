"""Names, levels, units and horizontal coordinates as archives spell them."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.quantities import VARIABLES, parse, quantity
from atmoloss.data.variables import find_variable
from atmoloss.errors import DataError

xr = pytest.importorskip("xarray")

START = np.datetime64("2026-03-01T00", "ns")
LATITUDE, LONGITUDE = np.arange(60.0, 20.0, -4.0), np.arange(0.0, 48.0, 4.0)


def field(value=1.0, units="m s-1", level=None, unit="hPa", dim="level", **attrs):
    """A field (time, [level,] lat, lon): value + number of the time, plus 100 for each further level."""
    data = np.broadcast_to(value + np.arange(2.0)[:, None, None], (2, 10, 12)).astype(np.float32)
    dims, coords = ("time", "lat", "lon"), {"time": START + np.arange(2) * np.timedelta64(6, "h")}
    if level is not None:
        data = data[:, None] + 100 * np.arange(len(level), dtype=np.float32)[:, None, None]
        dims = ("time", dim, "lat", "lon")
        coords[dim] = (dim, list(level), {"units": unit} if unit else {})
    coords |= {"lat": LATITUDE, "lon": LONGITUDE}
    return xr.DataArray(data, coords, dims, attrs={"units": units, **attrs} if units else attrs)


def dataset(**fields):
    return xr.Dataset({name.replace("__", " "): value for name, value in fields.items()})


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
    assert len({id(quantity(name)) for name in names}) == 1


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
        assert quantity(name) is wanted


@pytest.mark.parametrize("name", U10)
def test_any_spelling_is_found_when_it_is_the_only_wind(name):
    data = xr.Dataset({name: field(3.0)})
    for asked in ("u", "u10", "10m_u_component_of_wind"):
        np.testing.assert_array_equal(open_fields(data, asked)[asked].values[:, 0, 0], [3, 4])


@pytest.mark.parametrize("name", U850)
def test_the_level_says_which_wind(name):
    data = xr.Dataset({name: field(850.0), "u500": field(500.0), "u10": field(10.0)})
    for asked, level, want in [("u", 850, 850), ("u850", None, 850), ("u", 500, 500), ("u", 10, 10), ("u10", 850, 10)]:
        assert open_fields(data, asked, level)[asked].values[0, 0, 0] == want
    with pytest.raises(DataError, match=r"level: got 700 for 'u'.*u500"):
        open_fields(data, "u", 700)
    with pytest.raises(DataError, match=r"'u' fits several variables.*u500.*u10"):
        open_fields(data, "u")
    with pytest.raises(DataError, match=r"variables: got 'u700'"):
        open_fields(data, "u700")


def test_winds_of_one_place_are_differentiated_together():
    data = xr.Dataset({f"{c}{p}": field(1.0) for p in ("850", "500", "10") for c in "uv"})
    for level, label in ((850, "u850, v850"), (500, "u500, v500")):
        assert open_fields(data, "vorticity", level)["vorticity"].attrs["derived_from"] == label
    both = open_fields(data, ("vorticity850", "divergence500"))
    assert both["vorticity850"].attrs["derived_from"] == "u850, v850"
    assert both["divergence500"].attrs["derived_from"] == "u500, v500"
    with pytest.raises(DataError, match=r"could be derived from u850, v850 or u500, v500 or u10, v10; give level"):
        open_fields(data, "vorticity")
    crossed = xr.Dataset({"u": field(), "u10": field(), "v10": field()})  # never u with v10
    assert open_fields(crossed, "vorticity")["vorticity"].attrs["derived_from"] == "u10, v10"
    with pytest.raises(DataError, match="neither it nor a wind"):
        open_fields(xr.Dataset({"u850": field(), "v500": field()}), "vorticity")


def test_stored_vorticity_of_one_level_is_not_mixed_with_winds_of_another():
    stored = field(1e-5, "s-1")
    assert open_fields(xr.Dataset({"vo850": stored}), "vorticity")["vorticity"].attrs.get("derived_from") is None
    both = xr.Dataset({"vo850": stored, "u10": field(), "v10": field()})
    with pytest.raises(
        DataError, match="level: got None for 'vorticity', expected the one meant of vo850 and u10, v10"
    ):
        open_fields(both)
    assert "derived_from" not in open_fields(both, "vorticity", 850)["vorticity"].attrs


def test_levels_come_before_numbers_in_names():
    # ERA5 and ARCO: 100 hPa on the axis, 100 m in a name.
    data = xr.Dataset({"u": field(1.0, level=[850, 100]), "100m_u_component_of_wind": field(7.0)})
    assert open_fields(data, "u", 100)["u"].values[0, 0, 0] == 101
    assert open_fields(data, "u100")["u100"].values[0, 0, 0] == 7
    assert open_fields(data, "u850")["u850"].values[0, 0, 0] == 1
    # The scalar that a selection leaves behind says nothing of the wind at 10 m.
    chosen = xr.Dataset({"u": field(level=[850, 500]), "u10": field(9.0)}).sel(level=850)
    assert open_fields(chosen, "u", 850)["u"].values[0, 0, 0] == 1
    assert open_fields(chosen, "u10", 850)["u10"].values[0, 0, 0] == 9
    high = xr.Dataset({"u": field(level=[100, 500]), "u100": field(9.0)}).sel(level=100)
    assert open_fields(high, "u100")["u100"].values[0, 0, 0] == 9
    assert open_fields(high, "u", 100)["u"].values[0, 0, 0] == 1
    # WeatherBench's pressures have no units.
    assert open_fields(xr.Dataset({"u": field(level=[850, 500], unit="")}), "u500")["u500"].values[0, 0, 0] == 101


def test_thredds_axes():
    isobaric = field(1.0, level=[85000.0, 50000.0], unit="Pa", dim="isobaric3")
    height = field(5.0, level=[10.0, 80.0], unit="m", dim="height_above_ground2")
    data = xr.Dataset({"u-component_of_wind_isobaric": isobaric, "u-component_of_wind_height_above_ground": height})
    for asked, level, want in [("u10", None, 5), ("u80", None, 105), ("u", 500, 101), ("u850", None, 1)]:
        assert open_fields(data, asked, level)[asked].values[0, 0, 0] == want
    with pytest.raises(DataError, match=r"'u' fits several variables.*isobaric.*height_above_ground"):
        open_fields(data, "u")


@pytest.mark.parametrize(
    ("attrs", "coords", "asked"),
    [
        ({"long_name": "200 metre U wind component"}, {}, "200u"),
        ({"long_name": "Zonal wind at 200 mbar pressure surface"}, {}, "u"),
        ({}, {"height": ((), 200.0, {"units": "m"})}, "200u"),
        ({}, {"plev": ((), 20000.0, {"units": "Pa"})}, "u"),
    ],
)
def test_attributes_say_the_unit_of_a_bare_number(attrs, coords, asked):
    data = xr.Dataset({"u200": field(5.0, **attrs).assign_coords(coords), "u10": field(9.0)})
    assert open_fields(data, asked, None if asked == "200u" else 200)[asked].values[0, 0, 0] == 5
    if asked == "u":
        with pytest.raises(DataError, match="'200u'"):
            open_fields(data, "200u")


def test_a_wind_speed_is_no_component():
    data = xr.Dataset({"U10": field(long_name="10m wind speed")})
    with pytest.raises(DataError, match="variables: got 'u', expected one of those present: U10"):
        open_fields(data, "u")
    assert open_fields(data, "U10")["U10"].values[0, 0, 0] == 1  # by its own name it is the file's own


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


def test_units_that_do_not_fit_are_refused():
    for name, units, asked in (("z500", "m", "z"), ("t2m", "degF", "t2m"), ("msl", "K", "msl"), ("tp", "mm/h", "tp")):
        with pytest.raises(DataError, match=f"{name}: got units '{units}', expected"):
            open_fields(xr.Dataset({name: field(1.0, units)}), asked)


def test_quantities_without_levels_ignore_the_level_asked_for():
    data = xr.Dataset({"u": field(level=[850, 500]), "msl": field(5.0, "Pa"), "t2m": field(280.0, "K")})
    got = open_fields(data, ("u", "msl", "t2m"), level=500)
    assert [float(got[n][0, 0, 0]) for n in ("u", "msl", "t2m")] == [101, 5, 280]


def test_a_contradicting_standard_name_makes_it_the_files_own():
    sea = field(1.0, "degC", standard_name="sea_water_potential_temperature")
    got = open_fields(xr.Dataset({"temp": sea}), "temp")["temp"]
    assert got.values[0, 0, 0] == 1
    assert got.attrs["units"] == "degC"
    assert got.attrs["standard_name"] == "sea_water_potential_temperature"
    both = xr.Dataset({"temp": sea, "tas": field(280.0, "K", standard_name="air_temperature")})
    assert open_fields(both, "t")["t"].values[0, 0, 0] == 280
    extreme = field(300.0, "K", standard_name="air_temperature", cell_methods="time: maximum")
    assert find_variable([xr.Dataset({"hottest": extreme})], "t", None) is None


def test_naming_one_of_several_helps():
    data = xr.Dataset({"tas": field(1.0, "K"), "2t": field(2.0, "K")})
    with pytest.raises(DataError, match=r"'t2m' fits several variables, name one of: tas.*2t"):
        open_fields(data, "t2m")
    assert open_fields(data, "tas")["tas"].values[0, 0, 0] == 1
    assert open_fields(data, "2t")["2t"].values[0, 0, 0] == 2


# Horizontal coordinates.


def on_axes(north, east, names=("lat", "lon"), attrs=({}, {})):
    times = START + np.arange(2) * np.timedelta64(6, "h")
    shape = (2, len(north), len(east))
    coords = {"time": times, names[0]: (names[0], north, attrs[0]), names[1]: (names[1], east, attrs[1])}
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return xr.Dataset({"cloud": (("time", *names), values)}, coords)


DEGREES = [
    (("lat", "lon"), ({}, {})),
    (("nav_lat", "nav_lon"), ({}, {})),
    (("lat_0", "lon_0"), ({"units": "degrees_north"}, {"units": "degrees_east"})),
    (("y", "x"), ({"units": "degrees_north"}, {"units": "degrees_east"})),
    (("y", "x"), ({"units": "degrees"}, {"units": "degrees"})),
    (("y", "x"), ({"standard_name": "latitude"}, {"standard_name": "longitude"})),
    (("j", "i"), ({"units": "degree_N"}, {"units": "degreeE"})),
    (("latitude", "longitude"), ({"units": "°"}, {"units": "degree"})),
    (("lat", "lon"), ({"standard_name": "unknown"}, {"standard_name": "unknown"})),
]


@pytest.mark.parametrize(("names", "attrs"), DEGREES)
def test_degrees(names, attrs):
    got = open_fields(on_axes(LATITUDE[::-1], LONGITUDE, names, attrs), "cloud")
    np.testing.assert_array_equal(got["latitude"].values, LATITUDE)
    np.testing.assert_array_equal(got["longitude"].values, LONGITUDE)


def test_radians_are_converted():
    for names in (("lat", "lon"), ("latitude", "longitude")):
        data = on_axes(np.deg2rad(LATITUDE), np.deg2rad(LONGITUDE), names, ({"units": "radian"}, {"units": "rad"}))
        got = open_fields(data, "cloud")
        np.testing.assert_allclose(got["latitude"].values, LATITUDE, atol=1e-12)
        np.testing.assert_allclose(got["longitude"].values, LONGITUDE, atol=1e-12)
        assert got["latitude"].attrs["units"] == "degrees_north"
    globe = on_axes(np.deg2rad(np.arange(90.0, -91, -10)), np.deg2rad(np.arange(0.0, 360, 10)))
    with pytest.raises(DataError, match="look like radians"):
        open_fields(globe, "cloud")


@pytest.mark.parametrize(
    ("names", "attrs", "text"),
    [
        (("y", "x"), ({}, {}), "'y' without units"),
        (("y", "x"), ({"units": "m", "standard_name": "projection_y_coordinate"},) * 2, "'y' in 'm'"),
        (("y", "x"), ({"units": "km"}, {"units": "km"}), "'x' in 'km'"),
        (("y", "x"), ({"units": "radian"}, {"units": "radian"}), "'y' in 'radian'"),  # of a geostationary view
        (("rlat", "rlon"), ({"units": "degrees", "standard_name": "grid_latitude"},
                            {"units": "degrees", "standard_name": "grid_longitude"}), "'rlat' in 'degrees'"),
        (("lat", "lon"), ({"units": "km"}, {"units": "km"}), "lat: got units 'km', expected degrees or radians"),
        (("latitude", "longitude"), ({"units": "m"}, {"units": "m"}), "latitude: got units 'm'"),
        (("lat", "lon"), ({"standard_name": "grid_latitude"}, {"standard_name": "grid_longitude"}), "'lat' without"),
    ],
)  # fmt: skip
def test_axes_that_are_not_degrees(names, attrs, text, one_sentence):
    with pytest.raises(DataError) as error:
        open_fields(on_axes(LATITUDE, LONGITUDE, names, attrs), "cloud")
    one_sentence(error.value, text, "regrid to a regular latitude-longitude grid")


CURVILINEAR = [
    ("latitude", "longitude", "y", "x", {}),  # HRRR through cfgrib
    ("XLAT", "XLONG", "south_north", "west_east", {"units": "degree_north"}),
    ("nav_lat", "nav_lon", "y", "x", {}),
    ("lat2d", "lon2d", "y", "x", {}),
    ("gridlat_0", "gridlon_0", "ygrid_0", "xgrid_0", {}),
    ("lat_rho", "lon_rho", "eta_rho", "xi_rho", {}),
    ("TLAT", "TLONG", "nlat", "nlon", {}),
    ("lat", "lon", "rlat", "rlon", {"standard_name": "latitude"}),
    ("breite", "laenge", "y", "x", {"standard_name": "latitude"}),
]


@pytest.mark.parametrize(("north", "east", "y", "x", "attrs"), CURVILINEAR)
@pytest.mark.parametrize("indices", [False, True])
def test_two_dimensional_coordinates(north, east, y, x, attrs, indices, one_sentence):
    data = on_axes(LATITUDE, LONGITUDE, (y, x)).drop_vars([y, x])
    two = np.broadcast_to(LATITUDE[:, None], (10, 12))
    data = data.assign_coords({north: ((y, x), two, attrs), east: ((y, x), two + 3)})
    if indices:
        data = data.assign_coords({y: np.arange(10), x: np.arange(12)})
    with pytest.raises(DataError) as error:
        open_fields(data, "cloud")
    one_sentence(error.value, "two-dimensional", north, "xesmf", "cdo")


def test_axes_that_say_degrees_may_stand_beside_two_dimensional_ones():
    data = on_axes(LATITUDE, LONGITUDE, attrs=({"units": "degrees_north"}, {"units": "degrees_east"}))
    two = np.broadcast_to(LATITUDE[:, None], (10, 12))
    data = data.assign_coords(lat2d=(("lat", "lon"), two), lon2d=(("lat", "lon"), two))
    assert open_fields(data, "cloud")["cloud"].shape == (2, 10, 12)


def test_reduced_grids(one_sentence):
    data = on_axes(LATITUDE, LONGITUDE).stack(values=("lat", "lon"), create_index=False)
    data = data.assign_coords(
        latitude=("values", np.repeat(LATITUDE, 12), {"units": "degrees_north"}),
        longitude=("values", np.tile(LONGITUDE, 10), {"units": "degrees_east"}),
    )
    with pytest.raises(DataError) as error:
        open_fields(data, "cloud")
    one_sentence(error.value, "along one dimension 'values'", "reduced Gaussian", "cdo setgridtype,regular")
