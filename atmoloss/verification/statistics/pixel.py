"""Pixel by pixel: mean squared and absolute error, and structural similarity."""

from __future__ import annotations

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.statistics.grid import Grid

# Wang et al. 2004 (doi:10.1109/TIP.2003.819861): Gaussian window of 11×11 with σ = 1.5 px, and the two constants.
_SIGMA, SSIM_RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


def errors_of_times(model: np.ndarray, truth: np.ndarray, grid: Grid) -> dict[str, np.ndarray]:
    """Return the area-weighted ``mse``, ``mae`` and ``ssim``, each (T,), of values (T, H, W).

    The dynamic range of the structural similarity is that of the true field of the time. Its window wraps in longitude
    on a grid that closes; places whose window leaves the grid do not count. It is NaN where the truth is constant, or
    where there are fewer than 11 rows or columns. Near the poles of a globe the window has no fixed size in kilometres.
    """
    weights = grid.row_weights[:, None] / truth.shape[2]
    difference = model - truth
    inner, similarity = grid.row_weights[SSIM_RADIUS:-SSIM_RADIUS], np.full(len(truth), np.nan)
    for i, (x, y) in enumerate(zip(model, truth, strict=True)):
        if min(x.shape) > 2 * SSIM_RADIUS and np.ptp(y) > 0:
            similarity[i] = np.average(structural_similarity(x, y, grid.periodic), weights=inner)
    return {
        "mse": (difference**2 * weights).sum((1, 2)),
        "mae": (np.abs(difference) * weights).sum((1, 2)),
        "ssim": similarity,
    }


def structural_similarity(
    x: np.ndarray, y: np.ndarray, periodic: bool = False, dynamic_range: float | None = None
) -> np.ndarray:
    """Return the structural similarity (…, H − 10) of each row of ``x`` and ``y`` (…, H, W), float64, H and W ≥ 11.

    It is the mean over the windows that lie inside; columns wrap on a periodic grid. The dynamic range, L of the
    constants (K L)², is that of ``y`` where none is given.
    """
    correlate = require("scipy.ndimage", "eval").correlate1d
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel /= kernel.sum()

    def blur(f: np.ndarray) -> np.ndarray:
        return np.asarray(correlate(correlate(f, kernel, axis=-2), kernel, axis=-1, mode="wrap"))

    span = float(np.ptp(y)) if dynamic_range is None else dynamic_range
    mx, my = blur(x), blur(y)
    xx, yy, xy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    index = (2 * mx * my + c1) * (2 * xy + c2) / ((mx**2 + my**2 + c1) * (xx + yy + c2))
    columns = slice(None) if periodic else slice(SSIM_RADIUS, -SSIM_RADIUS)
    out: np.ndarray = index[..., SSIM_RADIUS:-SSIM_RADIUS, columns].mean(-1)
    return out
