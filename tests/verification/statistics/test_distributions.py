"""Histograms and tails of fields whose distributions are known."""

import numpy as np
import pytest
from scipy.stats import norm

from atmoloss.errors import InputError
from atmoloss.verification import histogram, tails
from tests.verification.conftest import LATITUDE, LONGITUDE, field, noise


def test_shares_are_of_area():
    f = field(np.sin(np.deg2rad(LATITUDE))[:, None] * np.ones(128), LATITUDE, LONGITUDE)
    shares = histogram(f, np.linspace(-1, 1, 5))
    np.testing.assert_allclose(shares[0], 0.25, atol=0.02)  # sin φ is uniform over the sphere
    assert float(shares.sum()) == pytest.approx(1.0)
    assert shares["bin"].attrs["units"] == "s-1"
    outside = histogram(f, np.linspace(-0.1, 0.1, 3))
    np.testing.assert_allclose(outside[0], 0.5, atol=1e-12)


def test_tails_of_a_normal_distribution():
    f = field(noise(16), LATITUDE, LONGITUDE)
    # 131,000 values, of unequal weight: the 99.9th percentile is known to 0.03.
    np.testing.assert_allclose(tails(f), norm.ppf([0.001, 0.999]), atol=0.1)
    uniform = field(np.sin(np.deg2rad(LATITUDE))[:, None] * np.ones(128), LATITUDE, LONGITUDE)
    np.testing.assert_allclose(tails(uniform, (25, 50, 75)), [-0.5, 0, 0.5], atol=0.05)  # a row is 0.05 from the next
    assert tails(field(np.full((64, 128), 7.0), LATITUDE, LONGITUDE)).values == pytest.approx([7, 7], abs=0.01)


def test_uneven_bins_are_refused(one_sentence):
    with pytest.raises(InputError) as error:
        histogram(field(noise(), LATITUDE, LONGITUDE), [0.0, 1.0, 3.0])
    one_sentence(error.value, "edges", "even")
