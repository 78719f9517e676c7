r"""Isotropic power spectra of regions of a latitude–longitude grid.

A region is taken as a plane: rows a·Δφ apart, columns a·cos φ·Δλ at its middle latitude. The least-squares plane
is removed and both directions are tapered with a Hann window that keeps the mean square, so that what does not
close at the edges leaks little (Denis et al. 2002, doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2 discuss
the alternatives). The power |F|² is summed over rings of wavenumber, one fundamental of the shorter side wide. Rings
end where the coarser direction does; the corners beyond are left out. The wavenumber is given as the degree of
equal wavelength, circumference of the Earth over wavelength.
"""

from __future__ import annotations

import numpy as np

from atmoloss.errors import InputError
from atmoloss.verification.statistics.grid import Grid

# A column step may shrink by this factor from one edge of the region to the other.
_MOST_CONVERGENCE = 2.0


def power(values: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the equivalent degrees (K,) and the power (T, K) of values (T, H, W) in each ring.

    The sum over rings is the variance of the detrended, tapered field, without the corners. A grid that no plane
    represents raises an ``InputError``: meridians that converge too much, or rows that are uneven.
    """
    cosine = np.cos(np.deg2rad(grid.latitude))
    if cosine.max() > _MOST_CONVERGENCE * cosine.min():
        raise InputError(
            f"latitude: got {grid.latitude.size} rows from {grid.latitude[0]:g} to {grid.latitude[-1]:g}, expected for "
            "a spectrum a globe (rows to the poles, half a step or a step off them, or Gaussian; longitude closed) or "
            "a region whose columns are at most twice as wide at one edge as at the other"
        )
    if np.abs(np.diff(grid.latitude) + grid.step[0]).max() > 0.01 * grid.step[0]:
        raise InputError("latitude: got uneven steps, expected even ones for the spectrum of a region")
    rows, columns = values.shape[1:]
    middle = np.cos(np.deg2rad(grid.latitude[[0, -1]].mean()))
    # Radians of great circle; a wavelength of 2π radians has degree 1.
    step = np.deg2rad(grid.step[0]), np.deg2rad(grid.step[1]) * middle
    ky = np.fft.fftfreq(rows, step[0])[:, None] * 2 * np.pi
    kx = np.fft.rfftfreq(columns, step[1])[None, :] * 2 * np.pi
    fundamental = 2 * np.pi / min(rows * step[0], columns * step[1])
    ring = np.rint(np.hypot(ky, kx) / fundamental).astype(int)
    last = int(np.pi / max(step) / fundamental)
    window = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[1:-1]
    window /= np.sqrt((window**2).mean())
    spectrum = np.abs(np.fft.rfft2(_detrended(values) * window)) ** 2 / (rows * columns) ** 2
    both = np.full(kx.shape[1], 2.0)  # a column and its conjugate
    both[[0, -1] if columns % 2 == 0 else [0]] = 1.0
    sums = np.stack([np.bincount(ring.ravel(), (part * both).ravel(), last + 1) for part in spectrum])
    return fundamental * np.arange(1, last + 1), sums[:, 1 : last + 1]


def _detrended(values: np.ndarray) -> np.ndarray:
    """Remove the least-squares plane of each field."""
    rows, columns = values.shape[1:]
    out: np.ndarray = values - values.mean((1, 2), keepdims=True)
    # On a rectangular grid the constant and both slopes are orthogonal.
    for axis in (np.linspace(-1.0, 1.0, rows)[:, None], np.linspace(-1.0, 1.0, columns)):
        slope = (out * axis).sum((1, 2)) / (np.broadcast_to(axis, (rows, columns)) ** 2).sum()
        out = out - slope[:, None, None] * axis
    return out
