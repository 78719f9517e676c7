"""Horizontal coordinates as archives spell them, and the order of axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmoloss.data import conventions, open_fields
from atmoloss.errors import DataError
from tests.data.conftest import LATITUDE, LONGITUDE, assert_same, on_axes, winds

xr = pytest.importorskip("xarray")


def test_meridian_stored_twice_is_dropped():
    data = winds(longitude=np.arange(0.0, 361.0, 10.0))
    assert_same(open_fields(data), open_fields(winds()))


def test_region_across_the_date_line():
    physical = np.arange(350.0, 391.0, 5.0)
    inside = winds(latitude=np.arange(60.0, 19.0, -5.0), longitude=physical)
    want = open_fields(inside)
    np.testing.assert_array_equal(want["longitude"].values, physical)
    for stored in (physical % 360, (physical + 180) % 360 - 180):
        data = inside.assign_coords(longitude=("longitude", stored, {"units": "degrees_east"}))
        for variant in (data, data.sortby("longitude")):  # sorted by number it has a hole in the middle
            got = open_fields(variant)
            np.testing.assert_array_equal(np.diff(got["longitude"].values), 5.0)
            np.testing.assert_array_equal(got["longitude"].values % 360, physical % 360)
            for name in want.data_vars:
                np.testing.assert_allclose(got[name].values, want[name].values, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(-180, 359),
    step=st.sampled_from([0.25, 1.0, 2.5]),
    count=st.integers(2, 144),
    shuffle=st.randoms(use_true_random=False),
    convention=st.sampled_from([0.0, -180.0]),
)
def test_longitudes_come_out_ascending_in_physical_order(start, step, count, shuffle, convention):
    physical = start + step * np.arange(count)
    stored = (physical - convention) % 360 + convention
    order = list(range(count))
    shuffle.shuffle(order)
    indices, ascending = conventions.longitude_order(stored[order])
    assert sorted(indices) == list(range(count))
    np.testing.assert_allclose(ascending % 360, stored[order][indices] % 360)
    np.testing.assert_allclose(np.diff(ascending), step)
    if step * count < 355:  # regional (beyond it a missing meridian is not told from none)
        assert ascending[0] % 360 == physical[0] % 360


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
