"""The training configuration: one dataclass, read from TOML, unknown keys rejected."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from atmoloss.data.sequences import SequenceSpec
from atmoloss.errors import ConfigError

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One data source: ``path``, ``level`` and ``missing`` as in :func:`atmoloss.data.open_fields`, and its share.

    With ``missing`` ``"ignore"`` no patch is drawn that has missing values.

    ``license`` and ``attribution`` are texts for the model card: under what terms the data may be used, and
    what those who use them must say. ERA5 has a default for both.
    """

    name: str
    path: str
    level: float | None = None
    grid: float | None = None
    weight: float = 1.0
    missing: str | float = "error"
    license: str = ""
    attribution: str = ""


@dataclasses.dataclass(frozen=True)
class TrainConfig(SequenceSpec):
    """Everything that decides what a training run computes: how sequences are drawn, and what is done with them.

    Attributes:
        name: of the weights.
        recipe: which defaults to start from, see :data:`RECIPES`.
        sources: data sources.
        variables: channels, any names that ``open_fields`` finds in every source.
        validation, test: periods ``"YYYY-MM-DD/YYYY-MM-DD"`` held out of all sources.
        encoder, encoder_options: preset of ``atmoloss.networks`` and arguments that override it.
        initial_weights: weights (bundled name, folder or Hub repository) whose encoder, head and normalisation the run
            starts from; they must have this configuration's architecture and channels. Empty: random ones.
        head: ``"metric"`` or ``"published"``.
        optimizer: ``"adamw"`` (one-cycle schedule) or ``"sgd"`` (Hoffmann & Lessig: momentum 0.9, each
            tensor's gradient clipped on its own, rate divided by ten when the loss stalls).
        steps: optimizer steps.
        learning_rate: highest rate.
        weight_decay: of convolution and dense kernels, in the optimizer's own convention.
        gradient_clip: largest norm of the gradient.
        ranking_weight: of the ranking term (metric head): how often the earlier of two fields is nearer.
        artefact_weight: of the artefact term (metric head), see ``atmoloss.training.artefacts``: a field whose
            small scales are a regular pattern must be farther from the truth than one without small scales.
        detail_weight: of the detail term (metric head), see ``atmoloss.training.artefacts.misplace``: a field whose
            small scales are partly in the wrong place must be nearer to the truth than one without small scales.
        detail_coherence: of those small scales with the truth, at the least, in [0, 1).
        subset_steps, subset_batches: first steps repeat that many batches (the original needs this start).
        epoch_steps: steps after which the ``sgd`` schedule looks at the mean loss.
        freeze_batch_norm_after: step after which batch norm keeps its running statistics and uses them, so that
            the network trains as it will ship and does not depend on who else is in the batch; −1: never.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast of the encoder).
        seed: of weights and batches.
        workers, threads: data processes and torch threads; neither changes the batches.
        timeout_minutes: how long one process of a distributed run waits for another.
        log_every, validate_every, checkpoint_every: in steps.
        validation_patches: patches per source in a validation.
        mse_weight: what the exported weights recommend.
        low_pass_share: of the layer ``"low_pass"`` in the distance that they recommend, at the upper half of lags; it
            needs ``encoder_options`` with ``low_pass``.
        tensorboard: also write TensorBoard events (extra ``tensorboard``).
        license: of the exported weights.
    """

    name: str = "atmodist"
    recipe: str = "fast"
    sources: tuple[SourceConfig, ...] = ()
    variables: tuple[str, ...] = ("divergence", "vorticity")
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    encoder: str = "resnet_aa"
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    initial_weights: str = ""
    head: str = "metric"
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
    seed: int = 0
    workers: int = 1
    threads: int = 0
    timeout_minutes: int = 30
    log_every: int = 50
    validate_every: int = 1000
    checkpoint_every: int = 200
    validation_patches: int = 6
    mse_weight: float = 0.0
    low_pass_share: float = 0.0
    tensorboard: bool = False
    license: str = "Apache-2.0"

    def __post_init__(self) -> None:
        allowed = {
            "recipe": tuple(RECIPES),
            "head": ("metric", "published"),
            "optimizer": ("adamw", "sgd"),
            "precision": ("float32", "bfloat16"),
        }
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise ConfigError(f"{key}: got {getattr(self, key)!r}, expected one of {', '.join(values)}")
        lowest = {"n_times": 2, "n_classes": 2, "base_step": 1, "batch_size": 1, "steps": 1, "log_every": 1}
        lowest |= {"validate_every": 1, "checkpoint_every": 1, "workers": 0, "threads": 0, "seed": 0}
        lowest |= {"timeout_minutes": 1, "freeze_batch_norm_after": -1}
        for key, low in lowest.items():
            if getattr(self, key) < low:
                raise ConfigError(f"{key}: got {getattr(self, key)}, expected at least {low}")
        if not self.variables:
            raise ConfigError("variables: got none, expected at least one name")
        for key in ("detail_coherence", "low_pass_share"):
            if not 0 <= getattr(self, key) < 1:
                raise ConfigError(f"{key}: got {getattr(self, key)}, expected at least 0 and less than 1")
        for keys, used, needs in _USED_ONLY_WITH:
            for key in keys:
                value, default = getattr(self, key), type(self).__dataclass_fields__[key].default
                if value != default and not used(self):
                    raise ConfigError(f"{key}: got {value}, which would do nothing; expected {default}, or {needs}")
        if self.head == "published" and len(self.patch_sizes) != 1:
            raise ConfigError(f"patch_sizes: got {self.patch_sizes}, expected one size for the published head")

    @property
    def sequences(self) -> SequenceSpec:
        """How training sequences are drawn."""
        keys = [field.name for field in dataclasses.fields(SequenceSpec)]
        return SequenceSpec(**{key: getattr(self, key) for key in keys})


