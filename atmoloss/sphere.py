"""What is true of every latitude–longitude grid on the Earth: its radius, and whether longitudes close."""

from __future__ import annotations

from typing import Any

import numpy as np

from atmoloss.errors import InputError

EARTH_RADIUS = 6.371e6
"""Mean Earth radius in metres."""


def regular_step(values: np.ndarray, name: str) -> float:
    """Return the grid step in degrees, or raise for a grid that is not regular."""
    if values.ndim != 1 or values.size < 5:
        raise InputError(f"{name}: got shape {values.shape}, expected one dimension with at least 5 points")
    steps = np.diff(values)
    if name == "longitude":  # a grid may cross the date line: 350 … 359, 0 … 10
        steps = (steps + 180.0) % 360.0 - 180.0
    step = float(steps.mean())
    # Rounded coordinates (float32; 0.1 degrees to three decimals) pass. A Gaussian grid strays from its straight
    # line by 0.7 to 1.5 % of a step, though its steps differ by less than 1 %. Written so that NaN fails as well.
    stray = np.abs(np.cumsum(steps) - step * np.arange(1, values.size)).max()
    if not (step != 0 and stray <= 0.006 * abs(step)):
        raise InputError(f"{name}: steps from {steps.min():g} to {steps.max():g} degrees, expected a regular grid")
    return step


def is_periodic(longitude: Any) -> bool:
    """Say whether a regular longitude axis (degrees, 1-D) closes around the globe."""
    values = np.asarray(longitude, dtype=np.float64)
    step = abs(regular_step(values, "longitude"))
    return bool(abs(step * values.size - 360.0) < 0.01 * step)
