r"""The amplitude-adjusted difference: a squared difference that does not reward blur.

With amplitudes :math:`σ` and coherence ρ of two fields in one band of wavelengths, their mean squared difference is

.. math:: (σ_a - σ_b)^2 + 2 σ_a σ_b (1 - ρ)

The last term makes it cheap to be weak: where ρ < ½, no detail (:math:`σ_a = 0`) costs less than detail of the right
strength. Subich et al. (2025), arXiv:2501.19374, put :math:`\max(σ_a^2, σ_b^2)` in place of :math:`σ_a σ_b`, for each
degree of spherical harmonics over the whole globe. Two things differ here:

- Amplitudes are compared in windows, so that strength is asked for where the target has it.
- :math:`σ_b^2`, the power of the target, takes the place of the maximum. What power a window will hold is
  uncertain, and the maximum punishes too much of it at once but too little only by the square: the best guess is then a
  low one, the lower the smaller the window. With the target's power both cost the same, :math:`(σ_a - σ_b)^2`, and
  the best guess is the mean amplitude.

The two formulas differ by :math:`2 (σ_b - σ_a) (σ_b - cov / σ_a)`. That is what is computed here, and added to the
squared difference as :mod:`~atmoloss.functional` has it, so that nothing is decomposed that need not be.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.errors import InputError
from atmoloss.functional import full_precision, mean_squared_difference, squared_difference_map

# Both fields are taken to share a component of this part of their power. It bounds the gradient of a field that
# is flat where the target is not, to about 1 / sqrt(part) times that of the squared difference.
_SHARED_POWER = 1e-3
# From this ring of wavenumber on, six directions between a row and a column are groups of their own.
_DIRECTED, _DIRECTIONS = 6, 6
_TINY = 1e-20  # the power that fields share where both are zero; its root and their ratios are normal in float32


@dataclasses.dataclass(frozen=True)
class AdjustedDifference:
    r"""The amplitude-adjusted difference of a field from its target, channel by channel.

    .. math:: \overline{(a - b)^2} + \sum_g 2 (σ_b - σ_a) (σ_b - cov / σ_a)

    The sum is over groups of wave vectors in windows that overlap by a quarter, where they rise and fall as a sine: the
    squares of the tapers sum to 1 in every cell and the Fourier basis is orthonormal, so that powers of all windows and
    groups sum to the mean square of the field. Long waves are grouped in rings of wavenumber. Rings of waves shorter
    than a sixth of the window fall into six directions, from along a row to along a column: a network could otherwise
    put the power of all directions into those that its grid makes easy, as streaks. The mean of a window is left
    to the squared difference. Windows at the border continue with zeros, or round the globe.

    Zero for equal fields to the bit, and proportional to the square of the fields' unit. Not symmetric: the second
    field is the target, whose amplitudes are asked for.

    Args:
        window: cells on a side, a multiple of 4, at least 8. Rings are those of wavelengths window, window / 2,
            window / 3, … cells.
        periodic: columns close in longitude.

    Raises:
        InputError: a window that is none of these.
    """

    window: int = 32
    periodic: bool = False

    def __post_init__(self) -> None:
        if self.window < 8 or self.window % 4:
            raise InputError(f"window: got {self.window}, expected a multiple of 4 cells, at least 8")

    @property
    def _overlap(self) -> int:
        return self.window // 4

    @property
    def _step(self) -> int:
        return self.window - self._overlap

    def __call__(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the difference of each pair, (N,), at least float32; 0 for a sample whose weights are all zero.

        Args:
            a, b: field and target, (N, C, h, w), any floating dtype.
            weight: (N or 1, 1, h, w), not negative, or ``None`` for equal weights.
        """
        plain = mean_squared_difference(a, b, weight)
        a, b = full_precision(a), full_precision(b)
        cells: float | Tensor = a.shape[-2] * a.shape[-1]
        if weight is not None:  # the weight of a product is the product of the roots
            root = weight.to(a.dtype).sqrt()
            a, b, cells = a * root, b * root, weight.to(a.dtype).sum((1, 2, 3)).clamp_min(torch.finfo(a.dtype).tiny)
        return plain + self._adjustment(a, b).sum((1, 2, 3)) / (cells * a.shape[1])

    def map(self, a: Tensor, b: Tensor) -> Tensor:
        """Return where the difference lies, (N, 1, h, w); its mean is that of the difference, but for the border."""
        before, (height, width) = self._overlap, a.shape[-2:]
        of_windows = self._adjustment(full_precision(a), full_precision(b)).mean(1, keepdim=True)
        taper = _taper(self.window, of_windows).square()
        area = taper[:, None] * taper / taper.sum() ** 2
        spread = F.conv_transpose2d(of_windows, area[None, None], stride=self._step)[..., before : before + height, :]
        if self.periodic:  # the last windows begin again at the first columns
            spread = F.pad(spread, (0, -spread.shape[-1] % width))
            spread = spread.reshape(*spread.shape[:-1], -1, width).sum(-2)
        else:
            spread = spread[..., before : before + width]
        return squared_difference_map(a, b) + spread

    def _adjustment(self, a: Tensor, b: Tensor) -> Tensor:
        """Return what is added to the squared difference in each window, summed over groups, (N, C, rows, columns)."""
        groups = _groups(self.window, a)
        with torch.autocast(a.device.type, enabled=False):
            own, of_target = self._coefficients(a), self._coefficients(b)
            power, target, cross = own.square() @ groups, of_target.square() @ groups, (own * of_target) @ groups
        # All by differences, which are exactly 0 where the fields are equal.
        more, shared = target - power, _SHARED_POWER * (power + target) + _TINY
        amplitude = (power + shared).sqrt()
        missing = more / (amplitude + (target + shared).sqrt())  # amplitude, to the target's
        return (2 * missing * (missing - (cross - power) / amplitude)).sum(-1)

    def _coefficients(self, x: Tensor) -> Tensor:
        """Return Fourier coefficients (N, C, rows, columns, window²) of all windows of (N, C, h, w)."""
        step, before, (height, width) = self._step, self._overlap, x.shape[-2:]
        rows, columns = (math.ceil((size + before) / step) for size in (height, width))
        below = rows * step - height
        if self.periodic:
            columns = math.ceil(width / step)
            wrapped = torch.arange(columns * step + before, device=x.device) % width
            # Where the last windows reach over the first, cells are in more of them than elsewhere.
            covered = torch.zeros(width, dtype=x.dtype, device=x.device)
            cells = torch.arange(columns, device=x.device)[:, None] * step + torch.arange(self.window, device=x.device)
            covered = covered.index_add(0, cells.flatten() % width, _taper(self.window, x).square().repeat(columns))
            x = F.pad((x * covered.rsqrt())[..., wrapped], (0, 0, before, below))
        else:
            x = F.pad(x, (before, columns * step - width, before, below))
        basis = _basis(self.window, x)
        # One product for all windows: torch multiplies views that overlap one by one, in four times the time.
        by_column = x.unfold(-1, self.window, step).contiguous() @ basis.T  # (N, C, h, columns, wavenumbers in x)
        by_window = by_column.unfold(2, self.window, step).contiguous() @ basis.T  # wavenumbers in x, then in y
        return by_window.flatten(-2)


