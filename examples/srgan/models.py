"""Generator and discriminator of the super-resolution GAN, on normalised fields.

Stengel et al. (2020, doi:10.1073/pnas.1918964117) with the changes of Hoffmann & Lessig (2023, arXiv:2202.01897):
9×9 first and last convolution, leaky ReLU, zero padding, checkerboard-free initialisation, no batch norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.errors import InputError
from atmoloss.layers import Conv

_SLOPE = 0.2  # TensorFlow's default of a leaky ReLU
_DOUBLINGS = 2  # each doubles rows and columns
FACTOR = 2**_DOUBLINGS


class Generator(nn.Module):
    """Coarse normalised fields to fields with four times as many rows and columns.

    Args:
        in_channels: of the fields.
        channels: of the features (published: 64).
        blocks: residual blocks (published: 16).

    Shape:
        (N, C, h, w) → (N, C, 4 h, 4 w). The published sizes have 1,534,850 parameters for two channels.
    """

    def __init__(self, *, in_channels: int = 2, channels: int = 64, blocks: int = 16) -> None:
        super().__init__()
        if min(in_channels, channels, blocks) < 1:
            raise InputError(f"generator: got {(in_channels, channels, blocks)}, expected positive numbers")
        self.architecture = {"in_channels": in_channels, "channels": channels, "blocks": blocks}
        self.in_conv = Conv(in_channels, channels, 9, bias=True)
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.mid_conv = Conv(channels, channels, 3, bias=True)
        self.up_convs = nn.ModuleList(Conv(channels, 4 * channels, 3, bias=True) for _ in range(_DOUBLINGS))
        self.out_conv = Conv(channels, in_channels, 9, bias=True)
        self.apply(_glorot)
        for conv in self.up_convs:
            _checkerboard_free(conv)

    @property
    def reach(self) -> int:
        """Coarse cells around a cell on which its fine cells depend."""
        # in_conv; two per block, mid_conv and the first doubling at 1; the second at 2, out_conv at 4 cells a cell.
        return 4 + 2 * len(self.blocks) + 2 + math.ceil(1 / 2 + 4 / 4)

    def forward(self, coarse: Tensor) -> Tensor:
        """Return (N, C, 4 h, 4 w) for (N, C, h, w)."""
        first = F.leaky_relu(self.in_conv(coarse), _SLOPE)
        x = first
        for block in self.blocks:
            x = block(x)
        x = self.mid_conv(x) + first
        for conv in self.up_convs:
            x = F.leaky_relu(F.pixel_shuffle(conv(x), 2), _SLOPE)
        out: Tensor = self.out_conv(x)
        return out


class ResidualBlock(nn.Module):
    """Two convolutions and the input; nothing after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels, 3, bias=True)
        self.conv2 = Conv(channels, channels, 3, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        out: Tensor = x + self.conv2(F.leaky_relu(self.conv1(x), _SLOPE))
        return out


class Discriminator(nn.Module):
    """Logit of a normalised field being true; its dense layer fixes the size.

    Args:
        size: rows and columns of the fields.
        in_channels: of the fields.
        channels: of each pair of convolutions, the second of which has stride 2.
        dense: width of the dense layer.

    Shape:
        (N, C, size, size) → (N, 1). The published sizes have 10,611,201 parameters at 96×96.
    """

    def __init__(
        self, size: int, *, in_channels: int = 2, channels: Sequence[int] = (32, 64, 128, 256), dense: int = 1024
    ) -> None:
        super().__init__()
        if min(size, in_channels, dense, *channels) < 1:
            raise InputError(
                f"discriminator: got {size}, {in_channels}, {channels}, {dense}, expected positive numbers"
            )
        convs: list[nn.Module] = []
        width = in_channels
        for c in channels:
            convs += [Conv(width, c, 3, bias=True), Conv(c, c, 3, stride=2, bias=True)]
            width, size = c, math.ceil(size / 2)
        self.convs = nn.ModuleList(convs)
        self.dense = nn.Linear(size * size * width, dense)
        self.logit = nn.Linear(dense, 1)
        self.apply(_glorot)

    def forward(self, fields: Tensor) -> Tensor:
        """Return (N, 1) for (N, C, size, size)."""
        x = fields
        for conv in self.convs:
            x = F.leaky_relu(conv(x), _SLOPE)
        x = x.permute(0, 2, 3, 1).flatten(1)  # rows, columns, channels, as the original; free in channels_last
        out: Tensor = self.logit(F.leaky_relu(self.dense(x), _SLOPE))
        return out


def discriminator_loss(true_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Binary cross entropy of both halves, one mean; scalar."""
    logits = torch.cat((true_logits, generated_logits))
    labels = torch.cat((torch.ones_like(true_logits), torch.zeros_like(generated_logits)))
    return F.binary_cross_entropy_with_logits(logits, labels)


def adversarial_loss(generated_logits: Tensor) -> Tensor:
    """Cross entropy of what was made being taken for true, which the generator lowers; scalar."""
    return F.binary_cross_entropy_with_logits(generated_logits, torch.ones_like(generated_logits))


def _glorot(module: nn.Module) -> None:
    """Glorot uniform for convolutions, truncated normal 0.02 for dense layers, no bias: as the original."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
    else:
        return
    assert module.bias is not None
    nn.init.zeros_(module.bias)


@torch.no_grad()
def _checkerboard_free(conv: nn.Conv2d) -> None:
    """Give the four channels that become one 2×2 cell the same kernel: it starts as nearest-neighbour upsampling.

    Aitken et al. (2017), arXiv:1707.02937; the bound of the uniform distribution is that of the full kernel.
    """
    conv.weight.copy_(conv.weight[::4].repeat_interleave(4, 0))
