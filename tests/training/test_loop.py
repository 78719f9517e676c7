"""A run that is stopped, killed, continued or lengthened has the numbers of one that never was."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss.cli import main
from atmoloss.data.sources import describe_channels, open_source
from atmoloss.errors import ConfigError, DataError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_run, open_sources
from atmoloss.training.model import (
    build_model,
    make_optimizer,
    make_scheduler,
)
from tests.training.conftest import interrupted_after, log_of, scalars, weights_of


def losses_of(folder: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in log_of(folder) if "loss" in line}


@pytest.mark.parametrize("more", [{}, {"artefact_weight": 0.5}])
def test_resume_gives_the_same_weights(more, raw_config, tmp_path):
    config = make_config({**raw_config, **more})
    train(config, tmp_path / "whole")

    with interrupted_after(4), pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)

    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "parts")
    assert list(losses_of(tmp_path / "whole")) == [2, 4, 6]


def test_kill_loses_at_most_one_interval(raw_config, tmp_path):
    raw = {**raw_config, "steps": 400, "validate_every": 400, "checkpoint_every": 5}
    script = (
        "import json, sys; from pathlib import Path; from atmoloss.training.lag import train;"
        "from atmoloss.training.config import make_config; from tests.training.worker import die_after;"
        "die_after(8); train(make_config(json.loads(sys.argv[1])), Path(sys.argv[2]))"
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-c", script, json.dumps(raw), str(folder)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root).returncode == -signal.SIGKILL
    state = runs.load_checkpoint(folder)
    assert state is not None
    step = state["step"]
    assert step == 5
    logged = [json.loads(line)["step"] for line in (folder / runs.METRICS).read_text().splitlines() if line[-1:] == "}"]
    assert max(logged) - step <= 5
    config = make_config(raw)
    # The schedule depends on the number of steps: a continued run is refused another one.
    with pytest.raises(ConfigError, match="steps is 401"):
        train(make_config({**raw, "steps": 401}), folder, resume=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config, folder)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_finished_run_is_lengthened_exactly(optimizer, raw_config, tmp_path, capsys):
    raw = {**raw_config, "optimizer": optimizer, "log_every": 1}
    train(make_config(raw), tmp_path / "run")
    first = losses_of(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "parts")

    def lengthen(folder: Path, steps: int) -> int:
        return main(["train", "--resume", "--output", str(folder), "--steps", str(steps), "--device", "cpu"])

    assert lengthen(tmp_path / "run", 10) == 0
    after = losses_of(tmp_path / "run")
    assert sorted(after) == list(range(1, 11))
    assert {k: v for k, v in after.items() if k <= 6} == first
    record = runs.read_record(tmp_path / "run")
    config = make_config(record["config"])
    assert (config.steps, record["lengthened"]) == (10, [6])
    rates = [line["learning_rate"] for line in log_of(tmp_path / "run") if "learning_rate" in line]
    if optimizer == "adamw":  # each part is a whole cycle
        fresh = make_optimizer(config, build_model(config))
        cycle = make_scheduler(dataclasses.replace(config, steps=4), fresh)
        for rate in rates[6:9]:
            fresh.step()
            cycle.step()
            assert rate == pytest.approx(fresh.param_groups[0]["lr"])
        assert max(rates[6:]) > 100 * rates[5]

    with interrupted_after(8):
        assert lengthen(tmp_path / "parts", 10) not in (0, 1)
    assert lengthen(tmp_path / "parts", 12) == 1
    assert "steps is 12, but the run began with 10; expected the same (more once" in capsys.readouterr().err
    assert main(["train", "--resume", "--output", str(tmp_path / "parts"), "--device", "cpu"]) == 0
    a, b = weights_of(tmp_path / "run"), weights_of(tmp_path / "parts")
    assert all(torch.equal(a[k], b[k]) for k in a)
    card = (tmp_path / "parts" / "weights" / "README.md").read_text()
    assert "6 + 4 steps" in card
    assert lengthen(tmp_path / "run", 9) == 1
    assert "steps is 9" in capsys.readouterr().err


def test_a_run_that_failed_before_its_first_step_blocks_nothing(raw_config, tmp_path, monkeypatch):
    config = make_config({**raw_config, "steps": 2})

    def fail(*_: object) -> None:
        raise MemoryError

    other = make_config({**raw_config, "variables": ["u10"]})
    monkeypatch.setattr("atmoloss.training.lag.build_model", fail)
    for resume in (False, True):
        with pytest.raises(MemoryError):
            train(other, tmp_path / "run", resume=resume)
    assert make_config(runs.read_record(tmp_path / "run")["config"]) == other
    monkeypatch.undo()
    monkeypatch.setattr("atmoloss.training.sequence_trainer.clip_gradients", fail)  # in the first step
    with pytest.raises(MemoryError):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    train(config, tmp_path / "run")
    assert make_config(runs.read_record(tmp_path / "run")["config"]) == config
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config, tmp_path / "run")


def test_sources_of_different_units_are_refused_before_training(scalar_config, tmp_path, one_sentence):
    def with_second(**units):
        scalars(**units).to_netcdf(tmp_path / "second.nc", engine="h5netcdf")
        second = {"name": "b", "path": str(tmp_path / "second.nc")}
        return make_config({**scalar_config, "sources": [*scalar_config["sources"], second]})

    assert len(open_sources(with_second(temperature_units="K", cloud_units="kg m**-2"))) == 2  # converted; spelt
    with pytest.raises(DataError) as error:
        train(with_second(cloud_units="g m-2"), tmp_path / "run")
    one_sentence(error.value, "'cloud' is in 'kg m-2' in a, 'g m-2' in b", "expected one unit")
    with pytest.raises(DataError, match="2m_temperature: got units 'degF', expected 'K'"):
        train(with_second(temperature_units="degF"), tmp_path / "run")


def test_a_source_that_is_not_there_is_named_before_any_is_read(scalar_config, monkeypatch, one_sentence):
    monkeypatch.setattr("atmoloss.training.loop.open_source", pytest.fail)
    gone = {"name": "b", "path": "/no/such/era5.nc"}
    with pytest.raises(DataError) as error:
        open_sources(make_config({**scalar_config, "sources": [*scalar_config["sources"], gone]}))
    one_sentence(error.value, "sources", "/no/such/era5.nc for b", "expected a file", "data of your own")


@pytest.mark.parametrize("held_out", [True, False])
def test_a_run_that_holds_nothing_out_says_so(held_out, scalar_config, tmp_path, caplog):
    config = make_config(scalar_config if held_out else {**scalar_config, "validation": [], "test": []})
    with caplog.at_level("INFO", "atmoloss"):
        open_run(config, tmp_path / "run")
    assert ("no dates are held out" in caplog.text) != held_out


def test_a_prepared_store_keeps_names_and_units(tmp_path):
    pytest.importorskip("zarr", minversion="3")
    from atmoloss.data.plan import PrepareOptions
    from atmoloss.data.prepare import prepare

    scalars(n_times=4).to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    options = PrepareOptions(variables=("tas", "cloud"), time_chunk=4, space_chunk=16)
    prepared = prepare(tmp_path / "scalars.nc", tmp_path / "store", options, workers=0)
    assert [a["units"] for a in prepared.attributes(prepared.variables)] == ["K", "kg m-2"]
    source = open_source(str(prepared.path), "a", ("t2m", "cloud"))
    assert describe_channels(source.channels, [source]) == (
        {"name": "t2m", "standard_name": "air_temperature", "units": "K"},
        {"name": "cloud", "standard_name": "atmosphere_mass_content_of_cloud_liquid_water", "units": "kg m-2"},
    )
    np.testing.assert_allclose(source.values[0:1, 0], scalars(n_times=4)["2m_temperature"][:1] + 273.15, rtol=1e-6)


def test_data_without_units_say_so(tmp_path):
    scalars("", "", 4).to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    source = open_source(str(tmp_path / "scalars.nc"), "a", ("t2m", "cloud"))
    # Of a known quantity they are taken to be its SI units, as the reader says.
    assert [c["units"] for c in describe_channels(source.channels, [source])] == ["K", ""]
