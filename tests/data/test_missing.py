"""Missing values by the options that the message names: each command, and training."""

import json

import numpy as np
import pytest
import torch

from atmoloss.cli import main
from atmoloss.data import open_fields
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import open_source
from atmoloss.data.store import read_store
from atmoloss.errors import ConfigError, DataError
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from tests.training.conftest import drifting_winds

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


@pytest.fixture(scope="module")
def holes(tmp_path_factory):
    """Winds, and the same with a corner that is missing at all times."""
    path = tmp_path_factory.mktemp("missing")
    data = drifting_winds()
    data.to_netcdf(path / "whole.nc", engine="h5netcdf")
    data["u10"][:, 30:, 40:] = np.nan
    data.to_netcdf(path / "holes.nc", engine="h5netcdf")
    return path


@pytest.fixture
def run(capsys, folder):
    def call(*arguments):
        code = main([*map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_message_names_the_options(run, holes, folder):
    code, _, err = run("distance", holes / "holes.nc", holes / "whole.nc", "--weights", folder)
    assert code == 1
    assert err.count("\n") == 1
    assert "--missing" in err
    for wrong in ("maybe", "nan"):
        with pytest.raises(SystemExit) as end:
            main(["distance", "a.nc", "b.nc", "--missing", wrong])
        assert end.value.code == 2


def test_distance(run, holes, folder, tmp_path):
    options = ["--weights", folder, "--csv", tmp_path / "d.csv"]

    def values(a, b, *more):
        assert run("distance", holes / a, holes / b, *options, *more)[0] == 0
        return np.array([float(row.split(",")[1]) for row in (tmp_path / "d.csv").read_text().split("\n")[1:-1]])

    whole = values("whole.nc", "whole.nc", "--missing", "ignore")
    assert (whole == 0).all()
    np.testing.assert_allclose(values("holes.nc", "whole.nc", "--missing", "ignore"), 0, atol=1e-6)  # masked in both
    assert (values("holes.nc", "whole.nc", "--missing", "0") > 1e-5).all()
    assert run("distance", holes / "holes.nc", "--matrix", *options, "--missing", "0")[0] == 0
    code, _, err = run("distance", holes / "holes.nc", "--matrix", *options, "--missing", "ignore")
    assert (code, err.count("\n")) == (1, 1)
    assert "--missing: got 'ignore' with --matrix" in err
    single = tmp_path / "one.nc"
    xr.open_dataset(holes / "holes.nc").isel(time=[3]).to_netcdf(single, engine="h5netcdf")
    assert run("distance", single, single, *options, "--missing", "ignore", "--plot", tmp_path / "map.png")[0] == 0


def test_prepare_and_training(run, holes, tmp_path, raw_config):
    pytest.importorskip("zarr", minversion="3")
    path, options = holes / "holes.nc", ["--variables", "u10,v10", "--workers", "0"]
    assert run("prepare", path, tmp_path / "refused", *options)[0] == 1
    assert run("prepare", path, tmp_path / "filled", *options, "--missing", "-3")[0] == 0
    assert (read_store(tmp_path / "filled").fields(["u10"])[0, 0, 30:, 40:] == -3).all()
    assert run("prepare", path, tmp_path / "store", *options, "--missing", "ignore")[0] == 0
    store = read_store(tmp_path / "store")
    assert np.isnan(store.fields(["u10"])[:, 0, 30:, 40:]).all()
    valid = open_fields(path, "u10", missing="ignore")["u10"].values
    np.testing.assert_array_equal(open_fields(tmp_path / "store", "u10", missing="ignore")["u10"].values, valid)

    spec = SequenceSpec(n_times=2, n_classes=4, base_step=6, patch_sizes=(16,), batch_size=32)
    source = open_source(str(tmp_path / "store"), "holes", ("u10", "v10"))
    assert torch.isfinite(SequenceDataset([source], spec, seed=0, length=4)[0].fields).all()
    nothing = open_source(str(path), "nothing", ("u10", "v10"), missing="ignore")
    nothing.values[:] = np.nan
    with pytest.raises(DataError, match="missing: 200 patches of 16 cells in a row"):
        SequenceDataset([nothing], spec, seed=0, length=1)[0]

    raw_config["sources"] = [{"name": "holes", "path": str(path), "missing": "ignore"}]
    config = make_config({**raw_config, "variables": ["u10", "v10"]})
    train(config, tmp_path / "run")  # to its end, validation included
    for wrong in (True, "drop", [1]):
        raw_config["sources"][0]["missing"] = wrong
        with pytest.raises(ConfigError, match=r"sources.missing: got .*'error', 'ignore' or a number"):
            make_config(raw_config)
    raw_config["sources"][0]["missing"] = 2
    (filled,) = open_sources(make_config({**raw_config, "variables": ["u10"]}))
    assert filled.values[0, 0, 39, 47] == 2


@pytest.fixture
def raw_config():
    return {
        "name": "tiny",
        "validation": ["2026-01-09/2026-01-10"],
        "encoder_options": {"stage_channels": [4, 6], "blocks_per_stage": 1},
        "patch_sizes": [16],
        "n_times": 3,
        "n_classes": 16,
        "batch_size": 4,
        "steps": 2,
        "workers": 0,
        "validation_patches": 4,
    }


def test_evaluate(run, holes, folder, tmp_path):
    arguments = [
        "evaluate",
        folder,
        holes / "holes.nc",
        "--patch",
        "16",
        "--json",
        tmp_path / "e.json",
        "--no-baselines",
    ]
    assert run(*arguments)[0] == 1
    for missing in ("ignore", "0.5"):
        assert run(*arguments, "--missing", missing)[0] == 0
        (source,) = json.loads((tmp_path / "e.json").read_text())["sources"]
        assert 0.3 < source["lag_2afc"]["distance"]["value"] <= 1
    large = [*arguments[:3], "--patch", "40", *arguments[5:]]
    code, _, err = run(*large, "--missing", "ignore")
    assert code == 1
    assert "every patch has missing values" in err


def test_report(run, holes, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    some = drifting_winds(8)
    some["u10"][2, 3, 4] = np.nan
    some.to_netcdf(tmp_path / "some.nc", engine="h5netcdf")
    files = [holes / "whole.nc", f"M={tmp_path / 'some.nc'}", "--variables", "u10", "--draws", "10"]
    output = ["--output", tmp_path / "r.html"]
    assert run("report", *files, *output)[0] == 1
    assert run("report", *files, *output, "--missing", "0")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["n_times"] == 8
    assert run("report", *files, *output, "--missing", "ignore")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["n_times"] == 7
    code, _, err = run("report", holes / "holes.nc", files[1], *output, "--variables", "u10", "--missing", "ignore")
    assert code == 1
    assert "truth has missing values at all times" in err
