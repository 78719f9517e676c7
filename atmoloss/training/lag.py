"""AtmoDist's training: a network learns to tell the lag between two fields from the distance of their features."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.data.sources import FieldSource
from atmoloss.heads import MetricHead, PretextModel
from atmoloss.lag_2afc.baselines import extractor_measure
from atmoloss.lag_2afc.triples import measure_source, patch_size
from atmoloss.training import loop
from atmoloss.training.config import TrainConfig
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.layer_scales import fit_layers, source_curves
from atmoloss.training.loop import Run, open_run
from atmoloss.training.model import build_model
from atmoloss.training.objective import SequenceObjective
from atmoloss.training.sequence_trainer import SequenceTrainer
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


class LagTrainer(SequenceTrainer[PretextModel]):
    """The training of a distance, as a :class:`atmoloss.training.loop.Trainer`."""

    shown = ("loss", "accuracy", "ranking")

    def __init__(self, run: Run[TrainConfig]) -> None:
        model = build_model(run.config)
        super().__init__(run, model, SequenceObjective(model, run.config))

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
