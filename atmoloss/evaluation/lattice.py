r"""Artefacts of the grid: power that a network leaves at its own strides.

A generator that upsamples, or a loss that sees its input through a strided network, can leave energy at single
wavelengths of 2 or 4 grid steps. A spherical-harmonic spectrum, isotropic, spreads such lines over many degrees; so
they are looked for along rows and along columns, in steps of the grid. Rows and columns are used between 60° S and
60° N, where a step east has still half of its length, or everywhere if the grid has too few rows there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.evaluation.grid import grid_of, like, ordered, units_of, values_of

if TYPE_CHECKING:
    import xarray as xr

BANDS = ("octave", "2 steps", "beside 2 steps", "4 steps", "beside 4 steps")
_LATITUDE = 60.0
# Half-width of a line and of the band around it, cycles per grid step.
_LINE, _AROUND = 1 / 64, 1 / 16


def lattice_power(field: xr.DataArray) -> xr.DataArray:
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
    field = ordered(field)
    grid = grid_of(field)
    inside = np.abs(grid.latitude) <= _LATITUDE
    if inside.sum() < 32:
        inside = np.ones_like(inside)
    values = values_of(field)[:, inside]
    weights = grid.row_weights[inside] / grid.row_weights[inside].sum()
    parts = []
    for lines, weight, periodic in (
        (values, weights, grid.periodic),
        (values.swapaxes(1, 2), np.full(values.shape[2], 1 / values.shape[2]), False),
    ):
        n = lines.shape[2]
        lines = lines - lines.mean(2, keepdims=True)
        window = np.ones(n) if periodic else np.hanning(n + 2)[1:-1]
        power = 2 * np.abs(np.fft.rfft(lines * window)) ** 2 / (n * (window**2).sum())
        mean = np.tensordot(power, weight, axes=(1, 0)) * n  # density per cycle per step
        frequency = np.fft.rfftfreq(n)
        columns = [mean[:, frequency > 0.25].mean(1)]
        for centre in (0.5, 0.25):
            off = np.abs(frequency - centre)
            line = off <= max(_LINE, 1 / n)
            columns += [mean[:, line].mean(1), mean[:, ~line & (off <= max(_AROUND, 4 / n))].mean(1)]
        parts.append(np.stack(columns, 1))
    out = like(
        field, np.stack(parts, 1), ("time", "direction", "band"), units=units_of(field, 2), long_name="power density"
    )
    out.coords["direction"] = ["zonal", "meridional"]
    out.coords["band"] = list(BANDS)
    return out


def lattice_ratios(power: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Return how far the power near the grid scale is from the truth's, the worse of both directions.

    Args:
        power, truth: (…, 2, 5), time means of :func:`lattice_power`.

    Returns:
        ``grid_scale_power``: ratio to the truth in the shortest octave; ``peak_2``, ``peak_4``: how much the ratio at 2
        and 4 steps stands out from that beside them. All are 1 for the truth; each (…).
    """
    ratio = power / truth

    def larger(x: np.ndarray) -> np.ndarray:
        return np.asarray(x.max(-1))

    return {
        "grid_scale_power": larger(ratio[..., 0]),
        "peak_2": larger(ratio[..., 1] / ratio[..., 2]),
        "peak_4": larger(ratio[..., 3] / ratio[..., 4]),
    }


def grid_artefacts(field: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    """Return :func:`lattice_ratios` of a field against the truth, over all their times."""
    means = [lattice_power(f).mean("time").values for f in (field, truth)]
    return {name: float(value) for name, value in lattice_ratios(*means).items()}
