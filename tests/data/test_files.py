"""Files as people have them: archives, wrong names, folders, lists that overlap, preliminary data, groups."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.errors import DataError
from tests.data.test_reading import HOUR, START, assert_same, forecast, on_levels, winds, write_grib

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def write(data, path, **options):
    data.to_netcdf(path, engine="h5netcdf", **options)
    return path


# What a file is


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes); download it again"),
        (b"<!DOCTYPE html>\n<html><head><title>503", "is text that begins '<!DOCTYPE html>"),
        ('{"error": "Dépassé"}'.encode(), "is text that begins"),
        (gzip.compress(b"CDF\x01"), "is compressed with gzip; run gunzip"),
        (b"\x0e\x03\x13\x01" + bytes(60), "is HDF4"),
        (bytes(257) + b"ustar\x0000", "is a tar archive"),
        (b"\x00\x01\x02\x03" * 20, "begins with b'\\x00\\x01\\x02\\x03', expected netCDF, Zarr, GRIB"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive that cannot be unpacked"),
    ],
)
def test_what_is_no_data_is_said_in_a_sentence(tmp_path, one_sentence, content, words):
    (tmp_path / "era5.nc").write_bytes(content)
    write(winds(), tmp_path / "good.nc")
    for source in (tmp_path / "era5.nc", [tmp_path / "good.nc", tmp_path / "era5.nc"], tmp_path):
        with pytest.raises(DataError) as error:
            open_fields(source)
        one_sentence(error.value, "path_or_url", "era5.nc", words)


def test_the_content_counts_and_not_the_name(tmp_path):
    pytest.importorskip("scipy")
    data = winds()
    want = open_fields(data)
    for name in ("data", "data.grib", "data.zarr", "data.nc"):
        assert_same(open_fields(write(data, tmp_path / name)), want)
        data.to_netcdf(tmp_path / "classic", engine="scipy", format="NETCDF3_CLASSIC")
        (tmp_path / "classic").replace(tmp_path / name)
        assert_same(open_fields(tmp_path / name), want)


def test_an_engine_that_is_named_reads_what_it_can(tmp_path):
    pytest.importorskip("scipy")
    winds().to_netcdf(tmp_path / "classic.nc", engine="scipy", format="NETCDF3_CLASSIC")
    (tmp_path / "packed").write_bytes(gzip.compress((tmp_path / "classic.nc").read_bytes()))
    (tmp_path / "packed").replace(tmp_path / "classic.nc.gz")
    assert_same(open_fields(tmp_path / "classic.nc.gz", engine="scipy"), open_fields(winds()))


def test_a_url_that_answers_with_a_page(one_sentence):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for content, words in ((b"<html>no</html>", "is text that begins"), (b"GRIB" + bytes(99), "download it first")):
        memory.pipe("/atmoloss-page.nc", content)
        with pytest.raises(DataError) as error:
            open_fields("memory://atmoloss-page.nc")
        one_sentence(error.value, "atmoloss-page.nc", words)


def test_zip_archive_under_a_name_of_netcdf(tmp_path):
    data = winds(4)
    parts = [write(data[[name]], tmp_path / f"{name}.part") for name in data.data_vars]
    with zipfile.ZipFile(tmp_path / "download.nc", "w") as archive:
        for path in parts:  # as the CDS delivers: a file for each stream
            archive.write(path, f"data_{path.stem}.nc")
        archive.writestr("README.txt", "read me")
    assert_same(open_fields(tmp_path / "download.nc"), open_fields(data))


def test_groups(tmp_path, one_sentence):
    write(winds(), tmp_path / "g.nc", group="forecast/surface")
    with pytest.raises(DataError) as error:
        open_fields(tmp_path / "g.nc")
    one_sentence(error.value, "/forecast/surface", "group=")
    assert_same(open_fields(tmp_path / "g.nc", group="/forecast/surface"), open_fields(winds()))
    with pytest.raises(DataError, match="expected readable h5netcdf data"):
        open_fields(tmp_path / "g.nc", group="absent")
    with pytest.raises(DataError, match="group: got"):
        open_fields(winds(), group="a")


# GRIB


def messages(hours, names="uv", **more):
    """One message per hour and name, on the sample's grid; values tell the hour."""
    day = {"dataDate": 20260301, "level": 500, "centre": "ecmf", "bitsPerValue": 24, **more}
    rows = np.arange(31.0)[:, None] + np.arange(16.0)
    return [
        {**day, "shortName": n, "dataTime": 100 * h, "values": rows * (1 + h) + (n == "v")}
        for h in hours
        for n in names
    ]


def test_grib_named_netcdf_in_folders_and_lists(tmp_path):
    write_grib(tmp_path / "all.nc", messages((0, 6, 12)))
    want = open_fields(tmp_path / "all.nc", ("u", "v"))
    assert want["time"].values.tolist() == [(START + h * HOUR).astype(int) for h in (0, 6, 12)]
    folder = tmp_path / "days"
    folder.mkdir()
    for name, hours in (("b.grib2", (0,)), ("a.grib2", (6,)), ("c.anything", (6, 12))):
        write_grib(folder / name, messages(hours))
    (folder / "a.grib2.9093.idx").write_bytes(b"\x80index")
    (folder / "notes.txt").write_text("not data")
    for source in (folder, str(folder / "*.grib2"), [folder / "b.grib2", folder / "c.anything"]):
        got = open_fields(source, ("u", "v"))
        assert_same(got, want.isel(time=slice(0, 2)) if "*" in str(source) else want)


