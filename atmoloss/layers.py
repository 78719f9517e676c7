"""Layers of the published architecture, to the rounding error, and their anti-aliased relatives.

All pad as TensorFlow's "same" does; ``periodic`` layers wrap columns, for grids that close in longitude.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from atmoloss.errors import option

# Keras' value, not PyTorch's 1e-5: the difference shows in every activation.
BATCH_NORM_EPSILON = 1.001e-5
BATCH_NORM_MOMENTUM = 0.01

is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch 2.6 has the second only


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros (before, after) that give ``ceil(size / stride)`` outputs, the odd one after, as TensorFlow pads."""
    total = max(-size % stride + kernel - stride, 0)  # no division: torch.export sees through remainders
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0, periodic: bool = False) -> Tensor:
    """Pad (N, C, H, W) for a "same" window; ``periodic`` wraps the columns instead of filling them."""
    rows = same_padding(x.shape[-2], kernel, stride)
    columns = same_padding(x.shape[-1], kernel, stride)
    if periodic and any(columns):
        width = x.shape[-1]
        if max(columns) <= width:
            x = F.pad(x, (*columns, 0, 0), mode="circular")
        else:  # a small field under a large kernel: F.pad wraps only once
            x = x[..., torch.arange(-columns[0], width + columns[1], device=x.device) % width]
        columns = (0, 0)
    return F.pad(x, (*columns, *rows), value=value) if any(columns) or any(rows) else x


