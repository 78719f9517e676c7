"""Run folders: what is recorded of a run, and what a continued one is refused."""

from __future__ import annotations

import pytest

from atmoloss.cli import main
from atmoloss.errors import ConfigError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from tests.training.conftest import drifting_winds


def test_record_names_origin(raw_config, tmp_path):
    train(make_config({**raw_config, "steps": 2}), tmp_path / "run")
    record = runs.read_record(tmp_path / "run")
    config = make_config(record["config"])
    assert config == make_config({**raw_config, "steps": 2})
    assert set(record) == {"config", "atmoloss", "torch", "git_commit", "data", "processes"}
    assert record["processes"] == 1
    assert len(record["data"]["winds"]) == 64
    assert not list((tmp_path / "run").glob(".*"))  # no temporary file stays


def test_resume_refuses_changed_data(raw_config, tmp_path):
    path = tmp_path / "winds.nc"
    drifting_winds().to_netcdf(path, engine="h5netcdf")
    config = make_config({**raw_config, "sources": [{"name": "winds", "path": str(path)}], "steps": 2})
    train(config, tmp_path / "run")
    altered = drifting_winds()
    altered["u10"][17, 20, 20] += 0.5  # one value
    altered.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ConfigError, match="data of source 'winds' changed"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--resume", "--set", "steps=9"], "--set: is for a configuration file"),
        (["--resume", "--seed", "3"], "--seed: is for a configuration file"),
        (["--resume", "--recipe", "paper"], "--recipe"),
        (["--resume", "--variables", "u10"], "--variables"),
        (["--resume", "--data", "w.nc"], "w.nc"),
        (["--publish", "w", "--steps", "9"], "--steps: is for a configuration file or --data; expected none to pub"),
        (["--publish", "w", "--device", "cuda"], "--device"),
        (["--publish", "w", "--set", "mse_weight=0.1"], "--set"),
        (["--steps", "9"], "config: got none"),
    ],
)
def test_options_that_a_recorded_run_would_not_take_are_refused(more, message, raw_config, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    runs.write_record(folder, {"config": {**raw_config}})
    assert main(["train", "--output", str(folder), *more]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
