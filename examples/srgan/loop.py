"""A training run of any network with a content loss: what it compares, its files, its exact continuation."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from atmoloss.data.sources import FieldSource
from atmoloss.errors import AtmolossError, ConfigError
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import parse_overrides
from atmoloss.training.distributed import ALONE, Team, join
from atmoloss.training.loop import begin_run
from atmoloss.training.progress import Progress, flat, open_tensorboard

from .content import CONTENTS, ContentLoss, calibrate, make_content, make_normalization
from .data import PatchBatch, PatchDataset
from .store import save_generator

log = logging.getLogger("atmoloss")
# Streams of patches beside that of training; seeds below 2**32 are free for users.
_SAMPLE, _VALIDATION = 2**32, 2**33
_SAMPLE_BATCH = 64
# May differ between a run and its continuation.
_FREE = ("workers", "threads", "timeout_minutes", "log_every", "checkpoint_every", "tensorboard", "validate_every")


class Trainer(Protocol):
    """What is trained, and how; built from (configuration, normalisation, content loss, team).

    Attributes:
        generator: what is stored; it has an ``architecture``.
        stored: step → folder inside the run folder that gets the generator after that step; the last is the end.
        shown: names of the numbers beside the progress bar.
    """

    generator: nn.Module
    stored: Mapping[int, str]
    shown: tuple[str, ...]

    def step(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """Take step 1, 2, … and return what to log."""

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return what to log of a held-out batch, each (N,)."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from it; other entries are left alone."""


