"""Values of options that several verbs share: what is read, and what is wrong usage."""

import json

import numpy as np
import pytest

from atmoloss.cli import build_parser, main
from atmoloss.data.store import read_store
from tests.training.conftest import drifting_winds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["distance", "a.nc", "b.nc", "--missing", "nan"],
            "--missing: got 'nan', expected error, ignore or a finite",
        ),
        (
            ["report", "t.nc", "m=m.nc", "--missing", "drop"],
            "--missing: got 'drop', expected error, ignore or",
        ),
        (["distance", "a.nc", "b.nc", "--layers", " ,"], "--layers: got ' ,', expected names separated by commas"),
        (
            ["distance", "a.nc", "b.nc", "--scale", "large"],
            "--scale: got 'large', expected mse, none or a finite number",
        ),
        (["prepare", "a.nc", "out", "--every", "often"], "--every: got 'often', expected hours"),
        (["prepare", "a.nc", "out", "--storage", "anon"], "--storage: got 'anon', expected KEY=VALUE"),
        (["report", "t.nc", "m.nc"], "NAME=FILE: got 'm.nc', expected NAME=FILE"),
        (["report", "t.nc", "=m.nc"], "NAME=FILE: got '=m.nc', expected NAME=FILE"),
        (["distance", "only-one.nc"], "B is missing; only --matrix does without it"),
    ],
)
def test_a_value_that_cannot_be_read_is_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["distance", "a", "b"], ["evaluate", "w", "a"], ["report", "a", "b=c"], ["prepare", "a", "b"]],
    ids=lambda words: words[0],
)
def test_whatever_reads_fields_takes_level_missing_and_group(words):
    given = build_parser().parse_args([*words, "--level", "850", "--missing", "0", "--group", "/g"])
    assert (given.level, given.missing, given.group) == (850.0, 0.0, "/g")
    default = build_parser().parse_args(words)
    assert (default.level, default.missing, default.group) == (None, "error", None)


def test_values():
    prepare = ["prepare", "a.nc", "out", "--variables", "u10, v10,", "--every", "6h", "--storage", "query=a=b"]
    given = build_parser().parse_args(prepare)
    assert given.variables == ("u10", "v10")
    assert given.every == 6
    assert given.storage == [("query", "a=b")]
    report = build_parser().parse_args(["report", "truth.nc", "A=s3://x/a.zarr?b=c"])
    assert report.variables == ("divergence", "vorticity")
    assert report.models == [("A", "s3://x/a.zarr?b=c")]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """The same winds in a file, and in a group of another file."""
    pytest.importorskip("h5netcdf")
    path = tmp_path_factory.mktemp("group")
    data = drifting_winds(16)
    data.to_netcdf(path / "plain.nc", engine="h5netcdf")
    data.to_netcdf(path / "grouped.nc", group="/analysis", engine="h5netcdf")
    return path


GROUP = ["--group", "/analysis"]


def test_distance_reads_a_group(run, grouped):
    plain = run("distance", grouped / "plain.nc", "--matrix")
    assert plain[0] == 0
    assert run("distance", grouped / "grouped.nc", "--matrix", *GROUP) == plain


def test_evaluate_reads_a_group_and_its_winds(run, grouped, folder, tmp_path):
    options = ["--patch", "16", "--patches", "1", "--max-lag", "24", "--json", tmp_path / "e.json"]
    assert run("evaluate", folder, grouped / "grouped.nc", *options, *GROUP)[0] == 0
    (source,) = json.loads((tmp_path / "e.json").read_text())["sources"]
    assert source["n_times"] == 16
    assert {"MSE of fields", "MSE of winds"} <= source["lag_2afc"].keys()


def test_report_reads_a_group(run, grouped, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    options = ["--variables", "u10", "--draws", "2", "--output", tmp_path / "r.html", *GROUP]
    assert run("report", grouped / "grouped.nc", f"M={grouped / 'grouped.nc'}", *options)[0] == 0
    scores = json.loads((tmp_path / "r.json").read_text())["scores"]
    assert [score["value"] for score in scores if score["metric"] == "rmse"] == [0.0]


@pytest.mark.parametrize("winds", [[], ["--winds", "u10,v10"]])
def test_prepare_reads_a_group(run, grouped, tmp_path, winds):
    for name, group in (("plain", []), ("grouped", GROUP)):
        assert run("prepare", grouped / f"{name}.nc", tmp_path / name, "--workers", "0", *group, *winds)[0] == 0
    fields = [read_store(tmp_path / name).fields(["vorticity"])[:] for name in ("plain", "grouped")]
    np.testing.assert_array_equal(*fields)
