"""From a trained model to a weights folder: gains, layer scales, recommended layers, metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss import __version__, functional
from atmoloss.data.sequences import SequenceDataset, SequenceSpec, valid_anchors
from atmoloss.data.sources import FieldSource, describe_channels
from atmoloss.errors import ConfigError
from atmoloss.extractor import Extractor
from atmoloss.heads import MetricHead, PretextModel
from atmoloss.networks import LOW_PASS
from atmoloss.normalization import LogNormalization
from atmoloss.training.config import TrainConfig
from atmoloss.training.scale import fit_layer_scale
from atmoloss.weights import WeightsInfo

_SCALE_BATCHES = 32
Curves = dict[str, dict[str, np.ndarray]]


def build_info(
    config: TrainConfig, model: PretextModel, normalization: LogNormalization, sources: Sequence[FieldSource] = ()
) -> WeightsInfo:
    """Describe a model; scales and layers come from :func:`scales_and_layers`."""
    return WeightsInfo(
        name=config.name,
        channels=describe_channels(config.variables, sources),
        encoder=model.encoder.architecture,
        head=model.head.architecture,
        normalization=normalization.constants(),
        base_step_hours=config.base_step,
        n_lag_classes=config.n_classes,
        mse_weight=config.mse_weight,
        grid_spacings=tuple(sorted({round(s.grid_spacing, 4) for s in sources})),
        levels=tuple(dict.fromkeys(s.level or s.name for s in sources)),
        patch_sizes=config.patch_sizes,
        license=config.license,
        package_version=__version__,
    )


def gains_of(model: PretextModel) -> dict[str, Tensor]:
    """Return the factors that make plain mean squared differences the metric head's distance.

    With w per channel and C channels a gain √(w C) turns the mean over channels into the weighted sum.
    The published head has no weights: no gains.
    """
    if not isinstance(model.head, MetricHead):
        return {}
    return {name: (w.detach() * len(w)).sqrt() for name, w in model.head.weights().items()}


def build_extractor(config: TrainConfig, model: PretextModel, normalization: LogNormalization) -> Extractor:
    """Return the model as it would ship, without scales; evaluation mode, on the model's device."""
    info = build_info(config, model, normalization)
    device = next(model.parameters()).device
    # A copy of the constants: the extractor freezes what it is given.
    return Extractor(model.encoder, LogNormalization(**normalization.constants()), info, gains_of(model)).to(device)


@torch.no_grad()
def lag_curves(extractor: Extractor, source: FieldSource, spec: SequenceSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Return, per lag class, the mean squared difference of each stage and (``"mse"``) of normalised fields.

    Args:
        extractor: to measure.
        source: held-out data; sources of different steps are not mixed, each has lags of its own.
        spec: of the sequences whose pairs are averaged.
        seed: of the draw.

    Returns:
        (K,) float64 per name; NaN for lags that no pair has.
    """
    data = SequenceDataset([source], spec, seed=seed, length=_SCALE_BATCHES)
    first, second = torch.triu_indices(spec.n_times, spec.n_times, 1)
    sums: dict[str, np.ndarray] = {}
    count = np.zeros(spec.n_classes)
    for i in range(len(data)):
        batch = data[i]
        x = extractor.normalization(batch.fields.flatten(0, 1))
        features = {**extractor.encode(x), "mse": x}
        classes = ((batch.hours[:, second] - batch.hours[:, first]) // spec.base_step - 1).flatten().numpy()
        count += np.bincount(classes, minlength=spec.n_classes)
        for name, f in features.items():
            f = f.unflatten(0, (-1, spec.n_times))
            d = functional.mean_squared_difference(f[:, first].flatten(0, 1), f[:, second].flatten(0, 1))
            total = np.bincount(classes, d.double().numpy(), spec.n_classes)
            sums[name] = sums.get(name, np.zeros(spec.n_classes)) + total
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: total / count for name, total in sums.items()}


def curves_of(extractor: Extractor, sources: Sequence[FieldSource], spec: SequenceSpec) -> Curves:
    """Return :func:`lag_curves` per held-out source: what layer scales are fitted to.

    A source of weight 0 is not trained on: it is measured, and sets no scale.

    Raises:
        ConfigError: no source has a sequence.
    """
    used = [s for s in sources if s.weight > 0 and len(valid_anchors(s, spec))]
    if not used:
        raise ConfigError(
            "validation: no held-out source has a sequence to fit the layer scales on; expected more days"
        )
    return {s.name: lag_curves(extractor, s, spec) for s in used}


def scales_and_layers(
    model: PretextModel, curves: Mapping[str, Mapping[str, np.ndarray]], low_pass_share: float = 0.0
) -> dict[str, Any]:
    """Fit the scale of each stage, and of the distance as a whole, to the MSE over the upper half of lags.

    Every source counts equally, with the upper half of the lags that it has.

    The recommended layers make scale × weight equal for all stages: their sum is then the distance that
    the metric head was trained on, times the one factor that makes it equal the MSE; the low-pass, if it has a
    share, takes it from all of them. For the published head the deepest stage is recommended, as published.

    Args:
        model: whose head decides the layers.
        curves: per source, what :func:`lag_curves` returned.
        low_pass_share: see ``TrainConfig``.

    Returns:
        ``layer_scales`` and ``layers``.
    """
    stages = list(model.encoder.stages)

    def fit(names: Sequence[str]) -> float:
        scales = []
        for of_source in curves.values():
            used = np.isfinite(of_source["mse"])
            content = np.sum([of_source[n][used] for n in names], axis=0)
            scales.append(fit_layer_scale(content, of_source["mse"][used]))
        return float(np.mean(scales))

    fitted = {layer: fit([layer]) for layer in model.encoder.strides}
    if not isinstance(model.head, MetricHead):
        return {"layer_scales": fitted, "layers": {stages[-1]: 1.0}}
    whole = fit(stages)
    layers = {n: (1 - low_pass_share) * whole / fitted[n] for n in stages}
    if low_pass_share:
        layers = {LOW_PASS: low_pass_share, **layers}
    return {"layer_scales": fitted, "layers": layers}


def tensors_of(model: PretextModel) -> dict[str, Tensor]:
    """Return what ``model.safetensors`` holds: ``encoder.…``, ``head.…`` and ``gain.<stage>``."""
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    return {**state, **{f"gain.{name}": gain for name, gain in gains_of(model).items()}}
