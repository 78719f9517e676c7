"""Formats and libraries: netCDF, Zarr and GRIB give the same fields; what cannot be opened is said; files stay open."""

import pickle
import sys
import zipfile

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.errors import DataError, MissingDependencyError
from tests.data.conftest import HOUR, START, assert_same, grib_messages, winds, write, write_grib

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


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


def test_sources_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"path_or_url: got .*absent.nc.*exists"):
        open_fields(tmp_path / "absent.nc")
    with pytest.raises(DataError, match="path_or_url: got ndarray"):
        open_fields(np.zeros(3))
    with pytest.raises(DataError, match="path_or_url"):
        open_fields([])
    (tmp_path / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match="expected readable netcdf4 data"):
        open_fields(tmp_path / "broken.nc")


def test_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r"atmoloss\[data\]"):
        open_fields("file.nc")


def test_a_url_that_answers_with_a_page(one_sentence):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for content, words in ((b"<html>no</html>", "is text that begins"), (b"GRIB" + bytes(99), "download it first")):
        memory.pipe("/atmoloss-page.nc", content)
        with pytest.raises(DataError) as error:
            open_fields("memory://atmoloss-page.nc")
        one_sentence(error.value, "atmoloss-page.nc", words)


def test_groups(tmp_path, one_sentence):
    write(winds(), tmp_path / "g.nc", group="forecast/surface")
    with pytest.raises(DataError) as error:
        open_fields(tmp_path / "g.nc")
    one_sentence(error.value, "/forecast/surface", "group=")
    assert_same(open_fields(tmp_path / "g.nc", group="/forecast/surface"), open_fields(winds()))
    with pytest.raises(DataError, match="expected readable netcdf4 data"):
        open_fields(tmp_path / "g.nc", group="absent")
    with pytest.raises(DataError, match="group: got"):
        open_fields(winds(), group="a")


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


class Times:
    """A map-style dataset as people write it."""

    def __init__(self, fields):
        self.fields = fields

    def __len__(self):
        return self.fields.sizes["time"]

    def __getitem__(self, index):
        return np.stack([f.isel(time=index).values for f in self.fields.data_vars.values()])


def load(fields, method):
    from torch.utils.data import DataLoader

    loader = DataLoader(Times(fields), batch_size=2, num_workers=1, multiprocessing_context=method)
    return np.concatenate([batch.numpy() for batch in loader])


@pytest.fixture(params=["list", "glob", "grib", "zip"])
def several(request, tmp_path):
    """A source of several files, and its fields."""
    if request.param == "grib":
        for hour in (0, 6, 12, 18):
            write_grib(tmp_path / f"{hour:02d}.grib2", grib_messages((hour,)))
        return tmp_path, ("u", "v")
    paths = [write(winds(4).isel(time=slice(i, i + 2)), tmp_path / f"{i}.nc") for i in (0, 2)]
    if request.param == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
        return tmp_path / "all.zip", ("u10", "v10")
    return (paths if request.param == "list" else str(tmp_path / "*.nc")), ("u10", "v10")


@pytest.mark.parametrize("lazy", [False, True])
def test_pickles(several, lazy, monkeypatch):
    source, names = several
    want = open_fields(source, names).load()
    if lazy:
        monkeypatch.setattr("atmoloss.data.series._EAGER_BYTES", 100)
    fields = open_fields(source, names, missing="ignore")
    assert (fields["time"].size, fields[names[0]].chunks is not None) == (4, lazy)
    copy = pickle.loads(pickle.dumps(fields))
    fields.close()
    assert_same(copy, want)
    copy.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader(tmp_path, monkeypatch, method):
    data = winds(4)
    paths = [write(data.isel(time=slice(i, i + 2)), tmp_path / f"{i}.nc") for i in (0, 2)]
    want = np.stack([data[name].values for name in data.data_vars], 1)
    monkeypatch.setattr("atmoloss.data.series._EAGER_BYTES", 100)
    fields = open_fields(paths, ("u10", "v10"))
    assert fields["u10"].chunks is not None
    fields["u10"].values  # noqa: B018  (starts dask's threads, of which a forked process has none)
    np.testing.assert_array_equal(load(fields, method), want)
