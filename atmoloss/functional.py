"""Pure functions on tensors: weighted feature differences, pooled weights, reductions.

Nothing here knows of files, units or networks. Everything is reduced in at least float32, whatever
autocast says: sums over 10⁵ numbers in half precision overflow or stall.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.errors import InputError

Reduction = Literal["mean", "sum", "none"]
REDUCTIONS = ("mean", "sum", "none")

NORMALISED = "normalised"
"""Name of the normalised fields among the features."""
Mixture = tuple[tuple[float, Mapping[str, float]], ...]
"""Shares, and what each is the share of: a sum of features' differences, stage name to factor."""


class Difference(Protocol):
    """How two features of one name are compared, in place of the squared difference."""

    def __call__(self, a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return what :func:`mean_squared_difference` is the plain form of, (N,)."""

    def map(self, a: Tensor, b: Tensor) -> Tensor:
        """Return what :func:`squared_difference_map` is the plain form of, (N, 1, h, w)."""


def full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def functorch_levels(tensor: Tensor) -> Iterator[Tensor]:
    """Iterate over the wrappers that ``torch.func``'s transforms put around a tensor, and the tensor itself."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        yield tensor
        tensor = torch._C._functorch.get_unwrapped(tensor)
    yield tensor


def expand_weight(weight: Tensor, fields: Tensor) -> Tensor:
    """Bring a weight of (H,), (H, W) or (N, 1, H, W) to (N or 1, 1, H, W) for ``fields`` (N, C, H, W), or refuse it."""
    if not isinstance(weight, Tensor):
        raise InputError(f"weight: got {type(weight).__name__}, expected a tensor")
    n, _, height, width = fields.shape
    shape = tuple(weight.shape)
    weight = full_precision(weight)  # masks come as bool, too
    if shape == (height,):
        return weight.reshape(1, 1, height, 1).expand(1, 1, height, width)
    if shape == (height, width):
        return weight.reshape(1, 1, height, width)
    if shape in ((n, 1, height, width), (1, 1, height, width)):
        return weight
    raise InputError(
        f"weight: got shape {shape}, expected ({height},), ({height}, {width}) or ({n}, 1, {height}, {width})"
    )


def pool_weight(weight: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Average a weight (N, 1, H, W) over the cells of a stage of ``stride`` s, ⌈H/s⌉ × ⌈W/s⌉ = ``size`` of them.

    ``InputError`` where the stride does not make ``size`` of the weight's grid.
    """
    grid = weight.shape[-2], weight.shape[-1]
    if stride < 1 or any(-(-whole // stride) != part for whole, part in zip(grid, size, strict=True)):
        raise InputError(
            f"weight: got {grid[0]}x{grid[1]} points for a stage of {size[0]}x{size[1]} and stride {stride}"
        )
    # The last window may be partial, its mean is over what there is.
    return F.avg_pool2d(weight, stride, stride, ceil_mode=True) if stride > 1 else weight


def squared_difference_map(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean over channels of (a − b)², (N, 1, h, w), in at least float32."""
    return _squared_difference(a, b).mean(1, keepdim=True)


def _squared_difference(a: Tensor, b: Tensor) -> Tensor:
    # One kernel, and one for its gradient: with large maps, memory for what lies between costs more than arithmetic.
    return F.mse_loss(full_precision(a), full_precision(b), reduction="none")


def mean_squared_difference(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Return the weighted mean of (a − b)² per sample.

    .. math:: d_n = \frac{\sum_{ij} w_{ij} \frac1C \sum_c (a - b)^2_{ncij}}{\sum_{ij} w_{ij}}

    Args:
        a, b: (N, C, h, w).
        weight: (N or 1, 1, h, w), or ``None`` for equal weights.

    Returns:
        (N,), at least float32; 0 for a sample whose weights are all zero.
    """
    if weight is None:
        return _squared_difference(a, b).sum((1, 2, 3)) / a[0].numel()  # the gradient of a mean would be written out
    difference = squared_difference_map(a, b)
    weight = weight.to(difference.dtype)
    tiny = torch.finfo(difference.dtype).tiny
    return (difference * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(tiny)


def content_distance(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    factors: Mapping[str, float],
    weight: Tensor | None = None,
    strides: Mapping[str, int] = MappingProxyType({}),
    differences: Mapping[str, Difference] = MappingProxyType({}),
) -> Tensor:
    """Return the sum over stages of factor × weighted mean squared difference, (N,).

    Args:
        first, second: stage name to (N, C, h, w).
        factors: stage name to layer share times layer scale.
        weight: (N or 1, 1, H, W) on the grid of the fields; pooled to each stage's size.
        strides: stage name to stride; only a weight needs them.
        differences: stage name to what takes the place of the mean squared difference there.
    """
    terms = []
    for name, factor in factors.items():
        a = first[name]
        pooled = None if weight is None else pool_weight(weight, (a.shape[-2], a.shape[-1]), strides[name])
        terms.append(factor * differences.get(name, mean_squared_difference)(a, second[name], pooled))
    return torch.stack(terms).sum(0)


def vectors(
    features: Mapping[str, Tensor],
    parts: Mixture,
    weight: Tensor | None = None,
    strides: Mapping[str, int] = MappingProxyType({}),
    pooling: int | None = None,
) -> Iterator[Tensor]:
    """Iterate over the parts (N, K) of vectors whose squared Euclidean distances are those of a mixture.

    The square of each factor, √(share × factor × weight / channels), is what :func:`mix` of :func:`content_distance`
    multiplies squared differences by. Each part is one stage, position by position.

    Args:
        features: stage name to (N, C, h, w).
        parts: of :func:`mixture`.
        weight, strides: see :func:`content_distance`.
        pooling: average each stage over windows, at most this many in each direction. By Jensen's inequality the
            squared distance becomes smaller, never larger.
    """
    for share, factors in parts:
        for name, factor in factors.items():
            f = full_precision(features[name])
            height, width = f.shape[-2:]
            mass: Tensor | float = 1.0 / (height * width)
            if weight is not None:
                pooled = pool_weight(weight, (height, width), strides[name]).to(f.dtype)
                mass = pooled / pooled.sum((2, 3), keepdim=True).clamp_min(torch.finfo(f.dtype).tiny)
            if pooling is not None:
                f, mass = _window_means(f, mass, pooling)
            scaled = share * factor / f.shape[1] * mass
            scale = scaled.sqrt() if isinstance(scaled, Tensor) else math.sqrt(scaled)
            # In the order of channels_last memory, which costs no copy; any order does if it is always the same.
            yield (f * scale).movedim(1, -1).flatten(1)


def _window_means(f: Tensor, mass: Tensor | float, windows: int) -> tuple[Tensor, Tensor]:
    """Return weighted means over at most so many windows in each direction, and the mass of each window."""
    size = [-(-length // windows) for length in f.shape[-2:]]
    whole = mass if isinstance(mass, Tensor) else torch.full_like(f[:1, :1], mass)
    # The last window may be partial: sums, not means over a full window.
    sums, total = (F.avg_pool2d(x, size, ceil_mode=True, divisor_override=1) for x in (f * whole, whole))
    return sums / total.clamp_min(torch.finfo(f.dtype).tiny), total


def content_map(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    factors: Mapping[str, float],
    size: tuple[int, int],
    differences: Mapping[str, Difference] = MappingProxyType({}),
) -> Tensor:
    """Return where the content distance comes from, (N, 1, *size): stage maps, bilinear, summed."""
    maps = []
    for name, factor in factors.items():
        difference_map = differences[name].map if name in differences else squared_difference_map
        maps.append(F.interpolate(factor * difference_map(first[name], second[name]), size, mode="bilinear"))
    return torch.stack(maps).sum(0)


def mixture(factors: Mapping[str, float], mse_weight: float) -> Mixture:
    """Return what the loss consists of: (1 − m) of the content, with ``factors``, and m of the normalised fields."""
    if mse_weight == 0.0:  # nothing is computed for a share of nothing
        return ((1.0, factors),)
    return ((1.0 - mse_weight, factors), (mse_weight, {NORMALISED: 1.0}))


def mix(distance: Callable[[Mapping[str, float]], Tensor], parts: Mixture) -> Tensor:
    """Return the sum of the shares of a mixture, each of the ``distance`` with its factors."""
    return torch.stack([share * distance(factors) for share, factors in parts]).sum(0)


def reduce(values: Tensor, reduction: Reduction) -> Tensor:
    """Reduce (N,) as torch's losses do: ``"mean"`` and ``"sum"`` to (), ``"none"`` leaves (N,)."""
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.sum()
    return values