def _taper(window: int, like: Tensor) -> Tensor:
    """Return (window,) that rises and falls as a sine over a quarter; its squares, repeated every 3/4, sum to 1."""
    cells = torch.arange(window, device=like.device, dtype=torch.float64) + 0.5
    to_border = torch.minimum(cells, window - cells) / (window // 4)
    return torch.sin(math.pi / 2 * to_border.clamp_max(1.0)).to(like.dtype)


def _basis(window: int, like: Tensor) -> Tensor:
    """Return tapered Fourier functions, (window, window): mean, cosine and sine of each wavenumber, shortest wave."""
    exact: dict[str, Any] = {"dtype": torch.float64, "device": like.device}
    cells = torch.arange(window, **exact) + 0.5
    angle = 2 * math.pi / window * torch.arange(1, window // 2, **exact)[:, None] * cells
    waves = torch.stack((angle.cos(), angle.sin()), 1).flatten(0, 1) * math.sqrt(2 / window)
    ends = torch.stack((torch.ones_like(cells), torch.sin(math.pi * cells))) / math.sqrt(window)
    return torch.cat((ends[:1], waves, ends[1:])).to(like.dtype) * _taper(window, like)


def _groups(window: int, like: Tensor) -> Tensor:
    """Return which coefficients belong to which group of wave vectors, (window², groups), 1 or 0; the mean to none."""
    wavenumber = (torch.arange(window, device=like.device, dtype=torch.float64) + 1).div(2, rounding_mode="floor")
    ring = torch.hypot(wavenumber[:, None], wavenumber).round().long()
    # A diagonal lies half-way between two directions, and falls to the same one whatever the rounding.
    direction = (torch.atan2(wavenumber, wavenumber[:, None]) * (2 * (_DIRECTIONS - 1) / math.pi) - 1e-6).round().long()
    number = torch.where(ring < _DIRECTED, ring, _DIRECTED + (ring - _DIRECTED) * _DIRECTIONS + direction).flatten()
    rings = round(math.hypot(window // 2, window // 2)) + 1
    count = max(rings, _DIRECTED + (rings - _DIRECTED) * _DIRECTIONS)
    return (number[:, None] == torch.arange(1, count, device=like.device)).to(like.dtype)
