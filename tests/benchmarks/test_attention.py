"""The benchmark of attention: its baselines and interventions on what is known exactly, and the way to its tables."""

from __future__ import annotations

import copy
import functools
import sys

import numpy as np
import pytest
import torch

from atmoloss.attention import neighbourhood_attention
from atmoloss.data.sources import FieldSource, open_source
from atmoloss.networks import build_encoder
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.predictor import Predictor
from atmoloss.sphere import EARTH_RADIUS
from atmoloss.training.config import read_config
from atmoloss.weights import WeightsInfo
from tests.tolerances import assert_close
from tests.verification.conftest import axes, xarray

from .loading import load

TINY = {
    "encoder_options": {"stage_channels": [4, 8], "attention": {"stage2": {"heads": 2, "radius": 1}}},
    "head_options": {"width": 8, "heads": 2, "radius": 1},
}


@pytest.fixture(scope="module")
def compare():
    return load("attention", "compare")


@pytest.fixture(scope="module")
def trainings(compare):
    return sys.modules["trainings"]


@pytest.fixture(scope="module")
def cases(compare):
    return sys.modules["cases"]


@pytest.fixture(scope="module")
def skill(compare):
    return sys.modules["skill"]


def network(channels: int) -> Predictor:
    """A tiny network for globes before training, which is persistence."""
    encoder = build_encoder("resnet_attn", in_channels=channels, **TINY["encoder_options"])
    head = {"kind": "space_time", **TINY["head_options"]}
    model = PredictionModel(encoder, build_prediction_head(head, encoder))
    normalization = LogNormalization(*([value] * channels for value in (0.0, 1e-5, 0.0, 0.2)))
    described = tuple({"name": f"x{c}", "standard_name": "", "units": "s-1"} for c in range(channels))
    info = WeightsInfo("tiny", described, encoder.architecture, normalization.constants(), head=head)
    return Predictor(model, normalization, info, periodic=True)


def globe(times: np.ndarray, channels=("divergence", "vorticity")) -> FieldSource:
    latitude, longitude = axes("both poles", 36)
    values = 1e-5 * np.random.default_rng(0).standard_normal((len(times), len(channels), len(latitude), len(longitude)))
    run = np.zeros(len(times), int)
    return FieldSource("globe", channels, values.astype(np.float32), times, run, latitude, longitude)


def every_six_hours(n: int) -> np.ndarray:
    return np.datetime64("2026-05-01", "ns") + np.arange(n) * np.timedelta64(6, "h")


def test_every_arm_has_a_configuration(compare, trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "fluid_data", lambda runs: runs / "fluid.nc")
    configs = {name: trainings.config_of((name, 1), tmp_path) for name in trainings.SPEC["arms"]}
    reference = read_config(trainings.REPOSITORY / "configs" / "default.toml")
    for name, config in configs.items():
        assert (config.pretext, config.seed) == ("next", 1)
        assert config.freeze_batch_norm_after < config.steps
        encoder = build_encoder(config.encoder, **config.encoder_options)
        assert list(encoder.strides.values())[-1] == (2 if name.endswith("-fine") else 4)
    assert set(configs["winds"].validation) <= set(reference.validation)
    assert set(configs["winds"].test) <= set(reference.test)
    assert configs["fluid"].sources[0].path == str(tmp_path / "fluid.nc")


def test_cases_are_consecutive_and_thinned(cases, trainings):
    config = read_config(trainings.HERE / "winds.toml")
    times = np.delete(every_six_hours(12), 5)
    source = globe(times)
    found = cases.cases_of(source, config, 100)
    assert [int(np.flatnonzero(times == t)[0]) for t in found.times] == [2, 3, 7, 8, 9]
    np.testing.assert_array_equal(found.before[1], source.values[1:4])
    np.testing.assert_array_equal(found.present[1], source.values[3])
    np.testing.assert_array_equal(found.truth[1], source.values[4])
    np.testing.assert_array_equal(cases.cases_of(source, config, 2).times, found.times[[0, -1]])
    area = np.cos(np.radians(source.latitude)) * (np.abs(source.latitude) <= 80)
    np.testing.assert_allclose(found.weight[:, 7], area)


