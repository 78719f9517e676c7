r"""Semivariogram on the sphere: how fast a field decorrelates with distance.

.. math:: γ(h) = \tfrac12 \left\langle (f(x) - f(x'))^2 \right\rangle, \qquad |x - x'| = h \text{ along a great circle}

With power P_l per degree (:mod:`atmoloss.verification.statistics.spectra`) its expectation is
Σ_l P_l (1 − P_l(cos h/a)), where the last P_l is the Legendre polynomial. It is estimated from random pairs: first
points uniform on the sphere (in the region, if the grid is one), second points at the distance h in a uniformly random
direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import InputError, floats, number, require, shown
from atmoloss.sphere import EARTH_RADIUS
from atmoloss.verification.statistics.grid import Field, Grid

if TYPE_CHECKING:
    import xarray as xr

LAGS_KM = (25.0, 50.0, 100.0, 200.0, 300.0, 500.0, 1000.0)
"""Distances of the original evaluation, kilometres."""
_LAGS = "positive distances in kilometres"


def semivariogram(
    field: xr.DataArray,
    truth: xr.DataArray | None = None,
    lags_km: Sequence[float] = LAGS_KM,
    *,
    n_samples: int = 2000,
    seed: int = 0,
) -> xr.DataArray:
    """Return the time mean of γ from random pairs, divided by the variance of the truth.

    The pairs depend on the seed and the time alone, so that two fields of one time are sampled at the same points.

    Args:
        field: (time, latitude, longitude), global or a region.
        truth: whose variance, over area and all times together, divides; ``None``: the field's own.
        lags_km: great-circle distances, kilometres.
        n_samples: pairs for each time and lag (the original drew 300).
        seed: of the pairs.

    Returns:
        (lag), dimensionless; 1 where two points have nothing to do with each other. In a region pairs that leave it do
        not count; NaN where none is left.

    Raises:
        InputError: missing values, or lags or a number of pairs that are not positive.
    """
    data, lags = Field.of(field), check_pairs(lags_km, n_samples, seed)
    gamma = pair_semivariance(data.values, data.array["time"].values, data.grid, lags, n_samples, seed)
    reference = data if truth is None else Field.of(truth, "truth")
    mean, square = (reference.grid.means(x).mean() for x in (reference.values, reference.values**2))
    attrs = {"units": "1", "long_name": "semivariogram, divided by the variance of the truth"}
    lag = "lag", lags, {"units": "km", "long_name": "great-circle distance"}
    out: xr.DataArray = require("xarray", "eval").DataArray(
        gamma.mean(0) / (square - mean**2), {"lag": lag}, ("lag",), field.name, attrs
    )
    return out


def check_pairs(lags_km: object, n_samples: object, seed: object) -> np.ndarray:
    """Return the lags as an array; ``InputError`` unless all three are what :func:`semivariogram` takes."""
    lags = floats("lags_km", lags_km, _LAGS)
    if lags.ndim != 1 or not (lags > 0).all():
        raise InputError(f"lags_km: got {shown(lags_km)}, expected {_LAGS}")
    number("n_samples", n_samples, lambda x: x >= 1, "a number of pairs of at least 1", Integral)
    number("seed", seed, lambda x: x >= 0, "a whole number of at least 0", Integral)
    return lags


def pair_semivariance(
    fields: np.ndarray, times: np.ndarray, grid: Grid, lags: np.ndarray, n_samples: int, seed: int
) -> np.ndarray:
    """Return γ (T, lags) of fields (T, H, W) at times (T,), not normalised, from random pairs of nearest grid points.

    As in the original: the value of the nearest grid point keeps the variance but misses the distance by up to a step.
    """
    interpolate = require("scipy.ndimage", "eval").map_coordinates
    out = np.empty((times.size, lags.size))
    for i, values in enumerate(fields):
        draw = np.random.default_rng([seed, int(times[i].astype("int64")) % 2**63])
        first, second, inside = _pairs(draw, n_samples, lags, grid)
        if grid.periodic:
            values = np.concatenate((values, values[:, :1]), axis=1)
        a, b = (interpolate(values, _indices(*p, grid), order=0, mode="nearest") for p in (first, second))
        squares = np.where(inside, (a - b) ** 2, np.nan)
        counted = inside.sum(1)
        out[i] = 0.5 * np.nansum(squares, 1) / np.where(counted, counted, np.nan)
    return out


def _pairs(
    draw: np.random.Generator, n: int, lags: np.ndarray, grid: Grid
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return latitudes and longitudes, radians (lags, n), of first and second points, and whether both are inside."""
    half = np.deg2rad(grid.step[0]) / 2 if grid.periodic else 0.0
    south, north = np.deg2rad(grid.latitude[-1]) - half, np.deg2rad(grid.latitude[0]) + half
    south, north = max(south, -np.pi / 2), min(north, np.pi / 2)
    west = np.deg2rad(grid.longitude[0])
    width = 2 * np.pi if grid.periodic else np.deg2rad(grid.longitude[-1]) - west
    shape = (lags.size, n)
    latitude = np.arcsin(draw.uniform(np.sin(south), np.sin(north), shape))
    longitude = west + draw.uniform(0.0, width, shape)
    azimuth = draw.uniform(0.0, 2 * np.pi, shape)
    angle = (lags * 1e3 / EARTH_RADIUS)[:, None]
    sine = np.sin(latitude) * np.cos(angle) + np.cos(latitude) * np.sin(angle) * np.cos(azimuth)
    sine = np.clip(sine, -1.0, 1.0)
    east = np.arctan2(np.sin(azimuth) * np.sin(angle) * np.cos(latitude), np.cos(angle) - np.sin(latitude) * sine)
    second = np.arcsin(sine), longitude + east
    inside = (second[0] >= south) & (second[0] <= north) & ((second[1] - west) % (2 * np.pi) <= width)
    return (latitude, longitude), second, inside


def _indices(latitude: np.ndarray, longitude: np.ndarray, grid: Grid) -> np.ndarray:
    """Return fractional rows and columns (2, …) of points in radians; rows beyond the outermost count as these."""
    rows = np.interp(-np.rad2deg(latitude), -grid.latitude, np.arange(grid.latitude.size))
    east = (np.rad2deg(longitude) - grid.longitude[0]) % 360.0
    return np.stack((rows, east / grid.step[1]))
