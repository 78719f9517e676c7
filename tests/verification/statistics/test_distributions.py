"""Histograms and tails of fields whose distributions are known."""

import numpy as np
import pytest
from scipy.stats import norm

from atmoloss.verification.statistics.distributions import area_shares, bin_edges, percentiles_of_histogram
from tests.verification.conftest import GRID, LATITUDE, LONGITUDE, field, noise

SINE = np.broadcast_to(np.sin(np.deg2rad(LATITUDE))[:, None], (1, 64, 128))  # uniform over the sphere


def percentiles(values, wanted):
    edges = bin_edges([field(values, LATITUDE, LONGITUDE)], 4096)
    return percentiles_of_histogram(area_shares(values, edges, GRID).mean(0), edges, wanted)


def test_shares_are_of_area():
    shares = area_shares(SINE, np.linspace(-1, 1, 5), GRID)
    np.testing.assert_allclose(shares[0], 0.25, atol=0.02)
    assert float(shares.sum()) == pytest.approx(1.0)
    outside = area_shares(SINE, np.linspace(-0.1, 0.1, 3), GRID)
    np.testing.assert_allclose(outside[0], 0.5, atol=1e-12)


def test_tails_of_a_normal_distribution():
    # 131,000 values, of unequal weight: the 99.9th percentile is known to 0.03.
    np.testing.assert_allclose(percentiles(noise(16), (0.1, 99.9)), norm.ppf([0.001, 0.999]), atol=0.1)
    np.testing.assert_allclose(
        percentiles(SINE, (25, 50, 75)), [-0.5, 0, 0.5], atol=0.05
    )  # a row is 0.05 from the next
    assert percentiles(np.full((1, 64, 128), 7.0), (0.1, 99.9)) == pytest.approx([7, 7], abs=0.01)


def test_percentiles_are_linear_within_bins_and_step_over_empty_ones():
    edges, shares = np.arange(6.0), np.array([[2.0, 0, 0, 0, 2.0], [0, 1.0, 1.0, 0, 0]])
    result = percentiles_of_histogram(shares, edges, (25, 75))
    np.testing.assert_allclose(result, [[0.5, 4.5], [1.5, 2.5]])


def test_bins_reach_from_the_least_to_the_largest_value_of_all():
    fields = [field(np.full((2, 64, 128), value), LATITUDE, LONGITUDE) for value in (-2.0, 3.0)]
    np.testing.assert_allclose(bin_edges(fields, 5), np.arange(-2, 4))
