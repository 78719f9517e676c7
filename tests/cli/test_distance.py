"""``atmoloss distance``: tables, files, pictures, and what it refuses."""

import csv

import numpy as np
import pytest
import torch

from atmoloss import atmodist_distance, atmodist_hours, distance_matrix
from atmoloss.data import open_fields
from atmoloss.data.sample import SAMPLE_PATH
from tests.cli.conftest import TIMES, rows, write

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
PNG = b"\x89PNG"


def tensor(path):
    return torch.from_numpy(open_fields(path).to_array().values).transpose(0, 1)


def test_pairs_are_those_of_atmodist_distance(run, folder, a, b):
    code, out, err = run("distance", a, b)
    assert (code, err) == (0, "")
    assert out.startswith("# AtmoDist distance")
    assert "weights tiny@" in out
    header, *table = rows(out)
    assert header == ["time", "distance"]
    assert [row[0] for row in table] == [str(t)[:16] for t in TIMES]
    expected = atmodist_distance(tensor(a), tensor(b), weights=folder)
    np.testing.assert_allclose([float(row[1]) for row in table], expected, rtol=1e-4)


def test_layers_and_scale_reach_the_distance(run, folder, a, b):
    _, out, _ = run("distance", a, b, "--layers", "stage1, stage3", "--scale", "none")
    expected = atmodist_distance(tensor(a), tensor(b), weights=folder, layers=["stage1", "stage3"], scale="none")
    np.testing.assert_allclose([float(row[1]) for row in rows(out)[1:]], expected, rtol=1e-4)
    _, out, _ = run("distance", a, b, "--layers", "stage1,stage3", "--scale", "2")
    np.testing.assert_allclose([float(row[1]) for row in rows(out)[1:]], 2 * expected, rtol=1e-4)


def test_one_time_each_is_compared_whatever_the_time(run, tmp_path):
    files = [write(tmp_path / f"{i}.nc", TIMES[i : i + 1], seed=i) for i in (0, 3)]
    code, out, _ = run("distance", *files, "--plot", tmp_path / "map.png")
    assert code == 0
    assert "2026-05-01T00:00" in out
    assert "2026-05-01T18:00" in out
    assert (tmp_path / "map.png").read_bytes().startswith(PNG)


def test_the_matrix_is_distance_matrix(run, folder, tmp_path, a, b):
    file = tmp_path / "matrix.csv"
    code, out, _ = run("distance", a, b, "--matrix", "--csv", file, "--plot", tmp_path / "matrix.png")
    assert code == 0
    assert f"wrote {file}" in out
    assert (tmp_path / "matrix.png").read_bytes().startswith(PNG)
    header, *table = csv.reader(file.open(encoding="utf-8"))
    assert header == ["time", *(str(t)[:16] for t in TIMES)]
    expected = distance_matrix(tensor(a), tensor(b), weights=folder)
    np.testing.assert_allclose(np.array([row[1:] for row in table], float), expected, rtol=1e-4)

    _, out, _ = run("distance", a, "--matrix")
    table = rows(out)[1:]
    expected = distance_matrix(tensor(a), weights=folder)
    np.testing.assert_allclose(np.array([row[1:] for row in table], float), expected, rtol=1e-4)


def test_a_series_is_drawn_and_tabulated(run, tmp_path, a, b):
    code, out, _ = run("distance", a, b, "--plot", tmp_path / "series.png", "--csv", tmp_path / "series.csv")
    assert code == 0
    assert (tmp_path / "series.png").read_bytes().startswith(PNG)
    assert (tmp_path / "series.csv").read_text().startswith("time,distance\n2026-05-01T00:00,")
    assert out.splitlines()[-2:] == [f"# wrote {tmp_path / 'series.csv'}", f"# wrote {tmp_path / 'series.png'}"]


def test_where_a_global_grid_starts_does_not_matter(run, tmp_path):
    latitude = np.arange(87.5, -90.0, -5.0)
    first = write(tmp_path / "first.nc", latitude=latitude, longitude=np.arange(0.0, 360.0, 5.0))
    with xarray.open_dataset(first) as data:
        turned = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude").load()
    turned.to_netcdf(tmp_path / "turned.nc", engine="h5netcdf")
    code, out, err = run("distance", first, tmp_path / "turned.nc")
    assert (code, err) == (0, "")
    assert max(float(row[1]) for row in rows(out)[1:]) < 1e-6


def test_other_grids_are_an_error(fails, tmp_path, a):
    moved = write(tmp_path / "moved.nc", longitude=np.arange(-29.0, 19.0))
    smaller = write(tmp_path / "smaller.nc", latitude=np.arange(60.0, 21.0, -1.0))
    for other in (moved, smaller):
        message = fails("distance", a, other)
        assert "expected one grid" in message
        assert "40x48 points (60 to 21°N, -30 to 17°E)" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--layers", "stage9"], "stage9"),
        (["--plot", "nowhere/at/all.png"], "--plot"),
        (["--csv", "nowhere/at/all.csv"], "--csv"),
        (["--weights", "no-such-weights"], "no-such-weights"),
    ],
)
def test_bad_options_of_distance(fails, a, b, options, words):
    assert words in fails("distance", a, b, *options)


@pytest.mark.parametrize("name", ["picture.xyz", "picture"])
def test_a_picture_of_an_unknown_type(fails, tmp_path, a, b, name):
    assert ".png" in fails("distance", a, b, "--plot", tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_group_is_read_from_both_files(run, fails, tmp_path, a, b):
    for path in (a, b):
        with xarray.open_dataset(path) as data:
            data.load().to_netcdf(tmp_path / f"grouped_{path.name}", group="surface/winds", engine="h5netcdf")
    files = [tmp_path / f"grouped_{path.name}" for path in (a, b)]
    assert "/surface/winds; pass group= with one of them (a command: --group)" in fails("distance", *files)
    assert run("distance", *files, "--group", "/surface/winds") == run("distance", a, b)


def test_hours_are_those_of_the_curve_for_the_grid_and_level(run, tmp_path):
    week = xarray.open_dataset(SAMPLE_PATH, engine="h5netcdf")
    first, second = tmp_path / "first.nc", tmp_path / "second.nc"
    week.isel(time=[0]).to_netcdf(first, engine="h5netcdf")
    week.isel(time=[2]).to_netcdf(second, engine="h5netcdf")
    code, out, _ = run("distance", first, second, "--hours", "--weights", "winds")
    assert code == 0
    assert out.startswith("# Hours between two analyses that differ as much; weights winds@")
    header, row = rows(out)
    assert header[-3:] == ["hours", "low", "high"]
    states = [torch.from_numpy(open_fields(p, ("u", "v")).to_array().values).transpose(0, 1) for p in (first, second)]
    expected = atmodist_hours(*states, grid_spacing=1.0, level="10 m", weights="winds", uncertainty=True)
    np.testing.assert_allclose([float(x) for x in row[-3:]], [float(x) for x in expected[:3]], rtol=1e-3)
    derived = run("distance", first, second, "--hours", "--weights", "default", "--hours-level", "10m")
    assert derived[0] == 0
    assert 3 <= float(rows(derived[1])[1][-3]) <= 24
    assert 6 <= expected.low.item() <= 12 <= expected.high.item()  # they are 12 h apart


def test_hours_belong_to_the_plain_distance_and_to_grids_with_a_curve(run, a, b):
    with pytest.raises(SystemExit, match="2"):
        run("distance", a, b, "--hours", "--scale", "none")
    code, _, err = run("distance", a, b, "--hours")
    assert code == 1
    assert "expected one of those that tiny@" in err
