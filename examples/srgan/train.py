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
from atmoloss.normalization import LogNormalization
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.loop import Run, open_run, train

from . import measures
from .config import SrganConfig
from .content import ContentLoss
from .data import PatchBatch, coarsen
from .gan import Gan
from .models import FACTOR
from .store import start_from
from .trainer import ContentTrainer, command, prepare


def run(
    config: SrganConfig,
    folder: Path,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    sources: Sequence[FieldSource] | None = None,
) -> Path:
    """Train, or continue to train, into a run folder; return the folder of the generator.

    Args:
        config, folder, resume, group, sources: see :func:`atmoloss.training.loop.open_run`.

    Raises:
        ConfigError: as there, or the initial generator is of other sizes.
    """
    opened = open_run(config, folder, resume=resume, group=group, sources=sources)
    trainer = SrganTrainer(opened, *prepare(opened))
    train(opened, trainer)
    return trainer.trained


def pair(batch: PatchBatch, normalization: LogNormalization, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the coarse and the fine patches (N, C, h, w) and (N, C, 4 h, 4 w), both normalised."""
    fields = batch.fields.to(device, non_blocking=True)
    coarse = coarsen(fields, batch.latitude.to(device), FACTOR)
    first, second = (normalization(x).contiguous(memory_format=torch.channels_last) for x in (coarse, fields))
    return first, second


class SrganTrainer(ContentTrainer[SrganConfig]):
    """A :class:`Gan` in its two stages."""

    shown = ("mse", "content", "adversarial", "discriminator")

    def __init__(self, run: Run[SrganConfig], normalization: LogNormalization, content: ContentLoss) -> None:
        config = run.config
        self.gan = Gan(config, content, run.group)
        if config.initial_generator:
            start_from(Path(config.initial_generator), self.gan.generator, normalization, config.variables)
        folders = {config.pretraining: "pretrained"} if config.pretraining else {}
        folders[config.pretraining + config.steps] = "generator"
        super().__init__(run, normalization, content, self.gan.generator, folders)

    def step(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """Take a step of the stage that step belongs to; Adam starts afresh with the second."""
        coarse, fine = pair(batch, self.normalization, self.group.device)
        if step <= self.config.pretraining:
            return self.gan.pretrain(coarse, fine)
        if step == self.config.pretraining + 1:
            self.gan.start_optimizers()
        return self.gan.train(coarse, fine, step - self.config.pretraining)

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return MSE, log-spectral difference and content loss of each patch."""
        coarse, fine = pair(batch, self.normalization, self.group.device)
        generated = self.generator(coarse)
        return {
            "validation_mse": measures.mse(generated, fine),
            "validation_log_spectral": measures.log_spectral(generated, fine),
            "validation_content": self.content(generated, fine),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""
        return {**super().state_dict(), "gan": self.gan.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.gan.load_state_dict(state["gan"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit code."""
    options = {"initial_generator": "start from this generator, without pretraining"}
    return command(arguments, __doc__, SrganConfig, run, options)


if __name__ == "__main__":
    sys.exit(main())
