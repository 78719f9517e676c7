r"""Artefacts of the grid: power that a network leaves at its own strides.

A generator that upsamples, or a loss that sees its input through a strided network, can leave energy at single
wavelengths of 2 or 4 grid steps. A spherical-harmonic spectrum, isotropic, spreads such lines over many degrees; so
they are looked for along rows and along columns, in steps of the grid. Rows and columns are used between 60° S and
60° N, where a step east has still half of its length, or everywhere if the grid has too few rows there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.verification.statistics.grid import Field, Grid

if TYPE_CHECKING:
    import xarray as xr

BANDS = ("octave", "2 steps", "beside 2 steps", "4 steps", "beside 4 steps")
_LATITUDE = 60.0
# Half-width of a line and of the band around it, cycles per grid step.
_LINE, _AROUND = 1 / 64, 1 / 16


def grid_scale_power(field: xr.DataArray) -> xr.DataArray:
    """Return the power near the grid scale along rows and columns.

    Each row (column) loses its mean, is tapered with a Hann window where it does not close, and transformed; the
    power density, one-sided (its integral from 0 to 1/2 cycle per step is the variance), is averaged over rows with
    their area, or over columns. The bands hold mean densities: ``octave`` from 1/4 to 1/2 cycle per step, the
    shortest waves of the grid; ``2 steps`` and ``4 steps`` within 1/64 of 1/2 and 1/4; ``beside`` these the rest of
    what lies within 1/16.

    Args:
        field: (time, latitude, longitude), global or a region.

    Returns:
        (time, direction, band), square of the field's units per (cycle per step); direction: ``zonal`` along
        rows, ``meridional`` along columns.
    """
    data = Field.of(field)
    axes = {"direction": ["zonal", "meridional"], "band": list(BANDS)}
    return data.wrap(band_power(data.values, data.grid), axes, units=data.units(2), long_name="power density")


def band_power(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the power densities (T, 2, 5) of values (T, H, W), see :func:`grid_scale_power`."""
    inside = np.abs(grid.latitude) <= _LATITUDE
    if inside.sum() < 32:
        inside = np.ones_like(inside)
    values = values[:, inside]
    weights = grid.row_weights[inside] / grid.row_weights[inside].sum()
    even = np.full(values.shape[2], 1 / values.shape[2])
    return np.stack((_bands(values, weights, grid.periodic), _bands(values.swapaxes(1, 2), even, False)), 1)


def _bands(lines: np.ndarray, weights: np.ndarray, periodic: bool) -> np.ndarray:
    """Return the power densities (T, 5) along the last axis of (T, lines, n), averaged over lines with weights."""
    n = lines.shape[2]
    lines = lines - lines.mean(2, keepdims=True)
    window = np.ones(n) if periodic else np.hanning(n + 2)[1:-1]
    power = 2 * np.abs(np.fft.rfft(lines * window)) ** 2 / (n * (window**2).sum())
    mean = np.tensordot(power, weights, axes=(1, 0)) * n  # density per cycle per step
    frequency = np.fft.rfftfreq(n)
    columns = [mean[:, frequency > 0.25].mean(1)]
    for centre in (0.5, 0.25):
        off = np.abs(frequency - centre)
        line = off <= max(_LINE, 1 / n)
        columns += [mean[:, line].mean(1), mean[:, ~line & (off <= max(_AROUND, 4 / n))].mean(1)]
    return np.stack(columns, 1)


def artefact_ratios(power: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return the ratios (…) of :func:`grid_artefacts` of power densities (…, 2, 5), time means of grid_scale_power."""
    octave, *lines = np.moveaxis(power / truth, -1, 0)
    ratios = {"grid_scale_power": octave, "peak_2": lines[0] / lines[1], "peak_4": lines[2] / lines[3]}
    return {name: ratio.max(-1) for name, ratio in ratios.items()}


def grid_artefacts(field: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    """Return how far the time mean of the power near the grid scale is from the truth's, in the worse direction.

    Args:
        field, truth: (time, latitude, longitude), global or a region.

    Returns:
        ``grid_scale_power``: ratio to the truth in the shortest octave; ``peak_2``, ``peak_4``: how much the ratio at 2
        and 4 steps stands out from that beside it. All are 1 for the truth.
    """
    means = [grid_scale_power(data).mean("time").values for data in (field, truth)]
    return {name: float(value) for name, value in artefact_ratios(*means).items()}
