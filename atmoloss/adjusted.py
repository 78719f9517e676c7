r"""The amplitude-adjusted difference: a squared difference that does not reward blur.

With local means μ, spreads σ and correlation ρ of two fields in a window, their mean squared difference is

.. math:: (μ_x - μ_y)^2 + (σ_x - σ_y)^2 + 2 σ_x σ_y (1 - ρ)

The last term makes it cheap to be weak: where ρ < ½, no detail (σ_x = 0) costs less than detail of the right
strength. The adjusted difference has max(σ_x², σ_y²) in place of σ_x σ_y, so that what cannot be placed rightly costs
least when it is as strong as in the target. Subich et al. (2025), arXiv:2501.19374, do that for each degree of
spherical harmonics over the whole globe; here it is done in windows, so that strength is compared where it belongs.

Both differ by 2 (σ_max − σ_min) (σ_max − cov / σ_min) ≥ 0. That is what is computed here, and added to the squared
difference as :mod:`~atmoloss.functional` has it: nothing is decomposed that need not be, and fields of equal local
strength have the squared difference itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.errors import InputError
from atmoloss.functional import (
    NORMALISED,
    Difference,
    full_precision,
    mean_squared_difference,
    pool_weight,
    squared_difference_map,
)

# Both fields are taken to share a component of this part of their local power. It bounds the gradient of a field that
# is flat where the other is not, to about 1 / sqrt(part) times that of the squared difference.
_SHARED_POWER = 1e-3
_TINY = 1e-20  # the power that fields share where both are zero; its root and their ratios are normal in float32
# Burt & Adelson (1983), doi:10.1109/TCOM.1983.1095851, a = 0.6: their low-pass that is nearest to orthogonal to itself
# shifted by two cells, and with that the power of the bands to that of the field.
_CENTRE, _NEXT, _OUTER = 0.6, 0.25, -0.05


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a sharp loss compares. Not part of the public interface: one place for what a search may vary.

    Attributes:
        window: cells, even; of each band of the fields, at the spacing of the band.
        bands: octave bands of the fields, from the finest.
        feature_window: cells, even; of each stage's own grid.
        fields, features: the shares of what the adjustment adds, 1 for all of it and 0 for none.
    """

    window: int = 8
    bands: int = 3
    feature_window: int = 8
    fields: float = 1.0
    features: float = 1.0


SETTINGS = Settings()


def differences(stages: Iterable[str], periodic: bool, settings: Settings = SETTINGS) -> Mapping[str, Difference]:
    """Return how a sharp loss compares the features of ``stages`` and the normalised fields, by name."""
    out: dict[str, Difference] = {}
    if settings.features:
        feature = AdjustedDifference(settings.feature_window, 0, periodic, settings.features)
        out |= dict.fromkeys(stages, feature)
    if settings.fields:
        out[NORMALISED] = AdjustedDifference(settings.window, settings.bands, periodic, settings.fields)
    return out


