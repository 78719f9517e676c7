"""The forecast comparison: cases, the network on the globe, runs, and the way from arms to tables."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.ndimage
import torch

from atmoloss.data.sources import FieldSource
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.config_reading import build_dataclass
from atmoloss.verification.results import Score
from tests.training.conftest import interrupted_after
from tests.verification.conftest import FEW, axes, xarray

from .loading import load

CHANNELS = ("divergence", "vorticity")


@pytest.fixture(scope="module")
def compare():
    return load("forecast", "compare")


@pytest.fixture(scope="module")
def forecaster(compare):
    import sys

    return sys.modules["forecaster"]


def globe(times: np.ndarray, run=None, rows="both poles") -> FieldSource:
    """Smooth random fields on a grid of 5 degrees."""
    latitude, longitude = axes(rows, 36)
    values = np.random.default_rng(0).normal(size=(len(times), 2, len(latitude), len(longitude)))
    values = 1e-5 * scipy.ndimage.gaussian_filter(values, (0, 0, 1, 1), mode="wrap")
    run = np.zeros(len(times), int) if run is None else run
    return FieldSource("globe", CHANNELS, values.astype(np.float32), times, run, latitude, longitude, level="10 m")


def hours(*h: int) -> np.ndarray:
    return np.datetime64("2026-01-01", "ns") + np.array(h) * np.timedelta64(1, "h")


def test_cases_are_the_times_that_have_a_past_and_a_future_in_their_run(forecaster):
    # 24 h is missing from the first run; the second one is too short.
    source = globe(hours(0, 6, 12, 18, 30, 36, 42, 0, 6, 12), run=np.array([0] * 7 + [1] * 3))
    cases = forecaster.cases_of(source)
    np.testing.assert_array_equal(cases.times, hours(18, 30))  # from 0 and 6, and from 12 and 18
    assert cases.channels == CHANNELS * 3
    np.testing.assert_array_equal(cases.values[0], source.values[[0, 1, 3]].reshape(6, 37, 72))
    part = cases.values[np.array([1, 0]), :, 2:5, 3:9]
    assert part.shape == (2, 6, 3, 6)
    np.testing.assert_array_equal(part[1, 4:], source.values[3, :, 2:5, 3:9])
    assert forecaster.cases_of(source.select(np.zeros(10, bool))).values.shape == (0, 6, 37, 72)


def stored_network(forecaster, seed=None):
    """A network as it starts, or with a random last convolution."""
    network = forecaster.UNet(width=4)
    if seed is not None:
        torch.manual_seed(seed)
        torch.nn.init.normal_(network.out_conv.weight, std=0.05)
    normalization = LogNormalization([0, 0], [4e-6, 4e-6], [0, 0], [0.2, 0.2])
    return forecaster.StoredGenerator(network.eval(), normalization, CHANNELS, {}, "")


@pytest.mark.parametrize("rows", ["both poles", "half a step"])
def test_a_network_starts_as_persistence_on_the_globe(forecaster, compare, rows):
    cases = forecaster.cases_of(globe(hours(*range(0, 48, 6)), rows=rows))
    made = compare.made_by(stored_network(forecaster), cases)
    persistence, truth = compare.persistence_and_truth(cases)
    inner = {"latitude": slice(1, -1)}  # at the poles a mean
    np.testing.assert_allclose(made["vorticity"].isel(inner), persistence["vorticity"].isel(inner), atol=1e-10)
    np.testing.assert_array_equal(truth["time"], persistence["time"])
    np.testing.assert_array_equal(truth["divergence"][0], cases.values[0][4])
    np.testing.assert_array_equal(persistence["divergence"][1], cases.values[1][2])


def test_the_globe_has_no_seam_and_a_pole_one_value(forecaster):
    cases = forecaster.cases_of(globe(hours(*range(0, 24, 6))))
    stored = stored_network(forecaster, seed=0)
    made = forecaster.forecasts(stored, cases)
    assert made.shape == (1, 2, 37, 72)
    turned = dataclasses.replace(cases, values=np.roll(cases.values[np.arange(1)], 8, -1))
    np.testing.assert_allclose(forecaster.forecasts(stored, turned), np.roll(made, 8, -1), atol=1e-9)
    assert np.ptp(made[0, :, [0, -1]], axis=-1).max() == 0


def test_every_arm_has_a_configuration(compare, tmp_path):
    for content in compare.ARMS["contents"]:
        config = compare.config_of((content, 2), tmp_path)
        assert config.content == compare.ARMS["contents"][content].get("content", content)
        assert (config.seed, config.steps) == (2, compare.ARMS["training"]["steps"])
    reference = compare.read_values(compare.REPOSITORY / "configs" / "default.toml")
    for split in ("validation", "test"):
        assert set(getattr(compare.configuration(), split)) <= set(reference[split])


@pytest.fixture
def raw(tmp_path, folder) -> dict:
    """A run of a few hundred weights on two weeks of a small globe; ``folder`` holds a tiny encoder."""
    source = globe(hours(*range(0, 14 * 24, 6)))
    dims = ("time", "latitude", "longitude")
    coords = dict(zip(dims, (source.times, source.latitude, source.longitude), strict=True))
    data = {name: (dims, source.values[:, c], {"units": "s-1"}) for c, name in enumerate(CHANNELS)}
    xarray.Dataset(data, coords).to_netcdf(tmp_path / "globe.nc", engine="h5netcdf")
    return {
        "sources": [{"name": "globe", "path": str(tmp_path / "globe.nc")}],
        "validation": ["2026-01-09/2026-01-11"],
        "test": ["2026-01-12/2026-01-14"],
        "weights": str(folder),
        "content_scale": 1.0,
        "patch_size": 16,
        "batch_size": 4,
        "width": 4,
        "steps": 6,
        "workers": 0,
        "checkpoint_every": 2,
        "validation_batches": 1,
    }


def test_resume_is_exact(forecaster, compare, raw, tmp_path):
    config = build_dataclass(forecaster.ForecastConfig, {**raw, "content": "atmodist"})
    sources = compare.open_sources(config)
    forecaster.run(config, tmp_path / "whole", resume=False, sources=sources)
    with interrupted_after(4), pytest.raises(KeyboardInterrupt):
        forecaster.run(config, tmp_path / "parts", resume=False, sources=sources)
    forecaster.run(config, tmp_path / "parts", resume=True, sources=sources)
    whole, parts = (runs.load_checkpoint(tmp_path / name)["generator"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert whole["out_conv.weight"].abs().max() > 0


def test_arms_start_from_one_network_and_end_in_a_table(compare, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(
        compare, "configuration", lambda **values: build_dataclass(compare.ForecastConfig, {**raw, **values})
    )
    monkeypatch.setattr(compare, "RESULTS", tmp_path / "results")
    # The weights know no hours of such a grid, and there is nothing to tell apart.
    hours, area = (Score("AtmoDist", "hours", "mse", 9, 8, 10, "h"), Score("classifier", "area", "truth", 5, 4, 6, "1"))
    monkeypatch.setattr(compare, "atmodist_scores", lambda *_: [hours])
    monkeypatch.setattr(compare, "realism_scores", lambda *_: [area])
    monkeypatch.setattr(compare, "evaluate_fields", functools.partial(compare.evaluate_fields, **FEW))
    lengths = {"steps": 4, "final_steps": 0, "learning_rate": 1e-3}
    monkeypatch.setattr(compare, "ARMS", {**compare.ARMS, "pretraining": lengths, "training": lengths})
    arms = [("mse", 0), ("amse", 0), ("amse", 1)]
    compare.train_all(arms, tmp_path / "runs", jobs=1)
    rows = compare.read_rows(tmp_path / "results" / "arms.jsonl")
    assert {(row["content"], row["seed"]) for row in rows} == set(arms)
    assert rows[0]["scores"]["globe"]["vorticity"]["local_energy"] > 0
    compare.train_all(arms, tmp_path / "runs", jobs=1)  # nothing is left to do
    assert compare.read_rows(tmp_path / "results" / "arms.jsonl") == rows
    compare.report(arms, tmp_path / "runs")
    text = (tmp_path / "results" / "test-globe.md").read_text()
    assert compare.COMMAND in text
    assert "## AtmoDist\n\n| content | hours |\n|---|---|\n| mse | 9 [8, 10] |" in text
    assert "## classifier\n\n| content | area |\n|---|---|\n| truth | 5 [4, 6] |" in text
    for model in ("persistence", "start", "mse", "amse, seed 1", "amse: 2 seeds"):
        assert f"| {model} |" in text
