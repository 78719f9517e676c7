"""Maps of mean and standard deviation over time."""

import numpy as np
import pytest

from atmoloss.verification import time_moment_errors, time_moments
from tests.verification.conftest import LATITUDE, LONGITUDE, field


def test_moments_over_time():
    t = np.arange(64.0)[:, None, None]
    amplitude = np.abs(LATITUDE)[:, None] * np.ones(128)
    f = field(3 + amplitude * np.sin(2 * np.pi * t / 64), LATITUDE, LONGITUDE)
    result = time_moments(f)
    np.testing.assert_allclose(result["mean"], 3, atol=1e-10)
    np.testing.assert_allclose(result["std"], amplitude / np.sqrt(2), rtol=1e-12)
    errors = time_moment_errors(1 + 2 * f, f)
    assert float(errors["mean"]) == pytest.approx(4.0)  # 1 + 2·3 − 3
    area = np.diff(np.sin(np.deg2rad(np.linspace(90, -90, 65)))) / -2
    assert float(errors["std"]) == pytest.approx(np.sqrt((area * LATITUDE**2).sum() / 2), rel=1e-12)
