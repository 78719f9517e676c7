"""The autoencoder of Hoffmann & Lessig (2023): the published encoder, and a decoder of the same blocks turned round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.errors import InputError
from atmoloss.layers import Block, Conv, batch_norm, he_normal
from atmoloss.networks import build_encoder


class Autoencoder(nn.Module):
    """Normalised fields to fields of the same size, through a narrow middle.

    Args:
        size: rows and columns, a multiple of 2 ** (stages + 1); the dense layer fixes it.
        in_channels: of the fields.
        stage_channels, blocks: of the encoder ``resnet_small`` and, in reverse order, of the decoder.

    Shape:
        (N, C, size, size) → the same. The published sizes have 3,021,632 numbers for two channels at 160 × 160,
        running statistics included, 743,920 of them in the decoder.
    """

    def __init__(
        self, size: int, *, in_channels: int = 2, stage_channels: Sequence[int] = (16, 32, 64, 128), blocks: int = 6
    ) -> None:
        super().__init__()
        stride = 2 ** (len(stage_channels) + 1)
        if size < 1 or size % stride:
            raise InputError(f"autoencoder: got size {size}, expected a positive multiple of {stride}")
        self.architecture = {
            "size": size,
            "in_channels": in_channels,
            "stage_channels": list(stage_channels),
            "blocks": blocks,
        }
        self.encoder = build_encoder(
            "resnet_small", in_channels=in_channels, stage_channels=stage_channels, blocks_per_stage=blocks
        )
        self.decoder = Decoder((size // stride) ** 2, in_channels, stage_channels, blocks)

    def forward(self, fields: Tensor) -> Tensor:
        """Return (N, C, size, size)."""
        last = f"stage{len(self.encoder.stages)}"
        out: Tensor = self.decoder(self.encoder(fields, [last])[last])
        return out


class Decoder(nn.Module):
    """Features of the last stage back to fields.

    A dense layer mixes the positions, the same for all channels: after it every cell can depend on every other.

    Args:
        positions: cells of the last stage.
        out_channels: of the fields.
        stage_channels, blocks: of the encoder.
    """

    def __init__(self, positions: int, out_channels: int, stage_channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        width = stage_channels[-1]
        self.mix = nn.Linear(positions, positions)
        self.mix_bn = batch_norm(positions)
        self.conv = Conv(width, width, 1, bias=True)
        self.conv_bn = batch_norm(width)
        layers: list[nn.Module] = [UpBlock(width, stage_channels[-2])]
        width = stage_channels[-2]
        for channels in reversed(stage_channels[:-1]):
            for i in range(blocks):
                layers.append((Block if i < blocks - 1 else UpBlock)(width, channels))
                width = channels
        self.blocks = nn.Sequential(*layers, UpBlock(width, width))
        self.out_conv = Conv(width, out_channels, 8, bias=True)
        self.apply(he_normal)
        _glorot_normal(self.out_conv)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C', h, w) to (N, C, H, W)."""
        mixed = self.mix(features.flatten(2)).transpose(1, 2)  # (N, positions, channels)
        mixed = F.relu(self.mix_bn(mixed[..., None])[..., 0])
        x = mixed.transpose(1, 2).reshape(features.shape).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.conv_bn(self.conv(x)))
        out: Tensor = self.out_conv(self.blocks(x))
        return out


class UpBlock(Block):
    """A block on fields that were interpolated to twice as many rows and columns (cell centres, edges repeat)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', 2 H, 2 W)."""
        return super().forward(F.interpolate(x, scale_factor=2, mode="bilinear"))


def _glorot_normal(conv: Conv) -> None:
    """Keras' glorot_normal: as :func:`atmoloss.layers.he_normal`, with the variance 2 / (fan_in + fan_out)."""
    fan_in, fan_out = (n * conv.weight[0, 0].numel() for n in (conv.in_channels, conv.out_channels))
    std = math.sqrt(2.0 / (fan_in + fan_out)) / 0.87962566103423978
    nn.init.trunc_normal_(conv.weight, std=std, a=-2 * std, b=2 * std)
