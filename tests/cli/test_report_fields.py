"""What ``atmoloss report`` does with fields before they are compared."""

import numpy as np
import pytest

from atmoloss.cli.report_fields import interpolate_to, open_all, shortest_degree, split_by_lead
from atmoloss.errors import DataError
from tests.cli.conftest import TIMES, write

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def region(west, columns, step, rows=(60.0, 40.0)):
    """A field that is linear in both directions, counted from 30 °W as the crow flies."""
    latitude = np.arange(rows[0], rows[1] - 1e-9, -step)
    longitude = west + step * np.arange(columns)
    east = (longitude + 30 + 180) % 360 - 180
    values = np.broadcast_to(latitude[:, None] + 3 * east, (2, latitude.size, longitude.size)).astype(np.float32)
    coords = {"time": TIMES[:2], "latitude": latitude, "longitude": longitude}
    return xr.Dataset({"u": (("time", "latitude", "longitude"), values)}, coords)


@pytest.mark.parametrize("west", [-30.0, 330.0])
@pytest.mark.parametrize("fine_west", [-34.0, 326.0, 686.0])
def test_of_a_region_what_lies_beyond_has_the_value_of_the_nearer_end(west, fine_west):
    coarse, fine = region(west, 10, 4.0), region(fine_west, 48, 1.0, (63.0, 37.0))
    result = interpolate_to(coarse, fine)["u"]
    north = np.clip(fine["latitude"].values, 40, 60)
    east = np.clip(np.arange(-4.0, 44.0), 0, 36)
    np.testing.assert_allclose(result[0], north[:, None] + 3 * east, atol=1e-4)
    np.testing.assert_array_equal(result["longitude"], fine["longitude"])
    assert shortest_degree(coarse) == 45


def test_times_with_missing_values_are_left_out_of_the_data_that_lack_them(tmp_path):
    write(tmp_path / "whole.nc")
    with xr.open_dataset(tmp_path / "whole.nc") as opened:
        data = opened.load()
    data["v"][1, 3, 4] = np.nan
    data["u"][2, 3, 4] = np.inf
    data.to_netcdf(tmp_path / "holes.nc", engine="h5netcdf")
    options = {"level": None, "missing": "ignore", "group": None}
    paths = {"truth": tmp_path / "whole.nc", "A": tmp_path / "holes.nc"}
    fields = open_all(paths, ("u", "v"), options, None, None)
    np.testing.assert_array_equal(fields["truth"]["time"], TIMES)
    np.testing.assert_array_equal(fields["A"]["time"], TIMES[[0, 3]])
    np.testing.assert_array_equal(fields["A"]["u"], fields["truth"]["u"][[0, 3]])
    assert fields["A"]["u"].attrs == fields["truth"]["u"].attrs
    assert fields["A"]["u"].dtype == np.float32
    data["u"][:] = np.nan
    data.to_netcdf(tmp_path / "nothing.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="--missing: A has missing values at all times"):
        open_all({**paths, "A": tmp_path / "nothing.nc"}, ("u", "v"), options, None, None)


def test_lead_times_that_not_all_data_have_are_left_out():
    def forecasts(hours):
        starts = np.repeat(TIMES[:2], len(hours))
        leads = np.tile(np.array(hours), 2) * np.timedelta64(1, "h")
        runs = np.repeat([0, 1], len(hours))
        coords = {"time": starts + leads, "run": ("time", runs), "lead_time": ("time", leads)}
        return xr.Dataset({"u": ("time", np.arange(len(starts)))}, coords)

    truth = xr.Dataset({"u": ("time", np.arange(4))}, {"time": TIMES})
    assert split_by_lead({"truth": truth}) == {None: {"truth": truth}}
    by_lead = split_by_lead({"truth": truth, "A": forecasts([0, 6, 12, 48]), "B": forecasts([6, 12, 48])})
    assert list(by_lead) == [6.0, 12.0]  # no truth at 48 h
    assert list(by_lead[12.0]["A"]["u"].values) == [2, 6]
    with pytest.raises(DataError, match="A, B have no lead time"):
        split_by_lead({"truth": truth, "A": forecasts([0, 12]), "B": forecasts([6, 18])})
