"""Moments, tails, pixel errors, artefacts and the bootstrap, on data whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from atmoloss.errors import InputError
from atmoloss.verification import (
    bootstrap_mean,
    grid_artefacts,
    grid_scale_power,
    histogram,
    pixel_errors,
    tails,
    time_moment_errors,
    time_moments,
)
from atmoloss.verification.statistics.bootstrap import BlockBootstrap
from tests.verification.conftest import TIMES, axes, field

LATITUDE, LONGITUDE = axes("half a step", 64)


def noise(n=1, seed=0, shape=(64, 128)):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def test_moments_over_time():
    t = np.arange(64.0)[:, None, None]
    amplitude = np.abs(LATITUDE)[:, None] * np.ones(128)
    f = field(3 + amplitude * np.sin(2 * np.pi * t / 64), LATITUDE, LONGITUDE)
    found = time_moments(f)
    np.testing.assert_allclose(found["mean"], 3, atol=1e-10)
    np.testing.assert_allclose(found["std"], amplitude / np.sqrt(2), rtol=1e-12)
    errors = time_moment_errors(1 + 2 * f, f)
    assert float(errors["mean"]) == pytest.approx(4.0)  # 1 + 2·3 − 3
    area = np.diff(np.sin(np.deg2rad(np.linspace(90, -90, 65)))) / -2
    assert float(errors["std"]) == pytest.approx(np.sqrt((area * LATITUDE**2).sum() / 2), rel=1e-12)


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


def test_pixel_errors_weigh_area():
    truth = field(noise(2), LATITUDE, LONGITUDE)
    shifted = pixel_errors(truth + 0.5, truth)
    np.testing.assert_allclose(shifted["mse"], 0.25)
    np.testing.assert_allclose(shifted["mae"], 0.5)
    polar = truth + xarray_step(truth)
    expected = (1 - np.sin(np.deg2rad(45))) / 2  # share of the cap north of 45 N
    np.testing.assert_allclose(pixel_errors(polar, truth)["mse"], expected, rtol=1e-12)
    np.testing.assert_allclose(pixel_errors(truth, truth)["ssim"], 1)


def xarray_step(f):
    return (f.latitude > 45) * 1.0


def test_half_a_translation_of_a_wave():
    """A wave moved by half its length is −1 times itself: MSE 4 times its variance, the distribution unchanged."""
    wave = np.cos(np.deg2rad(LONGITUDE) * 4) * np.cos(np.deg2rad(LATITUDE))[:, None]
    truth = field(wave, LATITUDE, LONGITUDE)
    moved = truth.roll(longitude=16)  # 128 / 4 / 2
    area = np.diff(np.sin(np.deg2rad(np.linspace(90, -90, 65)))) / -2
    variance = (area * np.cos(np.deg2rad(LATITUDE)) ** 2).sum() / 2
    assert float(pixel_errors(moved, truth)["mse"][0]) == pytest.approx(4 * variance, rel=1e-12)
    np.testing.assert_allclose(tails(moved), tails(truth))


@pytest.mark.parametrize("periodic", [True, False])
def test_ssim_against_torchmetrics(periodic):
    ssim = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    longitude = LONGITUDE if periodic else LONGITUDE / 2
    latitude = LATITUDE / 45  # rows of practically equal area
    truth = noise(3)
    other = 0.8 * truth + 0.4 * noise(3, seed=1)
    found = pixel_errors(field(other, latitude, longitude), field(truth, latitude, longitude))["ssim"]
    for i in range(3):
        x, y = (torch.from_numpy(f[i])[None, None] for f in (other, truth))
        if periodic:  # wrapped by hand
            x, y = (torch.cat((f[..., -5:], f, f[..., :5]), -1) for f in (x, y))
        _, image = ssim(x, y, data_range=float(np.ptp(truth[i])), return_full_image=True)
        # Its mean includes windows that it fills by reflection.
        assert float(found[i]) == pytest.approx(float(image[..., 5:-5, 5:-5].mean()), abs=2e-5)


def test_lattice_power_is_variance():
    f = field(noise(8), LATITUDE, LONGITUDE)
    # White noise: the density per cycle per step is 2 times the variance, at every wavenumber.
    np.testing.assert_allclose(grid_scale_power(f).mean("time"), 2.0, rtol=0.1)


@pytest.mark.parametrize(("period", "name"), [(2, "peak_2"), (4, "peak_4")])
@pytest.mark.parametrize("direction", ["zonal", "meridional"])
def test_a_lattice_is_found(period, name, direction):
    truth = field(noise(4), LATITUDE, LONGITUDE)
    clean = grid_artefacts(field(noise(4, seed=2), LATITUDE, LONGITUDE), truth)
    assert all(0.8 < value < 1.25 for value in clean.values())
    count = np.arange(128 if direction == "zonal" else 64)
    line = 0.5 * np.cos(2 * np.pi * count / period + 0.3)
    pattern = line * np.ones((64, 1)) if direction == "zonal" else line[:, None] * np.ones(128)
    found = grid_artefacts(truth + pattern, truth)
    other = {"peak_2": "peak_4", "peak_4": "peak_2"}[name]
    assert found[name] > 2
    assert 0.9 < found[other] < 1.1
    # Energy everywhere is no lattice, and smoothing none either.
    assert grid_artefacts(2 * truth, truth)["grid_scale_power"] == pytest.approx(4)
    assert grid_artefacts(2 * truth, truth)[name] == pytest.approx(1)


def test_a_checkerboard_is_found():
    truth = field(noise(4), LATITUDE, LONGITUDE)
    board = 0.5 * (-1.0) ** (np.arange(64)[:, None] + np.arange(128))
    assert grid_artefacts(truth + board, truth)["peak_2"] > 3


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
    series = field(noise(8), LATITUDE, LONGITUDE).mean(("latitude", "longitude"))
    found = bootstrap_mean(series)  # two days
    assert found.sel(bound="value") == pytest.approx(float(series.mean()))
    assert np.isnan(found.sel(bound=["low", "high"])).all()
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


def test_refusals(one_sentence):
    f = field(noise(), LATITUDE, LONGITUDE)
    with pytest.raises(InputError) as error:
        histogram(f, [0.0, 1.0, 3.0])
    one_sentence(error.value, "edges", "even")
    with pytest.raises(InputError) as error:
        pixel_errors(f, f.isel(longitude=slice(0, 100)))
    one_sentence(error.value, "truth and field", "one grid")
    with pytest.raises(InputError) as error:
        pixel_errors(f, f.assign_coords(time=f.time + np.timedelta64(1, "h")))
    one_sentence(error.value, "times", "same")
    with pytest.raises(InputError) as error:
        BlockBootstrap(TIMES, 0)
    one_sentence(error.value, "block_days", "positive")
