"""The vorticity equation on a periodic plane, ∂ω/∂t + u·∇ω = ν∇²ω with ω = ∇×u, by Fourier series and Runge–Kutta.

Lengths are in cells, times in steps of the data, rows run southward: y = −row. Products are freed of aliasing by
the 2/3 rule (Orszag 1971); viscosity is exact, by its factor between two steps of the rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wavenumbers(size: int) -> tuple[Tensor, Tensor]:
    """Return the angular wavenumbers in x and y of ``rfft2`` of ``size``² cells, float64."""
    y = -2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64)
    x = 2 * math.pi * torch.fft.rfftfreq(size, dtype=torch.float64)
    return x.expand(size, -1), y[:, None].expand(-1, len(x))


def velocity(spectrum: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return u and v, (…, H, H), of the vorticity with that ``rfft2``; their mean is zero."""
    kx, ky = wavenumbers(size)
    square = kx.square() + ky.square()
    stream = -spectrum / square.clamp_min(1e-12)  # ∇²ψ = ω, u = −∂ψ/∂y, v = ∂ψ/∂x; the mean of ω has no stream
    stream[..., 0, 0] = 0.0
    return torch.fft.irfft2(-1j * ky * stream, s=(size, size)), torch.fft.irfft2(1j * kx * stream, s=(size, size))


def tendency(spectrum: Tensor, size: int) -> Tensor:
    """Return what −u·∇ω adds to the spectrum in a step."""
    kx, ky = wavenumbers(size)
    u, v = velocity(spectrum, size)
    east, north = (torch.fft.irfft2(1j * k * spectrum, s=(size, size)) for k in (kx, ky))
    kept = (kx.abs() < 2 / 3 * math.pi) & (ky.abs() < 2 / 3 * math.pi)
    return -torch.fft.rfft2(u * east + v * north) * kept


def solve(vorticity: Tensor, frames: int, *, viscosity: float = 0.0, substeps: int = 8) -> Tensor:
    """Return the vorticity at the steps 0 … ``frames`` − 1, (…, frames, H, H), from (…, H, H) at the first."""
    size = vorticity.shape[-1]
    kx, ky = wavenumbers(size)
    h = 1.0 / substeps
    damping = torch.exp(-viscosity * h * (kx.square() + ky.square()))
    w = torch.fft.rfft2(vorticity.double())
    out = [vorticity.double()]
    for _ in range(frames - 1):
        for _ in range(substeps):
            k1 = tendency(w, size)
            k2 = tendency(w + h / 2 * k1, size)
            k3 = tendency(w + h / 2 * k2, size)
            k4 = tendency(w + h * k3, size)
            w = damping * (w + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        out.append(torch.fft.irfft2(w, s=(size, size)))
    return torch.stack(out, -3)


def shift(fields: Tensor, east: Tensor, north: Tensor) -> Tensor:
    """Move (…, H, H) by any number of cells, exactly: a mean flow does nothing else to the flow on it."""
    size = fields.shape[-1]
    kx, ky = wavenumbers(size)
    phase = kx * east[..., None, None] + ky * north[..., None, None]
    # Of the shortest wave only the amplitude between cells is known: it is left out.
    kept = (kx.abs() < math.pi - 1e-9) & (ky.abs() < math.pi - 1e-9)
    return torch.fft.irfft2(torch.fft.rfft2(fields) * torch.exp(-1j * phase) * kept, s=(size, size))
