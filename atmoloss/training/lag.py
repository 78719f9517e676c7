"""AtmoDist's training: a network learns to tell the lag between two fields from the distance of their features."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atmoloss._version import __version__
from atmoloss.data.sequences import SequenceBatch, SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.heads import MetricHead
from atmoloss.lag_2afc.baselines import extractor_measure
from atmoloss.lag_2afc.triples import measure_source, patch_size
from atmoloss.normalization import LogNormalization
from atmoloss.training import loop
from atmoloss.training.config import TrainConfig
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.layer_scales import fit_layers, source_curves
from atmoloss.training.loop import Run, open_run
from atmoloss.training.model import (
    build_model,
    clip_gradients,
    fit_normalization,
    freeze_batch_norm,
    load_initial,
    make_optimizer,
    make_scheduler,
    step_scheduler,
)
from atmoloss.training.objective import SequenceObjective
from atmoloss.training.weights_folder import build_extractor


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    sources: Sequence[FieldSource] | None = None,
) -> None:
    """Train, or continue to train, into a run folder: arguments and errors are those of :func:`open_run`.

    A run that took all of its steps goes on where ``config`` has more. A loss that is not finite is a ``ConfigError``.
    """
    run = open_run(config, folder, resume=resume, group=group, sources=sources)
    loop.train(run, LagTrainer(run))


class BatchStream(SequenceDataset):
    """Sequences by step; the first ``subset_steps`` repeat a fixed set of ``subset_batches``."""

    def __init__(self, config: TrainConfig, train: Sequence[FieldSource], group: ProcessGroup = SINGLE_PROCESS) -> None:
        shares = {"rank": group.rank, "world_size": group.world_size}
        super().__init__(train, config, seed=config.seed, length=config.steps, **shares)
        self._subset_steps, self._subset_batches = config.subset_steps, config.subset_batches

    def __getitem__(self, step: int) -> SequenceBatch:
        return super().__getitem__(step % self._subset_batches if step < self._subset_steps else step)


class LagTrainer:
    """Encoder, head, optimizer and schedule of a run, as a :class:`atmoloss.training.loop.Trainer`."""

    shown = ("loss", "accuracy", "ranking")

    def __init__(self, run: Run[TrainConfig]) -> None:
        config, group = run.config, run.group
        self.config, self.group, self.held_out = config, group, run.splits["validation"]
        self.module = build_model(config)
        self.optimizer = make_optimizer(config, self.module.to(group.device))
        self.scheduler = make_scheduler(config, self.optimizer)
        if run.state is None:
            initial = load_initial(config, self.module)
            normalization = initial or group.run_on_main(lambda: fit_normalization(config, run.splits["train"]))
        else:
            normalization = LogNormalization(**run.state["normalization"])
        self.normalization = normalization.to(group.device)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = group.wrap(SequenceObjective(self.module, config).to(group.device))
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

    def validate(self) -> dict[str, Any]:
        """Return the lag 2AFC (how often the distance is right in a two-alternative forced choice) per held-out source.

        It is that of the distance as it would ship; the processes share the patches.
        """
        config, group, sources = self.config, self.group, self.held_out
        extractor = build_extractor(config, self.module, self.normalization)
        if config.low_pass_share and sources:  # else the order of distances does not depend on the scales
            fitted = fit_layers(self.module, source_curves(extractor, sources, config), config.low_pass_share)
            extractor.info = dataclasses.replace(extractor.info, **fitted)
        layers = None if isinstance(self.module.head, MetricHead) else [extractor.stages[-1]]
        measures = {"distance": extractor_measure(extractor, layers)}
        max_lag, limit = config.base_step * config.n_classes, config.validation_patches
        counted = np.zeros((len(sources), 2))
        for i, s in enumerate(sources):
            # Sources of one patch go to different processes.
            part = ((group.rank + i) % group.world_size, group.world_size)
            size = patch_size(s, config.patch_sizes[0])
            tallies = measure_source(s, measures, size=size, max_lag=max_lag, limit=limit, part=part)
            if tallies:
                counted[i] = tallies["distance"].right.sum(), tallies["distance"].total.sum()
        scores = zip(sources, group.sum(counted), strict=True)
        return {"validation_2afc": {s.name: float(right / total) for s, (right, total) in scores if total}}

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
