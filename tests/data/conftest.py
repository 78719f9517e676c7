"""Winds, files, sources and stores that several tests of reading share."""

import numpy as np
import pytest

from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.data.sources import FieldSource
from tests.training.conftest import drifting_winds

xr = pytest.importorskip("xarray")

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2026-03-01T00", "ns")
RADIUS = 6.371e6
ROTATION = 1e-5  # s-1, of the solid-body winds below
LATITUDE, LONGITUDE = np.arange(60.0, 20.0, -4.0), np.arange(0.0, 48.0, 4.0)
CHANNELS = ("divergence", "vorticity")
SMALL = PrepareOptions(time_chunk=4, space_chunk=16, shard_bytes=2 * 4 * 4 * 40 * 48)  # 8 times a shard


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


def on_levels(values=(850.0, 500.0), units="hPa", name="level"):
    flat = winds(names=("u", "v"))
    scaled = [flat * (1 + i) for i in range(len(values))]
    for part in scaled:
        for variable in part.data_vars:
            part[variable].attrs = flat[variable].attrs
    data = xr.concat(scaled, xr.Variable(name, list(values)), join="outer")
    data[name].attrs = {"units": units}
    return data


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


def assert_same(got, want):
    for name in want.data_vars:
        # Sums over longitude depend on the block size in the last bit; the fields are of size 1e-5 s-1.
        np.testing.assert_allclose(got[name].values, want[name].values, rtol=0, atol=1e-11)
    for axis in ("time", "latitude", "longitude", "run"):
        np.testing.assert_array_equal(got[axis].values, want[axis].values)


def write(data, path, **options):
    data.to_netcdf(path, engine="h5netcdf", **options)
    return path


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


def grib_messages(hours, names="uv", **more):
    """One message per hour and name, on the sample's grid; values tell the hour."""
    day = {"dataDate": 20260301, "level": 500, "centre": "ecmf", "bitsPerValue": 24, **more}
    rows = np.arange(31.0)[:, None] + np.arange(16.0)
    return [
        {**day, "shortName": n, "dataTime": 100 * h, "values": rows * (1 + h) + (n == "v")}
        for h in hours
        for n in names
    ]


def field(value=1.0, units="m s-1", level=None, unit="hPa", dim="level", **attrs):
    """A field (time, [level,] lat, lon): value + number of the time, plus 100 for each further level."""
    data = np.broadcast_to(value + np.arange(2.0)[:, None, None], (2, 10, 12)).astype(np.float32)
    dims, coords = ("time", "lat", "lon"), {"time": START + np.arange(2) * np.timedelta64(6, "h")}
    if level is not None:
        data = data[:, None] + 100 * np.arange(len(level), dtype=np.float32)[:, None, None]
        dims = ("time", dim, "lat", "lon")
        coords[dim] = (dim, list(level), {"units": unit} if unit else {})
    coords |= {"lat": LATITUDE, "lon": LONGITUDE}
    return xr.DataArray(data, coords, dims, attrs={"units": units, **attrs} if units else attrs)


def on_axes(north, east, names=("lat", "lon"), attrs=({}, {})):
    times = START + np.arange(2) * np.timedelta64(6, "h")
    shape = (2, len(north), len(east))
    coords = {"time": times, names[0]: (names[0], north, attrs[0]), names[1]: (names[1], east, attrs[1])}
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return xr.Dataset({"cloud": (("time", *names), values)}, coords)


def make_source(hours, *, name="a", run=None, shape=(40, 60), spacing=1.0, west=0.0, weight=1.0, start="2026-01-01"):
    """A source whose values tell time, row and column: 1e5·time + 1e3·row + column, negative for channel 1."""
    hours = np.asarray(hours)
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    field = 1e5 * np.arange(len(hours))[:, None, None] + 1e3 * rows + columns
    return FieldSource(
        name=name,
        channels=CHANNELS,
        values=np.stack([field, -field], 1).astype(np.float64),
        times=np.datetime64(start, "ns") + hours * np.timedelta64(1, "h"),
        run=np.zeros(len(hours), int) if run is None else np.asarray(run),
        latitude=60.0 - spacing * np.arange(shape[0]),
        longitude=west + spacing * np.arange(shape[1]),
        weight=weight,
    )


def random_winds(n_times=44, step=3, globe=False):
    rng = np.random.default_rng(0)
    latitude = 58.0 - np.arange(40) if not globe else 78.0 - 4 * np.arange(40)
    longitude = 10.0 + np.arange(48) if not globe else 7.5 * np.arange(48)
    shape = (n_times, 40, 48)
    fields = {
        name: (("time", "latitude", "longitude"), rng.normal(3, 8, shape).astype(np.float32), {"units": "m s-1"})
        for name in ("u10", "v10")
    }
    coords = {"time": np.datetime64("2026-01-01T00", "ns") + step * np.timedelta64(1, "h") * np.arange(n_times)}
    return xr.Dataset(fields, {**coords, "latitude": latitude, "longitude": longitude})


@pytest.fixture(scope="session")
def holes(tmp_path_factory):
    """Winds, and the same with a corner that is missing at all times."""
    path = tmp_path_factory.mktemp("missing")
    data = drifting_winds()
    data.to_netcdf(path / "whole.nc", engine="h5netcdf")
    data["u10"][:, 30:, 40:] = np.nan
    data.to_netcdf(path / "holes.nc", engine="h5netcdf")
    return path


@pytest.fixture(scope="session")
def winds_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "winds.nc"
    return write(random_winds(), path)


@pytest.fixture(scope="session")
def prepared(winds_file, tmp_path_factory):
    return prepare(winds_file, tmp_path_factory.mktemp("made") / "store", SMALL, workers=0)


