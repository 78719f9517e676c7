"""The training loop: batches in, checkpoints and a log out. Exactly resumable."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from atmoloss import __version__
from atmoloss import weights as weights_folder
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource, describe_channels, open_source
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError
from atmoloss.extractor import load_strictly
from atmoloss.heads import MetricHead, PretextModel, build_head
from atmoloss.networks import Encoder, build_encoder
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.baselines import extractor_measure
from atmoloss.training.config import TrainConfig, make_config
from atmoloss.training.distributed import ALONE, Team, fix_batch_norm
from atmoloss.training.export import build_extractor, curves_of, scales_and_layers
from atmoloss.training.lag_2afc import measure_source
from atmoloss.training.objective import SequenceObjective
from atmoloss.training.progress import Progress, flat, open_tensorboard

log = logging.getLogger("atmoloss")
_NORMALISATION_BATCHES = 64


def open_sources(config: TrainConfig) -> list[FieldSource]:
    """Open every source of the configuration: prepared stores lazily, others into memory.

    Raises:
        ConfigError: no sources.
        DataError: a source that cannot be read or lacks a variable, or sources that differ in units.
    """
    if not config.sources:
        raise ConfigError("sources: got none, expected at least one table [[sources]] with name and path")
    out = []
    for s in config.sources:
        source = open_source(s.path, s.name, config.variables, s.level, grid=s.grid, weight=s.weight, missing=s.missing)
        out.append(source)
        log.info("%s: %d times, %s", s.name, len(out[-1].times), "x".join(map(str, out[-1].values.shape[2:])))
    describe_channels(config.variables, out)  # before hours of training, not after
    return out


def build_model(config: TrainConfig) -> PretextModel:
    """Build the encoder and head of a configuration, with weights drawn from its seed."""
    torch.manual_seed(config.seed)
    encoder = build_encoder(config.encoder, in_channels=len(config.variables), **config.encoder_options)
    head: dict[str, Any] = {"kind": config.head, "n_classes": config.n_classes}
    if config.head == "published":
        head["input_size"] = [config.patch_sizes[0]] * 2
    return PretextModel(encoder, build_head(head, encoder))


def load_initial(config: TrainConfig, model: PretextModel) -> LogNormalization | None:
    """Load the configuration's ``initial_weights`` into ``model`` and return their normalisation.

    Raises:
        ConfigError: weights of another architecture or other channels.
        WeightsError: weights that cannot be read.
    """
    if not config.initial_weights:
        return None
    info, tensors = weights_folder.load(weights_folder.resolve(config.initial_weights))
    # Through the constructor: what older weights do not say has its default.
    found = {
        "variables": list(info.channel_names),
        "encoder": Encoder(**info.encoder).architecture,
        "head": info.head,
    }
    expected = {
        "variables": list(config.variables),
        "encoder": model.encoder.architecture,
        "head": model.head.architecture,
    }
    for key, value in expected.items():
        if found[key] != value:
            raise ConfigError(f"initial_weights: {info.id} have {key} {found[key]}, expected {value}")
    load_strictly(model.encoder, tensors, "encoder.", info.id)
    load_strictly(model.head, tensors, "head.", info.id)
    return LogNormalization(**info.normalization)


def fit_normalization(config: TrainConfig, train: Sequence[FieldSource]) -> LogNormalization:
    """Fit the constants to patches drawn as in training, so that sources count as they will."""
    # Another stream than training's: seeds below 2**32 are free for users.
    sample = SequenceDataset(train, config.sequences, seed=config.seed + 2**32, length=_NORMALISATION_BATCHES)
    return LogNormalization.fit(lambda: (sample[i].fields.flatten(0, 1) for i in range(len(sample))))


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer; weight decay acts on convolution and dense kernels only."""
    kernels = [m.weight for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    ids = {id(p) for p in kernels}
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if id(p) not in ids], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, config.learning_rate, momentum=0.9)
    return torch.optim.AdamW(groups, config.learning_rate)


def make_scheduler(config: TrainConfig, optimizer: torch.optim.Optimizer, done: int = 0) -> Any:
    """One-cycle for AdamW; for SGD the original's plateau rule on the mean training loss of an epoch.

    Args:
        config, optimizer: of the run.
        done: steps of the run before it was lengthened: a cycle ends with a rate of next to nothing, so that the
            steps after it are a cycle of their own, to the same highest rate (a warm restart).
    """
    if config.optimizer == "adamw":
        steps = config.steps - done
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=steps, pct_start=min(0.2, 1 - 1 / (steps + 1))
        )
    # Keras' patience 8: it acts on the eighth epoch without progress, torch on the one after its patience.
    return torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=7, threshold=0.04, threshold_mode="abs", min_lr=1e-5
    )


