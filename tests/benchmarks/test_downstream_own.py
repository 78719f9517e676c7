"""Your own variable: what counts as right, which rivals are shown, and that configurations differ in nothing else."""

import dataclasses

import numpy as np
import pytest
import torch

from atmoloss.data.sources import FieldSource
from atmoloss.training.config import read_config
from atmoloss.training.config_reading import parse_overrides

from .loading import BENCHMARKS, load

HERE = BENCHMARKS / "downstream"


@pytest.fixture(scope="module")
def own():
    """The script, whose modules import one another by their plain names."""
    return load("downstream", "own_variables")


def test_a_clock_is_no_use_where_the_time_of_day_is_the_same(own):
    times = np.datetime64("2026-01-01T00", "s") + np.arange(60) * np.timedelta64(6, "h")
    values = np.zeros((60, 1, 40, 40), np.float32)
    axes = np.linspace(60, 0, 40), np.arange(40.0)
    source = FieldSource("made", ("msl",), values, times, np.zeros(60, int), *axes)
    hours = torch.from_numpy(source.hours)
    apart = (hours[None, :] - hours[:, None]).abs()
    measures = {
        "age": lambda patch: apart.double(),
        "clock": lambda patch: torch.minimum(apart % 24, 24 - apart % 24).double(),
    }
    found = own.tallies(source, measures, 96)
    assert found["all"]["age"].share == found["same time of day"]["age"].share == 1.0
    assert found["same time of day"]["clock"].share == 0.5
    # Of 16 lags, 6 to 96 h, the clock tells 0, 6 and 12 h apart; by hand over all pairs of lags:
    lags = np.arange(6, 97, 6)
    of_clock = np.minimum(lags % 24, 24 - lags % 24)
    pairs = [(a, b) for a in range(16) for b in range(a + 1, 16)]
    share = np.mean([(of_clock[a] < of_clock[b]) + 0.5 * (of_clock[a] == of_clock[b]) for a, b in pairs])
    full = own.Tally(*(x[:40] for x in (found["all"]["clock"].right, found["all"]["clock"].total)), times[:40])
    assert full.share == pytest.approx(share)


def score(value):
    return {"value": value, "interval": (value - 0.01, value + 0.01), "gap": (0.0, 0.1)}


def test_smoothing_is_chosen_on_validation_dates(own):
    page = own.own_variables_page
    names = [own.DISTANCE, "random weights", "MSE", "MAE", "MSE, a", "MSE, b", "MAE, a", "MAE, b"]
    of = {
        "validation": (0.9, 0.6, 0.7, 0.7, 0.75, 0.72, 0.71, 0.74),
        "test": (0.8, 0.6, 0.7, 0.7, 0.60, 0.79, 0.78, 0.6),
    }
    result = {
        s: {k: {n: score(v) for n, v in zip(names, values, strict=True)} for k in own.TRIPLES}
        for s, values in of.items()
    }
    assert page.shown(result) == [*names[:4], "MSE, a", "MAE, b"]
    text, data, figure = page.page({"pressure": {"cpu_seconds": 3, **result}})
    assert "| MSE, a | 0.600 (0.590 to 0.610) | +0.200 (+0.000 to +0.100) |" in text
    assert data["pressure"]["test"]["all"]["MSE, b"]["value"] == 0.79
    assert figure.startswith(b"<?xml")
    settings = page.settings({"pressure": {"few": {"cpu_seconds": 3, **result}}}, {"few": ("steps=1",)})
    assert "| few | `steps=1` | 0.9000, 3 s |" in settings
    assert "| MSE, b | | 0.7200 |" in settings


def test_configurations_differ_in_the_variable_alone(own):
    vorticity, pressure = (read_config(HERE / name) for name in own.CONFIGS.values())
    (a, of_a), (b, of_b) = ((c, dataclasses.asdict(c.sources[0])) for c in (vorticity, pressure))
    assert dataclasses.replace(a, name=b.name, variables=b.variables, sources=b.sources) == b
    assert of_a | {"name": of_b["name"]} == of_b
    era5 = read_config(BENCHMARKS / "attention" / "era5.toml")
    assert (era5.validation, era5.test) == (vorticity.validation, vorticity.test)


def test_training_is_the_command_with_the_keys_of_a_setting(own, tmp_path, monkeypatch):
    run = {}
    monkeypatch.setattr(own.subprocess, "run", lambda command, **options: run.update(command=command, **options))
    assert own.train(HERE / "own_pressure.toml", tmp_path, own.SETTINGS["patches of 64"]) == 0.0
    changes = [word for key in ("patch_sizes=[64]", "steps=500", "encoder_options={}") for word in ("--set", key)]
    assert run["command"][1:] == [
        "-m",
        "atmoloss.train",
        str(HERE / "own_pressure.toml"),
        "--output",
        str(tmp_path),
        *changes,
    ]
    assert run["env"]["OMP_NUM_THREADS"] == "1"
    for changes in own.SETTINGS.values():
        # Whatever the configuration has come to have.
        assert {"patch_sizes", "steps", "encoder_options"} == set(parse_overrides(changes))