def train(
    config: Any,
    folder: Path,
    make_config: runs.Make,
    make_trainer: Callable[[Any, LogNormalization, ContentLoss, Team], Trainer],
    *,
    resume: bool = False,
    team: Team = ALONE,
    sources: Sequence[FieldSource] | None = None,
) -> Path:
    """Train, or continue to train, into a run folder.

    Args:
        config: of the run, a :class:`srgan.config.RunConfig`.
        folder: gets ``run.json``, ``metrics.jsonl``, ``checkpoint.pt`` and the generators.
        make_config: from the values in ``run.json`` to the configuration that they stand for.
        make_trainer: see :class:`Trainer`.
        resume: continue from the last checkpoint; every number is that of a run that was never interrupted.
        team: the processes that share the work; ``batch_size`` is that of all together.
        sources: those of the configuration, where they have been opened before.

    Returns:
        The folder of the trained generator, see :mod:`srgan.store`.

    Raises:
        ConfigError: the folder already holds a run and ``resume`` is false, or the run it holds differs.
    """
    splits, record, state = begin_run(
        config, folder, resume=resume, team=team, sources=sources, make=make_config, free=_FREE
    )

    normalization, content = _prepare(config, splits["train"], state, team)
    trainer = make_trainer(config, normalization, content, team)
    start, last = 0, max(trainer.stored)
    if state is not None:
        start = state["step"]
        trainer.load_state_dict(state)
        log.info("continuing after step %d", start)
    origin = {**record, "content": config.content, "content_scale": content.scale, "mse_weight": content.mse_weight}
    loader = DataLoader(
        PatchDataset(splits["train"], config, seed=config.seed, length=last, rank=team.rank, world_size=team.size),
        batch_size=None,
        sampler=range(start, last),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    report = _Report(config, folder, start, last, trainer.shown, team)
    for step, batch in enumerate(loader, start + 1):
        report.add(step, trainer.step(batch, step))
        validates = step % config.validate_every == 0 or step in trainer.stored
        saves = step % config.checkpoint_every == 0 or step == last
        if validates or saves:
            team.average_buffers(trainer.generator)
        if validates:
            report.write(step, {"validation": _validate(config, trainer, splits["validation"])})
        if team.leads and step in trainer.stored:
            folder_of = folder / trainer.stored[step]
            save_generator(folder_of, trainer.generator, normalization, config.variables, {**origin, "step": step})
        if team.leads and saves:
            prepared = {"normalization": normalization.constants(), "content_scale": content.scale}
            runs.save_checkpoint(folder, {"step": step, **trainer.state_dict(), **prepared})
    report.close()
    return folder / trainer.stored[last]


def means(team: Team, **losses: Tensor) -> dict[str, float]:
    """Return the mean over processes of each loss.

    Raises:
        ConfigError: one is not finite.
    """
    numbers = team.mean({name: loss.item() for name, loss in losses.items()})
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ConfigError(f"training: the {name} loss is {number}; try a lower learning_rate")
    return numbers


def _prepare(
    config: Any, train: Sequence[FieldSource], state: dict[str, Any] | None, team: Team
) -> tuple[LogNormalization, ContentLoss]:
    """Return normalisation and content loss with its scale: fitted at the start, read where a run continues."""
    spec = PatchDataset(train, config, seed=config.seed + _SAMPLE, length=-(-_SAMPLE_BATCH // config.batch_size))
    sample = torch.cat([spec[i].fields for i in range(len(spec))])
    known = None if state is None else LogNormalization(**state["normalization"])
    normalization = known or make_normalization(config, sample)
    content = make_content(config, normalization, sample)

    def fit() -> float:
        if config.content == "mse":
            return 1.0
        return calibrate(content.measure, normalization, train, config.content_size, config.latitude_band)

    content.scale = state["content_scale"] if state is not None else config.content_scale or team.lead(fit)
    log.info("content loss: %s, scale %.4g, mse_weight %g", config.content, content.scale, content.mse_weight)
    if isinstance(content.measure, nn.Module):
        content.measure.to(team.device)
    return normalization.to(team.device), content


@torch.no_grad()
def _validate(config: Any, trainer: Trainer, sources: Sequence[FieldSource]) -> dict[str, float]:
    """Return means over the same held-out patches each time. Every process computes them: they are few."""
    if not sources:
        return {}
    data = PatchDataset(sources, config, seed=_VALIDATION, length=config.validation_batches)
    sums: dict[str, float] = {}
    for i in range(len(data)):
        for name, value in trainer.examine(data[i]).items():
            sums[name] = sums.get(name, 0.0) + value.mean().item() / len(data)
    return sums


class _Report:
    """Means of what steps return, to the log, the bar and TensorBoard; only the leading process writes."""

    def __init__(self, config: Any, folder: Path, start: int, last: int, shown: tuple[str, ...], team: Team) -> None:
        self._every, self._last = config.log_every, last
        self._metrics = runs.MetricsLog(folder, start) if team.leads else None
        self._board = open_tensorboard(folder) if config.tensorboard and team.leads else None
        self._bar = Progress(start, last, team.leads, shown)
        self._since = start, time.perf_counter()
        self._sums: dict[str, list[float]] = {}

    def add(self, step: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            total = self._sums.setdefault(name, [0.0, 0.0])
            total[0], total[1] = total[0] + number, total[1] + 1
        self._bar.update()
        if step % self._every == 0 or step == self._last:
            taken, now = step - self._since[0], time.perf_counter()
            rate = (now - self._since[1]) / taken
            self.write(step, {**{k: total / n for k, (total, n) in self._sums.items()}, "seconds_per_step": rate})
            self._sums, self._since = {}, (step, now)

    def write(self, step: int, values: dict[str, Any]) -> None:
        if self._metrics is None or not flat(values):
            return
        self._metrics.write(step=step, **values)
        self._bar.note(step, values)
        if self._board is not None:
            for name, value in flat(values).items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._bar.close()
        if self._metrics is not None:
            self._metrics.close()
        if self._board is not None:
            self._board.close()


def command(
    arguments: Sequence[str] | None,
    description: str | None,
    read_config: Callable[[Path, Mapping[str, Any]], Any],
    run: Callable[..., Path],
    options: Mapping[str, str] | None = None,
) -> int:
    """Train as the command line says; return the exit code.

    Args:
        arguments: those of the process where ``None``.
        description: for ``--help``.
        read_config: of a file, with overrides.
        run: of a configuration, into a folder; with ``resume`` and ``team`` as :func:`train`.
        options: further keys of the configuration that have an option of their own, with its help.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="TOML configuration, e.g. one of presets/")
    parser.add_argument("--content", choices=tuple(CONTENTS), help="content loss")
    parser.add_argument("--output", metavar="DIR", help="run folder (default: runs/NAME-CONTENT)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    for key, text in (options or {}).items():
        parser.add_argument(f"--{key.replace('_', '-')}", metavar="DIR", help=text)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override any key")
    args = parser.parse_args(arguments)
    leads = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if leads else logging.WARNING, format="%(message)s")
    try:
        overrides = parse_overrides(args.set)
        overrides |= {key: value for key in ("content", *(options or {})) if (value := getattr(args, key))}
        config = read_config(Path(args.config), overrides)
        output = Path(args.output or f"runs/{config.name}-{config.content}")
        with join(args.device, config.timeout_minutes) as team:
            generator = run(config, output, resume=args.resume, team=team)
    except AtmolossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if leads:
        print(f"generator written to {generator}")
    return 0
