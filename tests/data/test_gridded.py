"""Fields of any dimensions in one layout of space: what is read is what ``open_fields`` reads, part by part."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.gridded import gridded, opened
from atmoloss.errors import DataError
from tests.data.conftest import forecast, on_levels, winds
from tests.data.test_spectral import packed_dataset

xr = pytest.importorskip("xarray")


def read(data, names=("u", "v"), level=None):
    with opened(data, names, "data") as files:
        return gridded(files, names, level)


@pytest.mark.parametrize("names", [("u", "v"), ("vorticity", "divergence"), ("divergence", "u")])
@pytest.mark.parametrize("region", [False, True])
def test_a_series_is_read_as_open_fields_reads_it(names, region):
    data = winds(3, longitude=np.arange(-30.0, 30.0, 2.0) if region else None)
    data = data.isel(latitude=slice(None, None, -1)).transpose("longitude", "time", "latitude")
    got, expected = read(data, names), open_fields(data, names)
    np.testing.assert_allclose(got.read(), expected.to_dataarray("c").transpose("time", "c", ...).values, atol=1e-11)
    assert got.read().dtype == np.float32
    np.testing.assert_allclose(got.read({"time": slice(1, 2)}), got.read()[1:2], rtol=0, atol=1e-11)
    for axis in ("latitude", "longitude"):
        np.testing.assert_array_equal(got.grid[axis].values, expected[axis].values)
    assert got.periodic is not region
    assert (got.level, got.spacing) == ("10 m", 10.0)


def test_a_globe_begins_at_the_same_meridian_wherever_its_longitudes_start():
    data = winds()
    turned = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude")
    got = read(turned)
    np.testing.assert_array_equal(got.read(), read(data).read())
    np.testing.assert_array_equal(got.grid["longitude"].values, np.arange(0.0, 360.0, 10.0))
    own = got.on_own_grid(got.read()[:, 0])
    np.testing.assert_array_equal(own, turned["u10"].values)
    twice = xr.concat([data, data.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude")
    np.testing.assert_array_equal(read(twice).read(), read(data).read())
    np.testing.assert_array_equal(read(twice).on_own_grid(read(twice).read()[:, 0]), twice["u10"].values)


def test_all_other_dimensions_stay_where_they_are():
    data = forecast([0, 6], [6, 12, 18]).expand_dims(number=[3, 4], axis=2)
    got = read(data)
    assert dict(got.outer.sizes) == {"step": 3, "number": 2, "init": 2}
    assert got.read().shape == (3, 2, 2, 2, 19, 36)
    np.testing.assert_array_equal(got.read()[1, 0, 1, 0, 0], data["u10"].isel(latitude=0, step=1, number=0, init=1))


def test_levels_are_chosen_and_named():
    data = on_levels((850.0, 500.0))
    got = read(data, level=500)
    np.testing.assert_array_equal(got.read()[:, 0], data["u"].sel(level=500).transpose("time", ...).values)
    assert got.level == "500 hPa"
    assert read(data.sel(level=850)).level == "850 hPa"
    with pytest.raises(DataError, match="level: got None"):
        read(data)


def test_blocks_are_chunks_of_dask_or_of_the_file_or_single_fields(tmp_path):
    pytest.importorskip("dask")
    data = winds(5)
    assert [b["time"] for b in read(data).blocks()] == [slice(i, i + 1) for i in range(5)]
    chunked = [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert [b["time"] for b in read(data.chunk(time=2)).blocks()] == chunked
    encoding = {name: {"chunksizes": (2, 19, 36)} for name in data.data_vars}
    data.to_netcdf(tmp_path / "w.nc", engine="h5netcdf", encoding=encoding)
    with opened(tmp_path / "w.nc", ("u", "v"), "data") as files:
        assert [b["time"] for b in gridded(files, ("u", "v")).blocks()] == chunked


def test_a_gaussian_grid_in_coefficients_has_the_axes_of_its_synthesis():
    pytest.importorskip("ducc0")
    data, _ = packed_dataset()
    got = read(data, ("vorticity",))
    np.testing.assert_allclose(got.read()[:, 0], open_fields(data, "vorticity")["vorticity"].values, atol=1e-11)
    assert got.own.dims == ("latitude", "longitude")


def test_variables_that_do_not_fit_together(one_sentence):
    data = winds()
    for other in (data["v10"].isel(time=slice(1, None)), data["v10"].isel(longitude=slice(1, None))):
        with pytest.raises(DataError) as error:
            read(data[["u10"]].merge(other.to_dataset(name="v10").rename(time="t", longitude="lon")))
        one_sentence(error.value, "u10 and v10", "expected the same")
