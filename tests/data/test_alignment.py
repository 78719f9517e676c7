"""Two sources on one grid, whatever meridian each starts at; anything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmoloss.data.alignment import on_grid_of
from atmoloss.errors import DataError, InputError
from tests.data.conftest import winds

xr = pytest.importorskip("xarray")


@given(shift=st.integers(0, 35), turns=st.integers(-1, 1))
def test_a_globe_is_turned_to_the_longitudes_of_the_other(shift, turns):
    a = winds()
    stored = a.roll(longitude=shift, roll_coords=True)
    stored = stored.assign_coords(longitude=np.sort(stored["longitude"].values) - 10.0 * shift + 360 * turns)
    assert on_grid_of(a, stored).identical(a.assign_coords(longitude=a["longitude"], latitude=a["latitude"]))


def test_coordinates_in_single_precision_are_the_same_and_those_of_the_first_count():
    a = winds(latitude=np.arange(50.0, 20.0, -0.1), longitude=np.arange(10.0, 40.0, 0.1))
    b = a.assign_coords(latitude=a["latitude"].astype(np.float32), longitude=a["longitude"].astype(np.float32))
    assert on_grid_of(a["u10"], b["u10"]).identical(a["u10"])


@pytest.mark.parametrize(
    "other",
    [
        {"longitude": np.arange(5.0, 365.0, 10.0)},  # half a cell
        {"longitude": np.arange(0.0, 350.0, 10.0)},
        {"latitude": np.arange(85.0, -86.0, -10.0)},
    ],
)
def test_other_grids_are_refused(other, one_sentence):
    for kind in (DataError, InputError):
        with pytest.raises(kind) as error:
            on_grid_of(winds(), winds(**other), ("truth", "model"), kind)
        one_sentence(error.value, "truth and model: got fields on 19x36 points", "expected one grid; interpolate")


def test_other_calendars_are_refused(one_sentence):
    model = winds()
    model["time"].attrs["source_calendar"] = "noleap"
    with pytest.raises(DataError) as error:
        on_grid_of(winds(), model)
    one_sentence(error.value, "A and B", "proleptic_gregorian and noleap")
    assert on_grid_of(winds().isel(time=0, drop=True), model).identical(model)  # of fields without times any will do
