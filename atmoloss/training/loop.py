"""The training loop, whatever it trains: batches in, checkpoints and a log out. Exactly resumable."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from atmoloss.data.files import found
from atmoloss.data.sources import FieldSource, describe_channels, open_source
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError, DataError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import RunConfig
from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup
from atmoloss.training.progress import RunLog

log = logging.getLogger("atmoloss")
ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class Run(Generic[ConfigT]):
    """A run whose data and folder are open, before its first step.

    Attributes:
        config: of the run.
        folder: gets ``run.json``, ``metrics.jsonl``, ``checkpoint.pt`` and what is trained.
        group: the processes that share every batch.
        splits: ``"train"``, ``"validation"`` and ``"test"`` sources.
        record: what ``run.json`` holds.
        state: the checkpoint that the run continues from, ``None`` at its start.
    """

    config: ConfigT
    folder: Path
    group: ProcessGroup
    splits: Mapping[str, list[FieldSource]]
    record: Mapping[str, Any]
    state: dict[str, Any] | None


class Trainer(Protocol):
    """What is trained, and how: the part of a training that :func:`train` does not know.

    Attributes:
        module: what is trained; the running statistics of its batch norms are averaged over processes.
        batches: item ``i`` is what step ``i + 1`` gets, this process's share of it, whatever came before.
        milestones: steps after which the run is validated and :meth:`store` is called; the last is its end.
        shown: names of the numbers beside the progress bar.
    """

    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def batches(self) -> Dataset[Any]: ...  # noqa: D102
    @property
    def milestones(self) -> Collection[int]: ...  # noqa: D102
    @property
    def shown(self) -> tuple[str, ...]: ...  # noqa: D102

    def step(self, batch: Any, step: int) -> dict[str, float]:
        """Take step 1, 2, … and return numbers whose means are logged, the same in all processes."""

    def validate(self) -> dict[str, Any]:
        """Return what to log of the held-out dates; nothing where there are none. All processes call it."""

    def store(self, step: int) -> None:
        """Write what others use after a milestone into the folder of the run. Only the main process calls it."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it; there are further entries."""


def open_sources(config: RunConfig) -> list[FieldSource]:
    """Open every source of the configuration: prepared stores lazily, others into memory.

    ``ConfigError`` without sources, ``DataError`` for one that cannot be read, lacks a variable or has other units.
    """
    if not config.sources:
        raise ConfigError("sources: got none, expected at least one table [[sources]] with name and path")
    for s in config.sources:  # all of them, before the first is read
        if not found(s.path):
            raise DataError(
                f"sources: got the path {s.path} for {s.name}, where nothing is, expected a file, a folder or a URL; "
                "name data of your own there, since those of the bundled configurations are not part of the package "
                "(docs/training.md)"
            )
    out = []
    for s in config.sources:
        source = open_source(s.path, s.name, config.variables, s.level, grid=s.grid, weight=s.weight, missing=s.missing)
        out.append(source)
        log.info("%s: %d times, %s", s.name, len(source.times), "x".join(map(str, source.values.shape[2:])))
    describe_channels(config.variables, out)  # before hours of training, not after
    return out


def open_run(
    config: ConfigT,
    folder: Path,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    sources: Sequence[FieldSource] | None = None,
) -> Run[ConfigT]:
    """Open the data and the folder of a run, to start or to continue it.

    Args:
        config: of the run; ``batch_size`` is that of all processes together.
        folder: of the run; only the main process reads and writes it.
        resume: continue from the last checkpoint.
        group: the processes that share the work.
        sources: those of the configuration, where they have been opened before.

    ``ConfigError`` where the folder already holds a run and ``resume`` is false, the run it holds differs, or
    ``batch_size`` is no multiple of the number of processes.
    """
    if config.batch_size % group.world_size:  # only of equal shares is the mean of means that of the batch
        expected = f"a multiple of the {group.world_size} processes that share it"
        raise ConfigError(f"batch_size: got {config.batch_size}, expected {expected}")
    group.run_on_main(lambda: runs.create_folder(folder, resume))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    sources = open_sources(config) if sources is None else sources
    splits = split_by_date(sources, config.validation, config.test)
    if not splits["validation"]:
        log.info("validation: no dates are held out, so that nothing will be measured on fields not learned from")
    record = {**runs.describe(config, sources), "processes": group.world_size}
    group.check_equal("sources", record["data"])
    record, state = group.run_on_main(lambda: runs.open_folder(folder, record, type(config), resume))
    return Run(config, folder, group, splits, record, state)


def train(run: Run[Any], trainer: Trainer) -> None:
    """Take the steps of a run that are left.

    On one device every number of a continued run is that of a run that was never interrupted.
    """
    config, group = run.config, run.group
    start, last = 0, max(trainer.milestones)
    if run.state is not None:
        start = run.state["step"]
        trainer.load_state_dict(run.state)
        log.info("continuing after step %d", start)
    loader = DataLoader(
        trainer.batches,
        batch_size=None,
        sampler=range(start, last),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=group.device.startswith("cuda"),
    )
    run_log = RunLog(run.folder, config, start, last, trainer.shown) if group.is_main else None
    # Named, so that after an error its worker processes are ended when the error has been told, not before.
    batches = enumerate(loader, start + 1)
    for step, batch in batches:
        numbers = trainer.step(batch, step)
        if run_log is not None:
            run_log.add(step, numbers)
        validates = step % config.validate_every == 0 or step in trainer.milestones
        saves = step % config.checkpoint_every == 0 or step == last
        if validates or saves:
            group.average_buffers(trainer.module)
        held_out = trainer.validate() if validates else {}
        if run_log is None:
            continue
        run_log.write(step, held_out)
        if step in trainer.milestones:
            trainer.store(step)
        if saves:
            runs.save_checkpoint(run.folder, {"step": step, **trainer.state_dict()})
    if run_log is not None:
        run_log.close()
