"""Pixel by pixel: mean squared and absolute error, and structural similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.evaluation.grid import aligned, grid_of, like, units_of, values_of

if TYPE_CHECKING:
    import xarray as xr

# Wang et al. 2004: Gaussian window of 11×11 with σ = 1.5 px, and the two constants.
_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


def pixel_errors(field: xr.DataArray, truth: xr.DataArray) -> xr.Dataset:
    """Return area-weighted errors of each time.

    Structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861) uses a Gaussian window of σ 1.5 px, 11×11,
    and as dynamic range that of the true field of the time. The window wraps in longitude on a grid that closes;
    places whose window leaves the grid do not count. On a globe a pixel near the poles is narrow: the window has
    no fixed size in kilometres.

    Args:
        field, truth: (time, latitude, longitude) of the same times and grid.

    Returns:
        ``mse``, ``mae``, ``ssim``, each (time); SSIM is NaN where the truth is constant or fewer than 11 rows or
        columns are there.

    Raises:
        InputError: missing values, or grids or times that differ.
    """
    xarray = require("xarray", "eval")
    truth, field = aligned(truth, field, ("truth", "field"))
    times = [f["time"].values if "time" in f.coords else np.arange(f.sizes["time"]) for f in (field, truth)]
    if not np.array_equal(times[0], times[1]):
        raise InputError(f"field, truth: got {len(times[0])} and {len(times[1])} times, expected the same ones")
    grid = grid_of(truth)
    a, b = values_of(field), values_of(truth, "truth")
    weights = grid.row_weights[:, None] / b.shape[2]
    difference = a - b
    rows = {
        "mse": ((difference**2 * weights).sum((1, 2)), units_of(truth, 2), "mean squared error"),
        "mae": ((np.abs(difference) * weights).sum((1, 2)), units_of(truth), "mean absolute error"),
        "ssim": (
            np.array([_ssim(x, y, grid.row_weights, grid.periodic) for x, y in zip(a, b, strict=True)]),
            "1",
            "structural similarity",
        ),
    }
    out: xr.Dataset = xarray.Dataset(
        {
            name: like(truth, values, ("time",), units=units, long_name=text)
            for name, (values, units, text) in rows.items()
        }
    )
    return out


def _ssim(x: np.ndarray, y: np.ndarray, row_weights: np.ndarray, periodic: bool) -> float:
    span = float(y.max() - y.min())
    size = 2 * _RADIUS + 1
    if min(x.shape) < size or not span > 0:
        return float("nan")
    blur_1d = require("scipy.ndimage", "eval").correlate1d
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    kernel /= kernel.sum()

    def blur(f: np.ndarray) -> np.ndarray:
        return np.asarray(blur_1d(blur_1d(f, kernel, axis=0), kernel, axis=1, mode="wrap"))

    mx, my = blur(x), blur(y)
    xx, yy, xy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    index = (2 * mx * my + c1) * (2 * xy + c2) / ((mx**2 + my**2 + c1) * (xx + yy + c2))
    columns = slice(None) if periodic else slice(_RADIUS, -_RADIUS)
    inner = index[_RADIUS:-_RADIUS, columns].mean(1)
    return float(np.average(inner, weights=row_weights[_RADIUS:-_RADIUS]))
