"""What a prepared store will hold: dates, steps, a level, a wind."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions, absolute
from atmoloss.data.prepare import prepare
from atmoloss.data.sources import open_source
from atmoloss.errors import DataError
from tests.data.conftest import SMALL, random_winds

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
zarr = pytest.importorskip("zarr", minversion="3")


def test_dates_every_level_and_a_chosen_wind(tmp_path):
    data = random_winds()
    upper = data.rename(u10="u", v10="v").expand_dims(level=[500, 850]).copy()
    upper["u"] = upper["u"] + 2 * upper["level"] * np.cos(np.deg2rad(upper["latitude"]))
    both = xr.merge([data, upper])
    both["level"].attrs["units"] = "hPa"
    both.to_netcdf(tmp_path / "both.nc", engine="h5netcdf")
    options = dataclasses.replace(SMALL, dates=("2026-01-02/2026-01-03",), every=6)
    low = prepare(tmp_path / "both.nc", tmp_path / "low", dataclasses.replace(options, winds=("u10", "v10")), workers=0)
    want = open_fields(data).sel(time=slice("2026-01-02T00", "2026-01-03T18", 2))
    np.testing.assert_array_equal(low.times, want["time"].values)
    np.testing.assert_allclose(low.fields(["vorticity"])[:, 0], want["vorticity"].values, atol=1e-11)
    high = prepare(tmp_path / "both.nc", tmp_path / "high", dataclasses.replace(options, level=850.0), workers=0)
    want = open_fields(both, level=850).sel(time=want["time"].values)
    np.testing.assert_allclose(high.fields(["vorticity"])[:, 0], want["vorticity"].values, atol=1e-11)
    assert open_source(str(high.path), "a", ("vorticity",), 850.0).level == "850 hPa"
    with pytest.raises(DataError, match="level: got 500"):
        open_source(str(high.path), "a", ("vorticity",), 500.0)
    with pytest.raises(DataError, match="could be derived from"):
        prepare(tmp_path / "both.nc", tmp_path / "x", options, workers=0)
    np.testing.assert_array_equal(open_fields(high.path, level=850)["run"].values, 0)


@given(start=st.integers(0, 23), step=st.sampled_from([1, 3, 6]), every=st.sampled_from([None, 1, 6, 12, 24]))
def test_times_that_are_kept_are_those_of_the_definition(start, step, every):
    times = np.datetime64("2026-01-01", "h") + start + step * np.arange(60)
    options = PrepareOptions(dates=("2026-01-02/2026-01-02", "2026-01-04/2026-01-05"), every=every)
    want = [i for i, t in enumerate(times.tolist()) if t.day in (2, 4, 5) and t.hour % (every or 1) == 0]
    assert options.keep(times.astype("datetime64[ns]")).tolist() == want


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"every": 0}, "every: got 0, expected 1 to 24 hours"),
        ({"time_chunk": 0}, "time_chunk: got 0"),
        ({"winds": ("u",)}, "winds: got .*expected two names"),
        ({"variables": ()}, "at least one name"),
        ({"variables": ("u", "u")}, "each once"),
    ],
)
def test_options_that_make_no_sense(wrong, said):
    with pytest.raises(DataError, match=said):
        PrepareOptions(**wrong)


def test_a_source_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute(["a.nc", Path("b.nc"), "gs://bucket/c.zarr"]) == [
        str(tmp_path / "a.nc"),
        str(tmp_path / "b.nc"),
        "gs://bucket/c.zarr",
    ]
