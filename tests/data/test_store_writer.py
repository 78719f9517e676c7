"""What zarr writes of a prepared store is an ordinary Zarr store."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.prepare import prepare
from atmoloss.errors import MissingDependencyError
from tests.data.conftest import SMALL

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
zarr = pytest.importorskip("zarr", minversion="3")


def test_is_an_ordinary_zarr_store(winds_file, prepared):
    want = open_fields(winds_file)
    with xr.open_zarr(prepared.path) as data:
        assert data["vorticity"].attrs["units"] == "s-1"
        assert "run" in data.coords
        np.testing.assert_array_equal(data["time"].values, want["time"].values)
    again = open_fields(prepared.path)
    for name in want.data_vars:
        np.testing.assert_array_equal(again[name].values, want[name].values)
    group = zarr.open_group(prepared.path, mode="r")
    assert group.attrs["atmoloss"]["plan"] == prepared.record["plan"]
    assert group["divergence"].shards is not None


def test_needs_zarr_3(winds_file, tmp_path, monkeypatch, one_sentence):
    monkeypatch.setattr(zarr, "__version__", "2.18.7")
    with pytest.raises(MissingDependencyError, match=r"got version 2\.18\.7") as error:
        prepare(winds_file, tmp_path / "store", SMALL, workers=0)
    one_sentence(error.value, "zarr >= 3")
    assert not (tmp_path / "store").exists()
