"""Errors of pixels, and structural similarity against torchmetrics."""

import numpy as np
import pytest
import torch

from atmoloss.errors import InputError
from atmoloss.verification import pixel_errors, tails
from tests.verification.conftest import LATITUDE, LONGITUDE, field, noise


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
    result = pixel_errors(field(other, latitude, longitude), field(truth, latitude, longitude))["ssim"]
    for i in range(3):
        x, y = (torch.from_numpy(f[i])[None, None] for f in (other, truth))
        if periodic:  # wrapped by hand
            x, y = (torch.cat((f[..., -5:], f, f[..., :5]), -1) for f in (x, y))
        _, image = ssim(x, y, data_range=float(np.ptp(truth[i])), return_full_image=True)
        # Its mean includes windows that it fills by reflection.
        assert float(result[i]) == pytest.approx(float(image[..., 5:-5, 5:-5].mean()), abs=2e-5)


def test_other_grids_and_times_are_refused(one_sentence):
    f = field(noise(), LATITUDE, LONGITUDE)
    with pytest.raises(InputError) as error:
        pixel_errors(f, f.isel(longitude=slice(0, 100)))
    one_sentence(error.value, "truth and field", "one grid")
    with pytest.raises(InputError) as error:
        pixel_errors(f, f.assign_coords(time=f.time + np.timedelta64(1, "h")))
    one_sentence(error.value, "times", "same")
