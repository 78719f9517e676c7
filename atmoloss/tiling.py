"""Encoding under a bound on memory: fewer fields at a time, and bands of rows where one field is too large.

A tile through the whole network would need the receptive field of the deepest stage around it, 1396 cells
for the published one. Here each stage goes through the map of the stage before it in bands of whole rows
with a halo, so that only the stage's own reach counts, and columns wrap, or not, as in one pass. What a band
needs for its gradient is computed again when the gradient is (Chen et al. 2016, arXiv:1604.06174): the
features and their gradient are those of one pass, to rounding, for every stage and any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter
from torch.utils.checkpoint import checkpoint

from atmoloss import functional
from atmoloss.errors import InputError, number
from atmoloss.networks import LOW_PASS, Encoder

T = TypeVar("T")

# Numbers alive at the peak of forward and backward per number that a convolution returns: those that autograd
# keeps, and the gradients and padded copies of the widest layer. Seen: 1.5 to 2.4.
_PEAK_FACTOR = 2.5


class Step(NamedTuple):
    """What one stage makes of the map of the stage before it."""

    name: str
    stride: int
    """Bands start at multiples of it: windows then fall where they fall in one pass."""
    halo: int
    """Rows, a multiple of ``stride``, that a band needs above and below."""
    outputs: float
    """Numbers that its convolutions return per cell of its input."""


def steps(encoder: Encoder, stages: Sequence[str] | None = None) -> list[Step]:
    """List the steps up to the deepest of ``stages`` (default: all); the low-pass, next to nothing, is none."""
    outputs, stride = dict.fromkeys(encoder.stages.keys(), 0.0), 1  # torch 2.6 cannot trace it of the module
    for name, _, factor, _, channels, branch in encoder._convolutions():
        name = "stage1" if name == "stem" else name
        stride *= 1 if branch else factor
        outputs[name] += channels / stride**2
    wanted = set(encoder.stages if stages is None else stages) - {LOW_PASS}
    result: list[Step] = []
    before, field = 1, 1
    for name in encoder.stages:
        if not wanted:
            break
        stride = encoder.strides[name]
        factor = stride // before
        # Half the receptive field, and what the odd zeros of "same" padding shift a window by.
        reach = (encoder.receptive_fields[name] - field) / before / 2 + factor
        result.append(Step(name, factor, factor * math.ceil(reach / factor), outputs[name] * before**2))
        wanted.discard(name)
        before, field = stride, encoder.receptive_fields[name]
    return result


def working_memory(encoder: Encoder, height: int, width: int, itemsize: int, stages: Sequence[str] | None) -> int:
    """Estimate the bytes alive while one field of height × width points is encoded and differentiated."""
    total, cells = 0.0, float(height * width)
    for step in steps(encoder, stages):
        total += step.outputs * cells
        cells /= step.stride**2
    return math.ceil(_PEAK_FACTOR * itemsize * max(total, height * width))  # the low-pass alone has no step


def check_memory(max_memory: object) -> None:
    """Raise ``InputError`` for a bound that is neither a positive number nor ``None``."""
    if max_memory is not None:
        number("max_memory", max_memory, lambda x: x > 0, "a positive number of bytes, or None")


def encode(encoder: Encoder, x: Tensor, stages: Sequence[str] | None, max_memory: float | None) -> dict[str, Tensor]:
    """Return ``encoder(x, stages)`` without more than about ``max_memory`` bytes at work.

    The features themselves, and with a gradient those of the shallower stages, come on top.
    """
    if max_memory is None:
        return encoder(x, stages)  # type: ignore[no-any-return]
    height, width = x.shape[-2:]
    fit = int(max_memory / working_memory(encoder, height, width, x.element_size(), stages))
    if fit >= len(x):
        return encoder(x, stages)  # type: ignore[no-any-return]
    if fit:
        parts = [checkpointed(encoder, part, stages) for part in torch.split(x, fit)]
    else:
        parts = [_encode_in_bands(encoder, field, stages, max_memory) for field in torch.split(x, 1)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]


def in_chunks(function: Callable[..., Tensor], size: int, count: int, *arguments: Any) -> Tensor:
    """Return ``function(*arguments)``, (count,), from calls with ``size`` samples each, recomputed for gradients.

    The arguments are tensors of ``count`` samples or of one for all, mappings of such tensors, or ``None``.
    """
    if size >= count:
        return function(*arguments)
    chunks = [slice(start, start + size) for start in range(0, count, size)]
    return torch.cat([checkpointed(function, *(_part(a, chunk, count) for a in arguments)) for chunk in chunks])


def _part(argument: Any, chunk: slice, count: int) -> Any:
    if isinstance(argument, Mapping):
        return {name: _part(tensor, chunk, count) for name, tensor in argument.items()}
    return argument if argument is None or len(argument) != count else argument[chunk]


def checkpointed(function: Callable[..., T], *arguments: Any) -> T:
    """Return ``function(*arguments)``; what its gradient needs is computed again when it is asked for."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    if not torch.compiler.is_compiling() and any(map(_under_functional_gradient, tree_iter(arguments))):
        raise InputError(
            "max_memory: got a bound under torch.func.grad or one like it, where nothing can be computed again; "
            "expected None, or the gradient of .backward()"
        )
    result: T = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _under_functional_gradient(argument: Any) -> bool:
    return isinstance(argument, Tensor) and any(
        map(torch._C._functorch.is_gradtrackingtensor, functional.functorch_levels(argument))
    )


def _encode_in_bands(encoder: Encoder, x: Tensor, stages: Sequence[str] | None, max_memory: float) -> dict[str, Tensor]:
    wanted = encoder.strides if stages is None else stages
    out = {LOW_PASS: encoder.low_pass(x)} if LOW_PASS in wanted else {}
    for step in steps(encoder, stages):
        x = _in_bands(encoder, step, x, _band_height(step, x, max_memory))
        if step.name in wanted:
            out[step.name] = x
    return out


def _band_height(step: Step, x: Tensor, max_memory: float) -> int:
    """Return the rows of ``x`` that a band may advance by, a multiple of ``step.stride``; all of them if they fit.

    Less than the halo is refused: most of the work would be done three times.
    """
    height, width = x.shape[-2:]
    row = _PEAK_FACTOR * x.element_size() * step.outputs * width
    if height * row <= max_memory:
        return height
    rows = int((max_memory / row - 2 * step.halo) // step.stride) * step.stride
    if rows < step.halo:
        least = min(height, 3 * step.halo + step.stride) * row
        raise InputError(
            f"max_memory: got {max_memory:.3g} bytes, expected at least {least:.3g} for the {height}x{width} points "
            f"that {step.name} reads: it sees {step.halo} rows beyond each edge of a band"
        )
    return rows


def _in_bands(encoder: Encoder, step: Step, x: Tensor, rows: int) -> Tensor:
    """Return ``encoder.step(step.name, x)`` from bands that advance by ``rows`` rows of ``x``."""
    height = x.shape[-2]
    if rows >= height:
        return checkpointed(encoder.step, step.name, x)

    def band(x: Tensor, start: int) -> Tensor:
        low = max(start - step.halo, 0)
        # A cut below keeps the remainder of the height: "same" padding, and with it the windows, depend on it.
        high = min(start + rows + step.halo + height % step.stride, height)
        skip, keep = (start - low) // step.stride, -(-min(rows, height - start) // step.stride)
        return encoder.step(step.name, x[..., low:high, :])[..., skip : skip + keep, :]

    return torch.cat([checkpointed(band, x, start) for start in range(0, height, rows)], -2)
