"""Times: valid and initial times, forecast runs that are told apart, and times that occur twice."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.times import valid_times, with_time_deltas
from atmoloss.errors import DataError
from tests.data.conftest import HOUR, START, assert_same, forecast, winds, write

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def hours_and_runs(data):
    fields = open_fields(data, "u10")
    hours = ((fields["time"].values - START) / HOUR).astype(int)
    np.testing.assert_array_equal(fields["u10"].values[:, 3, 4], hours)
    return hours.tolist(), fields["run"].values.tolist()


@pytest.mark.parametrize("valid_name", [None, "valid_time"])
def test_overlapping_runs(valid_name):
    data = forecast([0, 6], [0, 3, 6, 9], valid_name)
    want = ([0, 3, 6, 9, 6, 9, 12, 15], [0, 0, 0, 0, 1, 1, 1, 1])
    assert hours_and_runs(data) == want
    assert hours_and_runs(data.isel(init=[1, 0])) == want  # runs are numbered by reference time
    # WeatherBench: time is the start, the step a number or a time delta without attributes.
    weatherbench = data.drop_attrs().rename(init="time", step="prediction_timedelta")
    weatherbench = weatherbench.drop_vars("valid_time", errors="ignore")
    weatherbench["u10"].attrs["units"] = "m/s"
    assert hours_and_runs(weatherbench) == want
    numbers = weatherbench.assign_coords(
        prediction_timedelta=("prediction_timedelta", [0, 3, 6, 9], {"units": "hours"})
    )
    assert hours_and_runs(numbers) == want
    numbers["prediction_timedelta"].attrs = {}
    with pytest.raises(DataError, match="prediction_timedelta: got units ''"):
        open_fields(numbers, "u10")
    # The same flattened to one time dimension: told apart by reference time.
    flat = data.stack(time=("init", "step"), create_index=False)
    flat = flat.assign_coords(time=flat["init"].variable + flat["step"].variable)
    flat["time"].attrs = {"standard_name": "time"}
    assert hours_and_runs(flat) == want
    flat["u10"] = flat["u10"] + xr.DataArray(np.arange(8), dims="time")  # a later run says otherwise
    with pytest.raises(DataError, match=r"time: 2026-03-01T06.*occurs more than once"):
        open_fields(flat.drop_vars(["init", "step", "valid_time"], errors="ignore"), "u10")


def test_interleaved_runs_are_runs():
    assert hours_and_runs(forecast([0, 3], [0, 12])) == ([0, 12, 3, 15], [0, 0, 1, 1])


def test_series_have_one_run():
    # Runs one after the other, one run, one step of each run, one field.
    assert hours_and_runs(forecast([0, 6], [0, 3])) == ([0, 3, 6, 9], [0, 0, 0, 0])
    assert hours_and_runs(forecast([0], [0, 3, 48])) == ([0, 3, 48], [0, 0, 0])
    assert hours_and_runs(forecast([0, 6, 12], [3])) == ([3, 9, 15], [0, 0, 0])
    assert hours_and_runs(forecast([0], [0, 3]).isel(init=0)) == ([0, 3], [0, 0])
    assert hours_and_runs(forecast([0, 6], [6]).isel(step=0)) == ([6, 12], [0, 0])
    assert hours_and_runs(forecast([0], [6]).isel(step=0, init=0)) == ([6], [0])
    # The shortest step of each time, where one cycle was missing, as archives of analyses have them.
    reference = START + np.array([0, 0, 6, 6, 6, 18]) * HOUR
    data = winds(6, extra={"forecast_reference_time": ("time", reference)})
    data = data.assign_coords(time=START + np.array([0, 3, 6, 9, 12, 18]) * HOUR)
    assert open_fields(data)["run"].values.tolist() == [0] * 6
    # An older run that fills a gap between times of a newer one makes no second series either.
    data = data.assign_coords(forecast_reference_time=("time", reference[[0, 0, 2, 0, 2, 5]]))
    assert open_fields(data)["run"].values.tolist() == [0] * 6
    assert_same(open_fields(data.isel(time=slice(None, None, -1))), open_fields(data))  # sorted by time


def test_forecasts_in_files_of_their_own(tmp_path):
    data = forecast([0, 6], [0, 3, 6, 9])
    for run in (0, 1):
        for step in range(4):
            write(data.isel(init=run, step=step), tmp_path / f"{run}_{step}.nc")
    want, got = open_fields(data, "u10"), open_fields(tmp_path, "u10")
    assert_same(got, want)
    for fields in (want, got):
        hours = (fields["init_time"].values - START) / HOUR
        np.testing.assert_array_equal(hours, np.repeat([0, 6], 4))
        np.testing.assert_array_equal(fields["lead_time"].values / HOUR, np.tile([0, 3, 6, 9], 2))
    again = write(got, tmp_path / "again")
    assert open_fields(again, "u10").identical(open_fields(got, "u10"))
    np.testing.assert_array_equal(open_fields(again, "u10")["lead_time"].values, got["lead_time"].values)


@pytest.mark.parametrize("names", [["0001"] * 3, [b"0001"] * 3, [1.0] * 3, ["hplm"] * 3, [1, 1, 5]])
def test_coordinate_expver_without_repeated_times(names):
    data = winds(3)
    assert_same(open_fields(data.assign_coords(expver=("time", names))), open_fields(data))
    assert_same(open_fields(data.assign_coords(expver=names[0])), open_fields(data))
    assert_same(open_fields(data.expand_dims(expver=names[:1])), open_fields(data))


def test_preliminary_files_give_way_to_final_ones(tmp_path):
    data = winds(5)
    final = data.isel(time=slice(0, 3)).assign_coords(expver=("time", ["0001"] * 3))
    preliminary = (data.isel(time=slice(1, 5)) + 3).assign_coords(expver=("time", ["0005"] * 4))
    for name in data.data_vars:
        preliminary[name].attrs = data[name].attrs
    got = open_fields([write(preliminary, tmp_path / "t.nc"), write(final, tmp_path / "f.nc")], "u10")["u10"].values
    np.testing.assert_array_equal(got[:3], data["u10"].values[:3])
    np.testing.assert_array_equal(got[3:], data["u10"].values[3:] + 3)


@pytest.mark.parametrize(
    ("units", "seconds"),
    [
        ("days", 86400),
        ("d", 86400),
        ("hours", 3600),
        ("h", 3600),
        ("minutes", 60),
        ("min", 60),
        ("seconds", 1),
        ("s", 1),
    ],
)
def test_units_of_forecast_steps(units, seconds):
    data = forecast([0], [0, 3]).assign_coords(step=("step", [0, 2], {"units": units}))
    lead = open_fields(data.drop_attrs(deep=False), "u10")["lead_time"].values
    np.testing.assert_array_equal(lead, [0, 2 * seconds * np.timedelta64(10**9, "ns")])


@pytest.mark.parametrize("units", ["ms", "milliseconds", "months", "1", ""])
def test_units_of_forecast_steps_that_are_refused(units):
    data = forecast([0], [0, 3]).assign_coords(step=("step", [0, 2], {"units": units}))
    with pytest.raises(DataError, match=f"step: got units '{units}', expected"):
        open_fields(data, "u10")


@pytest.mark.parametrize("valid_name", [None, "valid_time"])
def test_valid_times_keep_their_dimensions(valid_name):
    data = forecast([0, 6], [3, 9, 15], valid_name)["u10"].expand_dims(number=[0, 1])
    valid, calendar = valid_times(data)
    assert calendar == "proleptic_gregorian"
    assert valid.dims == ("step", "init")
    np.testing.assert_array_equal(valid.values, START + (np.array([3, 9, 15])[:, None] + [0, 6]) * HOUR)


def test_steps_in_numbers_become_time_deltas():
    data = forecast([0], [3, 9])["u10"]
    numbers = data.assign_coords(step=("step", [3, 9], {"units": "hours", "standard_name": "forecast_period"}))
    assert with_time_deltas(data) is data
    got = with_time_deltas(numbers)["step"]
    np.testing.assert_array_equal(got.values, [3 * HOUR, 9 * HOUR])
    assert got.attrs == {"standard_name": "forecast_period"}
