"""Train an autoencoder to fill a box in the centre of patches, with a content loss of choice.

    cd examples
    python -m inpainting.train inpainting/presets/small.toml --content atmodist
    torchrun --nproc-per-node 2 -m inpainting.train inpainting/presets/full.toml

Writes a run folder: run.json (configuration and origin), metrics.jsonl, checkpoint.pt, and the network for
``python -m inpainting.evaluate`` in generator/. ``--resume`` continues exactly.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from srgan import measures
from srgan.content import ContentLoss
from srgan.data import PatchBatch
from srgan.trainer import ContentTrainer, command, means, prepare
from torch import Tensor, nn

from atmoloss.data.sources import FieldSource
from atmoloss.normalization import LogNormalization
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.loop import Run, open_run, train

from . import box
from .config import InpaintingConfig
from .model import Autoencoder


def run(
    config: InpaintingConfig,
    folder: Path,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    sources: Sequence[FieldSource] | None = None,
) -> Path:
    """Train, or continue to train, into a run folder; return the folder of the network.

    Args:
        config, folder, resume, group, sources: see :func:`atmoloss.training.loop.open_run`.
    """
    opened = open_run(config, folder, resume=resume, group=group, sources=sources)
    trainer = Inpainter(opened, *prepare(opened))
    train(opened, trainer)
    return trainer.trained


class Inpainter(ContentTrainer[InpaintingConfig]):
    """The autoencoder, its optimizer and its loss."""

    shown = ("content", "mse", "l2")

    def __init__(self, run: Run[InpaintingConfig], normalization: LogNormalization, content: ContentLoss) -> None:
        config = run.config
        torch.manual_seed(config.seed)
        generator = Autoencoder(
            config.patch_size,
            in_channels=len(config.variables),
            stage_channels=config.stage_channels,
            blocks=config.blocks,
        ).to(run.group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(run, normalization, content, generator, {config.steps: "generator"})
        self._wrapped = self.group.wrap(self.generator)
        self._kernels = [m.weight for m in self.generator.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        self.optimizer = torch.optim.Adam(self.generator.parameters(), config.learning_rate, eps=1e-7)  # Keras' epsilon
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer,
            factor=0.1,
            patience=config.plateau_patience - 1,  # torch waits for one epoch more than its patience, Keras does not
            threshold=config.plateau_threshold,
            threshold_mode="abs",
            min_lr=config.lowest_rate,
        )
        self._epoch = [0.0, 0.0]

    def step(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """Lower content loss in the box plus L2 by one step; each tensor's gradient is clipped on its own."""
        config = self.config
        if not config.epoch_steps:
            self.optimizer.param_groups[0]["lr"] = config.rate_at(step)
        self.generator.train()
        fields = self._normalised(batch)
        filling = box.cut(self._wrapped(box.hide(fields, config.box_size)), config.box_size)
        content = self.loss(filling, fields, step).mean()
        penalty = config.l2 * torch.stack([k.square().sum() for k in self._kernels]).sum()
        error = measures.mse(filling.detach(), box.cut(fields, config.box_size)).mean()
        numbers = means(self.group, content=content, mse=error, l2=penalty)
        self.optimizer.zero_grad(set_to_none=True)
        (content + penalty).backward()  # type: ignore[no-untyped-call]
        for parameter in self.generator.parameters():
            nn.utils.clip_grad_norm_([parameter], config.gradient_clip)
        self.optimizer.step()
        self._epoch = [self._epoch[0] + numbers["content"] + numbers["l2"], self._epoch[1] + 1]
        if config.epoch_steps and step % config.epoch_steps == 0:
            self.plateau.step(self._epoch[0] / self._epoch[1])
            self._epoch = [0.0, 0.0]
        return {**numbers, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def loss(self, filling: Tensor, fields: Tensor, step: int | None = None) -> Tensor:
        """Return the content loss of fillings (N, C, box, box) of the true normalised ``fields``, (N,)."""
        if self.config.compare == "box":
            return self.content(filling, box.cut(fields, filling.shape[-1]), step)
        # Outside the box both fields are equal: the factor brings a mean over all cells back to one over the box.
        factor = (fields.shape[-1] / filling.shape[-1]) ** 2
        return factor * self.content(box.paste(filling, fields), fields, step)

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return MSE and log-spectral difference in the box, and the content loss, of each patch."""
        self.generator.eval()
        fields = self._normalised(batch)
        filling = fill(self.generator, fields, self.config.box_size)
        truth = box.cut(fields, self.config.box_size)
        return {
            "validation_mse": measures.mse(filling, truth),
            "validation_log_spectral": measures.log_spectral(filling, truth),
            "validation_content": self.loss(filling, fields),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""
        parts = {"generator": self.generator, "optimizer": self.optimizer, "plateau": self.plateau}
        return {**super().state_dict(), **{name: p.state_dict() for name, p in parts.items()}, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.plateau.load_state_dict(state["plateau"])
        self._epoch = state["epoch"]

    def _normalised(self, batch: PatchBatch) -> Tensor:
        fields = self.normalization(batch.fields.to(self.group.device, non_blocking=True))
        return fields.contiguous(memory_format=torch.channels_last)


def fill(generator: nn.Module, fields: Tensor, size: int) -> Tensor:
    """Return what a network puts into the box of normalised fields (N, C, H, W), which it does not see."""
    out: Tensor = box.cut(generator(box.hide(fields, size)), size)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit code."""
    return command(arguments, __doc__, InpaintingConfig, run)


if __name__ == "__main__":
    sys.exit(main())