def _has_metric_head(config: TrainConfig) -> bool:
    return config.head == "metric"


# Keys, whether a configuration uses them, and what it needs to.
_USED_ONLY_WITH: tuple[tuple[tuple[str, ...], Callable[[TrainConfig], Any], str], ...] = (
    (("ranking_weight", "artefact_weight", "detail_weight"), _has_metric_head, "head = 'metric'"),
    (("ranking_weight",), lambda c: c.n_times > 2, "n_times of at least 3: two distances have to be ordered"),
    (("detail_coherence",), lambda c: c.detail_weight, "a detail_weight"),
    (
        ("low_pass_share",),
        lambda c: _has_metric_head(c) and c.encoder_options.get("low_pass"),
        "head = 'metric' and low_pass in encoder_options",
    ),
    (("epoch_steps",), lambda c: c.optimizer == "sgd", "optimizer = 'sgd'"),
    (("subset_steps",), lambda c: c.subset_batches, "subset_batches"),
    (("subset_batches",), lambda c: c.subset_steps, "subset_steps"),
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


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a TOML file, or the configuration in the ``metrics.json`` of a weights folder, to train the same again.

    Args:
        path: of the file; relative source paths are relative to its folder.
        overrides: key to value, applied last.

    Raises:
        ConfigError: neither of them, an unknown key, or a value of the wrong kind.
    """
    return make_config({**read_values(path), **(overrides or {})})


def read_values(path: Path) -> dict[str, Any]:
    """Read the plain values of a configuration file; relative source paths become absolute.

    Raises:
        ConfigError: neither TOML nor a ``metrics.json``.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = dict(json.loads(text)["config"]) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"config: {path} cannot be read: {error}") from error
    for source in raw.get("sources", []):
        if isinstance(source, dict) and "://" not in str(source.get("path", "")):
            source["path"] = os.path.abspath(path.parent / str(source.get("path", "")))
    return raw


def make_config(raw: Mapping[str, Any]) -> TrainConfig:
    """Build a configuration from plain values on top of its recipe's defaults.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind.
    """
    recipe = raw.get("recipe", "fast")
    if recipe not in RECIPES:
        raise ConfigError(f"recipe: got {recipe!r}, expected one of {', '.join(RECIPES)}")
    return build(TrainConfig, {**RECIPES[recipe], **raw})


def build(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """Build a configuration dataclass from plain values, checking names and types; ``sources`` are tables.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind.
    """
    sources = values.get("sources", ())
    if not isinstance(sources, Sequence) or not all(isinstance(s, Mapping) for s in sources):
        raise ConfigError(f"sources: got {sources!r}, expected tables [[sources]] with name and path")
    built = tuple(_build(SourceConfig, s, "sources.") for s in sources)
    out: _T = _build(kind, {**values, "sources": built}, "")
    return out


def _build(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Build a dataclass from plain values, checking names and types."""
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: is no key of the configuration; expected one of {', '.join(hints)}")
    required = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{prefix}{missing[0]}: is missing")
    return kind(**{key: _coerce(prefix + key, hints[key], value) for key, value in values.items()})


_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def _coerce(key: str, hint: Any, value: Any) -> Any:
    text = str(hint)
    if hint in _KINDS:
        expected, kinds = _KINDS[hint]
        if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
            raise ConfigError(f"{key}: got {value!r}, expected {expected}")
        return hint(value)
    if hint == str | float:  # of missing
        if value in ("error", "ignore") or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        raise ConfigError(f"{key}: got {value!r}, expected 'error', 'ignore' or a number")
    if "None" in text:  # float | None
        return None if value is None else _coerce(key, float, value)
    if text.startswith("tuple"):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}: got {value!r}, expected a list")
        item = hint.__args__[0]
        if item in _KINDS:
            value = [_coerce(key, item, v) for v in value]
        if hint.__args__[-1] is not Ellipsis and len(value) != len(hint.__args__):
            raise ConfigError(f"{key}: got {value!r}, expected {len(hint.__args__)} values")
        return tuple(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: got {value!r}, expected a table")
    return dict(value)


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts from the command line; the value is TOML, or plain text.

    Raises:
        ConfigError: no ``=``.
    """
    out: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set: got {text!r}, expected key=value")
        try:
            out[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            out[key.strip()] = value
    return out