class _Stream(torch.utils.data.Dataset[Any]):
    """Batches by step; the first ``subset_steps`` repeat a fixed set of ``subset_batches``."""

    def __init__(self, config: TrainConfig, train: Sequence[FieldSource], team: Team = ALONE) -> None:
        self._batches = SequenceDataset(
            train, config.sequences, seed=config.seed, length=config.steps, rank=team.rank, world_size=team.size
        )
        self._subset = (config.subset_steps, max(config.subset_batches, 1))

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        steps, batches = self._subset
        batch = self._batches[step % batches if step < steps else step]
        return batch.fields, batch.hours


def begin_run(
    config: Any,
    folder: Path,
    *,
    resume: bool,
    team: Team,
    sources: Sequence[FieldSource] | None = None,
    make: runs.Make = make_config,
    free: Collection[str] = runs.FREE,
    lengthens: bool = False,
) -> tuple[dict[str, list[FieldSource]], dict[str, Any], dict[str, Any] | None]:
    """Open the data and the run folder: what every training does before its first step.

    Args:
        config: with the keys of :class:`TrainConfig` on data, threads and batch size.
        folder, resume, team, sources: as in :func:`train`.
        make, free, lengthens: as in :func:`atmoloss.training.checkpoint.enter`.

    Returns:
        The splits, the record that ``run.json`` holds, and the last checkpoint, if any.

    Raises:
        ConfigError: as :func:`train`.
    """
    team.check_batch_size(config.batch_size)
    team.lead(lambda: runs.begin(folder, resume))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    sources = open_sources(config) if sources is None else sources
    splits = split_by_date(sources, config.validation, config.test)
    record = {**runs.describe(config, sources), "processes": team.size}
    team.check_equal("sources", record["data"])
    return splits, *team.lead(lambda: runs.enter(folder, record, resume, make, free, lengthens))


