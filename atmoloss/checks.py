"""What only looks at the fields that come in: shapes, missing values, units, area weights and cached features."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atmoloss import cached, functional
from atmoloss.errors import InputError, UnitsWarning, not_a_tensor, option
from atmoloss.extractor import Extractor

# How far fields may lie from the stored mean: root mean square over all cells, in units of the stored spread.
# Derivatives grow with resolution and fall with height; winds hardly do, and normalised ones are five times too weak.
_DEVIATIONS = {"s-1": (0.02, 50.0), "m s-1": (0.3, 6.0)}
_OTHER_DEVIATIONS = (0.05, 10.0)


class Inputs:
    """What a loss accepts, and how often it looks at the values; the arguments are those of the loss."""

    names = ("prediction", "target")
    """What messages call the two fields."""

    def __init__(
        self,
        extractor: Extractor,
        layers: Sequence[str],
        normalization: nn.Module | None,
        transform: nn.Module | None,
        validate: bool | Literal["auto"],
    ) -> None:
        option("validate", validate, ("auto", True, False))
        self.extractor, self.layers = extractor, tuple(layers)
        self.normalization, self.transform, self.validate = normalization, transform, validate
        self._seen: set[str] = set()
        self._warned: set[tuple[int, int]] = set()
        # Taken here, where the weights are still on the CPU: later it would wait for the device.
        parts = map(cached.fingerprint, (extractor.encoder, normalization, transform))
        self._maker = (next(parts), int(extractor.encoder.stem.periodic), *parts)

    def pair(self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], weight: Tensor | None) -> Tensor | None:
        """Check two fields, or one and cached features; return the weight, (N or 1, 1, H, W)."""
        if isinstance(prediction, Tensor) and isinstance(target, Tensor) and prediction.shape != target.shape:
            first, second = self.names
            raise InputError(
                f"{second}: got shape {tuple(target.shape)}, expected that of {first}, {tuple(prediction.shape)}"
            )
        weight = self.fields(self.names[0], prediction, weight)
        if isinstance(target, Tensor):
            self._shape(self.names[1], target)
            self._values(self.names[1], target, weight)
        else:
            self._cached_features(prediction, target, weight)
        return weight

    def fields(self, argument: str, fields: Tensor, weight: Tensor | None = None) -> Tensor | None:
        """Check fields under a weight; return the weight, (N or 1, 1, H, W), its negative values set to zero."""
        self._shape(argument, fields)
        if weight is not None:
            given = functional.expand_weight(weight, fields)
            weight = given.clamp_min(0.0)
            if self._reads_values("weight", weight):
                area_weight(weight, given)
        self._values(argument, fields, weight)
        return weight

    def mark(self, fields: Tensor, weight: Tensor | None) -> Tensor:
        """Return what cached features of ``fields`` are marked with."""
        return cached.mark(self._maker, fields, weight)

    def _reads_values(self, argument: str, tensor: Tensor) -> bool:
        """Say whether the values of an argument are looked at in this call; see ``validate``."""
        if not self.validate or not can_be_read(tensor):
            return False
        if self.validate == "auto" and tensor.device.type != "cpu":
            first = argument not in self._seen
            self._seen.add(argument)
            return first
        return True

    def _shape(self, argument: str, fields: Tensor) -> None:
        if self.transform is None:
            self.extractor.check_shape(argument, fields, self.layers)
        else:
            four_dimensional(argument, fields)

    def _values(self, argument: str, fields: Tensor, weight: Tensor | None) -> None:
        """Look at the values of fields under a weight of (N or 1, 1, H, W), in the calls that do."""
        if not self._reads_values(argument, fields):
            return
        with torch.no_grad():
            finite(argument, fields, weight)
            if self.transform is None:
                units(argument, fields, weight, self.normalization, self.extractor.info.channels, self._warned)

    def _cached_features(self, prediction: Tensor, target: Mapping[str, Tensor], weight: Tensor | None) -> None:
        if not isinstance(target, Mapping) or not all(isinstance(value, Tensor) for value in target.values()):
            raise not_a_tensor(self.names[1], target, " or what features() returned")
        missing = [n for n in (*self.layers, functional.NORMALISED, cached.KEY) if n not in target]
        if missing:
            raise InputError(
                f"target: cached features lack {', '.join(missing)}; expected what features() of this loss returned"
            )
        shape = target[functional.NORMALISED].shape
        if shape[0] != prediction.shape[0] or shape[-2:] != prediction.shape[-2:]:
            raise InputError(
                f"target: cached features of fields {tuple(shape)}, expected those of {tuple(prediction.shape)}"
            )
        if self._reads_values("target", prediction):
            cached.check(target, self.mark(prediction, weight), self.extractor.info.id)


def four_dimensional(argument: str, fields: Any) -> None:
    """Raise ``InputError`` for anything but a tensor (N, C, H, W) of at least one field."""
    if not isinstance(fields, Tensor):
        raise not_a_tensor(argument, fields)
    if fields.ndim != 4 or fields.shape[0] == 0:
        raise InputError(f"{argument}: got {tuple(fields.shape)}, expected a tensor (N, C, H, W) of at least one field")


def can_be_read(tensor: Tensor) -> bool:
    """Say whether Python can look at the numbers: not while compiling, and not under ``torch.func.vmap``."""
    if torch.compiler.is_compiling():
        return False
    *wrappers, plain = functional.functorch_levels(tensor)
    return not plain.is_meta and not any(map(torch._C._functorch.is_batchedtensor, wrappers))


def finite(argument: str, fields: Tensor, weight: Tensor | None) -> None:
    """Raise ``InputError`` for missing or infinite values where ``weight`` is not zero."""
    bad = ~torch.isfinite(fields)
    if weight is not None:
        bad &= weight != 0
    count = int(bad.sum())
    if count:
        raise InputError(
            f"{argument}: has {count} missing or infinite values that no mask covers; expected finite fields, "
            "or weight=0 where there are none"
        )


def units(
    argument: str,
    fields: Tensor,
    weight: Tensor | None,
    normalization: Any,
    channels: Sequence[Mapping[str, str]],
    warned: set[tuple[int, int]],
) -> None:
    """Warn where fields do not look like the units of the normalisation.

    Once for each channel and order of magnitude, which ``warned`` keeps: a loop is not flooded, and who mends the units
    the wrong way is told again.
    """
    mean, std = getattr(normalization, "mean", None), getattr(normalization, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return
    mean, std = mean.to(fields.device), std.to(fields.device)  # a copy that DataParallel made has fields elsewhere
    # In units of the stored spread: the square of 1e-5 s-1 would leave float16, and nearly float32.
    z, share = (functional.full_precision(fields) - mean) / std, 1.0
    if weight is not None:
        covered = weight == 0
        z, share = z.masked_fill(covered, 0.0), 1.0 - float(covered.double().mean())
    offset, square = z.mean((0, 2, 3)) / share, z.square().mean((0, 2, 3)) / share
    deviation, variance = square.sqrt(), square - offset.square()
    bounds = [_DEVIATIONS.get(channel["units"], _OTHER_DEVIATIONS) for channel in channels]
    low, high = (torch.tensor(b, device=z.device) for b in zip(*bounds, strict=True))
    # One calm channel is weather. All of them, or one by far, are units.
    weak = (deviation < low).all() | (deviation < low / 10)
    wrong = weak | (deviation > high) | (variance < 1e-6 * square)
    if not wrong.any() or not fields.any():  # a field of zeros is a start, or nothing, in any units
        return
    channel = int(wrong.nonzero()[0, 0])
    order = round(math.log10(float(deviation[channel].clamp(1e-30, 1e30))))
    if (channel, order) in warned:
        return
    warned.add((channel, order))
    about, sigma = channels[channel], float(std.flatten()[channel])
    spread = sigma * float(variance[channel].clamp_min(0).sqrt())
    centre = sigma * float(offset[channel]) + float(mean.flatten()[channel])
    warnings.warn(
        f"{argument}: {about['name']} has a mean of {centre:.2g} and a standard deviation of {spread:.2g}, expected "
        f"about {float(mean.flatten()[channel]):.2g} and {sigma:.2g} {about['units']}; are the fields normalised or in "
        "other units? (said once for fields of this size)",
        UnitsWarning,
        stacklevel=depth_of_user(),
    )


def area_weight(weight: Tensor, given: Tensor) -> None:
    """Raise ``InputError`` unless a weight is finite, not negative but for rounding, and not all zero in a sample.

    ``given`` still has its negative values: cos 90° is -4e-8 in float32.
    """
    low, sums = float(given.min()), weight.sum((1, 2, 3))
    if not (low >= -1e-6 * float(given.max()) and float(sums.min()) > 0 and float(sums.max()) < math.inf):
        raise InputError(
            f"weight: smallest value {low:g}, sums of a sample {float(sums.min()):g} to {float(sums.max()):g}; "
            "expected weights that are finite, not negative and not all zero"
        )


def depth_of_user() -> int:
    """Return the ``stacklevel`` of the first caller outside atmoloss and torch, for a warning raised by my caller."""
    frame, depth = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("atmoloss", "torch"):
        frame, depth = frame.f_back, depth + 1
    return depth
