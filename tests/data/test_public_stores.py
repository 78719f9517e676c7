"""ARCO-ERA5 and WeatherBench 2 as they are laid out, small: names, axes, order, chunks, time encoding, URLs.

Copied from the stores themselves, as their users print them: ARCO-ERA5
``gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3`` (Zarr format 2 whatever its name says;
hours since 1900, chunks of one time with all levels, empty before ``valid_time_start``), WeatherBench 2
``gs://weatherbench2/datasets/era5/1959-2023_01_10-6h-240x121_equiangular_with_poles_conservative.zarr``
(longitude before latitude, latitude ascending, 13 levels, chunks of many times).
"""

import functools
import http.server
import threading

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.errors import DataError

xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr")
pytest.importorskip("dask")

ARCO_LEVELS = [
    1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450, 500, 550, 600, 650, 700,
    750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000,
]  # fmt: skip
WB2_LEVELS = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
LONG = {"u": "u_component_of_wind", "v": "v_component_of_wind"}
RADIUS, ROTATION = 6.371e6, 1e-5


def zonal(latitude, factor):
    """Solid-body rotation, u = Ω R cos φ · factor, whose vorticity is 2 Ω sin φ · factor."""
    return ROTATION * RADIUS * np.cos(np.deg2rad(latitude)) * factor


def dataset(levels, times, latitude, longitude, order, first_valid=0):
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


_CF = {"u": "eastward_wind", "v": "northward_wind"}


def save(data, target, chunks, units):
    encoding = {
        name: {"chunks": tuple(chunks.get(d, n) for d, n in zip(v.dims, v.shape, strict=True))}
        for name, v in data.data_vars.items()
    }
    encoding["time"] = {"units": units, "calendar": "proleptic_gregorian", "dtype": "int64"}
    v2 = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
    data.to_zarr(target, **v2, consolidated=True, encoding=encoding, mode="w")


@pytest.fixture(scope="module")
def arco():
    """48 hours, of which the first 12 are empty."""
    times = np.datetime64("1939-12-31T12", "ns") + np.arange(48) * np.timedelta64(1, "h")
    latitude = np.linspace(90, -90, 25, dtype=np.float32)
    longitude = np.arange(0, 360, 7.5, dtype=np.float32)
    data = dataset(ARCO_LEVELS, times, latitude, longitude, ("time", "level", "latitude", "longitude"), first_valid=12)
    data.attrs = {"valid_time_start": "1940-01-01", "valid_time_stop": "1940-01-02"}
    data["latitude"].attrs = {"long_name": "latitude", "units": "degrees_north"}
    data["longitude"].attrs = {"long_name": "longitude", "units": "degrees_east"}
    return data


@pytest.fixture(scope="module")
def wb2():
    times = np.datetime64("1959-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    latitude = np.linspace(-90, 90, 25)
    longitude = np.arange(0, 360, 7.5)
    return dataset(WB2_LEVELS, times, latitude, longitude, ("time", "level", "longitude", "latitude"))


@pytest.fixture(scope="module")
def folders(arco, wb2, tmp_path_factory):
    root = tmp_path_factory.mktemp("bucket")
    save(arco, root / "arco.zarr-v3", {"time": 1}, "hours since 1900-01-01")
    save(wb2, root / "wb2.zarr", {"time": 16}, "hours since 1959-01-01")
    return root


def check(fields, time_factor, scale):
    """Rows from north to south, vorticity of a solid-body rotation of either sign by hemisphere."""
    latitude = fields["latitude"].values
    assert latitude[0] == 90
    assert (np.diff(latitude) < 0).all()
    want = 2 * ROTATION * np.sin(np.deg2rad(latitude))[None] * scale * np.asarray(time_factor)[:, None]
    got = fields["vorticity"].values
    # Fourth-order differences at 7.5°: 0.1 % inside; the rows at the poles are the subject of tests of winds.
    np.testing.assert_allclose(got.mean(-1)[:, 3:-3], want[:, 3:-3], rtol=3e-3, atol=3e-3 * np.abs(want).max())
    np.testing.assert_allclose(fields["divergence"].values[:, 3:-3], 0, atol=1e-9 * np.abs(want).max() / ROTATION)


@pytest.fixture(scope="module")
def served(folders):
    """The same folders over HTTP."""
    pytest.importorskip("aiohttp")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folders))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_weatherbench(folders):
    check(open_fields(f"file://{folders}/wb2.zarr", level=850), 1 + np.arange(40), 0.85)
    u = open_fields(folders / "wb2.zarr", "u10")["u10"]
    np.testing.assert_allclose(u.values[2, 12], zonal(0.0, 3 * 0.01), rtol=1e-6)


def test_weatherbench_prepared(folders, tmp_path):
    pytest.importorskip("zarr", minversion="3")
    options = PrepareOptions(level=500.0, dates=("1959-01-02/1959-01-05",), every=12, time_chunk=2, shard_bytes=1)
    made = prepare(f"file://{folders}/wb2.zarr", tmp_path / "store", options, workers=0)
    assert len(made.times) == 8
    assert made.times[0] == np.datetime64("1959-01-02")
    check(open_fields(made.path, level=500), 1 + np.arange(4, 20, 2), 0.5)


def test_arco_needs_dates_that_are_filled(folders, tmp_path, one_sentence):
    pytest.importorskip("zarr", minversion="3")
    with pytest.raises(DataError, match="are missing") as error:
        prepare(folders / "arco.zarr-v3", tmp_path / "store", PrepareOptions(level=850.0), workers=0)
    one_sentence(error.value, "u_component_of_wind", "expected none")


def test_arco_single_level_prepared(folders, tmp_path):
    pytest.importorskip("zarr", minversion="3")
    options = PrepareOptions(winds=("u10", "v10"), dates=("1940-01-01/1940-01-01",), every=6, time_chunk=2)
    made = prepare(folders / "arco.zarr-v3", tmp_path / "store", options, workers=0)
    assert len(made.times) == 4
    check(open_fields(made.path), 1 + np.arange(12, 36, 6), 0.01)


@pytest.mark.parametrize("kind", ["http", "memory"])
def test_arco_by_url(arco, folders, kind, tmp_path, request):
    pytest.importorskip("zarr", minversion="3")
    if kind == "http":
        url = request.getfixturevalue("served") + "/arco.zarr-v3"
    else:
        url = "memory://atmoloss-test-arco.zarr-v3"
        save(arco, url, {"time": 1}, "hours since 1900-01-01")
    options = PrepareOptions(level=850.0, dates=("1940-01-01/1940-01-01",), every=6, time_chunk=2)
    made = prepare(url, tmp_path / "store", options, workers=0)
    check(open_fields(made.path, level=850), 1 + np.arange(12, 36, 6), 0.85)


def test_only_chosen_times_and_one_level_are_read(folders, monkeypatch, tmp_path):
    pytest.importorskip("zarr", minversion="3")
    # A chunk of the real store is 154 MB: one that is read in vain costs seconds.
    from zarr.storage import LocalStore

    keys, get = [], LocalStore.get

    async def spy(self, key, *args, **kwargs):
        keys.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", spy)
    options = PrepareOptions(level=850.0, dates=("1940-01-01/1940-01-01",), every=12, time_chunk=2)
    prepare(folders / "arco.zarr-v3", tmp_path / "store", options, workers=0)
    chunks = [k for k in keys if k.rsplit("/", 1)[-1].count(".") == 3]
    assert set(chunks) == {f"{LONG[c]}/{t}.0.0.0" for c in "uv" for t in (12, 24)}
    assert len(chunks) == 6  # the plan looks at the first time