def test_cases_of_the_fluid_are_the_middle_of_its_runs(cases, trainings, tmp_path):
    from fluid.make import FRAMES, PRESENT, write  # trainings.py has added examples/ to the path

    write(str(tmp_path / "fluid.nc"), 2, seed=0)
    config = read_config(trainings.REPOSITORY / "examples" / "fluid" / "next.toml")
    source = open_source(str(tmp_path / "fluid.nc"), "fluid", ("vorticity",))
    found = cases.cases_of(source, config, 100)
    for run in range(2):
        at = run * FRAMES + PRESENT
        assert found.times[run] == source.times[at]
        np.testing.assert_array_equal(found.fields[run], source.values[at - 2 : at + 2])
    assert float(found.weight.sum()) == 52**2


def test_rotational_wind_of_known_flows(cases):
    latitude, longitude = (torch.tensor(np.radians(axis)) for axis in axes("both poles", 36))
    phi, lam = torch.meshgrid(latitude, longitude, indexing="ij")
    turning = 1e-5 * EARTH_RADIUS * torch.cos(phi)  # a solid body
    stream = 1e6 * torch.sin(phi) * torch.cos(phi) * torch.cos(lam)  # the harmonic of degree 2 and order 1
    vorticity = torch.stack((2e-5 * torch.sin(phi), -6 / EARTH_RADIUS**2 * stream))
    u, v = cases.rotational_wind(vorticity)
    assert_close(u[0], turning, 1e-6)
    assert_close(v[0], 0 * phi, 1e-6, scale=1.0)
    assert_close(u[1], -1e6 / EARTH_RADIUS * torch.cos(2 * phi) * torch.cos(lam), 1e-6)
    assert_close(v[1], -1e6 / EARTH_RADIUS * torch.sin(phi) * torch.sin(lam), 1e-6)


def test_shares_of_persistence(cases, skill, trainings):
    """Before training a network is persistence, and damping is least squares in each unit."""
    config = read_config(trainings.HERE / "winds.toml")
    found = cases.cases_of(globe(every_six_hours(8)), config, 100)
    predictor = network(2)
    factor = skill.damping(found, predictor.normalization)
    rows = skill.shares(skill.squared_errors(predictor, found, factor), found)
    assert [(row["channel"], row["units"]) for row in rows] == [
        (channel, unit) for channel in ("divergence", "vorticity") for unit in skill.UNITS
    ]
    x, y = (fields[:, 1].numpy().astype(np.float64) for fields in (found.present, found.truth))
    w = np.broadcast_to(found.weight.numpy(), x.shape)
    fitted = (w * x * y).sum() / (w * x * x).sum()
    expected = (w * (fitted * x - y) ** 2).sum() / (w * (x - y) ** 2).sum()
    assert rows[2]["damped"][0] == pytest.approx(expected, abs=1e-4)
    for row in rows:
        assert row["prediction"][0] == pytest.approx(1, abs=1e-4)
        assert row["below_damped"][0] == pytest.approx(row["damped"][0] - 1, abs=2e-4)
        assert row["damped"][1] <= row["damped"][0] <= row["damped"][2]
        assert "shift" not in row  # of the fluid alone


def test_a_patch_without_what_lies_around_it_is_worse_near_its_edges(cases, skill, trainings):
    """Persistence on the globe, and in patches, too, but for their outer quarters, which stay zero."""
    config = read_config(trainings.HERE / "winds.toml")
    found = cases.cases_of(globe(every_six_hours(5)), config, 100)
    predictor = network(2)

    class Patchy:
        normalization = predictor.normalization

        def __call__(self, before):
            return torch.nn.functional.pad(before[:, -1, :, 8:-8, 8:-8], (8, 8, 8, 8))

    for row in skill.globe_over_patches(predictor, Patchy(), found, 32):
        assert row["middle"] == 1
        # White noise: 2 σ² of persistence everywhere, against σ² on three quarters of the cells.
        assert row["whole"] == pytest.approx(2 / (0.25 * 2 + 0.75), rel=0.05)


