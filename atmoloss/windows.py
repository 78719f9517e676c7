"""Products and sums over the window around each position of a map, offset by offset.

Three operations, each the derivative of the others, so that there are derivatives of every order. Written as such they
take half the time of what autograd makes of the slices: a gradient as large as the map for each of them.

Shapes: at the positions (N, heads, d, h, w), of F frames extended by a radius on each side (N, F, heads, d, h + 2r,
w + 2r), and by offset (N, heads, F (2r + 1)², h, w). Offsets count frame by frame, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.layers import is_exporting


def extend(x: Tensor, radius: int, periodic: bool) -> Tensor:
    """Add ``radius`` rows and columns of zeros on each side, or columns that wrap."""
    columns = radius
    if periodic:
        width = x.shape[-1]
        x, columns = x[..., torch.arange(-radius, width + radius, device=x.device) % width], 0
    return F.pad(x, (columns, columns, radius, radius))


def window_products(x: Tensor, extended: Tensor, side: int) -> Tensor:
    """Return by offset the product over d of what is at each position with what is at the offset from it."""
    if is_exporting():  # no gradient is taken there
        return _Products.forward(x, extended, side)
    return _Products.apply(x, extended, side)  # type: ignore[no-any-return,no-untyped-call]


def window_sums(weights: Tensor, extended: Tensor, side: int) -> Tensor:
    """Return at each position the sum over offsets of weights, given by offset, times what is at the offset from it."""
    if is_exporting():
        return _Sums.forward(weights, extended, side)
    return _Sums.apply(weights, extended, side)  # type: ignore[no-any-return,no-untyped-call]


def _offsets(frames: int, side: int, height: int, width: int) -> Iterator[tuple[Any, ...]]:
    """Iterate over the indices of what is at each offset in frames that are extended."""
    every = slice(None)
    for f in range(frames):
        for i in range(side):
            for j in range(side):
                yield every, f, every, every, slice(i, i + height), slice(j, j + width)


class _Operation(torch.autograd.Function):
    """What all three keep for their derivative."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        first, second, ctx.side = inputs
        ctx.save_for_backward(first, second)


class _Products(_Operation):
    @staticmethod
    def forward(x: Tensor, extended: Tensor, side: int) -> Tensor:
        cuts = _offsets(extended.shape[1], side, *x.shape[-2:])
        return torch.stack([(x * extended[cut]).sum(2) for cut in cuts], 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, extended = ctx.saved_tensors
        return window_sums(gradient, extended, ctx.side), _Spread.apply(gradient, x, ctx.side), None  # type: ignore[no-untyped-call]


class _Sums(_Operation):
    @staticmethod
    def forward(weights: Tensor, extended: Tensor, side: int) -> Tensor:
        first, *rest = _offsets(extended.shape[1], side, *weights.shape[-2:])
        out = weights[:, :, 0, None] * extended[first]
        for n, cut in enumerate(rest, 1):
            out.addcmul_(weights[:, :, n, None], extended[cut])
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, extended = ctx.saved_tensors
        return window_products(gradient, extended, ctx.side), _Spread.apply(weights, gradient, ctx.side), None  # type: ignore[no-untyped-call]


class _Spread(_Operation):
    """Add to what is at each offset from a position the weight of the offset times what is at the position."""

    @staticmethod
    def forward(weights: Tensor, x: Tensor, side: int) -> Tensor:
        count, heads, depth, height, width = x.shape
        frames = weights.shape[2] // side**2
        size = count, frames, heads, depth, height + side - 1, width + side - 1
        out = x.new_zeros(size) + weights.new_zeros(())  # under vmap a sample has a sum of its own if either has
        for n, cut in enumerate(_offsets(frames, side, height, width)):
            out[cut].addcmul_(weights[:, :, n, None], x)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weights, x = ctx.saved_tensors
        return window_products(x, gradient, ctx.side), window_sums(weights, gradient, ctx.side), None
