r"""Content losses: how far a made field is from the true one, as functions on normalised fields.

Every measure takes two (N, C, H, W) and returns (N,), zero for equal fields. Patches do not close in any
direction, so that a plain Fourier transform would see their edges as jumps:

* ``amse`` and ``log_spectral`` use the orthonormal cosine transform (DCT-II, as Denis et al. 2002,
  doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2, for limited areas): the field continues as its mirror image,
  every cell counts alike, and Parseval's identity is exact. Scales are rings of its wavenumber.
* the amplitudes in ``facl`` use the Fourier transform under a Hann window: they must not change when the field
  is moved, which amplitudes of cosines do.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Powers are of normalised fields, about 1 a coefficient: what is below these is rounding of the data.
_FLOOR = 1e-6
_TINY = 1e-8


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, (N,)."""
    return (prediction - target).square().mean((1, 2, 3))


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, (N,)."""
    return (prediction - target).abs().mean((1, 2, 3))


def gradient(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of differences between neighbours, both axes, (N,); blind to a constant."""
    difference = prediction - target
    return sum(difference.diff(dim=dim).square().mean((1, 2, 3)) for dim in (-2, -1)) / 2  # type: ignore[return-value]


def log_spectral(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of log power over rings 1 … Nyquist, per channel, (N,); blind to phases.

    A factor a in amplitude costs (2 ln a)² (up to the floor of 1e-6).
    """
    n = min(prediction.shape[-2:])
    count = rings(*prediction.shape[-2:], prediction.dtype, prediction.device).sum(0)[1:n]
    a, b = (ring_power(cosine_transform(x))[..., 1:n] / count + _FLOOR for x in (prediction, target))
    return (a.log() - b.log()).square().mean((1, 2))


def amse(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Spectrally adjusted mean squared error of Subich et al. (2025), arXiv:2501.19374, in a planar form, (N,).

    .. math:: \sum_k \left(\sqrt{P_k} - \sqrt{Q_k}\right)^2 + 2 \max(P_k, Q_k) (1 - \mathrm{Coh}_k)

    over rings k of the cosine transform in place of degrees of spherical harmonics, with powers P, Q of both
    fields and their coherence. With the geometric mean √(PQ) instead of the maximum it were the MSE; so, a
    field that cannot be right is not cheaper for being weak. The mean of a field, one number, enters by its
    squared error.
    """
    cells = prediction.shape[-2] * prediction.shape[-1]
    x, y = cosine_transform(prediction), cosine_transform(target)
    p, q = ring_power(x).clamp_min(_TINY * cells), ring_power(y).clamp_min(_TINY * cells)
    spread = rings(*prediction.shape[-2:], x.dtype, x.device).T
    # 1 − Coh as half the squared distance of unit spectra: exactly zero at equality.
    unit_x, unit_y = (f.flatten(-2) * (r.rsqrt() @ spread) for f, r in ((x, p), (y, q)))
    apart = (unit_x - unit_y).square() @ spread.T / 2
    rest = (p.sqrt() - q.sqrt()).square() + 2 * torch.maximum(p, q) * apart
    mean = (x[..., 0, 0] - y[..., 0, 0]).square()
    return (mean + rest[..., 1:].sum(-1)).mean(1) / cells


def fourier_amplitude(prediction: Tensor, target: Tensor) -> Tensor:
    """FAL of Yan et al. (2024), arXiv:2410.23159: mean squared error of Fourier amplitudes, (N,).

    Of the windowed fields, orthonormal, with a window of mean square 1: of the size of the MSE.
    """
    h, w = prediction.shape[-2:]
    rows, columns = (torch.hann_window(n, dtype=prediction.dtype, device=prediction.device) for n in (h, w))
    window = rows[:, None] * columns
    window = window / window.square().mean().sqrt()
    # abs has no gradient at 0; below the floor the amplitude is as good as zero.
    a, b = (
        torch.view_as_real(torch.fft.fft2(x * window, norm="ortho")).square().sum(-1).clamp_min(_TINY).sqrt()
        for x in (prediction, target)
    )
    return (a - b).square().mean((1, 2, 3))


def fourier_correlation(prediction: Tensor, target: Tensor) -> Tensor:
    """FCL of Yan et al. (2024): one minus the correlation of the complex spectra, per channel, (N,).

    By Parseval's identity this is one minus the cosine between the fields; no transform is needed.
    """
    a, b = (
        x.flatten(2) * x.flatten(2).square().sum(-1, keepdim=True).clamp_min(_TINY).rsqrt()
        for x in (prediction, target)
    )
    return (a - b).square().sum(-1).mean(1) / 2


def cosine_transform(fields: Tensor) -> Tensor:
    """Orthonormal DCT-II of the last two axes."""
    rows, columns = (_cosines(n, fields.dtype, fields.device) for n in fields.shape[-2:])
    return rows @ fields @ columns.T


def cosine_transform_inverse(coefficients: Tensor) -> Tensor:
    """Inverse of :func:`cosine_transform`."""
    rows, columns = (_cosines(n, coefficients.dtype, coefficients.device) for n in coefficients.shape[-2:])
    return rows.T @ coefficients @ columns


def ring_power(coefficients: Tensor) -> Tensor:
    """Sum of squares per ring, (N, C, K) of (N, C, H, W)."""
    h, w = coefficients.shape[-2:]
    return coefficients.square().flatten(-2) @ rings(h, w, coefficients.dtype, coefficients.device)


@functools.lru_cache(maxsize=16)
def _cosines(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    k, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float64),) * 2, indexing="ij")
    out = torch.cos(math.pi * (i + 0.5) * k / n) * math.sqrt(2 / n)
    out[0] /= math.sqrt(2)
    return out.to(device, dtype)


@functools.lru_cache(maxsize=16)
def rings(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Membership (H · W, K) of coefficients in rings of wavenumber, in half waves over the shorter axis.

    A matrix, since a product with it is faster than scattered sums.
    """
    k = torch.hypot(torch.arange(height)[:, None] / height, torch.arange(width) / width) * min(height, width)
    ring = torch.unique(k.round().long().flatten(), return_inverse=True)[1]
    return F.one_hot(ring).to(device, dtype)
