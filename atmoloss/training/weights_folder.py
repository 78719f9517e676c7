"""From a trained model to a weights folder, and back: gains, layer scales, recommended layers, metadata."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from atmoloss import weights as weights_folder
from atmoloss._version import __version__
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sources import FieldSource, describe_channels
from atmoloss.errors import ConfigError
from atmoloss.extractor import Extractor, load_strictly
from atmoloss.heads import MetricHead, PretextModel, build_head
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import SpaceTimeHead
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import TrainConfig
from atmoloss.training.lag_curves import as_json, fit_lag_curves
from atmoloss.training.layer_scales import Curves, fit_equal_layers, fit_layers, source_curves
from atmoloss.training.model import build_model
from atmoloss.weights import WeightsInfo

log = logging.getLogger("atmoloss")

ModelT = TypeVar("ModelT", bound=nn.Module)

_LONGEST_LAG = SequenceSpec.n_classes * SequenceSpec.base_step  # hours


def head_gains(model: PretextModel) -> dict[str, Tensor]:
    """Return the factors that make plain mean squared differences the metric head's distance.

    With w per channel and C channels a gain √(w C) turns the mean over channels into the weighted sum.
    The published head has no weights: no gains.
    """
    if not isinstance(model.head, MetricHead):
        return {}
    return {name: (w.detach() * len(w)).sqrt() for name, w in model.head.weights().items()}


def describe(
    config: TrainConfig, encoder: Encoder, normalization: LogNormalization, sources: Sequence[FieldSource], **own: Any
) -> WeightsInfo:
    """Return what a weights folder says of any training on sequences; ``own`` is what it says of this one besides."""
    return WeightsInfo(
        name=config.name,
        channels=describe_channels(config.variables, sources),
        encoder=encoder.architecture,
        normalization=normalization.constants(),
        base_step_hours=config.base_step,
        grid_spacings=tuple(sorted({round(s.grid_spacing, 4) for s in sources})),
        levels=tuple(dict.fromkeys(s.level for s in sources if s.level)),
        data=tuple(s.name for s in sources),
        patch_sizes=config.patch_sizes,
        license=config.license,
        package_version=__version__,
        **own,
    )


def build_extractor(
    config: TrainConfig, model: PretextModel, normalization: LogNormalization, sources: Sequence[FieldSource] = ()
) -> Extractor:
    """Return the model as it would ship, without scales; evaluation mode, on the model's device."""
    head = model.head.architecture
    own = {"n_lag_classes": config.n_classes, "mse_weight": config.mse_weight}
    info = describe(config, model.encoder, normalization, sources, head=head, **own)
    device = next(model.parameters()).device
    # A copy of the constants: the extractor freezes what it is given.
    return Extractor(model.encoder, LogNormalization(**info.normalization), info, head_gains(model)).to(device)


def load_pretext(folder: Path) -> PretextModel | None:
    """Read encoder and head of a weights folder; ``None`` where it has no head that tells lags.

    Raises:
        WeightsError: as :func:`atmoloss.load_extractor`.
    """
    info, tensors = weights_folder.load(folder)
    if info.head is None or info.head["kind"] == "space_time":
        return None
    encoder = Encoder(**info.encoder)
    model = PretextModel(encoder, build_head(info.head, encoder))
    load_strictly(model.encoder, tensors, "encoder.", info.id)
    load_strictly(model.head, tensors, "head.", info.id)
    return model.eval()


def load_model(config: TrainConfig, run: Path) -> tuple[PretextModel, LogNormalization, int]:
    """Return the model of a run's last checkpoint that tells lags: :func:`load_run` with :func:`build_model`."""
    return load_run(config, run, build_model)


def load_run(
    config: TrainConfig, run: Path, build: Callable[[TrainConfig], ModelT]
) -> tuple[ModelT, LogNormalization, int]:
    """Return the model of a run's last checkpoint, which ``build`` makes, its normalisation, and its step.

    Raises:
        ConfigError: the run has no checkpoint yet.
    """
    state = runs.load_checkpoint(run)
    if state is None:
        raise ConfigError(f"output: {run} has no checkpoint yet")
    model = build(config)
    model.load_state_dict(state["model"])
    return model.eval(), LogNormalization(**state["normalization"]), state["step"]


def write_weights(
    config: TrainConfig,
    model: PretextModel,
    normalization: LogNormalization,
    sources: Sequence[FieldSource],
    held_out: Sequence[FieldSource],
    folder: Path,
) -> tuple[WeightsInfo, Curves]:
    """Write ``config.json`` and ``model.safetensors``; return what describes them and the curves of the scales.

    The tensors are ``encoder.…``, ``head.…`` and ``gain.<stage>``.

    Args:
        config, model, normalization: of the run.
        sources: all, for the description.
        held_out: what layer scales and the curves of distance against lag are fitted to.
        folder: to write to.

    Raises:
        ConfigError: no held-out source has a sequence.
    """
    extractor = build_extractor(config, model, normalization, sources)
    curves = source_curves(extractor, held_out, config)
    info = dataclasses.replace(extractor.info, **fit_layers(model, curves, config.low_pass_share))
    shipped = Extractor(model.encoder, LogNormalization(**info.normalization), info, head_gains(model))
    info = dataclasses.replace(info, lag_curves=tuple(map(as_json, fit_lag_curves(shipped, held_out, config))))
    tensors = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    tensors |= {f"gain.{name}": gain for name, gain in head_gains(model).items()}
    info = weights_folder.save(folder, info, tensors)
    log.info("%s written to %s", info.id, folder)
    return info, curves


def write_encoder(
    config: TrainConfig,
    encoder: Encoder,
    normalization: LogNormalization,
    sources: Sequence[FieldSource],
    held_out: Sequence[FieldSource],
    folder: Path,
    head: SpaceTimeHead | None = None,
) -> WeightsInfo:
    """Write the weights folder of an encoder that no lag was learned with, as :func:`write_weights` does.

    Its stages count equally. Their scales are fitted to lags of up to four days, as those of a training with lags are,
    and not to the few steps of a sequence without gaps. A head that predicts is written where one is given.
    """
    kind = head.architecture if head else None
    info = describe(config, encoder, normalization, sources, head=kind, mse_weight=config.mse_weight)
    extractor = Extractor(encoder, LogNormalization(**info.normalization), info)
    drawn = {field.name: getattr(config, field.name) for field in dataclasses.fields(SequenceSpec)}
    n_classes = max(_LONGEST_LAG // config.base_step, config.n_times - 1)
    curves = source_curves(extractor, held_out, SequenceSpec(**{**drawn, "n_classes": n_classes}))
    info = dataclasses.replace(info, **fit_equal_layers(encoder, curves))
    tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"head.{name}": tensor for name, tensor in (head.state_dict() if head else {}).items()}
    info = weights_folder.save(folder, info, {name: t for name, t in tensors.items() if t.is_floating_point()})
    log.info("%s written to %s", info.id, folder)
    return info
