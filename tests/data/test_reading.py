"""open_fields: every format, orientation and time layout gives the same fields, or a clear error."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmoloss.data import conventions, open_fields
from atmoloss.data.spectral import to_grid
from atmoloss.errors import DataError, MissingDependencyError

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2026-03-01T00", "ns")
RADIUS = 6.371e6
ROTATION = 1e-5  # s-1, of the solid-body wind below


def winds(times=3, latitude=None, longitude=None, names=("u10", "v10"), extra=None):
    """Solid-body rotation u = Ω R cos φ, plus a time-dependent factor: vorticity is 2 Ω sin φ exactly."""
    latitude = np.arange(90.0, -91.0, -10.0) if latitude is None else np.asarray(latitude, float)
    longitude = np.arange(0.0, 360.0, 10.0) if longitude is None else np.asarray(longitude, float)
    factor = 1.0 + np.arange(times)
    u = ROTATION * RADIUS * np.cos(np.deg2rad(latitude))[None, :, None] * factor[:, None, None]
    u = u + np.zeros(longitude.size)
    # A little wave in v so that longitude matters.
    wave = np.sin(np.deg2rad(longitude))[None, None, :] * np.cos(np.deg2rad(latitude))[None, :, None]
    v = 3.0 * wave * factor[:, None, None]
    dims = ("time", "latitude", "longitude")
    cf = ("eastward_wind", "northward_wind")
    return xr.Dataset(
        {
            name: (dims, value.astype(np.float32), {"standard_name": standard, "units": "m s-1"})
            for name, value, standard in zip(names, (u, v), cf, strict=True)
        },
        coords={
            "time": ("time", START + np.arange(times) * 6 * HOUR),
            "latitude": ("latitude", latitude, {"units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east"}),
            **(extra or {}),
        },
        attrs={"license": "public domain"},
    )


def assert_same(got, want):
    for name in want.data_vars:
        # Sums over longitude depend on the block size in the last bit; the fields are of size 1e-5 s-1.
        np.testing.assert_allclose(got[name].values, want[name].values, rtol=0, atol=1e-11)
    for axis in ("time", "latitude", "longitude", "run"):
        np.testing.assert_array_equal(got[axis].values, want[axis].values)


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


def test_meridian_stored_twice_is_dropped():
    data = winds(longitude=np.arange(0.0, 361.0, 10.0))
    assert_same(open_fields(data), open_fields(winds()))


def test_region_across_the_date_line():
    physical = np.arange(350.0, 391.0, 5.0)
    inside = winds(latitude=np.arange(60.0, 19.0, -5.0), longitude=physical)
    want = open_fields(inside)
    np.testing.assert_array_equal(want["longitude"].values, physical)
    for stored in (physical % 360, (physical + 180) % 360 - 180):
        data = inside.assign_coords(longitude=("longitude", stored, {"units": "degrees_east"}))
        for variant in (data, data.sortby("longitude")):  # sorted by number it has a hole in the middle
            got = open_fields(variant)
            np.testing.assert_array_equal(np.diff(got["longitude"].values), 5.0)
            np.testing.assert_array_equal(got["longitude"].values % 360, physical % 360)
            for name in want.data_vars:
                np.testing.assert_allclose(got[name].values, want[name].values, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(-180, 359),
    step=st.sampled_from([0.25, 1.0, 2.5]),
    count=st.integers(2, 144),
    shuffle=st.randoms(use_true_random=False),
    convention=st.sampled_from([0.0, -180.0]),
)
def test_longitudes_come_out_ascending_in_physical_order(start, step, count, shuffle, convention):
    physical = start + step * np.arange(count)
    stored = (physical - convention) % 360 + convention
    order = list(range(count))
    shuffle.shuffle(order)
    indices, ascending = conventions.longitude_order(stored[order])
    assert sorted(indices) == list(range(count))
    np.testing.assert_allclose(ascending % 360, stored[order][indices] % 360)
    np.testing.assert_allclose(np.diff(ascending), step)
    if step * count < 355:  # regional (beyond it a missing meridian is not told from none)
        assert ascending[0] % 360 == physical[0] % 360


def zarr_format(version):
    """Return the option of ``to_zarr`` that asks for a format, which xarray refuses beside zarr 2."""
    zarr = pytest.importorskip("zarr", minversion=str(version))
    return {} if zarr.__version__.startswith("2.") else {"zarr_format": version}


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    options = zarr_format(version)
    data = winds()
    want = open_fields(data)
    data.to_zarr(tmp_path / "w.zarr", consolidated=True, **options)
    assert_same(open_fields(tmp_path / "w.zarr"), want)
    assert_same(open_fields(f"file://{tmp_path}/w.zarr"), want)


def test_zarr_url():
    options = zarr_format(2)
    pytest.importorskip("fsspec")
    data = winds()
    url = "memory://atmoloss-test-reading.zarr"
    data.to_zarr(url, mode="w", consolidated=True, **options)
    assert_same(open_fields(url), open_fields(data))


def test_the_v3_format_beside_zarr_2(tmp_path, monkeypatch, one_sentence):
    zarr = pytest.importorskip("zarr")
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    monkeypatch.setattr(zarr, "__version__", "2.18.7")
    with pytest.raises(DataError, match="is Zarr v3") as error:
        open_fields(tmp_path)
    one_sentence(error.value, str(tmp_path), "2.18.7", "zarr>=3")


def test_zarr_2_beside_an_xarray_that_has_dropped_it(tmp_path, monkeypatch, one_sentence):
    zarr = pytest.importorskip("zarr")
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    monkeypatch.setattr(zarr, "__version__", "2.18.7")
    monkeypatch.setattr(xr, "__version__", "2026.9.0")
    with pytest.raises(MissingDependencyError, match="xarray: got version 2026") as error:
        open_fields(tmp_path)
    one_sentence(error.value, "2.18.7", "xarray<2026.9")


def test_several_files(tmp_path):
    pytest.importorskip("dask")
    data = winds(4)
    for part in range(2):
        data.isel(time=slice(2 * part, 2 * part + 2)).to_netcdf(tmp_path / f"{part}.nc", engine="h5netcdf")
    want = open_fields(data)
    assert_same(open_fields(tmp_path / "*.nc"), want)
    both = open_fields([tmp_path / "0.nc", tmp_path / "1.nc"])
    assert both["vorticity"].chunks is None  # small: read as a single file is
    assert_same(both, want)


def test_large_variables_stay_lazy(tmp_path, monkeypatch):
    pytest.importorskip("dask")
    data = winds(5)
    data.to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    monkeypatch.setattr("atmoloss.data.series._EAGER_BYTES", 1000)
    monkeypatch.setattr("atmoloss.data.parts.BLOCK_BYTES", 8 * 19 * 36 * 2)
    lazy = open_fields(tmp_path / "w.nc", missing="ignore")
    assert lazy["divergence"].chunks[0] == (2, 2, 1)
    assert_same(lazy, open_fields(data))


def test_packed_integers(tmp_path):
    data = winds()
    packing = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32768}
    data["u10"][0, 3, 4] = np.nan
    data.to_netcdf(tmp_path / "w.nc", engine="h5netcdf", encoding={"u10": packing, "v10": packing})
    got = open_fields(tmp_path / "w.nc", ("u10", "v10"), missing="ignore")
    assert got["u10"].dtype == np.float32
    np.testing.assert_allclose(got["u10"].values, data["u10"].values, atol=0.051)
    assert np.isnan(got["u10"].values).sum() == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_missing_values(chunked):
    data = winds()
    data["u10"][1, 4:6, 2] = np.nan
    data = data.chunk(time=1) if chunked else data
    with pytest.raises(DataError, match=r"missing: 2 of 2052 values of 'u10'.*fill"):
        open_fields(data)
    with pytest.raises(DataError, match="missing: 2 of 2052"):
        open_fields(data, ("u10", "v10"))
    ignored = open_fields(data, "u10", missing="ignore")["u10"]
    assert np.isnan(ignored.values).sum() == 2
    assert "missing_count" not in ignored.attrs
    filled = open_fields(data, ("u10", "v10"), missing=0.5)
    assert filled["u10"].attrs["missing_count"] == 2
    assert filled["v10"].attrs["missing_count"] == 0
    np.testing.assert_array_equal(filled["u10"].values[1, 4:6, 2], 0.5)
    # A derivative is filled where its stencil meets a hole, never computed from the fill value.
    derived = open_fields(data, "vorticity", missing=0.0)["vorticity"]
    assert derived.attrs["missing_count"] > 2
    assert derived.values[1, 4, 2] == 0
    assert np.abs(derived.values).max() < 1e-4


@pytest.mark.parametrize("missing", ["drop", float("nan"), None, True])
def test_missing_argument(missing):
    with pytest.raises(DataError, match=r"missing: got .*expected 'error', 'ignore'"):
        open_fields(winds(), missing=missing)


def on_levels(values=(850.0, 500.0), units="hPa", name="level"):
    flat = winds(names=("u", "v"))
    scaled = [flat * (1 + i) for i in range(len(values))]
    for part in scaled:
        for variable in part.data_vars:
            part[variable].attrs = flat[variable].attrs
    data = xr.concat(scaled, xr.Variable(name, list(values)), join="outer")
    data[name].attrs = {"units": units}
    return data


def test_levels():
    data = on_levels()
    got = open_fields(data, "u", 500)
    np.testing.assert_array_equal(got["u"].values, data["u"].sel(level=500).values)
    with pytest.raises(DataError, match=r"level: got 700 for 'u'.*850, 500 hPa"):
        open_fields(data, "u", level=700)
    with pytest.raises(DataError, match=r"level: got None for 'u'.*850, 500 hPa"):
        open_fields(data)
    assert_same(open_fields(data.sel(level=[850])), open_fields(data, level=850))
    pascal = on_levels((85000.0, 50000.0), "Pa", "plev")
    assert_same(open_fields(pascal, level=850), open_fields(data, level=850))
    with pytest.raises(DataError, match="850, 500 hPa"):
        open_fields(pascal, level=85000)
    hybrid = on_levels((120.0, 137.0), "1", "hybrid")
    assert_same(open_fields(hybrid, level=120), open_fields(data, level=850))
    with pytest.raises(DataError, match=r"level: got 850 for 'u'.*u10: none"):
        open_fields(winds(), "vorticity", level=850)
    assert open_fields(winds(), "u10", level=850)["u10"].shape == (3, 19, 36)


def test_wind_names():
    data = winds()
    np.testing.assert_array_equal(open_fields(data, "u")["u"].values, data["u10"].values)
    np.testing.assert_array_equal(open_fields(data, "10v")["10v"].values, data["v10"].values)
    renamed = data.rename(u10="10m_u_component_of_wind", v10="northward_10m_wind")
    renamed["10m_u_component_of_wind"].attrs = {}
    renamed = renamed.assign_coords(height=((), 10.0, {"units": "m", "standard_name": "height"}))
    got = open_fields(renamed, ("u10", "v10"))  # one by name, one by standard name and height
    np.testing.assert_array_equal(got["u10"].values, data["u10"].values)
    np.testing.assert_array_equal(got["v10"].values, data["v10"].values)
    both = data.assign(u100=data["u10"] * 2, v100=data["v10"] * 2)
    for new, old in (("u100", "u10"), ("v100", "v10")):
        both[new].attrs = data[old].attrs
    with pytest.raises(DataError, match=r"'u' fits several variables.*u10.*u100"):
        open_fields(both, "u")
    with pytest.raises(DataError, match=r"u10.*u100"):
        open_fields(both, "vorticity")
    np.testing.assert_array_equal(open_fields(both, "u100")["u100"].values, 2 * data["u10"].values)
    surface = on_levels((850.0,)).assign(u10=data["u10"], v10=data["v10"])
    with pytest.raises(DataError, match="u, v or u10, v10"):
        open_fields(surface, "vorticity")
    assert open_fields(surface, "vorticity", level=850)["vorticity"].attrs["derived_from"] == "u, v"
    pair = open_fields(surface, ("u10", "u"), level=850)
    np.testing.assert_array_equal(pair["u10"].values, data["u10"].values)


def test_unknown_variable_lists_what_is_there():
    with pytest.raises(DataError, match=r"'vorticity'.*u10"):
        open_fields(winds().drop_vars("v10"), "vorticity")
    with pytest.raises(DataError, match=r"variables: got 't2m'.*present: u10, v10"):
        open_fields(winds(), "t2m")
    with pytest.raises(DataError, match=r"variables: got.*at least one"):
        open_fields(winds(), ())
    own = open_fields(winds().rename(u10="cloud"), "cloud")
    assert own["cloud"].dtype == np.float32


@pytest.mark.parametrize("units", ["m s**-1", "m/s", "m s^-1", "meters per second", "m.s-1", None])
def test_units_accepted(units):
    data = winds()
    data["u10"].attrs.update(units=units)
    if units is None:
        del data["u10"].attrs["units"]
    assert open_fields(data, "u10")["u10"].attrs["units"] == "m s-1"


@pytest.mark.parametrize(
    ("name", "units"), [("u10", "knots"), ("u10", "km/h"), ("u10", "m s-2"), ("vo", "1e-5 s-1"), ("vo", "m s-1")]
)
def test_units_refused(name, units):
    data = winds().assign(vo=winds()["u10"].drop_attrs())
    data[name].attrs["units"] = units
    with pytest.raises(DataError, match=f"{name}: got units '{units}', expected"):
        open_fields(data, (name, "vorticity"))


def test_vorticity_units_accepted():
    for units in ("s-1", "s**-1", "1/s", "s^-1"):
        data = winds().rename(u10="vo")
        data["vo"].attrs = {"units": units}
        open_fields(data, "vorticity")


def forecast(references, steps, valid_name=None):
    """u10 (reference, step), each value the valid time's hours since START."""
    reference = START + np.asarray(references) * HOUR
    hours = np.asarray(references)[:, None] + np.asarray(steps)[None]
    base = winds(1).isel(time=0, drop=True)
    data = (xr.zeros_like(base) + xr.DataArray(hours, dims=("init", "step"))).astype(np.float32)
    data["u10"].attrs, data["v10"].attrs = base["u10"].attrs, base["v10"].attrs
    data = data.assign_coords(
        init=("init", reference, {"standard_name": "forecast_reference_time"}),
        step=("step", np.asarray(steps) * HOUR, {"standard_name": "forecast_period"}),
    )
    if valid_name:
        data = data.assign_coords({valid_name: (("init", "step"), START + hours * HOUR)})
    return data.transpose("latitude", "step", "init", "longitude")


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
    with pytest.raises(DataError, match="step: got units ''"):
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


