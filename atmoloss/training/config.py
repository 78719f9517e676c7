"""What decides a training run: dataclasses, whose docstrings are the one description of every key."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.errors import ConfigError
from atmoloss.training.config_reading import build_dataclass, check_choice, check_lowest, describe_keys, read_values


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One table `[[sources]]`.

    Attributes:
        name: for messages, reports and cards.
        path: what :func:`atmoloss.data.open_fields` reads, or a prepared store; relative to the configuration's folder.
        level: to take from the file.
        grid: spacing in degrees that spectral coefficients are synthesised on.
        weight: relative share of the training sequences.
        missing: what to do with missing values: ``"error"``; ``"ignore"``: no patch that has any is drawn; or a number
            that is filled in.
        license: for the model card, under what terms the data may be used. ERA5 has a default.
        attribution: for the model card, what those who use the data must say. ERA5 has a default.
    """

    name: str
    path: str
    level: float | None = None
    grid: float | None = None
    weight: float = 1.0
    missing: Literal["error", "ignore"] | float = "error"
    license: str = ""
    attribution: str = ""


@dataclasses.dataclass(frozen=True)
class MachineConfig:
    """What a machine decides, and not what a run computes: all of it may differ when a run is continued.

    Attributes:
        workers: data processes; the batches are the same with any number.
        threads: of torch; 0 for its own choice.
        timeout_minutes: how long one process of a distributed run waits for another.
        log_every: steps from one line of the log to the next.
        validate_every: steps from one validation to the next.
        checkpoint_every: steps from one checkpoint to the next.
        tensorboard: also write TensorBoard events (extra ``tensorboard``).
    """

    workers: int = 1
    threads: int = 0
    timeout_minutes: int = 30
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 200
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_lowest(self, workers=0, threads=0, timeout_minutes=1, log_every=1, validate_every=1, checkpoint_every=1)


@dataclasses.dataclass(frozen=True)
class RunConfig(MachineConfig):
    """What every training run has, whatever it trains.

    Attributes:
        name: of the run, and of what it makes.
        sources: data sources.
        variables: channels, any names that ``open_fields`` finds in every source.
        validation: periods ``"YYYY-MM-DD/YYYY-MM-DD"`` held out of all sources, both days included.
        test: further periods held out of all sources.
        batch_size: examples per batch, of all processes together.
        steps: optimizer steps.
        learning_rate: highest rate.
        seed: of initial weights and batches.
    """

    MAY_DIFFER: ClassVar[tuple[str, ...]] = tuple(field.name for field in dataclasses.fields(MachineConfig))
    """Keys that may differ when a run is continued."""
    CAN_BE_LENGTHENED: ClassVar[bool] = False
    """Whether a run that has taken all of its steps can go on for more."""

    name: str = "run"
    sources: tuple[SourceConfig, ...] = ()
    variables: tuple[str, ...] = ("divergence", "vorticity")
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    batch_size: int = 16
    steps: int = 1000
    learning_rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lowest(self, batch_size=1, steps=1, seed=0)
        if not self.variables:
            raise ConfigError("variables: got none, expected at least one name")