@dataclasses.dataclass(frozen=True)
class AdjustedDifference:
    r"""The amplitude-adjusted difference of two fields or features, channel by channel.

    .. math:: \overline{(a - b)^2} + s \sum_j \overline{2 (σ_{max} - σ_{min}) (σ_{max} - cov / σ_{min})}

    The second mean is over windows that overlap by half, each counted by the weight of its cells. Those at the border
    reach beyond it by half and hold what is inside, so that every cell is in four windows. Symmetric, 0 for equal
    fields to the bit, never below the mean squared difference, and proportional to the square of the fields' unit.
    It is no metric: its root does not obey the triangle inequality.

    Args:
        window: cells on a side, even.
        bands: 0 compares the fields as they are; else j runs over this many of their :func:`octave_bands`, from the
            finest. A window then holds as many cells of each band, and grows with wavelength. The remainder is left to
            the squared difference.
        periodic: columns close in longitude.
        share: s.

    Raises:
        InputError: a window that is not even and positive, or a negative number of bands.
    """

    window: int = 8
    bands: int = 0
    periodic: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.window < 2 or self.window % 2:
            raise InputError(f"window: got {self.window}, expected an even number of cells, at least 2")
        if self.bands < 0:
            raise InputError(f"bands: got {self.bands}, expected at least 0")

    def __call__(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the difference of each pair, (N,), at least float32; 0 for a sample whose weights are all zero.

        Args:
            a, b: (N, C, h, w), any floating dtype.
            weight: (N or 1, 1, h, w), not negative, or ``None`` for equal weights; what the windows add has no
                gradient with respect to it.
        """
        total = mean_squared_difference(a, b, weight)
        for j, (x, y) in enumerate(self._bands(a, b)):
            pooled = None if weight is None else pool_weight(weight, (x.shape[-2], x.shape[-1]), 2**j)
            penalty, area = _penalty(x, y, pooled, self.window // 2, self.periodic)
            mean = (penalty.mean(1, keepdim=True) * area).sum((1, 2, 3)) / area.sum((1, 2, 3)).clamp_min(_TINY)
            total = total + self.share * mean
        return total

    def map(self, a: Tensor, b: Tensor) -> Tensor:
        """Return where the difference lies, (N, 1, h, w); its mean is close to the difference."""
        total, half = squared_difference_map(a, b), self.window // 2
        for x, y in self._bands(a, b):
            penalty, _ = _penalty(x, y, None, half, self.periodic)
            if self.periodic:
                penalty = torch.cat((penalty, penalty[..., :1]), -1)
            blocks = F.avg_pool2d(penalty.mean(1, keepdim=True), 2, 1)  # of each block the windows that hold it
            total = total + self.share * F.interpolate(blocks, (a.shape[-2], a.shape[-1]), mode="bilinear")
        return total

    def _bands(self, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
        a, b = full_precision(a), full_precision(b)
        if not self.bands:
            return [(a, b)]
        pairs = zip(*(octave_bands(x, self.bands, self.periodic) for x in (a, b)), strict=True)
        return list(pairs)[:-1]


def octave_bands(x: Tensor, count: int, periodic: bool = False) -> list[Tensor]:
    """Split (N, C, H, W) into ``count`` bands of wavelengths and what is larger: a Laplacian pyramid.

    Band j, at ⌈H/2ʲ⌉ × ⌈W/2ʲ⌉ cells, holds wavelengths of about 2 to 4 of its cells, the last entry all that are
    larger. The bands of equal fields are equal, and a field is the sum of its bands (each doubled j times,
    :func:`double`). The mean squares of the bands sum to that of the field, to 2 % for noise and 10 % for
    any single wave, so that an adjustment of each band has the size of one of the field.

    Rows, and columns unless ``periodic``, continue beyond the border as they are on it.
    """
    out = []
    for _ in range(count):
        smooth = _halve(_halve(x, -2, False), -1, periodic)
        out.append(x - double(smooth, (x.shape[-2], x.shape[-1]), periodic))
        x = smooth
    return [*out, x]


def double(x: Tensor, size: tuple[int, int], periodic: bool = False) -> Tensor:
    """Interpolate (N, C, ⌈H/2⌉, ⌈W/2⌉) to ``size`` = (H, W), as :func:`octave_bands` does."""
    return _double(_double(x, -1, size[1], periodic), -2, size[0], False)


# Slices and sums rather than convolutions: neither autocast nor TF32 rounds them, and one channel leaves most of a
# convolution's vector registers empty.


def _halve(x: Tensor, dim: int, periodic: bool) -> Tensor:
    half = -(-x.shape[dim] // 2)
    x = _extend(x, dim, 2, periodic)
    even, odd = (x[..., i::2, :] if dim == -2 else x[..., i::2] for i in (0, 1))
    outer = even.narrow(dim, 0, half) + even.narrow(dim, 2, half)
    beside = odd.narrow(dim, 0, half) + odd.narrow(dim, 1, half)
    return even.narrow(dim, 1, half).mul(_CENTRE).add(beside, alpha=_NEXT).add(outer, alpha=_OUTER)


def _double(x: Tensor, dim: int, size: int, periodic: bool) -> Tensor:
    half = x.shape[dim]
    x = _extend(x, dim, 1, periodic)
    before, here, after = (x.narrow(dim, i, half) for i in range(3))
    even = here.mul(2 * _CENTRE).add(before + after, alpha=2 * _OUTER)
    odd = (here + after).mul(2 * _NEXT)
    both = torch.stack((even, odd), -1 if dim == -1 else -2)
    return both.flatten(-2 if dim == -1 else -3, -1 if dim == -1 else -2).narrow(dim, 0, size)


def _extend(x: Tensor, dim: int, cells: int, periodic: bool) -> Tensor:
    size = x.shape[dim]
    if periodic and size >= cells:
        return torch.cat((x.narrow(dim, size - cells, cells), x, x.narrow(dim, 0, cells)), dim)
    first, last = x.narrow(dim, 0, 1), x.narrow(dim, size - 1, 1)  # one cell that wraps is the cell on its border
    return torch.cat((*[first] * cells, x, *[last] * cells), dim)


def _penalty(x: Tensor, y: Tensor, weight: Tensor | None, half: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """Return what the adjustment adds in each window, (N, C, rows, columns), and the weight of the windows."""
    area, mean_x, mean_y, square_x, square_y, product = _window_moments(x, y, weight, half, periodic)
    variance_x, variance_y = square_x - mean_x * mean_x, square_y - mean_y * mean_y
    rounding = 8 * torch.finfo(x.dtype).eps * (square_x + square_y)
    shared = _SHARED_POWER * (variance_x + variance_y) + rounding + _TINY
    spread_x, spread_y = (variance_x + shared).sqrt(), (variance_y + shared).sqrt()
    covariance = product - mean_x * mean_y + shared
    high, low = torch.maximum(spread_x, spread_y), torch.minimum(spread_x, spread_y)
    return 2 * (high - low) * (high - covariance / low).clamp_min(0.0), area


def _window_moments(
    x: Tensor, y: Tensor, weight: Tensor | None, half: int, periodic: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the weight of each window and the means of x, y, x², y² and xy in it; 0 where there is no weight.

    A window is two blocks of ``half`` cells on a side. One starts at every block and one before the first.
    """
    below, right = (-size % half for size in x.shape[-2:])
    cells = x.new_ones(1, 1, *x.shape[-2:]) if weight is None else weight.to(x.dtype)
    if below or right:
        x, y, cells = (F.pad(t, (0, right, 0, below)) for t in (x, y, cells))
        weight = None if weight is None else cells
    area = _four_blocks(F.avg_pool2d(cells, half), periodic)
    sums = _four_blocks(_BlockMeans.apply(x, y, weight, half), periodic)  # type: ignore[no-untyped-call]
    mean_x, mean_y, square_x, square_y, product = (sums / area.clamp_min(_TINY)).chunk(5, 1)
    return area, mean_x, mean_y, square_x, square_y, product


def _four_blocks(x: Tensor, periodic: bool) -> Tensor:
    """Sum each two neighbouring rows and columns of (N, C, rows, columns), those beyond the border included."""
    if periodic:
        return F.avg_pool2d(torch.cat((x[..., -1:], x), -1), 2, 1, (1, 0), divisor_override=1)
    return F.avg_pool2d(x, 2, 1, 1, divisor_override=1)


class _BlockMeans(torch.autograd.Function):
    """Means over blocks of ``half`` cells on a side of x, y, x², y² and xy times the weight, a constant; (N, 5 C, …).

    Autograd's own gradient would keep three products of the fields and write out their gradients one by one.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor, weight: Tensor | None, half: int) -> Tensor:
        weighted_x, weighted_y = (x, y) if weight is None else (x * weight, y * weight)
        means = [F.avg_pool2d(weighted_x, half), F.avg_pool2d(weighted_y, half), F.avg_pool2d(weighted_x * x, half)]
        means += [F.avg_pool2d(weighted_y * y, half), F.avg_pool2d(weighted_x * y, half)]
        return torch.cat(means, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, y, weight, ctx.half = inputs
        ctx.save_for_backward(x, y, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, y, weight = ctx.saved_tensors
        of_x, of_y, of_xx, of_yy, of_xy = (gradient / ctx.half**2).chunk(5, 1)

        def of_cells(own: Tensor, other: Tensor, *of_blocks: Tensor) -> Tensor:
            of_blocks = F.interpolate(torch.cat(of_blocks, 1), scale_factor=ctx.half, mode="nearest").chunk(3, 1)
            out = torch.addcmul(torch.addcmul(of_blocks[0], own, of_blocks[1], value=2), other, of_blocks[2])
            return out if weight is None else out * weight

        needs_x, needs_y, *_ = ctx.needs_input_grad
        return (
            of_cells(x, y, of_x, of_xx, of_xy) if needs_x else None,
            of_cells(y, x, of_y, of_yy, of_xy) if needs_y else None,
            None,
            None,
        )
