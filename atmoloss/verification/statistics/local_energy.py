r"""How much detail a field has, and whether it has it where the truth does.

Detail is what differs from the mean over :math:`k \times k` cells: the scales that models had to make up. Its energy in
windows of :math:`2k \times 2k` cells says how rough a place is without asking where each eddy lies. So detail that is
displaced a little is not punished twice, and a smooth field is not let off.
"""

from __future__ import annotations

import numpy as np

from atmoloss.verification.statistics.grid import Grid

# Of the truth's mean: where a field is constant, its energy counts as this, so that the logarithm is finite.
_FLOOR = 1e-6
_ROUNDING = 1e-12  # logarithms above the floor are at most 14


def detail_energy(values: np.ndarray, grid: Grid, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the energy of detail in windows (T, R, C) of values (T, H, W), and the share of area of each row (R,).

    Means are weighted by area. Rows and columns that do not fill a window, at the south and the east, are left out;
    R or C is 0 where none is filled.
    """
    window = 2 * cells
    (rows, columns) = (n // window for n in values.shape[1:])
    values = values[:, : rows * window, : columns * window]
    blocks = values.reshape(len(values), 2 * rows, cells, 2 * columns, cells)
    areas = grid.row_weights[: rows * window]
    weights = areas.reshape(-1, cells, 1, 1)
    weights = weights / weights.sum(1, keepdims=True) / cells
    detail = blocks - (blocks * weights).sum((2, 4), keepdims=True)
    energy = (detail**2 * weights).sum((2, 4)).reshape(len(values), rows, 2, columns, 2).mean((2, 4))
    shares = areas.reshape(rows, window).sum(1)
    return energy, shares / shares.sum()


def log_energy_moments(values: np.ndarray, truth: np.ndarray, grid: Grid, cells: int) -> np.ndarray:
    """Return what :func:`compare_log_energy` is made of, (T, 5), of values and truth (T, H, W).

    With a and b the logarithms of both energies over the truth's mean energy of the time, the area means of a, b, a²,
    b² and (a − b)².
    """
    (made, shares), (true, _) = (detail_energy(x, grid, cells) for x in (values, truth))
    mean = np.maximum((true.mean(2) @ shares)[:, None, None], np.finfo(np.float64).tiny)
    a, b = (np.log(np.maximum(x / mean, _FLOOR)) for x in (made, true))
    return np.stack([x.mean(2) @ shares for x in (a, b, a**2, b**2, (a - b) ** 2)], 1)


def compare_log_energy(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return root mean squared difference and correlation (…) of the log energies from means of their moments (…, 5).

    The correlation is NaN where one of them is the same everywhere.
    """
    a, b, aa, bb, difference = np.moveaxis(moments, -1, 0)
    covariance = (aa + bb - difference) / 2 - a * b
    variances = (aa - a**2) * (bb - b**2)
    return np.sqrt(difference), covariance / np.sqrt(np.where(variances > _ROUNDING, variances, np.nan))