def padding_or_padded(x: Tensor, kernel: int, stride: int, periodic: bool) -> tuple[Tensor, tuple[int, int]]:
    """Return ``x`` and the "same" zeros as a convolution's argument where it can take them, else padded ``x`` and 0.

    A convolution pads without a copy, but equally on both sides and with zeros only.
    """
    rows, columns = (same_padding(size, kernel, stride) for size in x.shape[-2:])
    odd_kernel = stride == 1 and kernel % 2 == 1  # asked first: an export to any size cannot look at the rest
    symmetric = odd_kernel or (not is_exporting() and rows[0] == rows[1] and columns[0] == columns[1])
    if symmetric and not periodic:
        return x, ((kernel // 2,) * 2 if odd_kernel else (rows[0], columns[0]))
    return pad_same(x, kernel, stride, periodic=periodic), (0, 0)


class Conv(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding for any stride; ``periodic`` wraps columns."""

    periodic = False

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = False):
        super().__init__(in_channels, out_channels, kernel, stride, bias=bias)

    def kernel_weight(self) -> Tensor:
        """Return the weight that the convolution applies."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, C', ⌈H/s⌉, ⌈W/s⌉)."""
        return _convolve(x, self.kernel_weight(), self.bias, self.stride[0], self.periodic)


class FixedFilters(nn.Module):
    """A trained :class:`Conv` as plain numbers.

    It is no ``nn.Conv2d``, and its buffers are called neither ``weight`` nor ``bias``: what initialises, prunes or
    re-parametrises the convolutions of the model that holds the loss finds nothing here.
    """

    kernel: Tensor
    offset: Tensor | None

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.stride, self.periodic = conv.stride, conv.periodic
        self.register_buffer("kernel", conv.kernel_weight().detach(), False)
        self.register_buffer("offset", None if conv.bias is None else conv.bias.detach(), False)

    def kernel_weight(self) -> Tensor:
        """Return the weight that the convolution applies."""
        return self.kernel

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to (N, C', ⌈H/s⌉, ⌈W/s⌉)."""
        return _convolve(x, self.kernel, self.offset, self.stride[0], self.periodic)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, periodic: bool) -> Tensor:
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    kernel = weight.shape[-1]
    if kernel == 1 and stride > 1:
        # The same samples. torch 2.13 on x86 corrupts memory in the weight gradient of a strided 1×1
        # convolution of few channels in channels_last.
        x, stride = x[:, :, ::stride, ::stride], 1
    few = stride == 2 and kernel % 2 == 0 and x.shape[1] <= _FEW_CHANNELS
    x, padding = padding_or_padded(x, kernel, stride, periodic)
    if few and x.requires_grad and not weight.requires_grad and not is_exporting():
        return _StridedFromFew.apply(x, weight, bias, padding)  # type: ignore[no-any-return,no-untyped-call]
    return F.conv2d(x, weight, bias, stride, padding)


_FEW_CHANNELS = 4


class _StridedFromFew(torch.autograd.Function):
    """Convolution with stride 2 of few channels whose gradient is computed on 2×2 blocks of cells as channels.

    Two channels leave most of a vector register empty in the gradient with respect to the input; as 4 C channels and
    stride 1 the same sums take a third of the time on a CPU. The weight gets no gradient. Under autocast the
    convolution, and with it the gradient that comes back, is in half precision, whatever fields and weight are in.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        return F.conv2d(x, weight, bias, 2, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.padding = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        weight = weight.to(gradient.dtype)
        n, channels, height, width = ctx.shape
        above, left = ctx.padding
        rows, columns = weight.shape[2] // 2, weight.shape[3] // 2
        split = weight.reshape(-1, channels, rows, 2, columns, 2).permute(0, 1, 3, 5, 2, 4)
        split = split.reshape(-1, 4 * channels, rows, columns)
        blocks = n, 4 * channels, height // 2 + above, width // 2 + left
        cells = F.pixel_shuffle(conv2d_input(blocks, split, gradient), 2)  # type: ignore[no-untyped-call]
        return cells[:, :, above : above + height, left : left + width], None, None, None


def _blur_kernel() -> Tensor:
    """Return the binomial low-pass of even length, centred between cells like 2×2 averages, (1, 1, 4, 4)."""
    row = torch.tensor((0.125, 0.375, 0.375, 0.125))
    return torch.outer(row, row)[None, None]


class BlurredConv(Conv):
    """Convolution followed by a binomial low-pass and stride 2, as one kernel.

    The low-pass acts before any non-linearity, so that what stride 2 would alias is gone before a ReLU
    can turn it into "there is energy". Both steps are linear: one convolution with the combined kernel
    (k + 3) does them.
    """

    blur: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel, 2, bias=bias)
        self.register_buffer("blur", _blur_kernel(), False)

    def kernel_weight(self) -> Tensor:
        """Return the learned kernel convolved with the low-pass."""
        return self._low_passed(self.weight)

    def _low_passed(self, weight: Tensor) -> Tensor:
        out_channels, in_channels, kernel, _ = weight.shape
        flat = weight.reshape(out_channels * in_channels, 1, kernel, kernel)
        # The low-pass is symmetric, so that correlation and convolution are the same.
        return F.conv2d(flat, self.blur, padding=3).reshape(out_channels, in_channels, kernel + 3, kernel + 3)


class WindConv(BlurredConv):
    """:class:`BlurredConv` of winds whose kernel is learned on the winds and on their divergence and vorticity.

    Divergence and vorticity are centred differences of cells of the (normalised) winds, rows running south. They are
    linear, so that learned kernel, differences and low-pass are one convolution (k + 5) of the two winds. The gain is
    one of training: small scales, of which winds have little power, count as much as large ones from the first step.
    """

    differences: Tensor

    def __init__(self, out_channels: int, kernel: int, bias: bool = False) -> None:
        super().__init__(4, out_channels, kernel, bias)
        self.in_channels = 2
        east = torch.zeros(3, 3)
        east[1] = torch.tensor((-1.0, 0.0, 1.0))
        north = -east.T
        # What divergence, ∂u/∂x + ∂v/∂y, and vorticity, ∂v/∂x − ∂u/∂y, read of u and of v, (2, 2, 3, 3).
        kernels = torch.stack((torch.stack((east, north)), torch.stack((-north, east))))
        self.register_buffer("differences", _DIFFERENCE_GAIN / 2 * kernels, False)

    def kernel_weight(self) -> Tensor:
        """Return the kernel on the winds."""
        # A cross-correlation of a cross-correlation has the convolution of both kernels: one of them is turned round.
        derived = F.conv2d(self.weight[:, 2:], self.differences.flip(-2, -1).transpose(0, 1), padding=2)
        return self._low_passed(F.pad(self.weight[:, :2], (1, 1, 1, 1)) + derived)


_DIFFERENCE_GAIN = 4.0  # brings differences of cells to the size of normalised winds, on grids of 0.25 to 1 degree


class Blur(nn.Module):
    """Binomial low-pass with stride 2 on each channel (Zhang 2019, arXiv:1904.11486)."""

    kernel: Tensor
    periodic = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _blur_kernel().repeat(channels, 1, 1, 1), False)

    def forward(self, x: Tensor) -> Tensor:
        """Low-pass and subsample (N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉)."""
        x, padding = padding_or_padded(x, 4, 2, self.periodic)
        return F.conv2d(x, self.kernel.to(x.dtype), stride=2, padding=padding, groups=x.shape[1])


class LowPass(nn.Module):
    """What is large in each field: means of blocks of half an even stride, then a :class:`Blur` to every second.

    Linear, and nothing to learn. Blocks at the end that are not whole see zeros, or wrapped columns.
    """

    periodic = False

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.block = stride // 2
        self.blur = Blur(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, ⌈H/s⌉, ⌈W/s⌉)."""
        height, width = x.shape[-2:]
        right, below = -width % self.block, -height % self.block
        if self.periodic and right:
            x, right = x[..., torch.arange(width + right, device=x.device) % width], 0
        # Not ceil_mode: its gradient as compiled by inductor of torch 2.13 is wrong.
        out: Tensor = self.blur(F.avg_pool2d(F.pad(x, (0, right, 0, below)), self.block))
        return out


class MaxPool(nn.Module):
    """Max pooling 3×3, stride 2, with TensorFlow's "same" padding."""

    periodic = False

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉)."""
        rows, columns = (same_padding(size, 3, 2) for size in x.shape[-2:])
        if rows == columns and rows[0] <= rows[1] and not self.periodic:
            # No copy of x: ceil_mode cuts the window that reaches beyond the end.
            return F.max_pool2d(x, 3, 2, padding=rows[0], ceil_mode=True)
        return F.max_pool2d(pad_same(x, 3, 2, -math.inf, self.periodic), 3, 2)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the original's constants."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class Block(nn.Module):
    """Basic residual block, ReLU after the sum; the shortcut is a bare 1×1 convolution where channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv(in_channels, out_channels, 3, stride)
        self.bn1: nn.Module = batch_norm(out_channels)
        self.conv2 = Conv(out_channels, out_channels, 3)
        self.bn2: nn.Module = batch_norm(out_channels)
        identity = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if identity else Conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ⌈H/s⌉, ⌈W/s⌉)."""
        # In place on what was just made here: none of these operations needs its own result for the gradient.
        y = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        return F.relu_(y.add_(self.shortcut(x)))


def he_normal(module: nn.Module) -> None:
    """Keras' he_normal: cut at two standard deviations, rescaled to the variance 2 / fan_in."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        std = math.sqrt(2.0 / module.weight[0].numel()) / 0.87962566103423978
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def set_periodic(module: nn.Module, periodic: bool) -> None:
    """Let every layer of a module wrap columns, or pad them with zeros."""
    option("periodic", periodic, (True, False))
    for layer in module.modules():
        if hasattr(layer, "periodic"):
            layer.periodic = periodic  # type: ignore[assignment]
