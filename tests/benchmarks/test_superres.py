"""The comparison of content losses: how an arm is chosen and scored."""

import numpy as np
import pytest

from atmoloss.data.sources import FieldSource

from .loading import load


@pytest.fixture(scope="module")
def compare():
    return load("superres", "compare")


@pytest.fixture(scope="module")
def arms():
    return load("superres", "arms")


def row(content, weight, steps, rmse, spectral):
    scores = {"rmse": rmse, "log_spectral_distance": spectral}
    both = {"divergence": scores, "vorticity": scores}
    return {"content": content, "adversarial_weight": weight, "steps": steps, "seed": 0, "scores": {"source": both}}


def test_weight_with_the_best_spectrum_at_nearly_the_pixel_error_of_the_start_is_chosen(compare):
    sweep = compare.ARMS["sweep_steps"]
    rows = [
        row("start", 0.0, 0, 1.0, 9.0),
        row("l1", 0.0, sweep, 0.9, 8.0),
        row("l1", 0.001, sweep, 1.05, 5.0),
        row("l1", 0.01, sweep, 1.2, 2.0),  # sharp, at too large an error
        row("l1", 0.003, sweep + 1, 1.0, 1.0),  # not of the sweep
        row("amse", 0.001, sweep, 1.3, 1.0),
        row("amse", 0.01, sweep, 1.2, 2.0),
    ]
    assert compare.chosen_weight("l1", rows) == 0.001
    assert compare.chosen_weight("amse", rows) == 0.01  # none is near: the smallest error
    with pytest.raises(SystemExit, match="no rows of facl"):
        compare.chosen_weight("facl", rows)


def test_every_arm_has_a_configuration(compare, tmp_path):
    for content in compare.ARMS["contents"]:
        config = compare.config_of((content, 0.001, compare.ARMS["steps"], 1), tmp_path)
        expected = compare.ARMS["contents"][content].get("content", content)
        assert (config.content, config.adversarial_weight, config.seed) == (expected, 0.001, 1)
        assert config.pretraining == 0
    assert set(compare.ARMS["finalists"]) <= set(compare.ARMS["contents"])


def test_finals_are_the_finalists_with_every_seed_and_some_with_an_adversary(compare, tmp_path, monkeypatch):
    rows = [row("start", 0.0, 0, 1.0, 9.0), row("mse", 0.01, compare.ARMS["sweep_steps"], 1.0, 8.0)]
    monkeypatch.setattr(compare, "read_rows", lambda path: rows)
    steps = compare.ARMS["finals_steps"]
    expected = [("mse", 0.0, steps, 0), ("mse", 0.01, steps, 0), ("mse", 0.0, steps, 1)]
    assert compare.finals(["mse", "facl"], [0, 1]) == expected  # facl is no finalist
    config = compare.config_of(expected[0], tmp_path)
    assert (config.steps, config.final_steps) == (steps, compare.ARMS["finals_last"])


def test_truth_is_the_source_where_fields_were_made(arms):
    values = np.arange(2 * 2 * 9 * 8, dtype=np.float32).reshape(2, 2, 9, 8)
    times = np.array(["2026-05-01", "2026-05-02"], "datetime64[ns]")
    source = FieldSource(
        name="s",
        channels=("divergence", "vorticity"),
        values=values,
        times=times,
        run=np.zeros(2, int),
        latitude=np.linspace(40, 32, 9),
        longitude=np.arange(8.0),
    )
    made = arms.dataset(values[:, :, :8], source, source.latitude[:8], source.longitude)
    truth = arms.truth_like(made, source)
    np.testing.assert_array_equal(truth["vorticity"].values, values[:, 1, :8])
    assert truth["vorticity"].attrs["units"] == "s-1"
    assert len(arms.thinned(source, 2).times) == 1
