"""Regular patterns at the grid scale are found, and nothing else."""

import numpy as np
import pytest

from atmoloss.verification import grid_artefacts, grid_scale_power
from tests.verification.conftest import LATITUDE, LONGITUDE, field, noise


def test_power_near_the_grid_scale_is_variance():
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
    result = grid_artefacts(truth + pattern, truth)
    other = {"peak_2": "peak_4", "peak_4": "peak_2"}[name]
    assert result[name] > 2
    assert 0.9 < result[other] < 1.1
    # Energy everywhere is no lattice, and smoothing none either.
    assert grid_artefacts(2 * truth, truth)["grid_scale_power"] == pytest.approx(4)
    assert grid_artefacts(2 * truth, truth)[name] == pytest.approx(1)


def test_a_checkerboard_is_found():
    truth = field(noise(4), LATITUDE, LONGITUDE)
    board = 0.5 * (-1.0) ** (np.arange(64)[:, None] + np.arange(128))
    assert grid_artefacts(truth + board, truth)["peak_2"] > 3