@dataclasses.dataclass(frozen=True)
class TrainConfig(SequenceSpec, RunConfig):
    """What AtmoDist's training has: how a network learns to tell the lag between two fields.

    Attributes:
        pretext: what is learned: ``"lag"``, the lag between two fields; ``"next"``, the field one step after the others
            of a sequence; or ``"masked"``, what was taken out of a sequence. The last two have sequences of consecutive
            times: ``n_classes`` is ``n_times`` − 1, and ``head`` is ``"space_time"``.
        mask: what ``"masked"`` takes out: ``"tokens"``, ``"box"``, ``"middle"`` or ``"channel"``.
        recipe: which defaults to start from: ``"fast"``, or ``"paper"`` (Hoffmann & Lessig 2023).
        encoder: preset of ``atmoloss.networks``.
        encoder_options: arguments that override those of the preset.
        initial_weights: weights (bundled name, folder or Hub repository) whose encoder, head and normalisation the run
            starts from; they must have this configuration's architecture and channels. Where only one of both pretexts
            is ``"lag"``, or the weights have no head, encoder and normalisation are taken. Empty: random ones.
        head: ``"metric"`` or ``"published"``; ``"space_time"`` for the pretexts that are not ``"lag"``.
        head_options: arguments of :class:`atmoloss.prediction.SpaceTimeHead`.
        optimizer: ``"adamw"`` (one-cycle schedule) or ``"sgd"`` (Hoffmann & Lessig: momentum 0.9, each
            tensor's gradient clipped on its own, rate divided by ten when the loss stalls).
        weight_decay: of convolution and dense kernels, in the optimizer's own convention.
        gradient_clip: largest norm of the gradient.
        ranking_weight: of the ranking term (metric head): how often the earlier of two fields is nearer.
        artefact_weight: of an auxiliary ranking term (metric head): a field whose small scales are a regular pattern
            must be farther from the truth than one without small scales.
        detail_weight: of an auxiliary ranking term (metric head): a field whose small scales are partly in the wrong
            place must be nearer to the truth than one without small scales.
        detail_coherence: of those small scales with the truth, at the least, in [0, 1).
        subset_steps: first steps, which repeat ``subset_batches`` (the published recipe needs this start).
        subset_batches: how many batches they repeat.
        epoch_steps: steps after which the ``sgd`` schedule looks at the mean loss.
        freeze_batch_norm_after: step after which batch norm keeps its running statistics and uses them, so that
            the network trains as it will ship and does not depend on who else is in the batch; −1: never.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast of the encoder).
        validation_patches: patches per source in a validation; batches, where the pretext is not ``"lag"``.
        mse_weight: what the weights folder recommends; may differ when a run is continued.
        low_pass_share: of the layer ``"low_pass"`` in the distance that the weights folder recommends, at the upper
            half of lags; it needs ``encoder_options`` with ``low_pass``; may differ when a run is continued.
        license: of the weights folder; may differ when a run is continued.
    """

    # What a weights folder says beside the tensors that were trained.
    MAY_DIFFER: ClassVar[tuple[str, ...]] = (
        *RunConfig.MAY_DIFFER,
        "validation_patches",
        "mse_weight",
        "low_pass_share",
        "license",
    )
    CAN_BE_LENGTHENED: ClassVar[bool] = True

    name: str = "atmodist"
    pretext: str = "lag"
    mask: str = ""
    recipe: str = "fast"
    encoder: str = "resnet_aa"
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""
    head: str = "metric"
    head_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optimizer: str = "adamw"
    steps: int = 2000
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    ranking_weight: float = 0.0
    artefact_weight: float = 0.0
    detail_weight: float = 0.0
    detail_coherence: float = 0.3
    subset_steps: int = 0
    subset_batches: int = 0
    epoch_steps: int = 0
    freeze_batch_norm_after: int = -1
    precision: str = "float32"
    validation_patches: int = 6
    mse_weight: float = 0.0
    low_pass_share: float = 0.0
    license: str = "Apache-2.0"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, recipe=RECIPES, head=("metric", "published", "space_time"))
        _check_pretext(self)
        check_choice(self, optimizer=("adamw", "sgd"), precision=("float32", "bfloat16"))
        check_lowest(self, n_times=2, n_classes=2, base_step=1, freeze_batch_norm_after=-1)
        for key in ("detail_coherence", "low_pass_share"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key}: got {getattr(self, key)}, expected at least 0 and less than 1")
        for key, used, needs in _USED_ONLY_WITH:
            value, default = getattr(self, key), type(self).__dataclass_fields__[key].default
            if value != default and not used(self):
                raise ConfigError(f"{key}: got {value}, which would do nothing; expected {default}, or {needs}")
        if self.head == "published" and len(self.patch_sizes) != 1:
            raise ConfigError(f"patch_sizes: got {self.patch_sizes}, expected one size for the published head")


