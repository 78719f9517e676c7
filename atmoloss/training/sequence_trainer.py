"""What trainings on sequences of fields share, whatever they learn of them: steps, schedules, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from atmoloss._version import __version__
from atmoloss.data.sequences import SequenceBatch, SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.heads import PretextModel
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel
from atmoloss.training.config import TrainConfig
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.loop import Run
from atmoloss.training.model import (
    clip_gradients,
    fit_normalization,
    freeze_batch_norm,
    load_initial,
    make_optimizer,
    make_scheduler,
    step_scheduler,
)

ModelT = TypeVar("ModelT", PretextModel, PredictionModel)


class BatchStream(SequenceDataset):
    """Sequences by step; the first ``subset_steps`` repeat a fixed set of ``subset_batches``."""

    def __init__(self, config: TrainConfig, train: Sequence[FieldSource], group: ProcessGroup = SINGLE_PROCESS) -> None:
        shares = {"rank": group.rank, "world_size": group.world_size}
        super().__init__(train, config, seed=config.seed, length=config.steps, **shares)
        self._subset_steps, self._subset_batches = config.subset_steps, config.subset_batches

    def __getitem__(self, step: int) -> SequenceBatch:
        return super().__getitem__(step % self._subset_batches if step < self._subset_steps else step)


class SequenceTrainer(Generic[ModelT]):
    """Encoder, head, optimizer and schedule of a run: a :class:`atmoloss.training.loop.Trainer` but for its validation.

    Args:
        run: that begins or goes on.
        module: encoder and head, with weights drawn from the seed.
        objective: of the same: ``objective(normalised, hours, generator)`` returns the ``"loss"`` of (B·S, C, H, W)
            fields, the times of a sequence one after the other, and further numbers for the log.
    """

    def __init__(self, run: Run[TrainConfig], module: ModelT, objective: nn.Module) -> None:
        config, group = run.config, run.group
        self.config, self.group, self.held_out = config, group, run.splits["validation"]
        self.module: ModelT = module
        self.optimizer = make_optimizer(config, self.module.to(group.device))
        self.scheduler = make_scheduler(config, self.optimizer)
        if run.state is None:
            initial = load_initial(config, self.module)
            normalization = initial or group.run_on_main(lambda: fit_normalization(config, run.splits["train"]))
        else:
            normalization = LogNormalization(**run.state["normalization"])
        self.normalization = normalization.to(group.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = group.wrap(objective.to(group.device))
        self.batches = BatchStream(config, run.splits["train"], group)
        self.milestones = (config.steps,)
        self.epoch_loss = [0.0, 0.0]  # sum and count
        self._last_cycle_starts = run.record.get("lengthened", [0])[-1]

    def step(self, batch: SequenceBatch, step: int) -> dict[str, float]:
        """Lower the loss of a batch of sequences by one step."""
        config, group = self.config, self.group
        self.module.train()
        if 0 <= config.freeze_batch_norm_after < step:
            freeze_batch_norm(self.module)
        fields, hours = (part.to(group.device, non_blocking=True) for part in batch)
        x = self.normalization(fields.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        # Each process draws its own corruptions, each step others.
        generator = torch.Generator().manual_seed((config.seed << 32) + step * group.world_size + group.rank)
        with torch.autocast(torch.device(group.device).type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            terms = self.objective(x, hours, generator)
        numbers = group.mean({name: value.item() for name, value in terms.items()})
        if not math.isfinite(numbers["loss"]):
            raise ConfigError(f"training: the loss is {numbers['loss']} at step {step}; try a lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        clip_gradients(self.module, config)
        self.optimizer.step()
        self.epoch_loss = [self.epoch_loss[0] + numbers["loss"], self.epoch_loss[1] + 1]
        step_scheduler(self.scheduler, config, step, self.epoch_loss)
        return {**numbers, "learning_rate": self.optimizer.param_groups[0]["lr"]}

    def store(self, step: int) -> None:
        """Write nothing: :func:`atmoloss.training.publish.publish` makes the weights folder of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from, and a weights folder is made of."""
        return {
            "epoch_loss": self.epoch_loss,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "normalization": self.normalization.constants(),
            "atmoloss": __version__,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it; a run that was lengthened right there starts a cycle of its own."""
        self.epoch_loss = state["epoch_loss"]
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.config.optimizer == "adamw" and state["step"] == self._last_cycle_starts:
            self.scheduler = make_scheduler(self.config, self.optimizer, state["step"])
        else:
            self.scheduler.load_state_dict(state["scheduler"])
