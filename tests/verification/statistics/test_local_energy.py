"""Energy of detail in windows: how much of it there is, and whether it is where the truth has it."""

import numpy as np
import pytest

from atmoloss.verification.statistics.local_energy import compare_log_energy, detail_energy, log_energy_moments
from tests.verification.conftest import GRID, axes, grid_at, noise


def scores(values, truth, grid=GRID, cells=4):
    return [float(x) for x in compare_log_energy(log_energy_moments(values, truth, grid, cells).mean(0))]


def test_energy_is_the_variance_inside_the_cells_of_the_input():
    values = noise(2)
    energy, shares = detail_energy(values, GRID, 4)
    assert energy.shape == (2, 8, 16)
    assert shares.sum() == pytest.approx(1)
    # One window, whose quarters are cells of the input; numpy's variance with the areas of rows as weights.
    window = values[1, 32:40, 24:32]
    quarters = [window[i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)]
    weights = GRID.row_weights[32:40]
    variances = [
        np.cov(quarter.ravel(), aweights=np.repeat(weights[4 * (k // 2) :][:4], 4), bias=True)
        for k, quarter in enumerate(quarters)
    ]
    assert energy[1, 4, 3] == pytest.approx(np.mean(variances))
    # What the input holds is no detail.
    coarse = np.kron(noise(1, shape=(16, 32))[0], np.ones((4, 4)))[None]
    np.testing.assert_allclose(detail_energy(coarse, GRID, 4)[0], 0, atol=1e-28)


@pytest.mark.parametrize("cells", [2, 4, 8])
def test_too_weak_detail_costs_its_logarithm_and_keeps_the_correlation(cells):
    truth = noise(3)
    error, correlation = scores(0.3 * truth + 5.0, truth, cells=cells)
    assert error == pytest.approx(2 * np.log(1 / 0.3))
    assert correlation == pytest.approx(1)


def test_detail_that_is_shifted_by_a_cell_costs_little_and_detail_elsewhere_much():
    """Rough in the west, smooth in the east."""
    rough = np.where(np.arange(128) < 64, 1.0, 0.1)
    truth = rough * noise(4)
    shifted, elsewhere = scores(np.roll(truth, 1, -1), truth), scores(np.roll(truth, 64, -1), truth)
    assert shifted[0] < 0.7
    assert shifted[1] > 0.9
    # ln of a hundredfold energy, and chance.
    assert elsewhere[0] == pytest.approx(np.log(100), rel=0.05)
    assert elsewhere[1] < -0.9


@pytest.mark.filterwarnings("error")
def test_fields_without_detail_have_a_finite_error():
    truth = noise(2)
    truth[:, :16] = 3.0  # calm: zero energy in both
    assert scores(truth, truth) == [0.0, pytest.approx(1)]
    smooth = np.zeros_like(truth)
    moments = log_energy_moments(smooth, truth, GRID, 4)
    assert np.isfinite(moments).all()
    assert np.isfinite(log_energy_moments(smooth, smooth, GRID, 4)).all()
    error, correlation = compare_log_energy(moments)
    assert error.max() < np.log(1e6) + 1
    assert np.isnan(correlation).all()


def test_rows_that_fill_no_window_are_left_out():
    latitude, longitude = axes("both poles", 36)  # 37 rows
    grid = grid_at(latitude, longitude)
    values = np.zeros((1, 37, 72))
    values[:, 32:] = noise(1, shape=(5, 72))
    assert detail_energy(values, grid, 4)[0].shape == (1, 4, 9)
    assert not detail_energy(values, grid, 4)[0].any()
