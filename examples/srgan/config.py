"""The configuration of a super-resolution run: one dataclass, read from TOML, unknown keys rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atmoloss.errors import ConfigError
from atmoloss.training.config import SourceConfig, build, read_values

from .content import CONTENTS
from .data import PatchSpec
from .models import FACTOR


@dataclasses.dataclass(frozen=True)
class SrganConfig(PatchSpec):
    """Everything that decides what a run computes.

    Attributes:
        name: of the run.
        sources: data sources, see :class:`atmoloss.training.config.SourceConfig`.
        variables: channels, any names that ``open_fields`` finds in every source.
        validation, test: periods ``"YYYY-MM-DD/YYYY-MM-DD"`` held out of all sources.
        content: content loss, see :data:`srgan.content.CONTENTS`.
        weights: bundled name, weights folder or Hub repository: of the loss ``atmodist`` and of the architecture of
            ``random-encoder``.
        layers: stages of the encoder (or blocks of ``vgg-random``), equally weighted; empty: what the weights
            recommend (all five blocks).
        mse_weight: m, of (1 − m) · content + m · MSE; −1: that of the content loss, see ``CONTENTS``.
        content_scale: factor of the content loss; 0: fitted on training data, see :func:`srgan.content.calibrate`.
        normalization: ``"weights"``: that of ``weights``; ``"fit"``: fitted on training data. All losses see the
            same normalised fields.
        generator_channels, generator_blocks: of the generator.
        discriminator_channels, discriminator_dense: of the discriminator.
        initial_generator: folder of a generator to start from, e.g. ``generator`` in another run folder; there is no
            pretraining then.
        pretrain_steps: first steps, which lower the MSE alone; the optimizer starts afresh after them.
        steps: steps with the content loss, after those.
        final_steps: how many of these, the last, are at a tenth of the learning rate.
        learning_rate: of both Adam optimizers.
        adversarial_weight: of the adversarial term in the generator's loss; 0: there is no discriminator.
        seed: of weights and batches.
        workers, threads: data processes and torch threads; neither changes the batches.
        timeout_minutes: how long one process of a distributed run waits for another.
        log_every, validate_every, checkpoint_every: in steps.
        validation_batches: in a validation.
        tensorboard: also write TensorBoard events (extra ``tensorboard``).
    """

    name: str = "srgan"
    sources: tuple[SourceConfig, ...] = ()
    variables: tuple[str, ...] = ("divergence", "vorticity")
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    content: str = "atmodist"
    weights: str = "default"
    layers: tuple[str, ...] = ()
    mse_weight: float = -1.0
    content_scale: float = 0.0
    normalization: str = "weights"
    generator_channels: int = 64
    generator_blocks: int = 16
    discriminator_channels: tuple[int, ...] = (32, 64, 128, 256)
    discriminator_dense: int = 1024
    initial_generator: str = ""
    pretrain_steps: int = 0
    steps: int = 1000
    final_steps: int = 0
    learning_rate: float = 1e-4
    adversarial_weight: float = 1e-3
    seed: int = 0
    workers: int = 1
    threads: int = 0
    timeout_minutes: int = 30
    log_every: int = 50
    validate_every: int = 500
    checkpoint_every: int = 200
    validation_batches: int = 4
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for key, values in {"content": tuple(CONTENTS), "normalization": ("weights", "fit")}.items():
            if getattr(self, key) not in values:
                raise ConfigError(f"{key}: got {getattr(self, key)!r}, expected one of {', '.join(values)}")
        lowest = {"batch_size": 1, "steps": 1, "pretrain_steps": 0, "final_steps": 0, "seed": 0, "workers": 0}
        lowest |= {"generator_channels": 1, "generator_blocks": 1, "discriminator_dense": 1, "validation_batches": 1}
        lowest |= {"log_every": 1, "validate_every": 1, "checkpoint_every": 1, "threads": 0, "timeout_minutes": 1}
        lowest |= {"content_scale": 0, "adversarial_weight": 0, "patch_size": 8}
        for key, low in lowest.items():
            if getattr(self, key) < low:
                raise ConfigError(f"{key}: got {getattr(self, key)}, expected at least {low}")
        if not self.variables:
            raise ConfigError("variables: got none, expected at least one name")
        if self.patch_size % FACTOR:
            raise ConfigError(f"patch_size: got {self.patch_size}, expected a multiple of {FACTOR}")
        if self.mse_weight > 1 or (self.mse_weight < 0 and self.mse_weight != -1):
            raise ConfigError(f"mse_weight: got {self.mse_weight}, expected a number between 0 and 1, or -1")
        if self.final_steps > self.steps:
            raise ConfigError(f"final_steps: got {self.final_steps}, expected at most the {self.steps} steps")

    @property
    def pretraining(self) -> int:
        """Steps of pretraining: none for a generator that is given."""
        return 0 if self.initial_generator else self.pretrain_steps


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> SrganConfig:
    """Read a TOML file; relative source paths are relative to its folder.

    Args:
        path: of the file.
        overrides: key to value, applied last.

    Raises:
        ConfigError: not TOML, an unknown key, or a value of the wrong kind.
    """
    return make_config({**read_values(path), **(overrides or {})})


def make_config(raw: Mapping[str, Any]) -> SrganConfig:
    """Build a configuration from plain values.

    Raises:
        ConfigError: an unknown key or a value of the wrong kind.
    """
    return build(SrganConfig, raw)
