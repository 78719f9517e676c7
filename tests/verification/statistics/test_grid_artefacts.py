"""Regular patterns at the grid scale are found, and nothing else."""

import numpy as np
import pytest

from atmoloss.verification.statistics.grid_artefacts import artefact_ratios, band_power
from tests.verification.conftest import GRID, noise

NAMES = ("grid_scale_power", "peak_2", "peak_4")


def ratios(values, truth):
    means = [band_power(x, GRID).mean(0) for x in (values, truth)]
    return dict(zip(NAMES, artefact_ratios(*means), strict=True))


def test_power_near_the_grid_scale_is_variance():
    # White noise: the density per cycle per step is 2 times the variance, at every wavenumber.
    power = band_power(noise(8), GRID)
    assert power.shape == (8, 2, 5)
    np.testing.assert_allclose(power.mean(0), 2.0, rtol=0.1)


@pytest.mark.parametrize(("period", "name"), [(2, "peak_2"), (4, "peak_4")])
@pytest.mark.parametrize("direction", ["zonal", "meridional"])
def test_a_lattice_is_found(period, name, direction):
    truth = noise(4)
    assert all(0.8 < value < 1.25 for value in ratios(noise(4, seed=2), truth).values())
    count = np.arange(128 if direction == "zonal" else 64)
    line = 0.5 * np.cos(2 * np.pi * count / period + 0.3)
    pattern = line * np.ones((64, 1)) if direction == "zonal" else line[:, None] * np.ones(128)
    result = ratios(truth + pattern, truth)
    other = {"peak_2": "peak_4", "peak_4": "peak_2"}[name]
    assert result[name] > 2
    assert 0.9 < result[other] < 1.1
    # Energy everywhere is no lattice.
    louder = ratios(2 * truth, truth)
    assert louder["grid_scale_power"] == pytest.approx(4)
    assert louder[name] == pytest.approx(1)


def test_a_checkerboard_is_found():
    truth = noise(4)
    board = 0.5 * (-1.0) ** (np.arange(64)[:, None] + np.arange(128))
    assert ratios(truth + board, truth)["peak_2"] > 3
