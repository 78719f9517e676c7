"""Training by prediction: the next field of a sequence, or what was taken out of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.errors import DataError
from atmoloss.files import json_text, write_atomically
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel
from atmoloss.training import checkpoint as runs
from atmoloss.training import loop
from atmoloss.training.config import TrainConfig
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.loop import Run, open_run, open_sources
from atmoloss.training.model import build_prediction
from atmoloss.training.pretexts import pretext_of
from atmoloss.training.sequence_trainer import SequenceTrainer
from atmoloss.training.weights_folder import load_run, write_encoder

_PUBLISHED_BATCHES = 32


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    sources: Sequence[FieldSource] | None = None,
) -> None:
    """Train, or continue to train, as :func:`atmoloss.training.lag.train` does."""
    run = open_run(config, folder, resume=resume, group=group, sources=sources)
    loop.train(run, PredictionTrainer(run))


class PredictionObjective(nn.Module):
    """The squared error of what was asked for, in units of the normalisation."""

    def __init__(self, model: PredictionModel, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.n_times = model, config.n_times
        self.ask = pretext_of(config.pretext, config.mask)

    def forward(self, normalised: Tensor, hours: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the ``"loss"`` of (B·S, C, H, W) fields, and its ratio to that of no answer, ``"error"``."""
        inputs, target, weight = self.ask(normalised.reshape(-1, self.n_times, *normalised.shape[1:]), generator)
        squared = weight * (self.model(inputs).float() - target).square()
        without = weight * (inputs[:, -1] - target).square()
        loss = squared.sum() / (weight.expand_as(target).sum() + 1.0)  # a mask may be empty
        return {"loss": loss, "error": squared.sum().detach() / (without.sum() + 1e-6)}


class PredictionTrainer(SequenceTrainer[PredictionModel]):
    """The training of a prediction, as a :class:`atmoloss.training.loop.Trainer`."""

    shown = ("loss", "error")

    def __init__(self, run: Run[TrainConfig]) -> None:
        model = build_prediction(run.config)
        super().__init__(run, model, PredictionObjective(model, run.config))

    def validate(self) -> dict[str, Any]:
        """Return the error of :func:`prediction_errors` per held-out source; the main process computes it."""
        config, group = self.config, self.group

        def measure() -> dict[str, Any]:
            measured = {
                s.name: prediction_errors(self.module, self.normalization, s, config, config.validation_patches)
                for s in self.held_out
            }
            return {"validation_error": {name: errors["error"] for name, errors in measured.items() if errors}}

        return group.run_on_main(measure)


@torch.no_grad()
def prediction_errors(
    model: PredictionModel, normalization: LogNormalization, source: FieldSource, config: TrainConfig, batches: int
) -> dict[str, float]:
    """Return squared errors on a source, as shares of that of what the head starts from; nothing without a sequence.

    Args:
        model: encoder and head, on any device.
        normalization: of the fields.
        source: dates that were held out.
        config: of the run.
        batches: to draw; the same with every model.

    Returns:
        ``"error"`` of the model, and ``"damped"`` of that start times a number, of each channel, that was fitted to the
        same fields: damped persistence, where the next field is asked for.
    """
    try:
        drawn = SequenceDataset([source], config, seed=2**33 + config.seed, length=batches)
    except DataError:  # too few dates in a row
        return {}
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    ask, generator = pretext_of(config.pretext, config.mask), torch.Generator().manual_seed(config.seed)
    sums = np.zeros((4, len(source.channels)))  # of squared errors, of x², x y and y²
    without = 0.0
    for i in range(batches):
        fields = normalization(drawn[i].fields.to(device).flatten(0, 1)).unflatten(0, (-1, config.n_times))
        inputs, y, weight = ask(fields, generator)
        x = inputs[:, -1]
        terms = torch.stack([(model(inputs) - y).square(), x * x, x * y, y * y]).double() * weight
        sums += terms.sum((1, 3, 4)).cpu().numpy()
        without += float((weight * (x - y).square()).double().sum())
    model.train(was_training)
    squared, xx, xy, yy = sums
    damped = yy - np.divide(xy**2, xx, out=np.zeros_like(xx), where=xx > 0)
    return {"error": float(squared.sum() / without), "damped": float(damped.sum() / without)}


def publish(config: TrainConfig, run: Path, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``metrics.json`` of a run into ``folder``.

    The head is written where it predicts; one that filled masks is of no use without them. Layer scales come from
    validation dates (from training dates where none are held out). ``ConfigError`` without a checkpoint, or where data
    changed since the run.
    """
    record = runs.read_record(run)
    model, normalization, step = load_run(config, run, build_prediction)
    sources = open_sources(config)
    runs.check_same(record, runs.describe(config, sources), TrainConfig)
    splits = split_by_date(sources, config.validation, config.test)
    held_out = splits["validation"] or splits["train"]
    head = model.head if config.pretext == "next" else None
    info = write_encoder(config, model.encoder, normalization, sources, held_out, folder, head)
    entries = [
        {"split": split, "name": s.name, **prediction_errors(model, normalization, s, config, _PUBLISHED_BATCHES)}
        for split in ("validation", "test")
        for s in splits[split]
    ]
    metrics = {"weights": info.id, "step": step, "sources": entries, "config": record["config"]}
    write_atomically(folder / "metrics.json", f"{json_text(metrics)}\n".encode())
