"""Encoders: modules on normalised fields that know nothing of files or units.

The published architecture follows the Keras code of Hoffmann & Lessig (2023) to the rounding error;
``resnet_aa`` is its anti-aliased relative, and ``resnet_attn`` one that ends in attention. Presets are built by
:func:`build_encoder`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.attention import AttentionBlock, Readout, attention_layers
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
    set_periodic,
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
    # A stem and not bare patches: a lattice of patches could be exploited by a generator, and shows as seams.
    "resnet_attn": {
        "stage_channels": (16, 64),
        "blocks_per_stage": 1,
        "stem_kernel": 5,
        "stem_pool": False,
        "downsample": "blur",
        "attention": {"stage2": {"blocks": 2, "heads": 4, "radius": 3}},
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
        attention: stage name to the ``blocks``, ``heads`` and ``radius`` of what follows its residual blocks
            (:class:`~atmoloss.attention.AttentionBlock`).

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
        attention: Mapping[str, Mapping[str, int]] | None = None,
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
            if options := (attention or {}).get(f"stage{i + 1}"):
                layers += attention_layers(width, **options)
            self.stages[f"stage{i + 1}"] = nn.Sequential(*layers)
        if unknown := set(attention or {}) - set(self.stages):
            raise InputError(f"attention: got {', '.join(sorted(unknown))}, expected some of {', '.join(self.stages)}")
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
        if attention:  # said only where it is: earlier versions read weights without it
            self.architecture["attention"] = {stage: dict(options) for stage, options in attention.items()}
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

    def attention(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map of each attention block of normalised fields, ``"stage2.0"`` for the first of its stage.

        They are (N, heads, h, w, (2r + 1)²), as of :func:`~atmoloss.attention.neighbourhood_attention`.
        """
        maps: dict[str, Tensor] = {}
        x = self.before_stages(x)
        for name, stage in self.stages.items():
            for layer in stage.children():
                if isinstance(layer, AttentionBlock):
                    place = sum(key.startswith(f"{name}.") for key in maps)
                    x, weights = layer.with_map(x)
                    maps[f"{name}.{place}"] = weights[..., 0, :]  # of the one frame there is
                else:
                    x = layer(x)
        return maps

    def set_periodic(self, periodic: bool) -> None:
        """Wrap columns instead of padding them with zeros, for grids that close in longitude."""
        set_periodic(self, periodic)

    def smallest_input(self, stage: str) -> int:
        """Rows and columns below which one cell of ``stage`` would see more padding than field."""
        return max(self.strides[stage] // 2, 1)

    def flops(self, height: int, width: int) -> dict[str, int]:
        """Floating-point operations (2 per multiply-add, convolutions and attention) up to each stage, one field."""
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
                if isinstance(layer, (AttentionBlock, Readout)):
                    rows += [(name, kernel, 1, inputs, outputs, False) for kernel, inputs, outputs in layer.products()]
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


def build_encoder(name: str = "resnet_small", **overrides: Any) -> Encoder:
    """Build an encoder from a preset of :data:`ENCODERS`; ``overrides`` are arguments of :class:`Encoder`.

    Raises:
        InputError: an unknown preset.
    """
    if name not in ENCODERS:
        raise InputError(f"encoder: got {name!r}, expected one of {', '.join(ENCODERS)}")
    return Encoder(**{**ENCODERS[name], **overrides})
