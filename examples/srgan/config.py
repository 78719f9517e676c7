"""The configuration of a super-resolution run: dataclasses, read from TOML, unknown keys rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atmoloss.errors import ConfigError
from atmoloss.training.config import RunConfig
from atmoloss.training.config_reading import build_dataclass, check_choice, check_lowest, read_values

from .data import PatchSpec
from .models import FACTOR

CONTENTS: dict[str, float] = {
    "mse": 0.0,
    "l1": 0.0,
    "gradient": 0.5,
    "log-spectral": 0.5,
    "amse": 0.0,
    "adjusted": 0.0,
    "facl": 0.0,
    "vgg-random": 0.15,
    "random-encoder": 0.15,
    "atmodist": 0.15,
}
"""Content losses and their own ``mse_weight``.

Half for the two that are blind to something that the MSE sees (the mean; all phases). Little for networks, the same for
all three, so that random ones are a fair control: what weights recommend is for a loss without an adversary.
"""


@dataclasses.dataclass(frozen=True)
class ContentConfig(PatchSpec, RunConfig):
    """What trainings with a content loss have, whatever they train.

    Attributes:
        content: content loss, see :data:`CONTENTS`.
        weights: bundled name, weights folder or Hub repository: of the loss ``atmodist`` and of the architecture of
            ``random-encoder``.
        layers: stages of the encoder (or blocks of ``vgg-random``), equally weighted; empty: what the weights
            recommend (all five blocks).
        mse_weight: m, of (1 − m) · content + m · companion; −1: that of the content loss, see ``CONTENTS``.
        companion: ``"mse"``, ``"amse"`` or ``"adjusted"``: what stands in the place of the MSE there, so that a loss on
            features leaves the amplitudes of scales that its features do not see to one that does. ``atmodist`` with
            ``"adjusted"`` is ``AtmoDistLoss(sharp=True)``.
        content_scale: factor of the content loss; 0: fitted on training data, see :func:`srgan.content.calibrate`.
        normalization: ``"weights"``: that of ``weights``; ``"fit"``: fitted on training data. All losses see the
            same normalised fields.
        final_steps: how many of the steps with the content loss, the last, are at a tenth of the learning rate.
        validation_batches: in a validation.
    """

    content: str = "atmodist"
    weights: str = "default"
    layers: tuple[str, ...] = ()
    mse_weight: float = -1.0
    companion: str = "mse"
    content_scale: float = 0.0
    normalization: str = "weights"
    final_steps: int = 0
    validate_every: int = 500
    validation_batches: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, content=CONTENTS, companion=("mse", "amse", "adjusted"), normalization=("weights", "fit"))
        check_lowest(self, final_steps=0, validation_batches=1, content_scale=0, patch_size=8)
        if self.mse_weight > 1 or (self.mse_weight < 0 and self.mse_weight != -1):
            raise ConfigError(f"mse_weight: got {self.mse_weight}, expected a number between 0 and 1, or -1")
        if self.final_steps > self.steps:
            raise ConfigError(f"final_steps: got {self.final_steps}, expected at most the {self.steps} steps")

    @property
    def content_size(self) -> int:
        """Rows and columns of what the content loss compares."""
        return self.patch_size

    def rate_at(self, step: int) -> float:
        """Return the learning rate of step 1, 2, … with the content loss."""
        return self.learning_rate / 10 if step > self.steps - self.final_steps else self.learning_rate


@dataclasses.dataclass(frozen=True)
class SrganConfig(ContentConfig):
    """Everything that decides what a super-resolution run computes.

    Attributes:
        generator_channels: of every layer but the last.
        generator_blocks: residual blocks of the generator.
        discriminator_channels: of its stages.
        discriminator_dense: units of its dense layer.
        initial_generator: folder of a generator to start from, e.g. ``generator`` in another run folder; there is no
            pretraining then.
        pretrain_steps: first steps, which lower the MSE alone; the optimizer starts afresh after them.
        adversarial_weight: of the adversarial term in the generator's loss; 0: there is no discriminator.
    """

    name: str = "srgan"
    generator_channels: int = 64
    generator_blocks: int = 16
    discriminator_channels: tuple[int, ...] = (32, 64, 128, 256)
    discriminator_dense: int = 1024
    initial_generator: str = ""
    pretrain_steps: int = 0
    adversarial_weight: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lowest(self, pretrain_steps=0, generator_channels=1, generator_blocks=1, discriminator_dense=1)
        check_lowest(self, adversarial_weight=0)
        if self.patch_size % FACTOR:
            raise ConfigError(f"patch_size: got {self.patch_size}, expected a multiple of {FACTOR}")

    @property
    def pretraining(self) -> int:
        """Steps of pretraining: none for a generator that is given."""
        return 0 if self.initial_generator else self.pretrain_steps


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> SrganConfig:
    """Read a TOML file; relative source paths are relative to its folder; ``overrides`` are applied last.

    Raises:
        ConfigError: not TOML, an unknown key, or a value of the wrong kind.
    """
    return build_dataclass(SrganConfig, {**read_values(path), **(overrides or {})})
