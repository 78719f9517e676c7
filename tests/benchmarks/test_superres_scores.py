"""Scores of the comparisons that are not of ``atmoloss.verification``, on fields with known answers."""

import numpy as np
import pytest
import scipy.ndimage

from atmoloss.data.sample import open_sample
from tests.verification.conftest import xarray

from .loading import load


@pytest.fixture(scope="module")
def realism():
    module = load("superres", "realism")
    module._STEPS, module._DRAWS = 50, 40  # enough for fields as plain as these
    return module


def noise(seed: int, smooth: float = 0.0, days: int = 8):
    """Two variables of white noise, every 6 hours, smoothed or not to a standard deviation of 1."""
    times = np.datetime64("2026-01-01", "ns") + np.arange(4 * days) * np.timedelta64(6, "h")
    values = np.random.default_rng(seed).normal(size=(2, 4 * days, 48, 64))
    values = scipy.ndimage.gaussian_filter(values, (0, 0, smooth, smooth), mode="wrap") if smooth else values
    dims, values = ("time", "latitude", "longitude"), (values / values.std()).astype(np.float32)
    coords = {"time": times, "latitude": 24.0 - np.arange(48), "longitude": np.arange(64.0)}
    return xarray.Dataset({"divergence": (dims, values[0]), "vorticity": (dims, values[1])}, coords)


def test_equal_distributions_are_a_coin_and_smooth_fields_give_themselves_away(realism, monkeypatch):
    truth = noise(0)
    monkeypatch.setattr(realism, "DILATIONS", {cells: realism.DILATIONS[cells] for cells in (5, 13)})
    scores = realism.realism_scores(truth, {"same": noise(1), "smooth": noise(2, 1.0)})
    assert len(scores) == 3 * 2
    for s in scores:
        if s.model == "smooth":
            assert s.value > 0.97, s
        else:  # noise of other numbers, and other days of the truth
            # About 700 patches of each kind: a standard error of 0.015.
            assert s.value == pytest.approx(0.5, abs=0.06), s
        assert s.low <= s.value <= s.high, s


def test_outputs_see_what_their_receptive_field_says(realism):
    import torch

    for cells in realism.DILATIONS:
        network = realism.classifier(1, cells)
        x = torch.zeros(1, 1, cells, cells, requires_grad=True)
        out = network(x)
        assert out.shape == (1, 1, 1, 1)
        (slope,) = torch.autograd.grad(out.sum(), x)
        assert all(slope[0, 0, i, j] != 0 for i in (0, -1) for j in (0, -1))


def test_the_half_that_trains_is_not_the_half_that_is_scored(realism, monkeypatch):
    seen = []
    train = realism.train
    monkeypatch.setattr(realism, "train", lambda fields, *rest: seen.append(fields) or train(fields, *rest))
    truth = noise(0)
    true = realism.source_from_dataset(truth, "t")
    realism.area_under_curve(true, true, 5)
    expected = realism.days(true) // realism.HALF_DAYS % 2 == 0
    assert expected.sum() == 16
    first = seen[0][0].numpy()
    values = true.values[expected]
    mean, std = values.mean((0, 2, 3), keepdims=True), values.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(first, (values - mean) / std, rtol=1e-3, atol=1e-3)


def test_analyses_twelve_hours_apart_are_twelve_hours_apart():
    distances = load("superres", "distances")
    fields = open_sample()
    truth, earlier = fields.isel(time=slice(2, 10)), fields.isel(time=slice(0, 8)).assign_coords(
        time=fields["time"][2:10]
    )  # fmt: skip
    scores = distances.atmodist_scores(truth, {"same": truth, "earlier": earlier}, "10 m")
    values = {(s.model, s.metric): s for s in scores}
    assert values["same", "AtmoDist distance"].value == 0
    assert values["same", "AtmoDist hours"].value == 0
    assert 9 < values["earlier", "AtmoDist hours"].value < 16
    assert values["earlier", "AtmoDist hours"].units == "h"


def test_rows_are_added_as_arms_come(tmp_path):
    rows = load("superres", "rows")
    path = tmp_path / "results" / "arms.jsonl"
    assert rows.read_rows(path) == []
    assert sorted(r["length"] for r in rows.trained(measure, ["a", "bcd"], path, 2)) == [1, 3]
    rows.add_row(path, {"arm": "e", "length": 0})
    assert {r["arm"] for r in rows.read_rows(path)} == {"a", "bcd", "e"}


def measure(arm: str) -> dict:
    return {"arm": arm, "length": len(arm)}


def test_table_has_intervals_and_means_over_seeds():
    report = load("superres", "report")
    values = {"mse": 1.0, "mse, seed 1": 3.0, "amse": 5.0}
    scores = [report.Score("fields", "AtmoDist hours", m, v, v - 0.5, v + 0.5, "h") for m, v in values.items()]
    scores += [report.Score("fields", "rmse", m, 1e-5 * v, 0, 5e-5, "s-1") for m, v in values.items()]
    scores += [report.Score("fields", "ssim", m, v / 10, 0, 1, "1") for m, v in values.items()]
    assert report.section("both", scores) == [
        "## both",
        "",
        "| content | AtmoDist hours | RMSE, 10⁻⁵ s⁻¹ | SSIM |",
        "|---|---|---|---|",
        "| mse | 1 [0.5, 1.5] | 1 [0, 5] | 0.1 [0, 1] |",
        "| mse, seed 1 | 3 [2.5, 3.5] | 3 [0, 5] | 0.3 [0, 1] |",
        "| amse | 5 [4.5, 5.5] | 5 [0, 5] | 0.5 [0, 1] |",
        "",
        "| mean ± standard deviation | AtmoDist hours | RMSE, 10⁻⁵ s⁻¹ | SSIM |",
        "|---|---|---|---|",
        "| mse: 2 seeds | 2 ± 1.4 | 2 ± 1.4 | 0.2 ± 0.14 |",
        "",
    ]
