"""Train a super-resolution GAN with a content loss of choice.

    cd examples
    python -m srgan.train srgan/presets/small.toml --content atmodist
    torchrun --nproc-per-node 2 -m srgan.train srgan/presets/full.toml

Writes a run folder: run.json (configuration and origin), metrics.jsonl, checkpoint.pt, and the generator for
``python -m srgan.infer`` in generator/ (after pretraining alone: pretrained/). ``--resume`` continues exactly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.normalization import LogNormalization
from atmoloss.training.distributed import ALONE, Team

from . import measures
from .config import SrganConfig, make_config, read_config
from .content import ContentLoss
from .data import PatchBatch, coarsen
from .gan import Gan
from .loop import command, train
from .models import FACTOR
from .store import load_generator


def run(
    config: SrganConfig,
    folder: Path,
    *,
    resume: bool = False,
    team: Team = ALONE,
    sources: Sequence[FieldSource] | None = None,
) -> Path:
    """Train, or continue to train, into a run folder; see :func:`srgan.loop.train`.

    Raises:
        ConfigError: as there, or the initial generator is of other sizes.
    """
    return train(config, folder, make_config, SrganTrainer, resume=resume, team=team, sources=sources)


def pair(batch: PatchBatch, normalization: LogNormalization, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the coarse and the fine patches (N, C, h, w) and (N, C, 4 h, 4 w), both normalised."""
    fields = batch.fields.to(device, non_blocking=True)
    coarse = coarsen(fields, batch.latitude.to(device), FACTOR)
    first, second = (normalization(x).contiguous(memory_format=torch.channels_last) for x in (coarse, fields))
    return first, second


class SrganTrainer:
    """A :class:`Gan` in its two stages, as a :class:`srgan.loop.Trainer`."""

    shown = ("mse", "content", "adversarial", "discriminator")

    def __init__(
        self, config: SrganConfig, normalization: LogNormalization, content: ContentLoss, team: Team = ALONE
    ) -> None:
        self.pretraining = config.pretraining
        self.normalization, self.content = normalization, content
        self.gan = Gan(config, content, team)
        self.generator = self.gan.generator
        if config.initial_generator:
            _start_from(config, self.gan, normalization)
        self.stored = {config.pretraining: "pretrained"} if config.pretraining else {}
        self.stored[config.pretraining + config.steps] = "generator"

    def step(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """Take a step of the stage that step belongs to; Adam starts afresh with the second."""
        coarse, fine = pair(batch, self.normalization, self.gan.team.device)
        if step <= self.pretraining:
            return self.gan.pretrain(coarse, fine)
        if step == self.pretraining + 1:
            self.gan.start_optimizers()
        return self.gan.train(coarse, fine, step - self.pretraining)

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return MSE, log-spectral difference and content loss of each patch."""
        coarse, fine = pair(batch, self.normalization, self.gan.team.device)
        made = self.generator(coarse)
        return {
            "validation_mse": measures.mse(made, fine),
            "validation_log_spectral": measures.log_spectral(made, fine),
            "validation_content": self.content(made, fine),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""
        return {"gan": self.gan.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.gan.load_state_dict(state["gan"])


def _start_from(config: SrganConfig, gan: Gan, normalization: LogNormalization) -> None:
    """Load the initial generator, which must be of the same sizes and see the same normalised fields."""
    stored = load_generator(Path(config.initial_generator))
    found = {"sizes": stored.generator.architecture, "variables": stored.variables}
    expected: dict[str, Any] = {"sizes": gan.generator.architecture, "variables": config.variables}
    found["normalization"], expected["normalization"] = stored.normalization.constants(), normalization.constants()
    for key, value in expected.items():
        if found[key] != value:
            raise ConfigError(f"initial_generator: {config.initial_generator} has {key} {found[key]}, expected {value}")
    gan.generator.load_state_dict(stored.generator.state_dict())


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit code."""
    options = {"initial_generator": "start from this generator, without pretraining"}
    return command(arguments, __doc__, read_config, run, options)


if __name__ == "__main__":
    sys.exit(main())
