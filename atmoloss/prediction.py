"""Predict the field that comes next: attention from the present to the present and the past, frame by frame encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.attention import AttentionBlock, Readout, channel_norm
from atmoloss.errors import InputError
from atmoloss.layers import Conv, he_normal
from atmoloss.networks import Encoder


class SpaceTimeHead(nn.Module):
    """From the features of F consecutive fields, each encoded alone, to the increment from the last to the next one.

    Queries are the positions of the last field, and they read a window around themselves in every field (as in
    SiamMAE, arXiv:2305.14344). The increment is brought to the grid of the fields by bilinear interpolation and 3×3
    convolutions, which leave no lattice of patches. Before training it is zero, and the prediction is persistence.

    Args:
        channels: of the features, of the encoder's deepest stage.
        fields: channels of the fields.
        stride: of the features, a power of two.
        frames: F.
        width: channels of queries, keys and values.
        blocks: how often the present reads.
        heads, radius: of the attention, the latter in positions of the features.
    """

    periodic = False

    def __init__(
        self,
        channels: int,
        fields: int,
        stride: int,
        *,
        frames: int = 3,
        width: int = 64,
        blocks: int = 1,
        heads: int = 4,
        radius: int = 4,
    ) -> None:
        super().__init__()
        if min(frames, blocks, width) < 1 or stride < 2 or stride & (stride - 1):
            raise InputError(
                f"head: got {frames} frames, {blocks} blocks, width {width} and stride {stride}, expected positive "
                "numbers and a stride that is a power of two"
            )
        self.frames, self.radius = frames, radius
        self.embed = Conv(channels, width, 1, bias=True)
        self.frame_embedding = nn.Parameter(0.1 * torch.randn(frames, width))
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, radius, frames) for _ in range(blocks))
        self.readout = Readout(width)
        self.upsampling = nn.ModuleList()
        while stride > 1:
            stride //= 2
            self.upsampling.append(Conv(width, max(width // 2, 16), 3, bias=True))
            width = max(width // 2, 16)
        # The present itself goes beside: an increment takes it away, and it need not pass the features for that.
        self.mix = Conv(width + fields, width, 3, bias=True)
        self.increment = Conv(width, fields, 3, bias=True)
        options = {"frames": frames, "width": self.embed.out_channels, "blocks": blocks, "heads": heads}
        self.architecture: dict[str, Any] = {"kind": "space_time", **options, "radius": radius}
        self.apply(he_normal)
        nn.init.zeros_(self.increment.weight)

    def forward(self, features: Tensor, last: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the increment and the attention map of each block.

        Args:
            features: (N, F, C, h, w), in order of time.
            last: (N, fields, H, W), the last field, normalised.

        Returns:
            (N, fields, H, W), and per block (N, heads, h, w, F, (2 radius + 1)²).
        """
        count = features.shape[:2]
        tokens = channel_norm(self.embed(features.flatten(0, 1)))
        tokens = tokens.reshape(*count, *tokens.shape[1:])
        x = tokens[:, -1]
        read = tokens + self.frame_embedding[:, :, None, None].to(tokens)
        maps = []
        for block in self.blocks:
            assert isinstance(block, AttentionBlock)
            x, weights = block.with_map(x, read)
            maps.append(weights)
        x = self.readout(x)
        sizes = [last.shape[-2:]]
        while len(sizes) < len(self.upsampling):
            sizes.append(torch.Size((size + 1) // 2 for size in sizes[-1]))
        for conv, size in zip(self.upsampling, reversed(sizes), strict=True):
            x = F.gelu(conv(upsample(x, self.periodic)[..., : size[0], : size[1]]))
        return self.increment(F.gelu(self.mix(torch.cat((x, last.to(x)), 1)))), maps


def upsample(x: Tensor, periodic: bool) -> Tensor:
    """Interpolate (N, C, h, w) bilinearly to twice as many rows and columns; ``periodic`` columns wrap."""
    if not periodic:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear")
    wrapped = F.pad(x, (1, 1, 0, 0), mode="circular")
    return F.interpolate(wrapped, scale_factor=2.0, mode="bilinear")[..., 2:-2]


class PredictionModel(nn.Module):
    """Encoder and head; ``model(sequence)`` predicts the normalised field after (N, F, C, H, W) normalised ones."""

    def __init__(self, encoder: Encoder, head: SpaceTimeHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the field one step after the last, (N, C, H, W)."""
        return self.with_maps(sequence)[0]

    def with_maps(self, sequence: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the prediction and the attention maps of the head."""
        stage = deepest(self.encoder)
        count = sequence.shape[:2]
        features = self.encoder(sequence.flatten(0, 1), (stage,))[stage].unflatten(0, count)
        increment, maps = self.head(features, sequence[:, -1])
        return sequence[:, -1] + increment.to(sequence), maps


def deepest(encoder: Encoder) -> str:
    """Return the name of the deepest stage, whose features the head reads."""
    return list(encoder.strides)[-1]


def build_prediction_head(architecture: Mapping[str, Any], encoder: Encoder) -> SpaceTimeHead:
    """Build the head that ``architecture`` (``kind`` and its arguments) describes for ``encoder``.

    Raises:
        InputError: another kind.
    """
    options = dict(architecture)
    if (kind := options.pop("kind", None)) != "space_time":
        raise InputError(f"head: got kind {kind!r}, expected 'space_time', which predicts")
    stage = deepest(encoder)
    return SpaceTimeHead(encoder.channels[stage], encoder.in_channels, encoder.strides[stage], **options)
