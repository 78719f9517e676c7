"""The figures show the numbers of the metrics, and no figure of other weights stays beside them."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest

from atmoloss.training import figures
from atmoloss.training.card import FIGURES

pytest.importorskip("matplotlib")


@pytest.fixture
def metrics() -> dict:
    """Metrics of one test source with three lag classes."""
    scores = {"distance": 0.9, "MSE of fields": 0.8, "MSE of fields, mean of 2x2": 0.85}
    return {
        "sources": [
            {
                "name": "japan",
                "split": "test",
                "lag_2afc": {name: {"value": v, "interval": [v - 0.02, v + 0.01]} for name, v in scores.items()},
                "classes": {
                    "confusion": [[3, 1, 0], [1, 2, 1], [0, 0, 0]],
                    "per_lag": [{"hours": h, "top3": t} for h, t in ((3, 1.0), (6, 0.75), (9, 0.5))],
                },
            }
        ],
        "lag_hours": [3, 6, 9],
        "lag_curves": {"japan": {"stage1": [1.0, 2.0, 3.0], "mse": [0.5, None, 1.5]}},
        "config": {"validation": ["2020-01-01/2020-01-31"]},
    }


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """The axes of every figure that was written, by name."""
    axes, draw = {}, figures._axes

    @contextlib.contextmanager
    def keep(path, *size, **labels):
        with draw(path, *size, **labels) as axes[path.stem]:
            yield axes[path.stem]

    monkeypatch.setattr(figures, "_axes", keep)
    return axes


def test_figures_show_the_metrics(metrics, info, drawn, tmp_path):
    info = dataclasses.replace(info, n_lag_classes=3, layers={"stage1": 0.5}, layer_scales={"stage1": 0.4})
    figures.write_figures(tmp_path, info, metrics)
    assert set(drawn) == set(FIGURES) == {path.stem for path in (tmp_path / "figures").iterdir()}
    image = drawn["confusion"].images[0]
    np.testing.assert_array_equal(image.get_array(), [[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 0, 0]])
    assert list(image.get_extent()) == [1.5, 10.5, 1.5, 10.5]  # a class of 3 h is 3 h wide
    (line,) = drawn["accuracy_per_lag"].lines
    np.testing.assert_array_equal(line.get_xydata(), [[3, 1], [6, 0.75], [9, 0.5]])
    distance, mse = drawn["distance_vs_lag"].lines
    np.testing.assert_allclose(distance.get_xydata(), [[3, 0.2], [9, 0.6]])  # share × scale × mean, where a pair has it
    np.testing.assert_array_equal(mse.get_xydata(), [[3, 0.5], [9, 1.5]])
    shown = {bar.get_label(): bar for bar in drawn["lag_2afc"].containers}
    assert float(shown["distance"].lines[0].get_xdata()[0]) == 0.9
    assert float(shown["best baseline"].lines[0].get_xdata()[0]) == 0.85
    ((low, high),) = (segment[:, 0] for segment in shown["distance"].lines[2][0].get_segments())
    assert (low, high) == pytest.approx((0.88, 0.91))


def test_figures_without_dates_for_them_go(metrics, info, tmp_path):
    info = dataclasses.replace(info, n_lag_classes=3, layers={"stage1": 0.5}, layer_scales={"stage1": 0.4})
    figures.write_figures(tmp_path, info, metrics)
    figures.write_figures(tmp_path, info, {**metrics, "sources": []})
    assert [path.stem for path in (tmp_path / "figures").iterdir()] == ["distance_vs_lag"]
