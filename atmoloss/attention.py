"""Neighbourhood attention: each position of a map reads those within a radius of it, in one or in several frames.

A finite window makes the receptive field finite, so that fields of any size are treated alike and bands of rows are
exact, and it centres every attention map on its query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.errors import InputError
from atmoloss.functional import full_precision
from atmoloss.layers import Conv
from atmoloss.windows import extend, window_products, window_sums


def neighbourhood_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    key_offsets: Tensor,
    value_offsets: Tensor,
    periodic: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Average v + v' over the window around each position, weighted by softmax(q·(k + k') + bias) over its offsets.

    Values v and keys k are of what is read. v' and k' are of the offset alone (Shaw et al. 2018, arXiv:1803.02155): by
    v' a position learns *where* it found what it was looking for, by k' it can look at an offset of its choice.

    Offsets (Δrow, Δcolumn) count row by row from (−r, −r) to (r, r). Those that leave the map take no weight. With
    ``periodic`` columns wrap; in a map narrower than the window a position then stands at several offsets.

    Computed offset by offset: time and memory grow with the size of the map, and there are derivatives of every order.
    (torch's fused attention has no second one, pytorch#116350, and returns no weights.)

    Args:
        query: (N, heads, d, h, w).
        key, value: (N, F, heads, d, h, w), the frames that are read.
        bias: (heads, F, (2r + 1)²).
        key_offsets, value_offsets: (heads, F, (2r + 1)², d).
        periodic: wrap columns.

    Returns:
        (N, heads, d, h, w), and the weights that made it, (N, heads, h, w, F, (2r + 1)²), whose sum over the last two
        axes is 1.
    """
    height, width = query.shape[-2:]
    side, frames = math.isqrt(bias.shape[-1]), bias.shape[1]
    cuts = [(slice(i, i + height), slice(j, j + width)) for i in range(side) for j in range(side)]
    key, value = (extend(x, side // 2, periodic) for x in (key, value))
    inside = extend(torch.ones(1, 1, height, width, device=query.device), side // 2, periodic)
    outside = torch.stack([inside[0, 0, rows, columns] == 0 for rows, columns in cuts])
    added = bias[..., None, None].masked_fill(outside, -math.inf).flatten(1, 2)
    by_offset = key_offsets.flatten(1, 2).to(query) @ query.flatten(-2)
    logits = window_products(query, key, side)
    logits = logits + by_offset.view_as(logits)
    weights = (logits + added.to(logits)).softmax(2)
    by_query = weights.movedim(2, -1)
    return averages(weights, value, value_offsets), by_query.reshape(*by_query.shape[:-1], frames, len(cuts))


def averages(weights: Tensor, extended: Tensor, value_offsets: Tensor) -> Tensor:
    """Average v + v' by given weights, (N, heads, d, h, w).

    Args:
        weights: (N, heads, F (2r + 1)², h, w).
        extended: the values v, by :func:`atmoloss.windows.extend`.
        value_offsets: (heads, F, (2r + 1)², d), the values v'.
    """
    weights = weights.to(extended)
    of_offsets = value_offsets.flatten(1, 2).mT.to(extended) @ weights.flatten(-2)
    of_fields = window_sums(weights, extended, math.isqrt(value_offsets.shape[2]))
    return of_fields + of_offsets.view_as(of_fields)


SMALLEST_VARIANCE = 0.1
"""What both norms add under the root: where nothing happens they must not raise noise, in a gradient least of all."""


def channel_norm(x: Tensor) -> Tensor:
    """Bring each position of (N, C, h, w) to mean 0 and, where it is not small, variance 1 over its channels.

    Nothing is learned: the convolution behind it has scale and shift.
    """
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=SMALLEST_VARIANCE).movedim(-1, 1)


def sinusoids(radius: int, depth: int) -> Tensor:
    """Return waves of the offsets of a window, ((2r + 1)², depth), from the longest on, by rows and by columns in turn.

    What positions begin with before they learn their own (Vaswani et al. 2017, arXiv:1706.03762).
    """
    side = 2 * radius + 1
    axis = torch.arange(-radius, radius + 1) * (2 * math.pi / side)
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 1, 2)
    angles = offsets * torch.arange(1, depth // 4 + 2)[:, None]
    return torch.stack((angles.cos(), angles.sin()), -1).flatten(1)[:, :depth]


class NeighbourhoodAttention(nn.Module):
    """Multi-head attention of each position to those within a radius of it.

    Queries and keys have a length of at most 1, and each head learns a temperature (Liu et al. 2022,
    arXiv:2111.09883), so that logits stay bounded. For each offset in each frame it learns a bias, a key and a value.

    Args:
        channels: of the map, a multiple of ``heads``.
        heads: their number.
        radius: in positions; the window has (2 radius + 1)² of them.
        frames: maps that are read together.

    Shape:
        (N, C, h, w), and what is read, (N, F, C, h, w) (default: the map itself) → (N, C, h, w).
    """

    periodic = False

    def __init__(self, channels: int, heads: int = 4, radius: int = 3, frames: int = 1) -> None:
        super().__init__()
        if min(heads, radius, frames) < 1 or channels % heads:
            raise InputError(
                f"attention: got {channels} channels, {heads} heads, radius {radius} and {frames} frames, expected "
                "positive numbers and channels that are a multiple of heads"
            )
        self.heads, self.radius = heads, radius
        self.query = Conv(channels, channels, 1, bias=True)
        self.key_value = Conv(channels, 2 * channels, 1, bias=True)
        self.output = Conv(channels, channels, 1, bias=True)
        self.log_temperature = nn.Parameter(torch.full((heads,), math.log(10.0)))
        self.position_bias = nn.Parameter(torch.zeros(heads, frames, (2 * radius + 1) ** 2))
        waves = 0.1 * sinusoids(radius, channels // heads).repeat(heads, frames, 1, 1)
        self.position_key, self.position_value = nn.Parameter(waves), nn.Parameter(waves.clone())

    def forward(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """Return what each position of ``x`` makes of those that it reads."""
        return self.with_map(x, read)[0]

    def with_map(self, x: Tensor, read: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output and the weights that made it, (N, heads, h, w, F, (2 radius + 1)²)."""
        read = x[:, None] if read is None else read
        query = self.query(x).unflatten(1, (self.heads, -1))
        key, value = self.key_value(read.flatten(0, 1)).chunk(2, 1)
        key, value = (t.unflatten(0, read.shape[:2]).unflatten(2, (self.heads, -1)) for t in (key, value))
        temperature = full_precision(self.log_temperature).clamp(max=math.log(100.0)).exp()
        query, key = _unit(query) * temperature[:, None, None, None], _unit(key)
        offsets = self.position_bias, _unit(self.position_key, -1), self.position_value
        output, weights = neighbourhood_attention(query, key, value, *offsets, periodic=self.periodic)
        return self.output(output.flatten(1, 2)), weights


def _unit(x: Tensor, axis: int = -3) -> Tensor:
    """Bring vectors along an axis to unit length, where it is not small, in float32."""
    x = full_precision(x)
    return x * torch.rsqrt(x.square().sum(axis, keepdim=True) + SMALLEST_VARIANCE)


class AttentionBlock(nn.Module):
    """A block of a transformer: attention to the neighbourhood, then two layers on each position.

    Both normalise what they read and add what they find (Xiong et al. 2020, arXiv:2002.04745). The arguments are those
    of :class:`NeighbourhoodAttention`.
    """

    def __init__(self, channels: int, heads: int = 4, radius: int = 3, frames: int = 1) -> None:
        super().__init__()
        self.attention = NeighbourhoodAttention(channels, heads, radius, frames)
        self.expand = Conv(channels, 2 * channels, 1, bias=True)
        self.contract = Conv(2 * channels, channels, 1, bias=True)

    def products(self) -> list[tuple[int, int, int]]:
        """List (kernel, inputs per output, outputs) of convolutions and sums over the window, in their order."""
        attention, channels = self.attention, self.expand.in_channels
        side = 2 * attention.radius + 1
        n_weights = attention.heads * side**2
        # The softmax, whose operations do not count, keeps as many numbers as the logits before it.
        depth = channels // attention.heads
        keys, values = 2 * [(1, depth, n_weights)], [(side, 1, channels), (1, side**2, channels)]
        window = [*keys, (1, 0, n_weights), *values]
        parts = [attention.query, attention.key_value, attention.output, self.expand, self.contract]
        one = [(1, part.in_channels, part.out_channels) for part in parts]
        return [*one[:2], *window, *one[2:]]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        return self.with_map(x)[0]

    def with_map(self, x: Tensor, read: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output and the map, both as of :meth:`NeighbourhoodAttention.with_map`."""
        found, weights = self.attention.with_map(channel_norm(x), read)
        x = x + found
        return x + self.contract(F.gelu(self.expand(channel_norm(x)))), weights


class Readout(nn.Module):
    """What the blocks of a stage hand on: normalised, through a 1×1 convolution and a ReLU, as every other stage.

    Behind the convolution activations may be scaled by channel, as :func:`atmoloss.folding.fold_gains` does. Between
    the normalised layers they may not.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv(channels, channels, 1, bias=True)

    def products(self) -> list[tuple[int, int, int]]:
        """List the one convolution as :meth:`AttentionBlock.products` does."""
        return [(1, self.conv.in_channels, self.conv.out_channels)]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        return F.relu(self.conv(channel_norm(x)))


def attention_layers(channels: int, blocks: int = 1, heads: int = 4, radius: int = 3) -> list[nn.Module]:
    """Build what follows the residual blocks of a stage; ``InputError`` for numbers that do not fit."""
    if blocks < 1:
        raise InputError(f"attention: got {blocks} blocks, expected at least one")
    return [*(AttentionBlock(channels, heads, radius) for _ in range(blocks)), Readout(channels)]