def test_what_is_moved_is_found(compare):
    followed = load("attention", "followed")
    runs = followed.fresh_runs(drawn=8, seed=1000)
    assert torch.equal(runs.fields["east", 0.0], runs.fields["north", 0.0])
    assert_close(runs.fields["east", 2.0][:, -1], runs.fields["east", 0.0][:, -1], torch.float32)  # the present
    for place in (8, 20, 29):
        for axis in followed.AXES:
            found = followed.moved_by(0.7 * runs.tried[axis][place], runs.tried[axis])
            np.testing.assert_allclose(found, followed.TRIED[place], atol=0.02)
    perfect = {(axis, by): np.array([by, by + 1.0]) for axis in followed.AXES for by in followed.ADDED}
    assert followed.slope(perfect) == [1.0, 1.0, 1.0]


def test_maps_along_an_axis(compare):
    followed = load("attention", "followed")
    maps = np.zeros((2, 4, 5, 3, 3))
    maps[..., 0, 2] = 1.0  # one position northward and eastward
    weight = np.random.default_rng(0).random((2, 4, 5))
    for axis in followed.AXES:
        np.testing.assert_allclose(followed.looks(maps, axis, 4, weight), 4.0)


@pytest.fixture
def removed(compare):
    return load("attention", "removed")


def test_what_is_removed_lies_upstream(removed):
    moved = torch.tensor([[[[0.0, 2.0], [-1.0, 0.0]]]])  # eastward, northward
    generator = torch.Generator().manual_seed(0)
    kept = {w: removed.kept_without(moved, 2, 3, w, generator).unflatten(-1, (5, 5)) for w in removed.WHICH}
    for taken in (1 - k for k in kept.values()):
        assert taken.shape == (1, 1, 2, 3, 5, 5)
        assert taken[..., 2, :, :].sum() == 0  # the present
        assert taken[..., 2, 2].sum() == 0  # the position itself
        assert torch.equal(taken[..., 0, :, :], taken[..., 1, :, :])
        assert (taken.sum((-2, -1))[0, 0, :, :2] == 4).all()  # within 45° of an axis: 1 and 3 positions
    west = 1 - kept["upstream"][0, 0, 0, 0]
    assert west.nonzero().tolist() == [[1, 0], [2, 0], [2, 1], [3, 0]]
    south = 1 - kept["upstream"][0, 0, 1, 0]
    assert south.nonzero().tolist() == [[3, 2], [4, 1], [4, 2], [4, 3]]
    assert torch.equal(kept["downstream"][0, 0, 0, 0], kept["upstream"][0, 0, 0, 0].flip(-1))


def test_attention_without_some_positions_is_that_with_a_bias_of_minus_infinity(removed):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, *frames, 2, 3, 6, 7) for frames in ((), (3,), (3,)))
    bias, offsets = torch.zeros(2, 3, 9), torch.randn(2, 3, 9, 3)
    kept = torch.ones(1, 6, 7, 3, 9)
    kept[..., 0, 1] = kept[..., 1, 5] = 0.0
    masked = bias.masked_fill(kept[0, 0, 0] == 0, -torch.inf)
    expected = neighbourhood_attention(query, key, value, masked, offsets, offsets)
    import atmoloss.attention

    with removed.reading_only(kept):
        got = atmoloss.attention.neighbourhood_attention(query, key, value, bias, offsets, offsets)
        one = [x[:, :1] for x in (key, value, bias, offsets, offsets)]
        one_field = atmoloss.attention.neighbourhood_attention(query, *one)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, torch.float32)
    unmasked = neighbourhood_attention(query, *one)
    assert all(torch.equal(a, b) for a, b in zip(one_field, unmasked, strict=True))


