"""A variable in each of its files: which files fit together, levels and winds that are told apart, other dimensions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmoloss.data import open_fields
from atmoloss.data.parts import as_slice
from atmoloss.errors import DataError
from tests.data.conftest import assert_same, field, on_levels, winds, write

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def test_levels_in_files_of_their_own(tmp_path, one_sentence):
    data = on_levels((850.0, 500.0))
    paths = [write(data.sel(level=level), tmp_path / f"{level}.nc") for level in (850, 500)]
    for level in (850, 500):
        assert_same(open_fields(paths, level=level), open_fields(data, level=level))
    with pytest.raises(DataError) as error:
        open_fields(paths)
    one_sentence(error.value, "level: got None", "500 hPa; 850 hPa")
    with pytest.raises(DataError, match="level: got 700"):
        open_fields(paths, level=700)


def test_files_that_are_no_series(tmp_path, one_sentence):
    data = winds(2)
    a = write(data, tmp_path / "a.nc")
    for other, name, words in (
        (data.isel(longitude=slice(1, None)), "u10", "expected one grid"),
        (data.rename(u10="u100", v10="v100"), "u", "u10 and u100 in different files"),
    ):
        b = write(other.assign_coords(time=data["time"] + np.timedelta64(1, "D")), tmp_path / "b.nc")
        with pytest.raises(DataError) as error:
            open_fields([a, b], name)
        one_sentence(error.value, words)


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


def test_other_dimensions():
    data = winds().expand_dims(number=[0, 1])
    with pytest.raises(DataError, match=r"u10: got an ensemble dimension 'number' of 2 members.*isel\(number=0\)"):
        open_fields(data, "u10")
    assert_same(open_fields(data.isel(number=[1])), open_fields(winds()))
    with pytest.raises(DataError, match="dimension 'scenario' of size 2"):
        open_fields(winds().expand_dims(scenario=[1, 5]), "u10")
    with pytest.raises(DataError, match="found no time coordinate"):
        open_fields(winds().isel(time=0, drop=True), "u10")
    with pytest.raises(DataError, match=r"without a latitude and a longitude axis"):
        open_fields(winds().stack(values=("latitude", "longitude"), create_index=False), "u10")
    with pytest.raises(DataError, match="grid: got 1, expected None"):
        open_fields(winds(), "u10", grid=1.0)
    numbered = winds().assign_coords(time=[0, 1, 2])
    with pytest.raises(DataError, match="time: got int64, expected datetime64"):
        open_fields(numbered, "u10")


def test_dimension_expver_is_merged(tmp_path, monkeypatch):
    data = winds(4)
    final, preliminary = data.copy(deep=True), data.copy(deep=True)
    for name in data.data_vars:
        final[name][2:] = np.nan
        preliminary[name][:2] = np.nan
    stacked = xr.concat([preliminary, final], xr.Variable("expver", [5, 1])).transpose("time", "expver", ...)
    assert_same(open_fields(stacked), open_fields(data))
    final["u10"][1], preliminary["u10"][1] = data["u10"][1], 99.0  # where both have values the final ones count
    stacked = xr.concat([preliminary, final], xr.Variable("expver", [5, 1]))
    assert_same(open_fields(stacked, "u10"), open_fields(data, "u10"))
    path = write(stacked, tmp_path / "e.nc")
    monkeypatch.setattr("atmoloss.data.series._EAGER_BYTES", 1000)
    lazy = open_fields(path, "u10", missing="ignore")
    assert lazy["u10"].chunks is not None
    assert_same(lazy, open_fields(data, "u10"))
    with pytest.raises(DataError, match=r"expver: got \[1, 7\] in 'u10', expected 1 \(ERA5\) and 5"):
        open_fields(stacked.assign_coords(expver=[1, 7]), "u10")


@given(start=st.integers(0, 9), step=st.integers(-3, 3), count=st.integers(0, 4))
def test_evenly_spaced_indices_are_a_slice_of_the_same(start, step, count):
    index = np.array([i for i in start + step * np.arange(count) if 0 <= i < 20], dtype=np.int64)
    fast = as_slice(index)
    assert isinstance(fast, slice) == (step != 0 or index.size < 2)
    np.testing.assert_array_equal(np.arange(20)[fast], index)