def test_layout_of_the_climate_data_store():
    data = on_levels((850.0, 500.0), name="pressure_level").rename(time="valid_time")
    data["valid_time"].attrs = {"standard_name": "time", "long_name": "time"}
    data["pressure_level"].attrs["standard_name"] = "air_pressure"
    data = data.assign_coords(number=0, expver=("valid_time", ["0001"] * 3))
    data["number"].attrs["standard_name"] = "realization"
    assert_same(open_fields(data, level=850), open_fields(on_levels(), level=850))


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


def test_irregular_grid_needs_stored_fields():
    gaussian = winds(latitude=[85.8, 80.3, 74.7, 69.2, 63.0, 58.1, 10.0])
    with pytest.raises(DataError, match=r"'divergence' cannot be derived from u10, v10: latitude"):
        open_fields(gaussian)
    assert open_fields(gaussian, "u10")["u10"].shape == (3, 7, 36)


def test_sources_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"path_or_url: got .*absent.nc.*exists"):
        open_fields(tmp_path / "absent.nc")
    with pytest.raises(DataError, match="path_or_url: got ndarray"):
        open_fields(np.zeros(3))
    with pytest.raises(DataError, match="path_or_url"):
        open_fields([])
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match="expected readable h5netcdf data"):
        open_fields(tmp_path / "broken.nc")


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r"atmoloss\[data\]"):
        open_fields("file.nc")


