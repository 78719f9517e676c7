"""What is true of every latitude–longitude grid on the Earth: its radius, whether longitudes close, great circles."""

from __future__ import annotations

import math
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


def distance_and_bearing(start: tuple[Any, Any], end: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return how far and in which direction one place lies from another, along the great circle.

    Args:
        start, end: degrees north and east, numbers or arrays that broadcast.

    Returns:
        Metres, by the haversine, and degrees clockwise from north in [0, 360), of the circle at its start (Snyder
        1987, doi:10.3133/pp1395, equations 5-3a and 5-4b).
    """
    south, north, east = (np.radians(x) for x in (start[0], end[0], np.subtract(end[1], start[1])))
    half = np.sin((north - south) / 2) ** 2 + np.cos(south) * np.cos(north) * np.sin(east / 2) ** 2
    angle = 2 * np.arcsin(np.sqrt(half).clip(max=1.0))
    northward = np.cos(south) * np.sin(north) - np.sin(south) * np.cos(north) * np.cos(east)
    bearing = np.degrees(np.arctan2(np.cos(north) * np.sin(east), northward)) % 360.0
    return EARTH_RADIUS * angle, bearing


def destination(start: tuple[float, float], metres: float, bearing: float) -> tuple[float, float]:
    """Return where a great circle leads; the inverse of :func:`distance_and_bearing`.

    Args:
        start: degrees north and east.
        metres: along the circle.
        bearing: at its start, degrees clockwise from north.

    Returns:
        Degrees north and east, the latter at most 180 from that of the start (Snyder 1987, equations 5-5 and 5-6).
    """
    latitude, angle, azimuth = math.radians(start[0]), metres / EARTH_RADIUS, math.radians(bearing)
    north = math.sin(latitude) * math.cos(angle) + math.cos(latitude) * math.sin(angle) * math.cos(azimuth)
    east = math.atan2(
        math.sin(angle) * math.sin(azimuth),
        math.cos(latitude) * math.cos(angle) - math.sin(latitude) * math.sin(angle) * math.cos(azimuth),
    )
    return math.degrees(math.asin(max(-1.0, min(1.0, north)))), start[1] + math.degrees(east)
