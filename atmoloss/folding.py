"""Networks as they ship: batch norm and gains folded into the convolutions around them, nothing left to train."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atmoloss.attention import Readout
from atmoloss.layers import Block, Blur, Conv, FixedFilters, LowPass
from atmoloss.networks import LOW_PASS, Encoder


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
    activations in between change. No gain passes a normalised layer: in a stage with attention only the activations
    behind its :class:`~atmoloss.attention.Readout` change. In place, after :func:`fold_batch_norm`. A gain of zero
    becomes 1e-6 of the largest, which a squared difference does not see.
    """
    scales = {name: torch.ones(channels, dtype=torch.float64) for name, channels in encoder.channels.items()}
    for name, gain in gains.items():
        gain = gain.detach().double().flatten().cpu()
        scales[name] = gain.clamp_min(max(1e-6 * float(gain.max()), 1e-12))
    if isinstance(encoder.low_pass, LowPass):
        kernel = encoder.low_pass.blur.kernel
        kernel *= scales[LOW_PASS].to(kernel)[:, None, None, None]
    assert isinstance(encoder.stem, Conv)
    first = next(iter(encoder.stages))
    before = _inside(encoder.stages[first], scales[first])
    _scale(encoder.stem, None, before)
    for name, stage in encoder.stages.items():
        after = _inside(stage, scales[name])
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
            elif isinstance(layer, Readout):
                _scale(layer.conv, None, scales[name])
                before = scales[name]


def freeze(network: nn.Module) -> None:
    """Replace every convolution, batch norm folded, by its :class:`~atmoloss.layers.FixedFilters`, in place.

    Other parameters, those of attention, become buffers.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv):
                setattr(module, name, FixedFilters(child))
    for module in network.modules():
        for name, parameter in list(module._parameters.items()):
            del module._parameters[name]
            module.register_buffer(name, parameter if parameter is None else parameter.detach(), False)


def _inside(stage: nn.Module, scale: Tensor) -> Tensor:
    """Return what activations inside of a stage are multiplied by."""
    return torch.ones_like(scale) if any(isinstance(layer, Readout) for layer in stage.children()) else scale


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
