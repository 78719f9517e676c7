"""How far a score is from its ideal."""

import numpy as np
import pytest

from atmoloss.verification.metrics import METRICS


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_ideal_is_no_distance_from_itself(metric):
    assert metric.from_ideal(metric.ideal) == 0
    assert METRICS[metric.name] is metric


@pytest.mark.parametrize(
    ("name", "values", "distances"),
    [
        ("rmse", [0.0, 2.0], [0.0, 2.0]),
        ("ssim", [0.25, 1.0], [0.75, 0.0]),
        ("upper_tail", [-30.0, 30.0], [30.0, 30.0]),
        ("unresolved_power", [0.5, 2.0, 0.0], [np.log(2), np.log(2), np.inf]),
        ("peak_2", [0.5, 2.0, 0.0], [0.0, np.log(2), 0.0]),  # below 1 nothing stands out
    ],
)
@pytest.mark.filterwarnings("error")
def test_differences_ratios_and_excess(name, values, distances):
    np.testing.assert_allclose(METRICS[name].from_ideal(np.array(values)), distances)
