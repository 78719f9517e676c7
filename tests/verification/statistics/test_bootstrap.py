"""Intervals over blocks of time."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification.statistics.bootstrap import BlockBootstrap
from tests.verification.conftest import TIMES, noise


def test_blocks_follow_the_calendar():
    times = np.datetime64("2026-01-01", "ns") + np.array([0, 6, 119, 120, 24 * 40]) * np.timedelta64(1, "h")
    draws = BlockBootstrap(times, block_days=5, n=50)
    assert draws.block.tolist() == [0, 0, 0, 1, 2]  # the gap makes no empty blocks
    assert draws.sizes.tolist() == [3, 1, 1]
    values = np.array([1.0, 2, 3, 10, 20])
    samples = draws.means(draws.block_sums(values))
    assert samples[0] == pytest.approx(values.mean())
    counts = draws.counts[7]
    assert counts.sum() == 3
    assert samples[7] == pytest.approx((counts @ [6, 10, 20]) / (counts @ [3, 1, 1]))


def test_single_blocks_have_no_interval_and_values_lie_in_theirs():
    series = noise(8)[:, 0, 0]
    draws = BlockBootstrap(TIMES[:8])  # two days
    value, *interval = draws.bounds(draws.means(draws.block_sums(series)))
    assert value == pytest.approx(series.mean())
    assert np.isnan(interval).all()
    draws = BlockBootstrap(TIMES, 1.0)
    bounds = draws.bounds(np.sqrt(draws.means(draws.block_sums(noise(64)[:, 0, 0])) ** 2))  # |mean|: biased draws
    assert bounds[1] <= bounds[0] <= bounds[2]


def test_coverage_of_autocorrelated_series():
    """Blocks of 40 steps cover the mean of AR(1) series (e-folding 4.5 steps) nearly as often as they say, of 1 not.

    The standard error of a share of 0.93 out of 300 series is 0.015.
    """
    draw = np.random.default_rng(0)
    times = np.datetime64("2020-01-01", "ns") + np.arange(1200) * np.timedelta64(1, "D")
    shocks = draw.normal(size=(1700, 300))
    series = np.zeros_like(shocks)
    for i in range(1, len(shocks)):
        series[i] = 0.8 * series[i - 1] + shocks[i]
    series = series[500:]
    covered = {}
    for days in (1, 40):
        draws = BlockBootstrap(times, days, n=400)
        _, low, high = draws.bounds(draws.means(draws.block_sums(series)))
        covered[days] = float(((low < 0) & (high > 0)).mean())
    assert 0.89 < covered[40] < 0.98
    assert covered[1] < 0.6


def test_ratios_are_of_what_the_drawn_blocks_hold():
    draws = BlockBootstrap(TIMES[[0, 30, 60]], 5.0, n=20)
    sums, totals = np.array([[1.0], [4.0], [10.0]]), np.array([2.0, 1.0, 4.0])
    expected = [(c @ sums[:, 0]) / (c @ totals) for c in draws.counts]
    np.testing.assert_allclose(draws.ratios(sums, totals)[:, 0], expected)


@pytest.mark.parametrize(("times", "days", "n"), [(TIMES, 0, 10), (TIMES, 5, 0), (TIMES[:0], 5, 10), (TIMES[0], 5, 10)])
def test_nothing_to_draw_is_refused(times, days, n, one_sentence):
    with pytest.raises(InputError) as error:
        BlockBootstrap(times, days, n)
    one_sentence(error.value, "expected", "positive" if times is TIMES else "at least one time")
