"""The tables of a report: which score is nearest, in which power of ten, and at how many cities a model is better."""

import re

import numpy as np
import pytest

from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report.tables import city_table, difference_table, period, score_table
from atmoloss.verification.results import Difference, Evaluation, Score

SETTINGS = {"n_times": 12, "first_time": "2026-01-01T00:00", "last_time": "2026-01-12T00:00"}
_LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [2.5e-5, 0.004, 3.0, 7e5])
def test_only_units_of_a_field_have_powers_of_ten(metric, size):
    """Beside an ideal of 1 or 0 dB a value of 0.004 is not 4.00 in units of 10⁻³, nor is a difference of logarithms."""
    known = METRICS[metric]
    units = known.units or "m s-1"
    scores = [Score("u", metric, "a", size, 0.9 * size, 1.1 * size, units)]
    differences = [Difference("u", metric, "a", -size, -1.1 * size, -0.9 * size, units, other="b")]
    evaluation = Evaluation(tuple(scores), tuple(differences), {}, ("a",), SETTINGS, ())
    for table, sign in ((score_table(evaluation, "u"), 1), (difference_table(evaluation, "u"), -1)):
        (row,) = table.rows
        unit, printed = row[1][0], row[-1][0]
        power = re.match(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+) ", unit)
        assert bool(power) == (known.units is None and size != 3.0)
        factor = 10.0 ** int(power[1].translate(_LOWERED)) if power else 1.0
        shown = re.fullmatch(r"(\S+) \[\S+, \S+\](?: ×10(\S+))?", printed)
        factor *= 10.0 ** int(shown[2].translate(_LOWERED)) if shown[2] else 1.0
        assert float(shown[1].replace("−", "-")) * factor == pytest.approx(sign * size, rel=5e-3)
        if known.scale != "difference":
            assert unit == ("ratio" if sign > 0 else "ln of ratio")


def test_the_nearest_to_the_ideal_is_bold():
    values = {"rmse": (2.0, 1.0), "ssim": (0.9, 0.5), "peak_2": (0.5, 0.9), "unresolved_power": (np.nan, 0.3)}
    scores = [
        Score("u", metric, model, value, np.nan, np.nan, METRICS[metric].units or "m s-1")
        for metric, pair in values.items()
        for model, value in zip("ab", pair, strict=True)
    ]
    table = score_table(Evaluation(tuple(scores), (), {}, ("a", "b"), SETTINGS, ()), "u")
    assert table.header == ("score", "unit", "ideal", "a", "b")
    assert [row[2][0] for row in table.rows] == ["0", "1", "≤ 1", "1"]
    assert table.rows[0][3:] == [("2.00", False), ("1.00", True)]
    assert table.rows[1][3:] == [("0.900", True), ("0.500", False)]
    assert [bold for _, bold in table.rows[2][3:]] == [True, True]  # values below 1 are no fault
    assert table.rows[3][3:] == [("–", False), ("0.300", True)]


def test_a_difference_whose_interval_excludes_0_is_bold():
    intervals = {"rmse": (-2.0, -1.0), "mae": (-1.0, 1.0), "mean_map": (1.0, 2.0)}
    differences = [
        Difference("u", metric, "a", (low + high) / 2, low, high, "K", other="b")
        for metric, (low, high) in intervals.items()
    ]
    table = difference_table(Evaluation((), tuple(differences), {}, ("a", "b"), SETTINGS, ()), "u")
    assert table.header == ("score", "unit", "a − b")
    assert [row[2] for row in table.rows] == [
        ("−1.50 [−2.00, −1.00]", True),
        ("+0.00 [−1.00, +1.00]", False),
        ("+1.50 [+1.00, +2.00]", True),
    ]
    assert difference_table(Evaluation((), (), {}, ("a",), SETTINGS, ()), "u") is None


def test_cities_are_counted(evaluation):
    (row,) = city_table(evaluation, "vorticity").rows
    assert row[0] == ("half against noise", False)
    assert sum(int(text) for text, _ in row[1:]) == 150
    distances = evaluation.curves["vorticity"]["wasserstein"].values
    larger = distances.max(0)
    assert int(row[1][0]) == (distances[1] - distances[0] > 0.1 * larger).sum()
    assert city_table(evaluation, "kinetic_energy") is None


def test_the_period():
    assert period(Evaluation((), (), {}, (), SETTINGS, ())) == "12 times from 2026-01-01 00:00 to 2026-01-12 00:00 UTC"
