r"""Winds to divergence and vorticity on latitude–longitude grids, differentiable.

On a sphere of radius :math:`R`, with longitude λ, latitude φ and wind (u, v) (Holton 2004, App. C):

.. math::
    \delta = \frac{1}{R \cos φ} \left( \frac{∂u}{∂λ} + \frac{∂(v \cos φ)}{∂φ} \right), \qquad
    \zeta  = \frac{1}{R \cos φ} \left( \frac{∂v}{∂λ} - \frac{∂(u \cos φ)}{∂φ} \right)

Derivatives are five-point differences of fourth order: central inside, one-sided at the edges of the
grid, periodic in longitude on a grid that closes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmoloss.errors import InputError, floats, number, option
from atmoloss.functional import full_precision
from atmoloss.sphere import EARTH_RADIUS, is_periodic, regular_step

# Offsets and weights of the fourth-order first derivative for the first and second point, and weights for an inner one.
_ENDS = (
    ((0, 1, 2, 3, 4), (-25 / 12, 4.0, -3.0, 4 / 3, -1 / 4)),
    ((-1, 0, 1, 2, 3), (-1 / 4, -5 / 6, 3 / 2, -1 / 2, 1 / 12)),
)
_INNER = (1 / 12, -2 / 3, 0.0, 2 / 3, -1 / 12)
_POLE_TOLERANCE = 1e-4  # degrees


def _derivative(field: Tensor, dim: int, periodic: bool) -> Tensor:
    """Fourth-order first derivative per grid step along ``dim`` (−1 or −2)."""
    size = field.shape[dim]

    def combine(offsets: Sequence[int], weights: Sequence[float], start: int, length: int) -> Tensor:
        terms = [w * field.narrow(dim, start + o, length) for o, w in zip(offsets, weights, strict=True) if w]
        return torch.stack(terms).sum(0)

    if periodic:
        wrapped = torch.cat((field.narrow(dim, size - 2, 2), field, field.narrow(dim, 0, 2)), dim)
        return sum(w * wrapped.narrow(dim, k, size) for k, w in enumerate(_INNER) if w)  # type: ignore[return-value]
    first = [combine(*stencil, row, 1) for row, stencil in enumerate(_ENDS)]
    inner = combine(range(-2, 3), _INNER, 2, size - 4)
    mirrored = [([-o for o in offsets], [-w for w in weights]) for offsets, weights in _ENDS]
    last = [combine(*stencil, size - 1 - row, 1) for row, stencil in enumerate(mirrored)]
    return torch.cat((*first, inner, *reversed(last)), dim)


class WindToVorticityDivergence(nn.Module):
    r"""Horizontal wind to (divergence, relative vorticity), in the package's channel order.

    Formulas and stencils: see :mod:`atmoloss.winds`. Winds on a global Gaussian grid are derived by
    :func:`atmoloss.data.open_fields`, through spherical harmonics. At a pole the longitude has no meaning and
    cos φ = 0: a pole row of the output is the zonal mean of the row next to it. Its wind is still read
    by the differences of the rows beside it, along a meridian it continues them smoothly.

    Args:
        latitude: degrees north, (H,) regular, ascending or descending.
        longitude: degrees east, (W,) regular, ascending or descending; may cross the date line.
        radius: of the sphere, metres.
        periodic: whether the grid closes in longitude; ``None`` detects it from ``longitude``.

    Shape:
        wind (N, 2, H, W) eastward and northward, m s⁻¹ → (N, 2, H, W) divergence and vorticity, s⁻¹.
        Any floating dtype; the derivative is taken in the input's dtype, in at least float32.

    Raises:
        InputError: irregular or too short axes, or a wind whose shape does not fit them.
    """

    def __init__(
        self, latitude: Any, longitude: Any, radius: float = EARTH_RADIUS, *, periodic: bool | None = None
    ) -> None:
        super().__init__()
        lat = floats("latitude", latitude, "degrees, (H,)")
        lon = floats("longitude", longitude, "degrees, (W,)")
        number("radius", radius, lambda x: x > 0, "a positive number of metres")
        option("periodic", periodic, (True, False, None))
        if np.abs(lat).max(initial=0.0) > 90.0 + _POLE_TOLERANCE:
            raise InputError(f"latitude: values up to {np.abs(lat).max():g}, expected degrees within ±90")
        self.latitude_step = math.radians(regular_step(lat, "latitude"))
        self.longitude_step = math.radians(regular_step(lon, "longitude"))
        self.periodic = is_periodic(lon) if periodic is None else periodic
        self.radius = radius
        self._columns = lon.size
        # float64 whatever the module's dtype: .half() must not round the latitudes.
        self._latitude = torch.from_numpy(lat.copy())

    def extra_repr(self) -> str:
        """Return the grid in the module's repr."""
        lat = self._latitude
        return f"latitude={lat[0]:g}…{lat[-1]:g}, periodic={self.periodic}, radius={self.radius:g}"

    def forward(self, wind: Tensor, latitude: Tensor | None = None) -> Tensor:
        """Return (divergence, vorticity) of ``wind``.

        Args:
            wind: (N, 2, H, W), m s⁻¹.
            latitude: degrees, (H,) or (N, H), where the rows differ from those given at construction
                (random crops); same step and direction.
        """
        if not isinstance(wind, Tensor):
            raise InputError(f"wind: got {type(wind).__name__}, expected a tensor (N, 2, H, W) with u and v")
        if wind.ndim != 4 or wind.shape[1] != 2:
            raise InputError(f"wind: got shape {tuple(wind.shape)}, expected (N, 2, H, W) with u and v")
        lat = self._latitude if latitude is None else latitude
        if not isinstance(lat, Tensor):
            lat = torch.from_numpy(floats("latitude", lat, "degrees, (H,) or (N, H)"))
        if lat.device.type != "mps":  # which has no float64
            lat = lat.double()
        if lat.ndim not in (1, 2) or lat.shape[-1] != wind.shape[-2] or (lat.ndim == 2 and len(lat) != len(wind)):
            raise InputError(
                f"latitude: got shape {tuple(lat.shape)}, expected (H,) or (N, H) for wind {tuple(wind.shape)}"
            )
        self._check_grid(wind, lat if latitude is not None else None)
        fields = full_precision(wind)
        dtype = fields.dtype
        rows = torch.deg2rad(lat).reshape(-1, 1, lat.shape[-1], 1)
        pole = (lat.abs() > 90.0 - _POLE_TOLERANCE).reshape(rows.shape)
        cos = torch.cos(rows).clamp_min(1e-12).to(wind.device, dtype)
        # ∂(f cos φ)/∂φ / cos φ = ∂f/∂φ − f tan φ keeps the rows next to a pole as accurate as the others.
        tan = torch.where(pole, torch.zeros_like(rows), torch.tan(rows)).to(wind.device, dtype)
        u, v = fields[:, :1], fields[:, 1:]
        east = _derivative(fields, -1, self.periodic) / (self.longitude_step * cos)
        north = _derivative(fields, -2, periodic=False) / self.latitude_step
        divergence = east[:, :1] + north[:, 1:] - v * tan
        vorticity = east[:, 1:] - north[:, :1] + u * tan
        out = torch.cat((divergence, vorticity), 1) / self.radius
        return _fill_poles(out, pole.to(wind.device)).to(wind.dtype)

    def _check_grid(self, wind: Tensor, latitude: Tensor | None) -> None:
        """Raise ``InputError`` where the differences would be silently wrong; read latitudes on the CPU only."""
        if min(wind.shape[-2:]) < 5:
            raise InputError(f"wind: got shape {tuple(wind.shape)}, expected at least 5 rows and 5 columns")
        if self.periodic and wind.shape[-1] != self._columns:
            raise InputError(
                f"wind: got {wind.shape[-1]} columns, expected {self._columns}, one per longitude of the periodic grid"
            )
        if latitude is None or latitude.device.type != "cpu" or torch.compiler.is_compiling():
            return
        step = math.degrees(self.latitude_step)
        stray = float((latitude.diff(dim=-1) - step).abs().max())
        if not (stray <= 0.05 * abs(step) and float(latitude.abs().max()) <= 90.0 + _POLE_TOLERANCE):
            raise InputError(
                f"latitude: got values from {float(latitude.min()):g} to {float(latitude.max()):g} whose steps are up "
                f"to {stray:g} off; expected degrees within ±90 in steps of {step:g} as at construction"
            )


def _fill_poles(fields: Tensor, pole: Tensor) -> Tensor:
    """Replace rows at a pole, first or last, by the zonal mean of their neighbour."""
    edges = fields[..., 1:2, :], fields[..., -2:-1, :]
    first, last = (edge.mean(-1, keepdim=True).expand_as(edge) for edge in edges)
    neighbours = torch.cat((first, fields[..., 1:-1, :], last), -2)
    return torch.where(pole, neighbours, fields)
