"""Regular grids and those that are not; longitudes that close; great circles."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.sphere import EARTH_RADIUS, destination, distance_and_bearing, is_periodic, regular_step


@pytest.mark.parametrize("step", [0.1, 0.25, -1.5])
@pytest.mark.parametrize("rounding", [lambda x: x, lambda x: x.astype(np.float32), lambda x: np.round(x, 3)])
def test_the_step_of_a_regular_grid(step, rounding) -> None:
    assert regular_step(rounding(40 + step * np.arange(50)), "latitude") == pytest.approx(step, rel=1e-3)


def test_longitudes_across_the_date_line() -> None:
    longitude = (350 + np.arange(20.0)) % 360
    assert regular_step(longitude, "longitude") == 1.0
    assert regular_step((longitude + 180) % 360 - 180, "longitude") == 1.0
    with pytest.raises(InputError):
        regular_step(longitude, "latitude")


GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))
IRREGULAR = {
    "Gaussian": GAUSSIAN,
    "a missing row": np.delete(np.arange(10.0), 4),
    "NaN": np.array([0.0, 1, 2, np.nan, 4, 5]),
    "one value": np.ones(9),
    "too few": np.arange(4.0),
    "two dimensions": np.ones((5, 5)),
}


@pytest.mark.parametrize("values", IRREGULAR.values(), ids=IRREGULAR.keys())
def test_other_grids_are_refused(values, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        regular_step(values, "latitude")
    one_sentence(error.value, "latitude", "expected")


@pytest.mark.parametrize(("step", "closes"), [(1.0, True), (0.25, True), (-2.5, True), (0.7, False)])
def test_a_whole_circle_closes(step, closes) -> None:
    longitude = step * np.arange(int(360 / abs(step)))
    assert is_periodic(longitude) == closes
    assert is_periodic((longitude + 190) % 360) == closes
    assert not is_periodic(longitude[:-1])
    assert not is_periodic(step * np.arange(int(360 / abs(step)) + 1))  # the first meridian twice


def vector(place) -> np.ndarray:
    north, east = np.deg2rad(place)
    return np.array([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])


PLACES = st.tuples(st.floats(-89.0, 89.0), st.floats(-180.0, 360.0))


@hypothesis.given(PLACES, PLACES)
def test_distance_and_bearing_are_those_of_vectors(start, end) -> None:
    a, b = vector(start), vector(end)
    metres, bearing = distance_and_bearing(start, end)
    assert metres / EARTH_RADIUS == pytest.approx(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b), abs=2e-8)
    hypothesis.assume(1e3 < metres < np.pi * EARTH_RADIUS - 1e3)
    north, east = np.deg2rad(start[0]), np.deg2rad(start[1])
    northward = np.array([-np.sin(north) * np.cos(east), -np.sin(north) * np.sin(east), np.cos(north)])
    along = b - (a @ b) * a
    expected = np.rad2deg(np.arctan2(along @ np.cross(northward, a), along @ northward))
    assert (bearing - expected + 180) % 360 - 180 == pytest.approx(0, abs=1e-4)
    assert 0 <= bearing < 360


@hypothesis.given(PLACES, st.floats(1e3, 1.9e7), st.floats(0, 359.9))
def test_a_destination_is_as_far_and_in_the_direction_that_was_asked_for(start, metres, bearing) -> None:
    there = destination(start, metres, bearing)
    assert abs(there[1] - start[1]) <= 180
    back = distance_and_bearing(start, there)
    assert back[0] == pytest.approx(metres, abs=1.0)
    assert (back[1] - bearing + 180) % 360 - 180 == pytest.approx(0, abs=1e-3)


def test_known_ways() -> None:
    quarter = np.pi / 2 * EARTH_RADIUS
    assert distance_and_bearing((0.0, 350.0), (0.0, 80.0)) == pytest.approx((quarter, 90.0))
    assert distance_and_bearing((0.0, 5.0), (90.0, 77.0)) == pytest.approx((quarter, 0.0))
    assert distance_and_bearing((18.0, -122.0), (18.0, 238.0))[0] == pytest.approx(0.0, abs=1e-6)
    assert destination((60.0, 10.0), 2 * quarter / 3, 0.0) == pytest.approx((60.0, 190.0))  # over the pole
