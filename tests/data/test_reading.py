"""open_fields: every orientation and time layout gives the same fields, or a clear error."""

import subprocess
import sys

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.errors import DataError, InputError
from tests.data.conftest import ROTATION, assert_same, assert_solid_body, on_levels, winds, zonal

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def test_layout_and_derivation(tmp_path):
    winds().to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    fields = open_fields(tmp_path / "w.nc")
    assert list(fields.data_vars) == ["divergence", "vorticity"]
    for name in fields.data_vars:
        assert fields[name].dims == ("time", "latitude", "longitude")
        assert fields[name].dtype == np.float32
        assert fields[name].attrs["units"] == "s-1"
        assert fields[name].attrs["derived_from"] == "u10, v10"
        assert fields[name].attrs["missing_count"] == 0
    assert fields["time"].dtype == np.dtype("datetime64[ns]")
    assert fields["run"].values.tolist() == [0, 0, 0]
    assert fields.attrs["license"] == "public domain"
    zonal = fields["vorticity"].mean("longitude").values[1]  # the wave in v has no zonal mean
    want = 2 * 2 * ROTATION * np.sin(np.deg2rad(fields["latitude"].values))
    # Inside: fourth order at 10°; the one-sided rows and poles are the subject of tests of winds.
    np.testing.assert_allclose(zonal[3:-3], want[3:-3], atol=2e-3 * want.max())


def test_stored_fields_are_preferred():
    data = winds()
    data["vo"] = data["u10"] * 0 + 7e-5
    data["vo"].attrs = {"standard_name": "atmosphere_relative_vorticity", "units": "s**-1"}
    fields = open_fields(data)
    assert "derived_from" not in fields["vorticity"].attrs
    np.testing.assert_array_equal(fields["vorticity"].values, np.float32(7e-5))
    assert fields["divergence"].attrs["derived_from"] == "u10, v10"
    # … but not a variable that only has the name: this is how an ocean model calls a current.
    data["vo"].attrs["standard_name"] = "sea_water_y_velocity"
    assert open_fields(data, "vorticity")["vorticity"].attrs["derived_from"] == "u10, v10"


def test_orientation_does_not_matter():
    data = winds()
    want = open_fields(data)
    assert want["latitude"].values[0] == 90
    flipped = data.isel(latitude=slice(None, None, -1))
    assert_same(open_fields(flipped), want)
    assert_same(open_fields(data.transpose("longitude", "time", "latitude")), want)
    west = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180)  # physical order kept
    west["longitude"].attrs["units"] = "degrees_east"
    for variant in (west, west.sortby("longitude"), west.sortby("longitude", ascending=False)):
        got = open_fields(variant)
        np.testing.assert_array_equal(got["longitude"].values, np.arange(-180.0, 180.0, 10.0))
        turned = got.assign_coords(longitude=got["longitude"] % 360).sortby("longitude")
        for name in want.data_vars:
            np.testing.assert_allclose(turned[name].values, want[name].values, atol=1e-11)


def test_packed_integers(tmp_path):
    data = winds()
    packing = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32768}
    data["u10"][0, 3, 4] = np.nan
    data.to_netcdf(tmp_path / "w.nc", engine="h5netcdf", encoding={"u10": packing, "v10": packing})
    got = open_fields(tmp_path / "w.nc", ("u10", "v10"), missing="ignore")
    assert got["u10"].dtype == np.float32
    np.testing.assert_allclose(got["u10"].values, data["u10"].values, atol=0.051)
    assert np.isnan(got["u10"].values).sum() == 1


@pytest.mark.parametrize("missing", ["drop", float("nan"), None, True])
def test_missing_argument(missing):
    with pytest.raises(InputError, match=r"missing: got .*expected 'error', 'ignore'"):
        open_fields(winds(), missing=missing)


def test_unknown_variable_lists_what_is_there():
    with pytest.raises(DataError, match=r"'vorticity'.*u10"):
        open_fields(winds().drop_vars("v10"), "vorticity")
    with pytest.raises(DataError, match=r"variables: got 't2m'.*present: u10 \(eastward_wind\), v10 \("):
        open_fields(winds(), "t2m")
    with pytest.raises(InputError, match=r"variables: got.*at least one"):
        open_fields(winds(), ())
    own = open_fields(winds().rename(u10="cloud"), "cloud")
    assert own["cloud"].dtype == np.float32


def test_layout_of_the_climate_data_store():
    data = on_levels((850.0, 500.0), name="pressure_level").rename(time="valid_time")
    data["valid_time"].attrs = {"standard_name": "time", "long_name": "time"}
    data["pressure_level"].attrs["standard_name"] = "air_pressure"
    data = data.assign_coords(number=0, expver=("valid_time", ["0001"] * 3))
    data["number"].attrs["standard_name"] = "realization"
    assert_same(open_fields(data, level=850), open_fields(on_levels(), level=850))


def test_import_is_light():
    code = "import sys, atmoloss.data; print(bool({'xarray', 'ducc0', 'dask'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_weatherbench(folders):
    assert_solid_body(open_fields(f"file://{folders}/wb2.zarr", level=850), 1 + np.arange(40), 0.85)
    u = open_fields(folders / "wb2.zarr", "u10")["u10"]
    np.testing.assert_allclose(u.values[2, 12], zonal(0.0, 3 * 0.01), rtol=1e-6)
