"""The loss: an extractor and the options of comparing features. The arithmetic is in ``functional``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from atmoloss import cached, checks, functional, tiling
from atmoloss.adjusted import AdjustedDifference
from atmoloss.errors import InputError, number, option, shown
from atmoloss.extractor import Extractor, load_extractor
from atmoloss.frozen import leave_inference_mode
from atmoloss.functional import Reduction

Layers = Sequence[str] | Mapping[str, float] | None
Features = dict[str, Tensor]
"""Stage features, the normalised fields that they belong to (``"normalised"``), and what they were made by."""

_COMPUTE_DTYPES = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


class AtmoDistLoss(nn.Module):
    r"""AtmoDist content loss: how far apart two states of the atmosphere are, differentiable.

    .. math::
        L_n = (1 - m) \sum_l λ_l\, s_l\, \overline{(f_l(x_n) - f_l(y_n))^2} + m\, \overline{(x_n - y_n)^2}

    with features f of stage l, layer shares λ, layer scales s (such that each stage equals, on average
    over the upper half of the lags, the mean squared error of normalised fields), and the last term on
    normalised fields. Symmetric; zero for equal fields. Hoffmann & Lessig (2023), arXiv:2202.01897. A sharp
    loss has the amplitude-adjusted difference (:mod:`~atmoloss.adjusted`) in place of the last term.

    Args:
        weights: bundled name, weights folder, Hub repository, or an :class:`Extractor`.
        revision: commit, tag or branch of the Hub repository.
        layers: ``None`` for what the weights recommend, names for equal shares that sum to 1, or a
            mapping from name to share.
        normalization: ``"bundled"``, ``None`` for fields that are normalised already, or a module with
            the interface of :class:`~atmoloss.normalization.LogNormalization`.
        transform: applied to both fields first, e.g. ``WindToVorticityDivergence``. It gets the fields alone:
            for crops of different latitudes call it yourself, and give the loss what it returned.
        reduction: ``"mean"`` → (), ``"sum"`` → (), ``"none"`` → (N,).
        scale: ``"mse"`` for the stored layer scales, ``"none"`` for raw features, or a number for all.
        mse_weight: m, in [0, 1]; ``None`` for what the weights recommend.
        compute_dtype: of the encoder, ``"bfloat16"``, ``"float32"``, ``"float64"``; ``None`` follows the
            input, in at least float32. Reductions are always at least float32.
        compile: compile the computation with ``torch.compile(fullgraph=True)`` at the first call.
        validate: read the values for missing ones and for units: ``"auto"`` on every call on the CPU and
            on the first on an accelerator (the check waits for it), ``True`` always, ``False`` never.
            Shapes are always checked.
        periodic: the fields close in longitude: columns wrap instead of being padded with zeros.
        max_memory: bytes of activations at work at a time, an estimate on the safe side; ``None`` for no bound. A
            batch is compared a few pairs at a time, a field that is too large is encoded in bands of rows,
            and what the gradient needs is computed again (two thirds more operations, one third in bands). Values
            and gradients are those of one pass, to rounding. What comes beside it: docs/speed.md.
        sharp: compare the fields by the amplitude-adjusted difference in place of the squared one: it does not reward
            blur, since detail that cannot be placed rightly costs least when it is as strong as in the target, scale by
            scale and place by place. For training, with an ``mse_weight`` above 0; no distance to measure by, and not
            symmetric. Cached features serve sharp and plain losses alike.

    Shape:
        prediction, target: (N, C, H, W), physical units (divergence and vorticity in s⁻¹ for the default
        weights), any floating dtype. The value is float64 for float64 fields, else float32.

    Raises:
        InputError: a bad argument, here or in ``forward``; one sentence names it.
        WeightsError: the weights are missing or altered.

    Example:
        >>> import torch
        >>> from atmoloss import AtmoDistLoss
        >>> loss = AtmoDistLoss()
        >>> target = 3e-5 * torch.randn(1, 2, 64, 64)
        >>> loss(target, target).item()
        0.0
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Extractor = "default",
        *,
        revision: str | None = None,
        layers: Layers = None,
        normalization: nn.Module | Literal["bundled"] | None = "bundled",
        transform: nn.Module | None = None,
        reduction: Reduction = "mean",
        scale: Literal["mse", "none"] | float = "mse",
        mse_weight: float | None = None,
        compute_dtype: Literal["float32", "bfloat16", "float64"] | None = None,
        compile: bool = False,
        validate: bool | Literal["auto"] = "auto",
        periodic: bool = False,
        max_memory: float | None = None,
        sharp: bool = False,
    ) -> None:
        super().__init__()
        option("reduction", reduction, functional.REDUCTIONS)
        option("compute_dtype", compute_dtype, tuple(_COMPUTE_DTYPES))
        option("compile", compile, (True, False))
        option("sharp", sharp, (True, False))
        if isinstance(weights, Extractor) and revision is not None:
            raise InputError(f"revision: got {shown(revision)} with an Extractor, expected None, or a name of weights")
        extractor = weights if isinstance(weights, Extractor) else load_extractor(weights, revision)
        self.extractor = extractor.with_periodic(periodic)
        info = self.extractor.info
        if isinstance(normalization, str):
            option("normalization", normalization, ("bundled",))
            normalization = self.extractor.normalization
        for argument, module in (("normalization", normalization), ("transform", transform)):
            if module is not None and not callable(module):
                raise InputError(f"{argument}: got {shown(module)}, expected a module, or None")
        self.normalization = normalization
        n_channels = getattr(self.normalization, "n_channels", self.extractor.encoder.in_channels)
        if n_channels != self.extractor.encoder.in_channels:
            raise InputError(
                f"normalization: got one of {n_channels} channel{'s' * (n_channels != 1)}, expected "
                f"{self.extractor.encoder.in_channels}: {', '.join(info.channel_names)}"
            )
        self.transform = transform
        self.reduction: Reduction = reduction
        if mse_weight is not None:
            number("mse_weight", mse_weight, lambda x: 0.0 <= x <= 1.0, "a number between 0 and 1")
        self.mse_weight = info.mse_weight if mse_weight is None else float(mse_weight)
        self.factors = self._layer_factors(layers, scale)
        self.mixture = functional.mixture(self.factors, self.mse_weight)
        if sharp and not self.mse_weight:
            raise InputError(
                "sharp: got True where mse_weight is 0, expected an mse_weight above 0: the term of the fields is sharp"
            )
        self.sharp = sharp
        self.differences = {functional.NORMALISED: AdjustedDifference(periodic=periodic)} if sharp else {}
        self.compute_dtype = compute_dtype
        tiling.check_memory(max_memory)
        self.max_memory = max_memory
        self._compile = compile
        self._compiled: Callable[..., Tensor] | None = None
        self.inputs = checks.Inputs(self.extractor, tuple(self.factors), self.normalization, transform, validate)
        self.train(False)

    def _layer_factors(self, layers: Layers, scale: str | float) -> dict[str, float]:
        """Return share times scale for each layer that takes part."""
        info = self.extractor.info
        if layers is None:
            layers = info.layers or self.extractor.stages[-1:]
        self.extractor.check_layers(layers)
        chosen = dict(layers) if isinstance(layers, Mapping) else {n: 1.0 / len(layers) for n in layers}
        if len(chosen) != len(layers):
            raise InputError(f"layers: got {list(layers)}, expected each name once")
        numbers = all(isinstance(share, Real) for share in chosen.values())
        if not (numbers and min(chosen.values()) >= 0 and 0 < sum(chosen.values()) < math.inf):
            raise InputError(f"layers: got {chosen}, expected finite shares, none negative and some positive")
        if isinstance(scale, str):
            option("scale", scale, ("mse", "none"))
            factor = 1.0
        else:
            number("scale", scale, lambda x: 0 < x < math.inf, "'mse', 'none' or a positive number")
            factor = float(scale)
        scales = info.layer_scales if scale == "mse" else dict.fromkeys(chosen, factor)
        missing = [n for n in chosen if n not in scales]
        if missing:
            raise InputError(
                f"scale: got 'mse', but weights {info.id} have no stored scale for {', '.join(missing)}; "
                "expected 'none' or a number"
            )
        return {n: share * scales[n] for n, share in chosen.items() if share > 0}

    def extra_repr(self) -> str:
        """Return weights id, layers and precision in the repr, so that numbers stay comparable."""
        layers = ", ".join(f"{n}: {f:.4g}" for n, f in self.factors.items())
        return (
            f"weights={self.extractor.info.id!r}, factors={{{layers}}}, mse_weight={self.mse_weight:g}, "
            f"sharp={self.sharp}, reduction={self.reduction!r}, compute_dtype={self.compute_dtype!r}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # a compiled function is not picklable; it comes back

    def train(self, mode: bool = True) -> AtmoDistLoss:
        """Stay in evaluation mode whatever the parent does."""
        return super().train(False)

    def forward(
        self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of ``prediction`` against ``target``.

        Args:
            prediction: (N, C, H, W), physical units (of the transform's input, if there is one), row 0 northernmost,
                columns eastward. A tensor whose latitude ascends cannot be told from one that descends, and gets
                another number without an error; fields that ``atmoloss.data.open_fields`` returns are in order.
            target: the same, or what :meth:`features` returned for it.
            weight: (H,), (H, W) or (N, 1, H, W), not negative: area weights and masks. Where it is zero,
                both fields are replaced by the climatological mean before anything is computed.
        """
        leave_inference_mode(self)
        weight = self.inputs.pair(prediction, target, weight)
        return functional.reduce(self._run(prediction, target, weight), self.reduction)

    def _values(self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], weight: Tensor | None) -> Tensor:
        """Return the loss of each pair, (N,): the formula above."""
        return self.compare(self._encode(prediction, weight), self._encode(target, weight), weight)

    def compare(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], weight: Tensor | None = None
    ) -> Tensor:
        """Return the loss of each pair, (N,), of what :meth:`features` returned for both; nothing is checked."""
        strides = {**self.extractor.encoder.strides, functional.NORMALISED: 1}

        def distance(factors: Mapping[str, float]) -> Tensor:
            return functional.content_distance(first, second, factors, weight, strides, self.differences)

        return functional.mix(distance, self.mixture)

    def _in_parts(self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], weight: Tensor | None) -> Tensor:
        """Return :meth:`_values`, of as many pairs at a time as ``max_memory`` allows."""
        if self.max_memory is None:
            return self._values(prediction, target, weight)
        dtype = _COMPUTE_DTYPES[self.compute_dtype] or torch.promote_types(prediction.dtype, torch.float32)
        height, width = prediction.shape[-2:]
        encoder, stages = self.extractor.encoder, tuple(self.factors)
        field = tiling.working_memory(encoder, height, width, dtype.itemsize, stages)
        size = max(1, int(self.max_memory / (2 * field)))
        return tiling.in_chunks(self._values, size, len(prediction), prediction, target, weight)

    def _run(self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], weight: Tensor | None) -> Tensor:
        """Return :meth:`_in_parts`, compiled if that was asked for."""
        if not self._compile or torch.compiler.is_compiling():
            return self._in_parts(prediction, target, weight)
        if self._compiled is None:
            self._compiled = torch.compile(self._in_parts, fullgraph=True)
        return self._compiled(prediction, target, weight)

    def features(self, fields: Tensor, weight: Tensor | None = None) -> Features:
        """Return what ``forward`` accepts in place of ``target``: encode a fixed target once.

        Args:
            fields: (N, C, H, W), physical units.
            weight: the weight that ``forward`` will get; needed if it has zeros.

        Returns:
            Stage features and the normalised fields; part of the graph if ``fields`` requires gradients.
        """
        leave_inference_mode(self)
        weight = self.inputs.fields("fields", fields, weight)
        return {**self._encode(fields, weight), cached.KEY: self.inputs.mark(fields, weight)}

    def spatial(
        self, prediction: Tensor, target: Tensor | Mapping[str, Tensor], size: tuple[int, int] | None = None
    ) -> Tensor:
        """Return where the fields differ, (N, 1, H, W) or ``(N, 1, *size)``; its mean is close to the loss.

        Of a sharp loss it may be a little below 0, where the prediction is alike and stronger than the target.

        Args:
            prediction: (N, C, H, W), physical units.
            target: the same, or what :meth:`features` returned for it without a weight.
            size: rows and columns of the map; ``None`` for those of the fields.
        """
        leave_inference_mode(self)
        self.inputs.pair(prediction, target, None)
        first, second = self._encode(prediction), self._encode(target)
        size = size or (prediction.shape[-2], prediction.shape[-1])

        def where(factors: Mapping[str, float]) -> Tensor:
            return functional.content_map(first, second, factors, size, self.differences)

        return functional.mix(where, self.mixture)

    def _encode(self, fields: Tensor | Mapping[str, Tensor], weight: Tensor | None = None) -> Mapping[str, Tensor]:
        """Return stage features and normalised fields; features that are there already pass."""
        if not isinstance(fields, Tensor):
            ready = dict(fields)
            leave_inference_mode(ready)
            return ready
        # Not where the rest of the input is looked at: of the copies that DataParallel makes each has a device.
        self.extractor.check_device(fields)
        x = functional.full_precision(fields)
        if weight is not None:  # before the transform, whose stencils would spread a NaN
            x = x.masked_fill(weight == 0, 0.0)
        if self.transform is not None:
            x = functional.full_precision(self.transform(x))
            self.extractor.check_shape("output of transform", x, tuple(self.factors))
        if self.normalization is not None:
            x = self.normalization(x)
        if weight is not None:
            x = x.masked_fill(weight == 0, 0.0)
        dtype = _COMPUTE_DTYPES[self.compute_dtype]
        features = self.extractor.encode(x, tuple(self.factors), dtype, self.max_memory)
        return {**features, functional.NORMALISED: x}
