r"""Artefacts of the grid: power that a network leaves at its own strides.

A generator that upsamples, or a loss that sees its input through a strided network, can leave energy at single
wavelengths of 2 or 4 grid steps. A spherical-harmonic spectrum, isotropic, spreads such lines over many degrees; so
they are looked for along rows and along columns, in steps of the grid. Rows and columns are used between 60° S and
60° N, where a step east has still half of its length, or everywhere if the grid has too few rows there.
"""

from __future__ import annotations

import numpy as np

from atmoloss.verification.statistics.grid import Grid

_LATITUDE = 60.0
# Half-width of a line and of the band around it, cycles per grid step.
_LINE, _AROUND = 1 / 64, 1 / 16


def band_power(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the power densities near the grid scale (T, 2, 5), along rows and along columns, of values (T, H, W).

    Each row (column) loses its mean, is tapered with a Hann window where it does not close, and transformed; the
    power density, one-sided (its integral from 0 to 1/2 cycle per step is the variance), is averaged over rows with
    their area, or over columns. The bands hold mean densities: from 1/4 to 1/2 cycle per step, the shortest waves of
    the grid; within 1/64 of 1/2, and the rest of what lies within 1/16 of it; the same two of 1/4.
    """
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


def artefact_ratios(power: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return ratios (3, …) to the truth, in the worse direction, of time means (…, 2, 5) of :func:`band_power`.

    The first is that of the shortest octave; the others say how much the ratio at 2 and at 4 steps stands out from that
    beside it.
    """
    octave, *lines = np.moveaxis(power / truth, -1, 0)
    out: np.ndarray = np.stack((octave, lines[0] / lines[1], lines[2] / lines[3])).max(-1)
    return out
