"""Encoders: modules on normalised fields that know nothing of files or units.

The published architecture follows the Keras code of Hoffmann & Lessig (2023) to the rounding error;
``resnet_aa`` is its anti-aliased relative. Presets are built by :func:`build_encoder`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.errors import InputError
from atmoloss.layers import (
    Block,
    Blur,
    BlurredConv,
    Conv,
    FixedFilters,
    LowPass,
    MaxPool,
    WindConv,
    batch_norm,
    he_normal,
)

ENCODERS: dict[str, dict[str, Any]] = {
    "resnet_small": {"stage_channels": (16, 32, 64, 128), "blocks_per_stage": 6},
    "resnet18": {"stage_channels": (64, 128, 256, 512), "blocks_per_stage": 2},
    "resnet_aa": {
        "stage_channels": (16, 32, 64, 128),
        "blocks_per_stage": 1,
        "stem_kernel": 5,
        "stem_pool": False,
        "downsample": "blur",
    },
}
"""Keyword arguments of :class:`Encoder` per preset."""

LOW_PASS = "low_pass"
"""Name of the layer that is no stage of the network."""


class Encoder(nn.Module):
    """Residual network on normalised fields that returns the activations after each stage.

    Args:
        in_channels: of the fields.
        stage_channels: width of each stage; their number is the number of stages.
        blocks_per_stage: one number for all, or one per stage.
        stem_kernel: of the first convolution (with bias).
        stem_stride: 1 or 2.
        stem_pool: max-pool 3×3/2 after the stem, as published.
        downsample: ``"stride"`` in the first block of stages 2…, as published, or ``"blur"``: a binomial
            low-pass goes before every subsampling, in the stem as well.
        low_pass: cells, even; the stride of one more layer, ``"low_pass"``, which is the fields themselves with what
            is small taken out (:class:`~atmoloss.layers.LowPass`) and not trained; 0 for none.
        derivatives: the fields are winds, and the first convolution is learned on them and on their divergence and
            vorticity (:class:`~atmoloss.layers.WindConv`); for ``"blur"`` and a stem of stride 2.

    Shape:
        (N, in_channels, H, W) → {"stage1": (N, C₁, ⌈H/s₁⌉, ⌈W/s₁⌉), …}, after the ReLU.
    """

    def __init__(
        self,
        *,
        in_channels: int = 2,
        stage_channels: Sequence[int] = (16, 32, 64, 128),
        blocks_per_stage: int | Sequence[int] = 6,
        stem_kernel: int = 8,
        stem_stride: int = 2,
        stem_pool: bool = True,
        downsample: Literal["stride", "blur"] = "stride",
        low_pass: int = 0,
        derivatives: bool = False,
    ) -> None:
        super().__init__()
        n = len(stage_channels)
        blocks = (blocks_per_stage,) * n if isinstance(blocks_per_stage, int) else tuple(blocks_per_stage)
        if n == 0 or len(blocks) != n or min(blocks) < 1:
            raise InputError(
                f"blocks_per_stage: got {blocks_per_stage}, expected one positive number, or one for each "
                f"of the {n} stage_channels"
            )
        for option, got, expected in (
            ("downsample", downsample, ("stride", "blur")),
            ("stem_stride", stem_stride, (1, 2)),
        ):
            if got not in expected:
                raise InputError(f"{option}: got {got!r}, expected {expected[0]!r} or {expected[1]!r}")
        if low_pass < 0 or low_pass % 2:
            raise InputError(f"low_pass: got {low_pass}, expected an even number of cells, or 0")
        blur = downsample == "blur"
        width = stage_channels[0]
        if derivatives and not (in_channels == 2 and blur and stem_stride == 2):
            raise InputError("derivatives: got True, expected False, or two winds, downsample 'blur' and stem_stride 2")
        if derivatives:
            self.stem: Conv | FixedFilters = WindConv(width, stem_kernel, bias=True)
        elif blur and stem_stride == 2:
            self.stem = BlurredConv(in_channels, width, stem_kernel, bias=True)
        else:
            self.stem = Conv(in_channels, width, stem_kernel, stem_stride, bias=True)
        self.stem_bn: nn.Module = batch_norm(width)
        self.pool = MaxPool() if stem_pool else nn.Identity()
        self.stages = nn.ModuleDict()
        for i, (channels, count) in enumerate(zip(stage_channels, blocks, strict=True)):
            layers: list[nn.Module] = [Blur(width)] if blur and i > 0 else []
            for b in range(count):
                stride = 2 if b == 0 and i > 0 and not blur else 1
                layers.append(Block(width, channels, stride))
                width = channels
            self.stages[f"stage{i + 1}"] = nn.Sequential(*layers)
        self.low_pass: nn.Module = LowPass(in_channels, low_pass) if low_pass else nn.Identity()
        self.channels: dict[str, int] = {LOW_PASS: in_channels} if low_pass else {}
        self.channels |= {f"stage{i + 1}": c for i, c in enumerate(stage_channels)}
        self.in_channels = in_channels
        self.architecture: dict[str, Any] = {
            "in_channels": in_channels,
            "stage_channels": list(stage_channels),
            "blocks_per_stage": list(blocks),
            "stem_kernel": stem_kernel,
            "stem_stride": stem_stride,
            "stem_pool": stem_pool,
            "downsample": downsample,
            "low_pass": low_pass,
            "derivatives": derivatives,
        }
        self.strides, self.receptive_fields = self._geometry()
        self.apply(he_normal)

    def forward(self, x: Tensor, stages: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Encode normalised (N, C, H, W); only what ``stages`` (default: all) need is computed."""
        wanted = tuple(self.strides) if stages is None else stages
        out = {LOW_PASS: self.low_pass(x)} if LOW_PASS in wanted else {}
        for name in self.stages:
            if len(out) == len(wanted):
                break
            x = self.step(name, x)
            if name in wanted:
                out[name] = x
        return out

    def step(self, name: str, x: Tensor) -> Tensor:
        """Map the activations of the stage before, or the fields if there is none, to those of ``name``."""
        if name == next(iter(self.stages)):
            x = self.before_stages(x)
        return self.stages[name](x)  # type: ignore[no-any-return]

    def before_stages(self, x: Tensor) -> Tensor:
        """Map the fields to what the first stage reads."""
        # The largest of a window and the ReLU may change places: the ReLU then has a quarter to do.
        return F.relu_(self.pool(self.stem_bn(self.stem(x))))

    def set_periodic(self, periodic: bool) -> None:
        """Wrap columns instead of padding them with zeros, for grids that close in longitude."""
        for module in self.modules():
            if hasattr(module, "periodic"):
                module.periodic = periodic  # type: ignore[assignment]

    def smallest_input(self, stage: str) -> int:
        """Rows and columns below which one cell of ``stage`` would see more padding than field."""
        return max(self.strides[stage] // 2, 1)

    def flops(self, height: int, width: int) -> dict[str, int]:
        """Floating-point operations (2 per multiply-add, convolutions only) up to each stage, one field."""
        total, stride = 0, self.strides.get(LOW_PASS, 1)
        out = {LOW_PASS: 2 * 4 * 4 * self.in_channels * math.ceil(height / stride) * math.ceil(width / stride)}
        for name, kernel, stride, inputs, outputs, branch in self._convolutions():
            if not branch:
                height, width = math.ceil(height / stride), math.ceil(width / stride)
            total += 2 * kernel * kernel * inputs * outputs * height * width
            out[name] = total
        return {name: out[name] for name in self.strides}

    def _convolutions(self) -> list[tuple[str, int, int, int, int, bool]]:
        """List (stage, kernel, stride, inputs per output, outputs, is a shortcut) in order of evaluation."""
        c, kernel = self.stem.out_channels, self.stem.kernel_weight().shape[-1]
        rows = [("stem", kernel, self.stem.stride[0], self.stem.in_channels, c, False)]
        if isinstance(self.pool, MaxPool):
            rows.append(("stem", 3, 2, 0, 0, False))
        for name, stage in self.stages.items():
            for layer in stage.children():
                if isinstance(layer, Blur):
                    rows.append((name, 4, 2, 1, layer.kernel.shape[0], False))
                    continue
                for part in (layer.conv1, layer.conv2, layer.shortcut):
                    if isinstance(part, (Conv, FixedFilters)):  # a union of types stops the tracing of torch 2.6
                        k, s = part.kernel_weight().shape[-1], part.stride[0]
                        rows.append((name, k, s, part.in_channels, part.out_channels, part is layer.shortcut))
        return rows

    def _geometry(self) -> tuple[dict[str, int], dict[str, int]]:
        stride, field = 1, 1
        strides, fields = {}, {}
        for name, kernel, step, _, _, branch in self._convolutions():
            if branch:
                continue
            field += (kernel - 1) * stride
            stride *= step
            strides[name], fields[name] = stride, field
        if isinstance(self.low_pass, LowPass):
            stride = 2 * self.low_pass.block
            strides[LOW_PASS], fields[LOW_PASS] = stride, 2 * stride
        return {n: strides[n] for n in self.channels}, {n: fields[n] for n in self.channels}


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """Return a copy with every batch norm, at its running statistics, folded into the convolution before it.

    The same function in evaluation mode, to rounding, at a third of the memory traffic. Folded in
    float64: in half precision it would cost a digit.
    """
    folded = copy.deepcopy(encoder)
    assert isinstance(folded.stem, Conv)
    folded.stem, folded.stem_bn = _fold(folded.stem, folded.stem_bn), nn.Identity()
    for block in folded.modules():
        if isinstance(block, Block):
            block.conv1, block.bn1 = _fold(block.conv1, block.bn1), nn.Identity()
            block.conv2, block.bn2 = _fold(block.conv2, block.bn2), nn.Identity()
    return folded


def fold_gains(encoder: Encoder, gains: Mapping[str, Tensor]) -> None:
    """Scale the activations of each stage by its ``gains``, (C,) per stage name, inside the convolutions around them.

    For positive g, relu(g x) = g relu(x): what makes a stage is multiplied, what reads it is divided, and only the
    activations in between change. In place, after :func:`fold_batch_norm`. A gain of zero becomes 1e-6 of the
    largest, which a squared difference does not see.
    """
    scales = {name: torch.ones(channels, dtype=torch.float64) for name, channels in encoder.channels.items()}
    for name, gain in gains.items():
        gain = gain.detach().double().flatten().cpu()
        scales[name] = gain.clamp_min(max(1e-6 * float(gain.max()), 1e-12))
    if isinstance(encoder.low_pass, LowPass):
        kernel = encoder.low_pass.blur.kernel
        kernel *= scales[LOW_PASS].to(kernel)[:, None, None, None]
    before = scales[next(iter(encoder.stages))]
    assert isinstance(encoder.stem, Conv)
    _scale(encoder.stem, None, before)
    for name, stage in encoder.stages.items():
        after = scales[name]
        for layer in stage.children():
            if isinstance(layer, Block):
                _scale(layer.conv1, before, None)
                _scale(layer.conv2, None, after)
                if isinstance(layer.shortcut, Conv):
                    _scale(layer.shortcut, before, after)
                before = after
            elif isinstance(layer, Blur) and before.shape == after.shape:  # the shortcut may be bare: scale here
                layer.kernel *= (after / before).to(layer.kernel)[:, None, None, None]
                before = after


def _scale(conv: Conv, before: Tensor | None, after: Tensor | None) -> None:
    """Let ``conv`` read activations that are multiplied by ``before`` and return its own multiplied by ``after``."""
    with torch.no_grad():
        weight = conv.weight.double().cpu()
        if before is not None:
            weight = weight / before[:, None, None]
        if after is not None:
            weight = weight * after[:, None, None, None]
            if conv.bias is not None:
                conv.bias.copy_(conv.bias.double().cpu() * after)
        conv.weight.copy_(weight)


def _fold(conv: Conv, norm: nn.Module) -> Conv:
    if not isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):  # folded before
        return conv
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = conv.kernel_weight()
    out = Conv(conv.in_channels, conv.out_channels, weight.shape[-1], conv.stride[0], bias=True).to(weight)
    out.periodic = conv.periodic
    bias = torch.zeros(()) if conv.bias is None else conv.bias
    with torch.no_grad():
        out.weight.copy_(weight.double() * factor[:, None, None, None])
        out.bias.copy_((bias.double() - norm.running_mean.double()) * factor + norm.bias.double())  # type: ignore[union-attr]
    return out


def build_encoder(name: str = "resnet_small", **overrides: Any) -> Encoder:
    """Build an encoder from a preset of :data:`ENCODERS`; ``overrides`` are arguments of :class:`Encoder`.

    Raises:
        InputError: an unknown preset.
    """
    if name not in ENCODERS:
        raise InputError(f"encoder: got {name!r}, expected one of {', '.join(ENCODERS)}")
    return Encoder(**{**ENCODERS[name], **overrides})
