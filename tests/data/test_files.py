"""What a path stands for: archives, wrong names, folders, lists that overlap, and what is no data."""

import gzip
import shutil
import zipfile

import pytest

from atmoloss.data import open_fields
from atmoloss.errors import DataError
from tests.data.conftest import HOUR, START, assert_same, grib_messages, winds, write, write_grib

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes); download it again"),
        (b"<!DOCTYPE html>\n<html><head><title>503", "is text that begins '<!DOCTYPE html>"),
        ('{"error": "Dépassé"}'.encode(), "is text that begins"),
        (gzip.compress(b"CDF\x01"), "is gzip; unpack or convert it first"),
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


def test_zip_archive_under_a_name_of_netcdf(tmp_path):
    data = winds(4)
    parts = [write(data[[name]], tmp_path / f"{name}.part") for name in data.data_vars]
    with zipfile.ZipFile(tmp_path / "download.nc", "w") as archive:
        for path in parts:  # as the CDS delivers: a file for each stream
            archive.write(path, f"data_{path.stem}.nc")
        archive.writestr("README.txt", "read me")
    assert_same(open_fields(tmp_path / "download.nc"), open_fields(data))


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
def test_zip_archive_of_a_folder_in_a_folder(tmp_path, kind):
    inside = tmp_path / "deliveries" / "2026" / "winds"
    inside.parent.mkdir(parents=True)
    if kind == "zarr":
        pytest.importorskip("zarr")
        winds().to_zarr(inside, consolidated=False)
    else:
        write(winds(), inside)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path, "deliveries")
    assert_same(open_fields(archive), open_fields(winds()))


def test_grib_named_netcdf_in_folders_and_lists(tmp_path):
    write_grib(tmp_path / "all.nc", grib_messages((0, 6, 12)))
    want = open_fields(tmp_path / "all.nc", ("u", "v"))
    assert want["time"].values.tolist() == [(START + h * HOUR).astype(int) for h in (0, 6, 12)]
    folder = tmp_path / "days"
    folder.mkdir()
    for name, hours in (("b.grib2", (0,)), ("a.grib2", (6,)), ("c.anything", (6, 12))):
        write_grib(folder / name, grib_messages(hours))
    (folder / "a.grib2.9093.idx").write_bytes(b"\x80index")
    (folder / "notes.txt").write_text("not data")
    for source in (folder, str(folder / "*.grib2"), [folder / "b.grib2", folder / "c.anything"]):
        got = open_fields(source, ("u", "v"))
        assert_same(got, want.isel(time=slice(0, 2)) if "*" in str(source) else want)
