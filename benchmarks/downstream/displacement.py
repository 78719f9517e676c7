"""How far weather stands from where it should: fields moved on purpose, and the best shift between two fields."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

KM_A_DEGREE = 111.2
TILE, FARTHEST = 40, 12  # cells: of a tile that is looked for, and how far it is looked for in each direction
ALIKE = 0.5  # correlation at the best shift, below which it tells nothing of where weather went


def moved_east(fields: Tensor, cells: int, most: int) -> Tensor:
    """Return fields (…, H, W − most) whose weather stands so many columns farther east than with ``cells`` 0."""
    width = fields.shape[-1] - most
    return fields[..., most - cells : most - cells + width]


def correlations(template: Tensor, area: Tensor) -> Tensor:
    """Return the correlation of a template (h, w) with every window of an area (H, W), (H − h + 1, W − w + 1)."""
    t = (template - template.mean())[None, None].double()
    a = area[None, None].double()
    ones = torch.ones_like(t)
    n = t.numel()
    total, squares = F.conv2d(a, ones), F.conv2d(a.square(), ones)
    spread = (squares - total.square() / n).clamp_min(1e-30)
    return (F.conv2d(a, t) / (spread * t.square().sum()).sqrt())[0, 0]


def best_shift(template: Tensor, area: Tensor) -> tuple[float, float, float]:
    """Return rows and columns from the middle of ``area`` to where ``template`` fits best, and the correlation there.

    Between cells by a parabola through the neighbours, in rows and in columns.
    """
    r = correlations(template, area).numpy()
    i, j = np.unravel_index(int(r.argmax()), r.shape)
    middle = (r.shape[0] // 2, r.shape[1] // 2)
    offset = []
    for index, values in ((i, r[:, j]), (j, r[i])):
        step = 0.0
        if 0 < index < len(values) - 1:
            before, here, after = values[index - 1 : index + 2]
            curvature = before - 2 * here + after
            step = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
        offset.append(float(index + step))
    return offset[0] - middle[0], offset[1] - middle[1], float(r[i, j])


def displacement_km(forecast: Tensor, analysis: Tensor, latitude: np.ndarray, spacing: float) -> tuple[float, float]:
    """Return how far the weather of a forecast stands from that of the analysis, and how unlike it is once moved.

    Args:
        forecast, analysis: (H, W), smoothed vorticity.
        latitude: degrees north of the rows, (H,).
        spacing: degrees between rows, and between columns.

    Returns:
        The mean length over tiles in km, of those that are alike (NaN if none is), and 1 minus the mean correlation of
        all tiles at their best shift.
    """
    lengths, alike = [], []
    height, width = forecast.shape
    for row in range(FARTHEST, height - TILE - FARTHEST + 1, TILE):
        for column in range(FARTHEST, width - TILE - FARTHEST + 1, TILE):
            tile = forecast[row : row + TILE, column : column + TILE]
            rows, columns = (slice(k - FARTHEST, k + TILE + FARTHEST) for k in (row, column))
            south, east, r = best_shift(tile, analysis[rows, columns])
            alike.append(r)
            if r >= ALIKE:
                east *= math.cos(math.radians(float(latitude[row : row + TILE].mean())))
                lengths.append(math.hypot(south, east) * spacing * KM_A_DEGREE)
    return float(np.mean(lengths)) if lengths else math.nan, 1 - float(np.mean(alike))