# Lists


def test_files_that_name_and_order_their_axes_differently(tmp_path):
    data = winds(6)
    want = open_fields(data)
    write(data.isel(time=slice(0, 2)), tmp_path / "a.nc")
    turned = data.isel(time=slice(2, 4), latitude=slice(None, None, -1)).rename(latitude="lat", longitude="lon")
    turned = turned.rename(time="valid_time", u10="10u", v10="10v")
    write(turned.assign_coords(expver=("valid_time", ["0001"] * 2), number=0), tmp_path / "b.nc")
    for number in (4, 5):  # without a dimension of time
        write(data.isel(time=number), tmp_path / f"c{number}.nc")
    assert_same(open_fields(tmp_path / "*.nc"), want)
    assert_same(open_fields(sorted(tmp_path.glob("*.nc"), reverse=True)), want)


def test_variables_in_files_of_their_own(tmp_path):
    data = winds(4)
    for name in data.data_vars:
        for half in (slice(0, 2), slice(2, 4)):
            write(data[[name]].isel(time=half), tmp_path / f"{name}_{half.start}.nc")
    assert_same(open_fields(tmp_path), open_fields(data))


def test_overlap_in_time(tmp_path, one_sentence):
    pytest.importorskip("zarr", minversion="3")
    data = winds(6)
    first = write(data.isel(time=slice(0, 4)), tmp_path / "a.nc")
    second = write(data.isel(time=slice(2, 6)), tmp_path / "b.nc")
    assert_same(open_fields([second, first]), open_fields(data))
    store = prepare([first, second], tmp_path / "store", PrepareOptions(time_chunk=2, shard_bytes=1), workers=0)
    np.testing.assert_array_equal(store.fields(["vorticity"])[:, 0], open_fields(data)["vorticity"].values)
    other = data.isel(time=slice(2, 6)).copy(deep=True)
    other["u10"][1, 3, 5] += 0.5
    second = write(other, tmp_path / "c.nc")
    for options in ({}, {"missing": "ignore"}):
        with pytest.raises(DataError) as error:
            open_fields([first, second], "u10", **options)
        one_sentence(error.value, "2026-03-01T18", "occurs more than once in 'u10', in", "a.nc and", "c.nc")
    open_fields([first, second], "v10")


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


def test_forecasts_in_files_of_their_own(tmp_path):
    data = forecast([0, 6], [0, 3, 6, 9])
    for run in (0, 1):
        for step in range(4):
            write(data.isel(init=run, step=step), tmp_path / f"{run}_{step}.nc")
    want, got = open_fields(data, "u10"), open_fields(tmp_path, "u10")
    assert_same(got, want)
    for fields in (want, got):
        hours = (fields["init_time"].values - START) / HOUR
        np.testing.assert_array_equal(hours, np.repeat([0, 6], 4))
        np.testing.assert_array_equal(fields["lead_time"].values / HOUR, np.tile([0, 3, 6, 9], 2))
    again = write(got, tmp_path / "again")
    assert open_fields(again, "u10").identical(open_fields(got, "u10"))
    np.testing.assert_array_equal(open_fields(again, "u10")["lead_time"].values, got["lead_time"].values)


# ERA5 and ERA5T


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


@pytest.mark.parametrize("names", [["0001"] * 3, [b"0001"] * 3, [1.0] * 3, ["hplm"] * 3, [1, 1, 5]])
def test_coordinate_expver_without_repeated_times(names):
    data = winds(3)
    assert_same(open_fields(data.assign_coords(expver=("time", names))), open_fields(data))
    assert_same(open_fields(data.assign_coords(expver=names[0])), open_fields(data))
    assert_same(open_fields(data.expand_dims(expver=names[:1])), open_fields(data))


def test_preliminary_files_give_way_to_final_ones(tmp_path):
    data = winds(5)
    final = data.isel(time=slice(0, 3)).assign_coords(expver=("time", ["0001"] * 3))
    preliminary = (data.isel(time=slice(1, 5)) + 3).assign_coords(expver=("time", ["0005"] * 4))
    for name in data.data_vars:
        preliminary[name].attrs = data[name].attrs
    got = open_fields([write(preliminary, tmp_path / "t.nc"), write(final, tmp_path / "f.nc")], "u10")["u10"].values
    np.testing.assert_array_equal(got[:3], data["u10"].values[:3])
    np.testing.assert_array_equal(got[3:], data["u10"].values[3:] + 3)


# Processes


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

    loader = DataLoader(Times(fields), batch_size=2, num_workers=1, multiprocessing_context=method, timeout=60)
    return np.concatenate([batch.numpy() for batch in loader])


@pytest.fixture(params=["list", "glob", "grib", "zip"])
def several(request, tmp_path):
    """A source of several files, and its fields."""
    if request.param == "grib":
        for hour in (0, 6, 12, 18):
            write_grib(tmp_path / f"{hour:02d}.grib2", messages((hour,)))
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