def train(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    team: Team | None = None,
    sources: Sequence[FieldSource] | None = None,
) -> None:
    """Train, or continue to train, into a run folder.

    Args:
        config: of the run.
        folder: gets ``run.json``, ``metrics.jsonl`` and ``checkpoint.pt``.
        resume: continue from the last checkpoint; the batches and, on one device, every number are those
            of a run that was never interrupted. A run that took all of its steps goes on where ``config`` has more.
        device: of torch.
        team: the processes that share the work, from :func:`atmoloss.training.distributed.join`; ``batch_size``
            is that of all together. Only process 0 reads and writes ``folder``. Default: this process alone.
        sources: those of the configuration, where they have been opened before.

    Raises:
        ConfigError: the folder already holds a run and ``resume`` is false, the run it holds differs, or
            ``batch_size`` is no multiple of the number of processes.
    """
    team = team or Team(device=device)
    device = team.device
    splits, record, state = begin_run(config, folder, resume=resume, team=team, sources=sources, lengthens=True)
    cycles = [0, *record.get("lengthened", [])]

    model = build_model(config)
    optimizer = make_optimizer(config, model.to(device))
    scheduler = make_scheduler(config, optimizer)
    start, epoch_loss = 0, [0.0, 0.0]
    if state is None:
        normalization = load_initial(config, model) or team.lead(lambda: fit_normalization(config, splits["train"]))
    else:
        start, epoch_loss = state["step"], state["epoch_loss"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if config.optimizer == "adamw" and start == cycles[-1]:
            scheduler = make_scheduler(config, optimizer, start)
        else:
            scheduler.load_state_dict(state["scheduler"])
        normalization = LogNormalization(**state["normalization"])
        log.info("continuing after step %d", start)
    normalization.to(device)
    average = copy.deepcopy(model) if config.average_decay else None
    if average is not None and state is not None:
        average.load_state_dict(state["average"])
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective = SequenceObjective(model, config).to(device)
    wrapped = team.wrap(objective)
    loader = DataLoader(
        _Stream(config, splits["train"], team),
        batch_size=None,
        sampler=range(start, config.steps),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=device.startswith("cuda"),
    )
    metrics = runs.MetricsLog(folder, start) if team.leads else None
    board = open_tensorboard(folder) if config.tensorboard and team.leads else None
    bar = Progress(start, config.steps, shown=team.leads)
    sums: dict[str, float] = {}
    began = time.perf_counter()

    def report(step: int, values: dict[str, Any]) -> None:
        if metrics is None:
            return
        metrics.write(step=step, **values)
        bar.note(step, values)
        if board is not None:
            for name, value in flat(values).items():
                board.add_scalar(name, value, step)

    # Named, so that after an error its worker processes are ended when the error has been told, not before.
    batches = enumerate(loader, start + 1)
    for step, (fields, hours) in batches:
        model.train()
        if 0 <= config.freeze_batch_norm_after < step:
            fix_batch_norm(model)
        x = normalization(fields.flatten(0, 1).to(device, non_blocking=True))
        if config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            # Each process draws its own patterns, each step others.
            generator = torch.Generator().manual_seed((config.seed << 32) + step * team.size + team.rank)
            out = wrapped(x, hours.to(device), generator)
        numbers = team.mean({name: value.item() for name, value in out.items()})
        if not math.isfinite(numbers["loss"]):
            raise ConfigError(f"training: the loss is {numbers['loss']} at step {step}; try a lower learning_rate")
        optimizer.zero_grad(set_to_none=True)
        out["loss"].backward()
        clip_gradients(model, config)
        optimizer.step()
        if average is not None:
            update_average(average, model, config.average_decay, step)
        epoch_loss = [epoch_loss[0] + numbers["loss"], epoch_loss[1] + 1]
        _advance(scheduler, config, step, epoch_loss)
        for name, number in numbers.items():
            sums[name] = sums.get(name, 0.0) + number
        bar.update()
        if step % config.log_every == 0 or step == config.steps:
            taken = (step - start - 1) % config.log_every + 1
            rate = (step - start) * config.batch_size * config.n_times / (time.perf_counter() - began)
            values = {name: value / taken for name, value in sums.items()}
            report(step, {**values, "learning_rate": optimizer.param_groups[0]["lr"], "patches_per_second": rate})
            sums = {}
        validates = step % config.validate_every == 0 or step == config.steps
        saves = step % config.checkpoint_every == 0 or step == config.steps
        if validates or saves:
            team.average_buffers(model)
            if average is not None:
                team.average_buffers(average)
        if validates and splits["validation"]:
            shown = average or model
            report(step, {"validation_2afc": validate(config, shown, normalization, splits["validation"], team)})
        if saves and team.leads:
            saved = {
                "step": step,
                "epoch_loss": epoch_loss,
                "model": model.state_dict(),
                **({"average": average.state_dict()} if average is not None else {}),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "normalization": normalization.constants(),
                "atmoloss": __version__,
            }
            runs.save_checkpoint(folder, saved)
    bar.close()
    if metrics is not None:
        metrics.close()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and batch-norm statistics towards those of ``model``.

    Early steps count less, so that the start is forgotten: the decay is at most (1 + step) / (10 + step).
    """
    keep = min(decay, (1 + step) / (10 + step))
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - keep)
        else:
            mean.copy_(now)


def clip_gradients(model: nn.Module, config: TrainConfig) -> None:
    """Clip the gradient: as a whole, or (``sgd``, as Keras' clipnorm does) each tensor on its own."""
    if config.optimizer == "adamw":
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        return
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_([parameter], config.gradient_clip)


def _advance(scheduler: Any, config: TrainConfig, step: int, epoch_loss: list[float]) -> None:
    if config.optimizer == "adamw":
        if step < config.steps:
            scheduler.step()
    elif step > config.subset_steps and config.epoch_steps and (step - config.subset_steps) % config.epoch_steps == 0:
        scheduler.step(epoch_loss[0] / epoch_loss[1])
        epoch_loss[:] = [0.0, 0.0]
    elif step <= config.subset_steps:
        epoch_loss[:] = [0.0, 0.0]


def validate(
    config: TrainConfig,
    model: PretextModel,
    normalization: LogNormalization,
    sources: Sequence[FieldSource],
    team: Team = ALONE,
) -> dict[str, float]:
    """Return the lag 2AFC of the distance as it would ship, per validation source; the team shares the patches."""
    extractor = build_extractor(config, model, normalization)
    if config.low_pass_share and sources:  # else the order of distances does not depend on the scales
        curves = curves_of(extractor, sources, config.sequences)
        fitted = scales_and_layers(model, curves, config.low_pass_share)
        extractor.info = dataclasses.replace(extractor.info, **fitted)
    layers = None if isinstance(model.head, MetricHead) else [extractor.stages[-1]]
    measure = extractor_measure(extractor, layers)
    max_lag = config.base_step * config.n_classes
    counted = np.zeros((len(sources), 2))
    for i, s in enumerate(sources):
        part = ((team.rank + i) % team.size, team.size)  # sources of one patch each go to different processes
        size = min(config.patch_sizes[0], len(s.latitude), len(s.longitude))
        tallies = measure_source(
            s, {"distance": measure}, size=size, max_lag=max_lag, limit=config.validation_patches, part=part
        )
        for tally in tallies.values():
            counted[i] = tally.right.sum(), tally.total.sum()
    counted = team.sum(counted)
    return {s.name: float(right / total) for s, (right, total) in zip(sources, counted, strict=True) if total}
