"""Calendars: lags are exact in hours, dates stay those of the calendar, and years beyond datetime64[ns] are read."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.calendars import STANDARD, calendar_of, date_texts, dates, exact_times
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import PartnerIndex
from atmoloss.data.sources import open_source, source_from_dataset
from atmoloss.data.splits import in_periods, parse_periods, split_by_date
from atmoloss.errors import DataError
from tests.data.conftest import assert_same, winds

xr = pytest.importorskip("xarray")
cftime = pytest.importorskip("cftime")
pytest.importorskip("h5netcdf")

CALENDARS = ("noleap", "all_leap", "360_day", "julian", "standard", "proleptic_gregorian")


def series(calendar, start=(2000, 2, 26), count=32, step=6):
    """Winds at steps of six hours across the end of February of a leap year."""
    first = cftime.datetime(*start, calendar=calendar)
    number = cftime.date2num(first, "hours since 1850-01-01", calendar=calendar)
    times = cftime.num2date(number + step * np.arange(count), "hours since 1850-01-01", calendar=calendar)
    return winds(count).assign_coords(time=("time", times))


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("year", [1, 1582, 2000, 2050, 2400])
def test_differences_are_exact_and_dates_are_kept(calendar, year):
    data = series(calendar, (year, 2, 26))
    times, found = exact_times(data["time"].values, "time")
    assert found == (STANDARD if calendar in ("standard", STANDARD) else calendar)
    hours = (times - times[0]) / np.timedelta64(1, "h")
    want = [t.total_seconds() / 3600 for t in data["time"].values - data["time"].values[0]]
    np.testing.assert_array_equal(hours, want)
    if year > 1582 or calendar != "standard":
        assert date_texts(times, found).tolist() == [t.isoformat()[:19] for t in data["time"].values]


@pytest.mark.parametrize("calendar", CALENDARS)
def test_files_of_any_calendar(tmp_path, calendar):
    data = series(calendar)
    data.isel(time=slice(0, 20)).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    data.isel(time=slice(20, None)).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    fields = open_fields(tmp_path / "*.nc")
    assert fields["time"].dtype == np.dtype("datetime64[ns]")
    np.testing.assert_array_equal(np.diff(fields["time"].values) / np.timedelta64(1, "h"), 6.0)
    np.testing.assert_array_equal(open_fields(data)["vorticity"].values, fields["vorticity"].values)
    if calendar in ("standard", STANDARD):
        assert fields["time"].values[0] == np.datetime64("2000-02-26")
        assert "date" not in fields.coords
    else:
        assert calendar_of(fields) == calendar
        assert fields["date"].values[[0, 12]].tolist() == [data["time"].values[i].isoformat()[:19] for i in (0, 12)]
    fields.to_netcdf(tmp_path / "saved", engine="h5netcdf")  # no attribute that xarray itself writes
    again = open_fields(tmp_path / "saved")
    assert_same(again, fields)
    assert again["time"].equals(fields["time"])  # with the date
    assert calendar_of(again) == calendar_of(fields)
    source = source_from_dataset(fields, "model")
    assert source.hours[-1] - source.hours[0] == 31 * 6
    lags = PartnerIndex(source, SequenceSpec(n_times=2, n_classes=4, base_step=6))
    assert len(lags.anchors) == 31
    np.testing.assert_array_equal(lags.after(10), [11, 12, 13, 14])


def test_splits_go_by_the_calendars_own_dates():
    source = source_from_dataset(open_fields(series("360_day", (2050, 2, 20), 80)), "model")
    assert str(source.times[0])[:10] != "2050-02-20"  # 80 years of 360 days after 1970
    assert str(source.dates[0])[:16] == "2050-02-20T00:00"
    held = split_by_date([source], ["2050-02-25/2050-02-28"], ["2050-03-03/2050-03-04"])
    # 29 and 30 February count as the 28th.
    assert len(held["validation"][0].times) == 6 * 4
    assert len(held["test"][0].times) == 2 * 4
    assert str(held["test"][0].dates[0])[:10] == "2050-03-03"
    assert in_periods(source.dates, parse_periods(["2050-03-01/2050-03-01"])).sum() == 4
    assert dates(source.times[40:44], "360_day").astype("datetime64[D]").astype(str).tolist() == ["2050-02-28"] * 4


def test_a_leap_year_without_a_leap_day(tmp_path):
    pytest.importorskip("zarr", minversion="3")
    data = series("noleap")
    data.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    options = PrepareOptions(dates=("2000-02-27/2000-03-01",), time_chunk=2)
    store = prepare(tmp_path / "m.nc", tmp_path / "store", options, workers=0)
    assert len(store.times) == 3 * 4
    source = open_source(str(store.path), "model", ("vorticity",))
    assert source.dates[[0, -1]].astype(str).tolist() == ["2000-02-27T00:00:00", "2000-03-01T18:00:00"]
    assert (np.diff(source.hours) == 6).all()
    again = open_fields(store.path)
    assert_same(again, open_fields(data).isel(time=slice(4, 16)))
    assert again["date"].values[0] == "2000-02-27T00:00:00"


def test_several_calendars_are_refused(tmp_path, one_sentence):
    for calendar in ("noleap", "standard"):
        series(calendar).to_netcdf(tmp_path / f"{calendar}.nc", engine="h5netcdf")
    with pytest.raises(DataError) as error:
        open_fields(tmp_path)
    one_sentence(error.value, "noleap, proleptic_gregorian", "expected one")
    mixed = winds(2).assign_coords(time=("time", np.array([1.5, 2.5], dtype=object)))
    with pytest.raises(DataError, match=r"time: got .*expected datetime64 or cftime"):
        open_fields(mixed)


def test_forecasts_of_a_model_with_a_calendar_of_its_own():
    steps = np.arange(0, 24, 6)
    start = [cftime.datetime(2000, 2, 28, h, calendar="noleap") for h in (0, 12)]
    base = winds(1).isel(time=0, drop=True).expand_dims(init=2, step=4)
    data = base.assign_coords(
        init=("init", start, {"standard_name": "forecast_reference_time"}),
        step=("step", steps, {"standard_name": "forecast_period", "units": "hours"}),
    )
    fields = open_fields(data, "u10")
    assert fields["run"].values.tolist() == [0] * 4 + [1] * 4
    np.testing.assert_array_equal(fields["lead_time"].values / np.timedelta64(1, "h"), np.tile(steps, 2))
    assert fields["date"].values[-1] == "2000-03-01T06:00:00"
    assert open_fields(fields, "u10").drop_attrs().identical(fields.drop_attrs())
