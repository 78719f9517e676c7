"""What data sets have in common, wherever their grids begin and end, and what has nothing in common."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification.overlap import overlap
from tests.verification.conftest import GLOBE, xarray

LATITUDE, LONGITUDE = GLOBE
PARTS = {
    "no south pole": {"latitude": slice(0, -1)},
    "no poles": {"latitude": slice(1, -1)},
    "a region": {"latitude": slice(4, 20), "longitude": slice(10, 40)},
    "across the seam": {"latitude": slice(4, 20), "longitude": np.arange(-12, 15)},
    "up to the seam": {"longitude": np.arange(-20, 0)},
}


def assert_same(result, expected):
    """The same values at the same places, whatever turn the longitudes count from."""
    np.testing.assert_array_equal(result["vorticity"].values, expected["vorticity"].values)
    np.testing.assert_array_equal(result["latitude"], expected["latitude"])
    np.testing.assert_allclose(result["longitude"] % 360, expected["longitude"] % 360)
    assert (np.diff(result["longitude"]) > 0).all()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("turned", [False, True])
def test_grids_that_differ_in_extent_are_cut_to_what_all_have(part, turned, truth, models):
    smaller = models["noise"].isel(PARTS[part])
    if turned:  # to −180 … 180, ascending latitude
        smaller = smaller.assign_coords(longitude=(smaller.longitude + 180) % 360 - 180).isel(
            latitude=slice(None, None, -1)
        )
    data, note = overlap(truth, {"whole": models["half"], "part": smaller})
    assert list(data) == ["truth", "whole", "part"]
    for name, fields in (("truth", truth), ("whole", models["half"]), ("part", models["noise"])):
        assert_same(data[name], fields.isel(PARTS[part]))
    rows, columns = (smaller.sizes[axis] for axis in ("latitude", "longitude"))
    assert note == f"Compared on the {rows} × {columns} points that all have: truth has 36 × 72, whole has 36 × 72."
    assert overlap(truth, models)[1] == ""


def test_two_regions_are_cut_to_where_they_overlap(truth, models):
    west, east = (
        data.isel(longitude=np.arange(*span)) for data, span in ((truth, (-9, 9)), (models["half"], (-3, 20)))
    )
    data, _ = overlap(west, {"m": east})
    assert_same(data["truth"], truth.isel(longitude=np.arange(-3, 9)))
    assert_same(data["m"], models["half"].isel(longitude=np.arange(-3, 9)))


def test_the_times_that_all_have_are_kept_in_order(truth, models):
    shuffled = models["half"].isel(time=[7, 3, 5, 20])
    data, _ = overlap(truth.isel(time=slice(4, None)), {"m": shuffled})
    np.testing.assert_array_equal(data["m"]["time"], truth["time"][[5, 7, 20]])
    np.testing.assert_array_equal(data["m"]["vorticity"], models["half"]["vorticity"][[5, 7, 20]])


def test_refusals(truth, models, one_sentence):
    half = models["half"]
    later = half.assign_coords(time=truth.time + np.timedelta64(1, "h"))
    cases = [
        (truth, {}, ("models",)),
        (truth, {"truth": truth}, ("models", "'truth'")),
        (truth.rename(vorticity="kinetic_energy"), {"m": half}, ("kinetic_energy", "reserved")),
        (truth, {"m": half.drop_vars("vorticity")}, ("m", "vorticity")),
        (truth, {"m": half.isel(time=0, drop=True)}, ("m", "no time axis")),
        (truth, {"m": later}, ("m", "time in common")),
        (truth, {"m": xarray.concat([half, half], "time")}, ("m", "twice")),
        (truth, {"m": half.isel(longitude=slice(0, 4))}, ("m", "5 columns")),
        (truth, {"m": half.isel(latitude=slice(None, None, 2))}, ("truth and m", "one grid")),
        (truth, {"m": half.isel(longitude=slice(None, None, 2))}, ("truth and m", "one grid")),
        (truth, {"m": half.assign_coords(longitude=LONGITUDE + 2)}, ("truth and m", "one grid")),
        (truth, {"m": half.isel(latitude=slice(20)).assign_coords(latitude=LATITUDE[:20] - 1)}, ("one grid",)),
    ]
    for fields, chosen, words in cases:
        with pytest.raises(InputError) as error:
            overlap(fields, chosen)
        one_sentence(error.value, *words)
