"""Which variable a name means: by name, level, standard name, and what beside it makes it ambiguous."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.variables import find_variable
from atmoloss.errors import DataError
from tests.data.conftest import assert_same, field, on_levels, winds
from tests.data.test_quantities import U10, U850

xr = pytest.importorskip("xarray")


def test_levels():
    data = on_levels()
    got = open_fields(data, "u", 500)
    np.testing.assert_array_equal(got["u"].values, data["u"].sel(level=500).values)
    with pytest.raises(DataError, match=r"level: got 700 for 'u'.*850, 500 hPa"):
        open_fields(data, "u", level=700)
    with pytest.raises(DataError, match=r"level: got None for 'u'.*850, 500 hPa"):
        open_fields(data)
    assert_same(open_fields(data.sel(level=[850])), open_fields(data, level=850))
    pascal = on_levels((85000.0, 50000.0), "Pa", "plev")
    assert_same(open_fields(pascal, level=850), open_fields(data, level=850))
    with pytest.raises(DataError, match="850, 500 hPa"):
        open_fields(pascal, level=85000)
    hybrid = on_levels((120.0, 137.0), "1", "hybrid")
    assert_same(open_fields(hybrid, level=120), open_fields(data, level=850))
    with pytest.raises(DataError, match=r"level: got 850 for 'u'.*u10: none"):
        open_fields(winds(), "vorticity", level=850)
    assert open_fields(winds(), "u10", level=850)["u10"].shape == (3, 19, 36)


def test_wind_names():
    data = winds()
    np.testing.assert_array_equal(open_fields(data, "u")["u"].values, data["u10"].values)
    np.testing.assert_array_equal(open_fields(data, "10v")["10v"].values, data["v10"].values)
    renamed = data.rename(u10="10m_u_component_of_wind", v10="northward_10m_wind")
    renamed["10m_u_component_of_wind"].attrs = {}
    renamed = renamed.assign_coords(height=((), 10.0, {"units": "m", "standard_name": "height"}))
    got = open_fields(renamed, ("u10", "v10"))  # one by name, one by standard name and height
    np.testing.assert_array_equal(got["u10"].values, data["u10"].values)
    np.testing.assert_array_equal(got["v10"].values, data["v10"].values)
    both = data.assign(u100=data["u10"] * 2, v100=data["v10"] * 2)
    for new, old in (("u100", "u10"), ("v100", "v10")):
        both[new].attrs = data[old].attrs
    with pytest.raises(DataError, match=r"'u' fits several variables.*u10.*u100"):
        open_fields(both, "u")
    with pytest.raises(DataError, match=r"u10.*u100"):
        open_fields(both, "vorticity")
    np.testing.assert_array_equal(open_fields(both, "u100")["u100"].values, 2 * data["u10"].values)
    surface = on_levels((850.0,)).assign(u10=data["u10"], v10=data["v10"])
    with pytest.raises(DataError, match="u, v or u10, v10"):
        open_fields(surface, "vorticity")
    assert open_fields(surface, "vorticity", level=850)["vorticity"].attrs["derived_from"] == "u, v"
    pair = open_fields(surface, ("u10", "u"), level=850)
    np.testing.assert_array_equal(pair["u10"].values, data["u10"].values)


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


def test_names_that_attributes_contradict_are_listed_with_what_these_say():
    data = xr.Dataset({"v10": field(standard_name="eastward_wind"), "u10": field(standard_name="northward_wind")})
    present = r"expected one of those present: u10 \(northward_wind\), v10 \(eastward_wind\)"
    with pytest.raises(DataError, match=f"variables: got 'u', {present}"):
        open_fields(data, ("u", "v"))


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
