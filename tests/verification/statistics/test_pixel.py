"""Errors of pixels, and structural similarity against torchmetrics."""

import numpy as np
import pytest
import torch

from atmoloss.verification.statistics.pixel import errors_of_times, structural_similarity
from tests.verification.conftest import GRID, LATITUDE, LONGITUDE, grid_at, noise


def test_errors_weigh_area():
    truth = noise(2)
    shifted = errors_of_times(truth + 0.5, truth, GRID)
    np.testing.assert_allclose(shifted["mse"], 0.25)
    np.testing.assert_allclose(shifted["mae"], 0.5)
    polar = truth + (LATITUDE > 45)[:, None]
    expected = (1 - np.sin(np.deg2rad(45))) / 2  # share of the cap north of 45 N
    np.testing.assert_allclose(errors_of_times(polar, truth, GRID)["mse"], expected, rtol=1e-12)
    np.testing.assert_allclose(errors_of_times(truth, truth, GRID)["ssim"], 1)


def test_half_a_translation_of_a_wave():
    """A wave moved by half its length is −1 times itself: the squared error is 4 times its variance."""
    wave = (np.cos(np.deg2rad(LONGITUDE) * 4) * np.cos(np.deg2rad(LATITUDE))[:, None])[None]
    area = np.diff(np.sin(np.deg2rad(np.linspace(90, -90, 65)))) / -2
    variance = (area * np.cos(np.deg2rad(LATITUDE)) ** 2).sum() / 2
    moved = np.roll(wave, 16, axis=2)  # 128 / 4 / 2
    assert errors_of_times(moved, wave, GRID)["mse"] == pytest.approx(4 * variance, rel=1e-12)


@pytest.mark.parametrize("periodic", [True, False])
def test_ssim_against_torchmetrics(periodic):
    ssim = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    # Rows of practically equal area.
    grid = grid_at(LATITUDE / 45, LONGITUDE if periodic else LONGITUDE / 2)
    assert grid.periodic == periodic
    truth = noise(3)
    other = 0.8 * truth + 0.4 * noise(3, seed=1)
    result = errors_of_times(other, truth, grid)["ssim"]
    for i in range(3):
        x, y = (torch.from_numpy(f[i])[None, None] for f in (other, truth))
        if periodic:  # wrapped by hand
            x, y = (torch.cat((f[..., -5:], f, f[..., :5]), -1) for f in (x, y))
        _, image = ssim(x, y, data_range=float(np.ptp(truth[i])), return_full_image=True)
        # Its mean includes windows that it fills by reflection.
        assert float(result[i]) == pytest.approx(float(image[..., 5:-5, 5:-5].mean()), abs=2e-5)


def test_no_ssim_of_a_constant_or_of_a_field_smaller_than_the_window():
    constant = np.ones((1, 64, 128))
    assert np.isnan(errors_of_times(noise(), constant, GRID)["ssim"]).all()
    small = noise(shape=(10, 128))
    assert np.isnan(errors_of_times(small + 1, small, grid_at(LATITUDE[:10], LONGITUDE))["ssim"]).all()


def test_a_dynamic_range_that_is_given_replaces_that_of_the_field():
    x, y = noise(2)
    own = float(np.ptp(y))
    np.testing.assert_array_equal(structural_similarity(x, y, dynamic_range=own), structural_similarity(x, y))
    assert (structural_similarity(x, y, dynamic_range=100 * own) > 0.9).all()  # differences are small beside it
