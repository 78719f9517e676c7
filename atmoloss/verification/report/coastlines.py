"""Coastlines over maps: Natural Earth 1:110m, public domain; ``coastlines.txt`` says where it came from."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.errors import require


@functools.cache
def coastlines() -> tuple[np.ndarray, ...]:
    """Return lines (N, 2) of longitude (degrees east, without a jump at 180) and latitude (degrees north)."""
    text = Path(__file__).with_name("coastlines.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return tuple(np.array(line.split(), np.float64).reshape(-1, 2) for line in lines)


def draw_coastlines(axes: Any, west: float, east: float) -> None:
    """Draw the coasts over a map; the limits of its axes stay what they were.

    Args:
        axes: of matplotlib, x in degrees east and y in degrees north.
        west, east: longitudes between which the map lies, in any convention: 350 to 370, −180 to 180, 0 to 360.
    """
    parts = []
    for line in coastlines():
        low, high = line[:, 0].min(), line[:, 0].max()
        for turn in range(math.ceil((west - high) / 360), math.floor((east - low) / 360) + 1):
            parts += [line + np.array((360.0 * turn, 0.0)), np.full((1, 2), np.nan)]  # NaN ends a line
    if parts:
        x, y = np.concatenate(parts).T
        for width, colour in ((1.1, (1.0, 1.0, 1.0, 0.6)), (0.45, "black")):  # seen on dark and on bright colours
            # Pixels in vector formats too, where five thousand points a map would be most of the file. Unlike add_line,
            # add_artist leaves the limits of the data alone.
            line_2d = require("matplotlib.lines", "eval").Line2D
            axes.add_artist(line_2d(x, y, color=colour, linewidth=width, rasterized=True))