def _check_pretext(config: TrainConfig) -> None:
    """Raise ``ConfigError`` where the pretext does not fit to what it is learned from."""
    check_choice(config, pretext=("lag", "next", "masked"))
    if config.pretext == "masked":
        check_choice(config, mask=("tokens", "box", "middle", "channel"))
        if config.mask == "channel" and len(config.variables) < 2:
            raise ConfigError(f"mask: got 'channel' with variables {list(config.variables)}, expected two or more")
    elif config.mask:
        raise ConfigError(f"mask: got {config.mask!r}, which would do nothing; expected none, or pretext = 'masked'")
    predicts = config.pretext != "lag"
    if (config.head == "space_time") != predicts or (config.head_options and not predicts):
        expected = "'space_time'" if predicts else "'metric' or 'published', and no head_options"
        raise ConfigError(f"head: got {config.head!r} for pretext {config.pretext!r}, expected {expected}")
    if predicts and config.n_classes != config.n_times - 1:
        expected = f"{config.n_times - 1}, n_times - 1: its sequences have no gaps"
        raise ConfigError(f"n_classes: got {config.n_classes} for pretext {config.pretext!r}, expected {expected}")


_METRIC = (lambda c: c.head == "metric", "head = 'metric'")
# A key, whether a configuration uses it, and what it needs to.
_USED_ONLY_WITH: tuple[tuple[str, Callable[[TrainConfig], Any], str], ...] = (
    ("ranking_weight", *_METRIC),
    ("artefact_weight", *_METRIC),
    ("detail_weight", *_METRIC),
    ("low_pass_share", *_METRIC),
    ("ranking_weight", lambda c: c.n_times > 2, "n_times of at least 3: two distances have to be ordered"),
    ("detail_coherence", lambda c: c.detail_weight, "a detail_weight"),
    ("low_pass_share", lambda c: c.encoder_options.get("low_pass"), "low_pass in encoder_options"),
    ("epoch_steps", lambda c: c.optimizer == "sgd", "optimizer = 'sgd'"),
    ("subset_steps", lambda c: c.subset_batches, "subset_batches"),
    ("subset_batches", lambda c: c.subset_steps, "subset_steps"),
)

RECIPES: dict[str, dict[str, Any]] = {
    "fast": {},
    # Hoffmann & Lessig (2023); ORIGINAL: 20 epochs on 2,000 fixed batches, then 60 on everything.
    "paper": {
        "encoder": "resnet_small",
        "head": "published",
        "n_times": 2,
        "n_classes": 23,
        "patch_sizes": [160],
        "batch_size": 128,
        "latitude_band": [-71.25, 71.25],
        "mirror": False,
        "optimizer": "sgd",
        "steps": 20 * 2000 + 60 * 9340,
        "learning_rate": 0.1,
        "weight_decay": 2e-4,
        "gradient_clip": 5.0,
        "subset_steps": 20 * 2000,
        "subset_batches": 2000,
        "epoch_steps": 9340,
    },
}
"""Defaults per recipe; what a configuration says itself goes before them."""


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """Build the configuration of AtmoDist's training from plain values, on top of its recipe's defaults.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind.
    """
    defaults = dict(RECIPES.get(str(values.get("recipe")), {}))
    if values.get("pretext", "lag") != "lag":
        n_times = values.get("n_times", TrainConfig.n_times)
        defaults |= {"head": "space_time", "n_classes": n_times - 1 if isinstance(n_times, int) else 0}
    return build_dataclass(TrainConfig, {**defaults, **values})


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a TOML file, or the configuration in the ``metrics.json`` of a weights folder, to train the same again.

    Args:
        path: of the file; relative source paths are relative to its folder.
        overrides: key to value, applied last.

    Raises:
        ConfigError: neither of them, an unknown key, or a value of the wrong kind.
    """
    return make_config({**read_values(path), **(overrides or {})})


def keys_help() -> str:
    """Return every key of a training configuration with type, default and meaning, as text for a terminal."""
    lines, section = [], ""
    for key in describe_keys(TrainConfig):
        if key.section != section:
            section = key.section
            lines.append(f"\n{section}")
        lines.append(f"  {key.name} ({key.type}; {key.default})")
        lines.append(textwrap.fill(key.meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines).strip() + "\n"
