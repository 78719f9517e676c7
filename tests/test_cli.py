"""The command: verbs, tables, pictures, exit codes and one-line errors."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import atmoloss
from atmoloss import atmodist_distance, distance_matrix
from atmoloss.cli import main
from atmoloss.data import open_fields

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

TIMES = np.datetime64("2026-05-01T00", "ns") + np.arange(4) * np.timedelta64(6, "h")


def write(path, times=TIMES, latitude=None, longitude=None, seed=0):
    """Write smooth random winds, which depend on time and place through the seed alone."""
    latitude = np.arange(60.0, 20.0, -1.0) if latitude is None else latitude
    longitude = np.arange(-30.0, 18.0) if longitude is None else longitude
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (2, len(times), 3, 1, 1))
    waves = np.deg2rad(longitude) * np.arange(2, 5)[:, None, None] * 2 + np.deg2rad(latitude)[:, None] * 5
    winds = 8 * np.sin(waves + phase).sum(2)
    dims = ("time", "latitude", "longitude")
    coords = {"time": times, "latitude": latitude, "longitude": longitude}
    data = xarray.Dataset({n: (dims, w, {"units": "m s-1"}) for n, w in zip("uv", winds, strict=True)}, coords)
    data.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def a(tmp_path):
    return write(tmp_path / "a.nc")


@pytest.fixture
def b(tmp_path):
    return write(tmp_path / "b.nc", seed=1)


@pytest.fixture
def run(capsys, folder):
    """Run the command with the tiny weights; returns exit code, standard output and standard error."""

    def call(*arguments):
        arguments = [str(x) for x in arguments]
        if arguments[0] == "distance" and "--weights" not in arguments:
            arguments += ["--weights", str(folder)]
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def fails(run):
    """Run the command, which must fail with one line; returns the line."""

    def call(*arguments, code=1):
        found, out, err = run(*arguments)
        assert found == code
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("atmoloss: error: ")
        return err

    return call


def tensor(path):
    return torch.from_numpy(open_fields(path).to_array().values).transpose(0, 1)


def rows(text):
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


# Usage


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"atmoloss {atmoloss.__version__}\n"
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    for verb in ("train", "evaluate", "convert-keras", "distance", "info"):
        assert f"\n    {verb}" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("verb", ["train", "evaluate", "convert-keras", "distance", "info"])
def test_help_of_each_verb(capsys, verb):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert text.startswith(f"usage: atmoloss {verb}")
    assert "options:" in text


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["info"], ["distance", "only-one.nc"], ["info", "x", "--no"]])
def test_wrong_usage_is_2(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: atmoloss" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "module", "arguments"),
    [
        ("train", "atmoloss.training.main", ["config.toml", "--set", "steps=3"]),
        ("evaluate", "atmoloss.lag_2afc.evaluate", ["weights", "a.nc", "b.nc"]),
    ],
)
def test_training_verbs_reach_the_training_package(monkeypatch, verb, module, arguments):
    seen = []
    monkeypatch.setattr(f"{module}.run", lambda namespace: seen.append(namespace) or 7)
    assert main([verb, *arguments]) == 7
    (namespace,) = seen
    assert namespace.config == "config.toml" if verb == "train" else namespace.data == ["a.nc", "b.nc"]


# distance


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


def test_only_common_times_are_paired(run, folder, tmp_path, a):
    later = write(tmp_path / "later.nc", TIMES + np.timedelta64(12, "h"), seed=2)
    _, out, _ = run("distance", a, later)
    assert [row[0] for row in rows(out)[1:]] == [str(t)[:16] for t in TIMES[2:]]
    expected = atmodist_distance(tensor(a)[2:], tensor(later)[:2], weights=folder)
    np.testing.assert_allclose([float(row[1]) for row in rows(out)[1:]], expected, rtol=1e-4)


def test_no_common_time_is_an_error_that_says_so(fails, tmp_path, a):
    other = write(tmp_path / "other.nc", TIMES + np.timedelta64(3, "h"))
    message = fails("distance", a, other)
    assert "no time in common" in message
    assert "--matrix" in message


def test_one_time_each_is_compared_whatever_the_time(run, tmp_path):
    files = [write(tmp_path / f"{i}.nc", TIMES[i : i + 1], seed=i) for i in (0, 3)]
    code, out, _ = run("distance", *files, "--plot", tmp_path / "map.png")
    assert code == 0
    assert "2026-05-01T00:00" in out
    assert "2026-05-01T18:00" in out
    assert is_png(tmp_path / "map.png")


def test_the_matrix_is_distance_matrix(run, folder, tmp_path, a, b):
    file = tmp_path / "matrix.csv"
    code, out, _ = run("distance", a, b, "--matrix", "--csv", file, "--plot", tmp_path / "matrix.png")
    assert code == 0
    assert f"wrote {file}" in out
    assert is_png(tmp_path / "matrix.png")
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
    assert is_png(tmp_path / "series.png")
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
        (["--scale", "large"], "--scale"),
        (["--plot", "nowhere/at/all.png"], "--plot"),
        (["--csv", "nowhere/at/all.csv"], "--csv"),
        (["--weights", "no-such-weights"], "no-such-weights"),
    ],
)
def test_bad_options_of_distance(fails, a, b, options, words):
    assert words in fails("distance", a, b, *options)


def test_a_picture_of_an_unknown_type(run, tmp_path, a, b):
    code, _, err = run("distance", a, b, "--plot", tmp_path / "picture.xyz")
    assert code == 1
    assert err.startswith("atmoloss: error: --plot")


# Errors


def test_a_missing_file_is_one_line(fails, a, tmp_path):
    assert "missing.nc" in fails("distance", a, tmp_path / "missing.nc")


@pytest.mark.parametrize("how", ["before", "after", "environment"])
def test_debug_shows_the_traceback(run, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("ATMOLOSS_DEBUG", "1")
    arguments = {"before": ["--debug", "info", "none"], "after": ["info", "none", "--debug"]}
    code, _, err = run(*arguments.get(how, ["info", "none"]))
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("atmoloss: error: weights: got 'none'")


def test_interrupted_is_130(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("atmoloss.commands.info", interrupt)
    code, _, err = run("info", "default")
    assert code == 130
    assert "Traceback" not in err


def test_a_defect_is_not_disguised(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr("atmoloss.commands.info", fail)
    with pytest.raises(ZeroDivisionError):
        main(["info", "default"])


def test_warnings_are_one_line(run, tmp_path, a):
    """Winds a thousand times too strong: the warning about units."""
    with xarray.open_dataset(a) as data:
        (data * 1000).assign_attrs(data.attrs).map(lambda x: x.assign_attrs(units="m s-1")).to_netcdf(
            tmp_path / "strong.nc", engine="h5netcdf"
        )
    code, _, err = run("distance", a, tmp_path / "strong.nc")
    assert code == 0
    assert err.startswith("atmoloss: warning: ")
    assert err.count("\n") == 1


def test_a_broken_pipe_is_quiet(folder):
    command = [sys.executable, "-m", "atmoloss", "info", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# info


def test_info_says_what_the_weights_are(run, folder, info):
    code, out, err = run("info", folder)
    assert (code, err) == (0, "")
    for words in (
        "tiny@", str(folder), "divergence, s-1", "vorticity, s-1", "stage4", "stride 16", "receptive field",
        "MFLOP", "scale 2.5", "stage2 x 0.25, stage4 x 0.75", "mse_weight 0.05", "Apache-2.0", "23 classes of 3 h",
        "no metrics.json",
    ):  # fmt: skip
        assert words in out
    assert max(map(len, out.splitlines())) <= 200


def test_info_shows_the_key_figures(run, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    source = {
        "name": "1° 10 m",
        "split": "test",
        "n_times": 27,
        "lag_2afc": {
            "distance": {"value": 0.912, "interval": [0.9, 0.921]},
            "stage3 alone": {"value": 0.95, "interval": [0.9, 0.96]},
            "MSE of fields": {"value": 0.77, "interval": [0.75, 0.8]},
            "MAE of winds": {"value": 0.84, "interval": [0.8, 0.88]},
        },
        "classes": {"top1": 0.31, "top3": 0.7, "mae_hours": 8.25, "per_lag": []},
    }
    bare = {"name": "bare", "lag_2afc": {"distance": {"value": 0.5, "interval": [0.4, 0.6]}}, "classes": None}
    (copy / "metrics.json").write_text(json.dumps({"weights": "tiny", "sources": [source, bare]}), encoding="utf-8")
    _, out, _ = run("info", copy)
    expected = (
        "1° 10 m (test, 27 times): lag 2AFC 0.912 [0.900, 0.921], best baseline 0.840 (MAE of winds); "
        "lag class top-1 0.310, mean error 8.2 h"
    )
    assert expected in out
    assert "bare (?, ? times): lag 2AFC 0.500 [0.400, 0.600]" in out
    (copy / "metrics.json").write_text("{")
    code, out, _ = run("info", copy)
    assert code == 0
    assert "cannot be read" in out


def test_info_of_altered_weights(fails, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "altered" in fails("info", copy)


# convert-keras


@pytest.mark.parametrize("scales", [{}, {"stage3": 0.125}])
def test_convert_keras(run, monkeypatch, info, tmp_path, scales):
    calls = []

    def convert(source, destination, name):
        calls.append((str(source), str(destination), name))
        return dataclasses.replace(info, name=name, layer_scales=scales)

    monkeypatch.setattr("atmoloss.keras_import.convert_keras", convert)
    code, out, err = run("convert-keras", "source", tmp_path / "new", "--name", "published")
    assert (code, err) == (0, "")
    assert calls == [("source", str(tmp_path / "new"), "published")]
    assert f"wrote published@{info.sha256[:8]} to {tmp_path / 'new'}" in out
    assert ("scale='none'" in out) == (not scales)
    assert ("stage3 0.125" in out) == bool(scales)


def test_a_converted_checkpoint_is_usable(run, tmp_path, a, b):
    pytest.importorskip("h5py")
    original = Path(__file__).parent / "parity" / "small" / "tiny_n1"
    code, out, _ = run("convert-keras", original, tmp_path / "converted")
    assert code == 0
    assert "tiny_n1@" in out
    assert run("info", tmp_path / "converted")[0] == 0
    code, _, err = run("distance", a, b, "--weights", tmp_path / "converted")
    assert code == 1
    assert "scale" in err
    code, out, _ = run("distance", a, b, "--weights", tmp_path / "converted", "--scale", "none")
    assert code == 0
    assert len(rows(out)) == 5


def test_convert_keras_of_nothing(fails, tmp_path):
    assert str(tmp_path) in fails("convert-keras", tmp_path, tmp_path / "new")