# ARCO-ERA5 and WeatherBench 2, small. Names, axes, order, chunks and time encoding are those of the stores themselves:
# gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3 (Zarr format 2 whatever its name says; hours
# since 1900, chunks of one time with all levels, empty before ``valid_time_start``), and
# gs://weatherbench2/datasets/era5/1959-2023_01_10-6h-240x121_equiangular_with_poles_conservative.zarr
# (longitude before latitude, latitude ascending, 13 levels, chunks of many times).
ARCO_LEVELS = [
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700,
    750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000,
]  # fmt: skip
WB2_LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
LONG = {"u": "u_component_of_wind", "v": "v_component_of_wind"}
_CF = {"u": "eastward_wind", "v": "northward_wind"}


def zonal(latitude, factor):
    """Solid-body rotation, u = Ω R cos φ · factor, whose vorticity is 2 Ω sin φ · factor."""
    return ROTATION * RADIUS * np.cos(np.deg2rad(latitude)) * factor


def public_store(levels, times, latitude, longitude, order, first_valid=0):
    sizes = {"time": times.size, "level": len(levels), "latitude": latitude.size, "longitude": longitude.size}
    hour, lev = np.arange(times.size), np.asarray(levels)
    parts = {
        "time": xr.DataArray(1.0 + hour, dims="time"),
        "level": xr.DataArray(lev / 1000, dims="level"),
        "latitude": xr.DataArray(zonal(latitude.astype(np.float64), 1.0), dims="latitude"),
        "longitude": xr.DataArray(np.ones(longitude.size), dims="longitude"),
    }
    upper = parts["time"] * parts["level"] * parts["latitude"] * parts["longitude"]
    upper = upper.where(xr.DataArray(hour >= first_valid, dims="time"))
    out = {}
    for c, scale in (("u", 1.0), ("v", 0.0)):
        attrs = {"units": "m s**-1", "short_name": c}
        out[LONG[c]] = (
            (scale * upper)
            .transpose(*[d for d in order if d in sizes])
            .assign_attrs({**attrs, "long_name": f"{c.upper()} component of wind", "standard_name": _CF[c]})
        )
        for height in (10, 100):
            near = (scale * upper.isel(level=-1) * height / 1000).transpose(*[d for d in order if d != "level"])
            out[f"{height}m_{LONG[c]}"] = near.assign_attrs(
                {
                    "units": "m s**-1",
                    "short_name": f"{c}{height}",
                    "long_name": f"{height} metre {c.upper()} wind component",
                }
            )
    out["2m_temperature"] = out["10m_u_component_of_wind"].assign_attrs(units="K", short_name="t2m")
    coords = {"time": times, "level": np.asarray(levels), "latitude": latitude, "longitude": longitude}
    return xr.Dataset({k: v.astype(np.float32) for k, v in out.items()}, coords)


def save_v2(data, target, chunks, units):
    encoding = {
        name: {"chunks": tuple(chunks.get(d, n) for d, n in zip(v.dims, v.shape, strict=True))}
        for name, v in data.data_vars.items()
    }
    encoding["time"] = {"units": units, "calendar": "proleptic_gregorian", "dtype": "int64"}
    v2 = {} if pytest.importorskip("zarr").__version__.startswith("2.") else {"zarr_format": 2}
    data.to_zarr(target, **v2, consolidated=True, encoding=encoding, mode="w")


@pytest.fixture(scope="session")
def arco():
    """48 hours, of which the first 12 are empty."""
    times = np.datetime64("1939-12-31T12", "ns") + np.arange(48) * np.timedelta64(1, "h")
    latitude = np.linspace(90, -90, 25, dtype=np.float32)
    longitude = np.arange(0, 360, 7.5, dtype=np.float32)
    data = public_store(
        ARCO_LEVELS, times, latitude, longitude, ("time", "level", "latitude", "longitude"), first_valid=12
    )
    data.attrs = {"valid_time_start": "1940-01-01", "valid_time_stop": "1940-01-02"}
    data["latitude"].attrs = {"long_name": "latitude", "units": "degrees_north"}
    data["longitude"].attrs = {"long_name": "longitude", "units": "degrees_east"}
    return data


@pytest.fixture(scope="session")
def wb2():
    times = np.datetime64("1959-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    latitude = np.linspace(-90, 90, 25)
    longitude = np.arange(0, 360, 7.5)
    return public_store(WB2_LEVELS, times, latitude, longitude, ("time", "level", "longitude", "latitude"))


@pytest.fixture(scope="session")
def folders(arco, wb2, tmp_path_factory):
    root = tmp_path_factory.mktemp("bucket")
    save_v2(arco, root / "arco.zarr-v3", {"time": 1}, "hours since 1900-01-01")
    save_v2(wb2, root / "wb2.zarr", {"time": 16}, "hours since 1959-01-01")
    return root


def assert_solid_body(fields, time_factor, scale):
    """Rows from north to south, vorticity of a solid-body rotation of either sign by hemisphere."""
    latitude = fields["latitude"].values
    assert latitude[0] == 90
    assert (np.diff(latitude) < 0).all()
    want = 2 * ROTATION * np.sin(np.deg2rad(latitude))[None] * scale * np.asarray(time_factor)[:, None]
    got = fields["vorticity"].values
    # Fourth-order differences at 7.5°: 0.1 % inside; the rows at the poles are the subject of tests of winds.
    np.testing.assert_allclose(got.mean(-1)[:, 3:-3], want[:, 3:-3], rtol=3e-3, atol=3e-3 * np.abs(want).max())
    np.testing.assert_allclose(fields["divergence"].values[:, 3:-3], 0, atol=1e-9 * np.abs(want).max() / ROTATION)