@pytest.fixture
def tiny_arms(trainings, tmp_path, monkeypatch):
    """Both kinds of arms, of a few hundred weights, on a small fluid and a small globe."""
    latitude, longitude = axes("both poles", 36)
    times = every_six_hours(13 * 4)
    dims = ("time", "latitude", "longitude")
    rng = np.random.default_rng(0)
    winds = {name: (dims, 100 * rng.standard_normal((len(times), 37, 72)), {"units": "m s-1"}) for name in "uv"}
    data = xarray.Dataset(winds, dict(zip(dims, (times, latitude, longitude), strict=True)))
    data.to_netcdf(tmp_path / "globe.nc", engine="h5netcdf")
    lengths = {**TINY, "steps": 2, "freeze_batch_norm_after": 1, "batch_size": 2, "validation_patches": 1}
    fluid = {"config": "../../examples/fluid/next.toml", "validation": ["2001-01-03/2001-01-04"]}
    winds = {"config": "winds.toml", "patch_sizes": [16], "validation": ["2026-05-06/2026-05-08"]}
    winds["sources"] = [{"name": "gfs-1deg-850hPa", "path": str(tmp_path / "globe.nc")}]
    arms = {
        "fluid": {**fluid, **lengths, "test": ["2001-01-05/2001-01-06"]},
        "winds": {**winds, **lengths, "test": ["2026-05-09/2026-05-12"]},
    }
    monkeypatch.setattr(trainings, "SPEC", {**copy.deepcopy(trainings.SPEC), "arms": arms})
    monkeypatch.setattr(trainings, "_RUNS", 6)
    monkeypatch.setattr(trainings, "_VALIDATION_BATCHES", 1)
    monkeypatch.setattr("atmoloss.training.predict._PUBLISHED_BATCHES", 1)
    return [("fluid", 0), ("winds", 0)]


def test_arms_are_trained_tested_and_disturbed(compare, trainings, tiny_arms, tmp_path, monkeypatch):
    tested, causal = sys.modules["tested"], load("attention", "causal")
    results = tmp_path / "results"
    for module in (trainings, tested, causal):
        monkeypatch.setattr(module, "RESULTS", results)
    for module in (tested, causal):
        monkeypatch.setattr(module, "ROWS", results / "tested.jsonl")
    monkeypatch.setattr(tested, "MAPPED", {4: 3})
    monkeypatch.setattr(tested, "DERIVED", 2)
    monkeypatch.delitem(tested.GRADIENTS, "fluid")  # 256 backward passes
    monkeypatch.setattr(causal, "fresh_runs", functools.partial(causal.fresh_runs, 12))
    runs = tmp_path / "runs"
    trainings.train_all(tiny_arms, runs, jobs=1)
    rows = trainings.read_rows(results / "trained.jsonl")
    assert {(row["arm"], row["seed"]) for row in rows} == set(tiny_arms)
    assert all(entry["error"] > 0 for row in rows for entry in row["validation"].values())
    trainings.train_all(tiny_arms, runs, jobs=1)  # nothing is left to do
    assert trainings.read_rows(results / "trained.jsonl") == rows
    assert not (runs / "winds-0" / "weights").exists()  # test dates have not been opened
    tested.test_all(tiny_arms, runs, jobs=1)
    text = (results / "test.md").read_text()
    assert "| fluid | fluid | vorticity | physical | 1 |" in text
    for method in ("head", "rollout", "gradient"):
        assert f"| winds | gfs-1deg-850hPa | {method} | t−2 |" in text
    monkeypatch.setattr(sys, "argv", ["causal.py", "--runs", str(runs), "--seeds", "0"])
    assert causal.main() == 0
    text = (results / "causal.md").read_text()
    assert "| prediction | t+1 |  | trained |" in text
    assert "| gfs-1deg-850hPa | upstream |" in text