def test_import_is_light():
    code = "import sys, atmoloss.data; print(bool({'xarray', 'ducc0', 'dask'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def write_grib(path, messages, sample="regular_ll_pl_grib2"):
    """Write GRIB messages: each a dict of keys and the array `values`."""
    eccodes = pytest.importorskip("eccodes")
    pytest.importorskip("cfgrib")
    with open(path, "wb") as file:
        for message in messages:
            handle = eccodes.codes_grib_new_from_samples(sample)
            for key, value in message.items():
                if key != "values":
                    eccodes.codes_set(handle, key, value)
            eccodes.codes_set_values(handle, np.ascontiguousarray(message["values"], dtype=float).ravel())
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)


def test_grib(tmp_path):
    shape = (31, 16)  # the sample's grid: 60N–0, 0–30E, 2°
    generator = np.random.default_rng(0)
    stored = {(n, lev): generator.normal(size=shape) for n in "uv" for lev in (850, 500)}
    keys = {"centre": "ecmf", "bitsPerValue": 24, "dataDate": 20260301, "dataTime": 600}
    messages = [
        {**keys, "shortName": n, "level": lev, "step": step, "values": stored[n, lev] * (1 + step)}
        for (n, lev) in stored
        for step in (0, 3)
    ]
    write_grib(tmp_path / "w.grib2", messages)
    got = open_fields(tmp_path / "w.grib2", ("u", "v"), level=500)
    for name in "uv":
        for index, factor in enumerate((1, 4)):
            np.testing.assert_allclose(got[name].values[index], stored[name, 500] * factor, atol=1e-5)
    assert got["time"].values.tolist() == [(START + h * HOUR).astype(int) for h in (6, 9)]
    assert got["run"].values.tolist() == [0, 0]
    np.testing.assert_array_equal(got["latitude"].values, np.arange(60.0, -1.0, -2.0))
    derived = open_fields(tmp_path / "w.grib2", level=850)
    want = open_fields(open_fields(tmp_path / "w.grib2", ("u", "v"), level=850).drop_vars("run"))
    np.testing.assert_array_equal(derived["vorticity"].values, want["vorticity"].values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.grib2"]  # no index beside the data


def test_grib_spherical_harmonics(tmp_path):
    pytest.importorskip("ducc0")
    lmax, generator = 63, np.random.default_rng(1)
    coefficients = {}
    for name in ("vo", "d"):
        pairs = generator.normal(size=(lmax + 1) * (lmax + 2)) * 1e-6
        pairs[1 : 2 * (lmax + 1) : 2] = 0
        coefficients[name] = pairs
    messages = [
        {"centre": "ecmf", "shortName": n, "level": lev, "bitsPerValue": 24, "values": c * (1 if lev == 120 else 2)}
        for lev in (120, 137)
        for n, c in coefficients.items()
    ]
    write_grib(tmp_path / "sh.grib", messages, "sh_ml_grib2")
    fields = open_fields(tmp_path / "sh.grib", level=120, grid=5.0)
    # test_spectral.py fixes the convention of to_grid.
    for ours, theirs in (("vorticity", "vo"), ("divergence", "d")):
        want = to_grid(coefficients[theirs][None], lmax, 37, 72)
        np.testing.assert_allclose(fields[ours].values, want, atol=1e-5 * np.abs(want).max())
    assert fields["latitude"].values[0] == 90
    with pytest.raises(DataError, match="T63 holds nothing finer"):
        open_fields(tmp_path / "sh.grib", level=120, grid=0.5)
    with pytest.raises(DataError, match="level: got None"):
        open_fields(tmp_path / "sh.grib")
