"""Semivariograms against their expectation."""

import numpy as np
import pytest
from scipy.special import eval_legendre

from atmoloss.errors import InputError
from atmoloss.verification import semivariogram
from atmoloss.verification.statistics.variogram import pair_semivariance
from tests.verification.conftest import TIMES, axes, band_limited, field, grid_at

LAGS = (300.0, 1000.0, 3000.0)


def semivariance(values, latitude, longitude, lags, n_samples):
    """Time mean of γ of values (T, H, W) or (H, W)."""
    values = np.asarray(values).reshape(-1, latitude.size, longitude.size)
    grid = grid_at(latitude, longitude)
    return pair_semivariance(values, TIMES[: len(values)], grid, np.array(lags), n_samples, 0).mean(0)


@pytest.mark.parametrize("rows", ["both poles", "no south pole", "half a step"])
def test_expectation_of_a_random_field(rows):
    latitude, longitude = axes(rows, 360)
    power = 1 / (1 + np.arange(31.0))
    values = band_limited(power, latitude, longitude, n_times=4)
    cosine = np.cos(np.array(LAGS) * 1e3 / 6.371e6)
    expected = sum(p * (1 - eval_legendre(degree, cosine)) for degree, p in enumerate(power))
    np.testing.assert_allclose(semivariance(values, latitude, longitude, LAGS, 20_000), expected, rtol=0.04)


def test_normalised_by_the_truth_and_at_the_same_points():
    latitude, longitude = axes("both poles", 90)
    power = np.concatenate(([0.0], np.ones(20)))
    truth = field(3 * band_limited(power, latitude, longitude, n_times=3), latitude, longitude)
    own = semivariogram(truth)
    expected = 1 - np.mean([eval_legendre(degree, np.cos(1000 / 6371)) for degree in range(1, 21)])
    assert float(own.sel(lag=1000)) == pytest.approx(expected, rel=0.06)
    assert own.attrs["units"] == "1"
    assert own["lag"].attrs["units"] == "km"
    half = semivariogram(truth / 2, truth)
    np.testing.assert_allclose(half, own / 4, rtol=1e-12)
    np.testing.assert_allclose(semivariogram(truth.isel(time=[2, 0, 1]), truth), own, rtol=1e-12)
    assert not np.allclose(semivariogram(truth, seed=1), own, rtol=1e-6)


def test_distances_are_right_everywhere():
    """Sine of latitude: γ depends on the distance alone only if points and directions are uniform on the sphere."""
    latitude, longitude = axes("both poles", 180)
    values = np.sin(np.deg2rad(latitude))[:, None] * np.ones(360)
    expected = (1 - np.cos(np.array([500.0, 2000.0]) * 1e3 / 6.371e6)) / 3
    np.testing.assert_allclose(semivariance(values, latitude, longitude, (500, 2000), 100_000), expected, rtol=0.02)


def test_a_region_uses_pairs_inside_it():
    latitude, longitude = np.linspace(50, 40, 101), np.linspace(355, 365, 101)
    values = np.deg2rad(latitude)[:, None] * np.ones(101)
    gamma = semivariance(values, latitude, longitude % 360, (100, 300, 3000), 50_000)
    # Δφ = (h/a) cos α in the plane: ½ ⟨Δφ²⟩ = (h/a)²/4; at 300 km pairs that leave the region distort the directions.
    assert float(gamma[0]) == pytest.approx((100 / 6371) ** 2 / 4, rel=0.05)
    assert float(gamma[1]) == pytest.approx((300 / 6371) ** 2 / 4, rel=0.15)
    assert np.isnan(gamma[2])


def test_refusals(one_sentence):
    latitude, longitude = axes("both poles", 45)
    f = field(np.ones((46, 90)), latitude, longitude)
    for words, options in (
        (("lags_km", "positive"), {"lags_km": (0.0, 50.0)}),
        (("n_samples",), {"n_samples": 0}),
    ):
        with pytest.raises(InputError) as error:
            semivariogram(f, **options)
        one_sentence(error.value, *words)


def test_against_gstools():
    """All pairs of 3,000 random points in bins of distance, by another library, and our pairs at these distances."""
    gstools = pytest.importorskip("gstools", reason="gstools, the reference of this test, is not installed (extra dev)")
    latitude, longitude = axes("half a step", 180)
    power = 1 / (1 + np.arange(21.0))
    values = band_limited(power, latitude, longitude)[0]
    draw = np.random.default_rng(2)
    # Rows by their area, as points uniform on the sphere would fall on them.
    area = np.cos(np.deg2rad(latitude))
    rows, columns = draw.choice(latitude.size, 3000, p=area / area.sum()), draw.integers(longitude.size, size=3000)
    edges = np.array([950.0, 1050.0, 2950.0, 3050.0, 5950.0, 6050.0])
    _, expected = gstools.vario_estimate(
        (latitude[rows], longitude[columns]), values[rows, columns], edges, latlon=True, geo_scale=6371.0
    )
    gamma = semivariance(values, latitude, longitude, (1000.0, 3000.0, 6000.0), 100_000)
    np.testing.assert_allclose(gamma, expected[::2], rtol=0.05)  # of 30,000 pairs of 3,000 points
