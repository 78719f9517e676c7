r"""Layer scales: the factors that bring feature distances to the size of the squared error they replace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atmoloss import functional
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import PartnerIndex, SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError, InputError
from atmoloss.extractor import Extractor
from atmoloss.heads import MetricHead, PretextModel
from atmoloss.networks import LOW_PASS, Encoder

_SCALE_BATCHES = 32
Curves = dict[str, dict[str, np.ndarray]]


def fit_layer_scale(content: NDArray[Any], mse: NDArray[Any]) -> float:
    r"""Fit the scale of a layer by least squares through zero, on the upper half of the lags.

    .. math:: s = \frac{\sum_i c_i m_i}{\sum_i c_i^2}, \qquad i ≥ \lfloor K/2 \rfloor

    At short lags feature distance and squared error grow differently; at long ones both level off, and
    there their ratio says something (Hoffmann & Lessig 2023, and their code).

    Args:
        content: (K,), mean feature distance of pairs per lag, shortest lag first.
        mse: (K,), mean squared error of the same pairs; of which fields (log-normalised as the network
            gets them, or only standardised as in the original code's last version) is the caller's choice.

    Returns:
        The scale, such that scale × content is near mse.

    Raises:
        InputError: curves of other shapes, missing values, or content that is zero where it is fitted.
    """
    c, m = np.asarray(content, np.float64), np.asarray(mse, np.float64)
    if c.ndim != 1 or c.shape != m.shape or not len(c):
        raise InputError(f"content, mse: got shapes {c.shape} and {m.shape}, expected two equal shapes (K,)")
    c, m = c[len(c) // 2 :], m[len(m) // 2 :]
    if not (np.isfinite(c).all() and np.isfinite(m).all() and (c * c).sum() > 0):
        raise InputError(
            f"content, mse: got {c.tolist()} and {m.tolist()} in the upper half of the lags, expected finite "
            "means that are not all zero"
        )
    return float((c * m).sum() / (c * c).sum())


@torch.no_grad()
def lag_curves(extractor: Extractor, source: FieldSource, spec: SequenceSpec) -> dict[str, np.ndarray]:
    """Return, per lag class, the mean squared difference of each stage and (``"mse"``) of normalised fields.

    Of the pairs of sequences of ``spec`` in one held-out source: sources of different steps have lags of their own.

    Returns:
        (K,) float64 per name; NaN for lags that no pair has.
    """
    data = SequenceDataset([source], spec, seed=0, length=_SCALE_BATCHES)
    first, second = torch.triu_indices(spec.n_times, spec.n_times, 1)
    sums: dict[str, np.ndarray] = {}
    count = np.zeros(spec.n_classes)
    for i in range(len(data)):
        fields, hours = data[i]
        x = extractor.normalization(fields.flatten(0, 1))
        classes = ((hours[:, second] - hours[:, first]) // spec.base_step - 1).flatten().numpy()
        count += np.bincount(classes, minlength=spec.n_classes)
        for name, f in {**extractor.encode(x), "mse": x}.items():
            f = f.unflatten(0, (-1, spec.n_times))
            d = functional.mean_squared_difference(f[:, first].flatten(0, 1), f[:, second].flatten(0, 1))
            sums[name] = sums.get(name, 0.0) + np.bincount(classes, d.double().numpy(), spec.n_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: total / count for name, total in sums.items()}


def source_curves(extractor: Extractor, sources: Sequence[FieldSource], spec: SequenceSpec) -> Curves:
    """Return :func:`lag_curves` per held-out source, what layer scales are fitted to; ``ConfigError`` without any.

    A source of weight 0 is not trained on and sets no scale.
    """
    used = [s for s in sources if s.weight > 0 and len(PartnerIndex(s, spec).anchors)]
    if not used:
        raise ConfigError("validation: no held-out source has a sequence for the layer scales; expected more days")
    return {s.name: lag_curves(extractor, s, spec) for s in used}


def fit_layers(model: PretextModel, curves: Curves, low_pass_share: float = 0.0) -> dict[str, Any]:
    """Fit the scale of each stage, and of the distance as a whole, to the MSE over the upper half of lags.

    Every source counts equally, with the upper half of the lags that it has.

    The recommended layers make scale × weight equal for all stages: their sum is then the distance that
    the metric head was trained on, times the one factor that makes it equal the MSE; the low-pass, if it has a
    share, takes it from all of them. For the published head the deepest stage is recommended, as published.

    Returns:
        ``layer_scales`` and ``layers``.
    """
    stages = list(model.encoder.stages)
    fitted = {layer: _fit_scale([layer], curves) for layer in model.encoder.strides}
    layers = {stages[-1]: 1.0}
    if isinstance(model.head, MetricHead):
        whole = _fit_scale(stages, curves)
        layers = {LOW_PASS: low_pass_share} if low_pass_share else {}
        layers |= {n: (1 - low_pass_share) * whole / fitted[n] for n in stages}
    return {"layer_scales": fitted, "layers": layers}


def fit_equal_layers(encoder: Encoder, curves: Curves) -> dict[str, Any]:
    """Fit the scale of each stage of an encoder that no distance was learned with: all of its stages count equally.

    Returns:
        ``layer_scales`` and ``layers``.
    """
    fitted = {layer: _fit_scale([layer], curves) for layer in encoder.strides}
    return {"layer_scales": fitted, "layers": dict.fromkeys(encoder.stages, 1 / len(encoder.stages))}


def _fit_scale(layers: Sequence[str], curves: Curves) -> float:
    """Fit one scale to the sum of layers: the mean of those of the sources, each with the lags that it has."""
    scales = []
    for source in curves.values():
        used = np.isfinite(source["mse"])
        content = np.sum([source[n][used] for n in layers], axis=0)
        scales.append(fit_layer_scale(content, source["mse"][used]))
    return float(np.mean(scales))
