"""Train a super-resolution GAN with a content loss of choice.

    cd examples
    python -m srgan.train srgan/presets/small.toml --content atmodist
    torchrun --nproc-per-node 2 -m srgan.train srgan/presets/full.toml

Writes a run folder: run.json (configuration and origin), metrics.jsonl, checkpoint.pt, and the generator for
``python -m srgan.infer`` in generator/ (after pretraining alone: pretrained/). ``--resume`` continues exactly.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from atmoloss.data.sources import FieldSource, split_by_date
from atmoloss.errors import AtmolossError, ConfigError
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import parse_overrides
from atmoloss.training.distributed import ALONE, Team, join
from atmoloss.training.loop import open_sources
from atmoloss.training.progress import Progress, flat, open_tensorboard

from . import measures
from .config import SrganConfig, make_config, read_config
from .content import CONTENTS, ContentLoss, calibrate, make_content, make_normalization
from .data import PatchBatch, PatchDataset, coarsen
from .gan import Gan
from .models import FACTOR
from .store import load_generator, save_generator

log = logging.getLogger("atmoloss")
# Streams of patches beside that of training; seeds below 2**32 are free for users.
_SAMPLE, _VALIDATION = 2**32, 2**33
_SAMPLE_BATCH = 64
# May differ between a run and its continuation.
_FREE = ("workers", "threads", "timeout_minutes", "log_every", "checkpoint_every", "tensorboard", "validate_every")


def run(
    config: SrganConfig,
    folder: Path,
    *,
    resume: bool = False,
    team: Team = ALONE,
    sources: Sequence[FieldSource] | None = None,
) -> Path:
    """Train, or continue to train, into a run folder.

    Args:
        config: of the run.
        folder: gets ``run.json``, ``metrics.jsonl``, ``checkpoint.pt`` and the generators.
        resume: continue from the last checkpoint; every number is that of a run that was never interrupted.
        team: the processes that share the work; ``batch_size`` is that of all together.
        sources: those of the configuration, where they have been opened before.

    Returns:
        The folder of the trained generator, see :mod:`srgan.store`.

    Raises:
        ConfigError: the folder already holds a run and ``resume`` is false, the run it holds differs, or the initial
            generator is of other sizes.
    """
    team.check_batch_size(config.batch_size)
    team.lead(lambda: runs.begin(folder, resume))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    sources = open_sources(config) if sources is None else sources  # type: ignore[arg-type]
    splits = split_by_date(sources, config.validation, config.test)
    record = {**runs.describe(config, sources), "processes": team.size}
    team.check_equal("sources", record["data"])
    state = team.lead(lambda: runs.enter(folder, record, resume, make_config, _FREE))

    normalization, content = _prepare(config, splits["train"], state, team)
    gan = Gan(config, content, team)
    if config.initial_generator:
        _start_from(config, gan, normalization)
    start = 0
    if state is not None:
        start = state["step"]
        gan.load_state_dict(state["gan"])
        log.info("continuing after step %d", start)
    origin = {**record, "content": config.content, "content_scale": content.scale, "mse_weight": content.mse_weight}
    last = config.pretraining + config.steps
    loader = DataLoader(
        PatchDataset(splits["train"], config, seed=config.seed, length=last, rank=team.rank, world_size=team.size),
        batch_size=None,
        sampler=range(start, last),
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    report = _Report(config, folder, start, last, team)
    for step, batch in enumerate(loader, start + 1):
        coarse, fine = pair(batch, normalization, team.device)
        if step <= config.pretraining:
            numbers = gan.pretrain(coarse, fine)
        else:
            if step == config.pretraining + 1:
                gan.start_optimizers()
            numbers = gan.train(coarse, fine, step - config.pretraining)
        report.add(step, numbers)
        if step % config.validate_every == 0 or step in (config.pretraining, last):
            report.write(step, {"validation": validate(config, gan, content, normalization, splits["validation"])})
        if team.leads and step in (config.pretraining, last):
            name = "generator" if step == last else "pretrained"
            save_generator(folder / name, gan.generator, normalization, config.variables, {**origin, "step": step})
        if team.leads and (step % config.checkpoint_every == 0 or step == last):
            runs.save_checkpoint(folder, {"step": step, "gan": gan.state_dict(), **_prepared(normalization, content)})
    report.close()
    return folder / "generator"


def pair(batch: PatchBatch, normalization: LogNormalization, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the coarse and the fine patches (N, C, h, w) and (N, C, 4 h, 4 w), both normalised."""
    fields = batch.fields.to(device, non_blocking=True)
    coarse = coarsen(fields, batch.latitude.to(device), FACTOR)
    first, second = (normalization(x).contiguous(memory_format=torch.channels_last) for x in (coarse, fields))
    return first, second


def _prepare(
    config: SrganConfig, train: Sequence[FieldSource], state: dict[str, Any] | None, team: Team
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
        return calibrate(content.measure, normalization, train, config.patch_size, config.latitude_band)

    content.scale = state["content_scale"] if state is not None else config.content_scale or team.lead(fit)
    log.info("content loss: %s, scale %.4g, mse_weight %g", config.content, content.scale, content.mse_weight)
    if isinstance(content.measure, torch.nn.Module):
        content.measure.to(team.device)
    return normalization.to(team.device), content


def _prepared(normalization: LogNormalization, content: ContentLoss) -> dict[str, Any]:
    return {"normalization": normalization.constants(), "content_scale": content.scale}


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


@torch.no_grad()
def validate(
    config: SrganConfig,
    gan: Gan,
    content: ContentLoss,
    normalization: LogNormalization,
    sources: Sequence[FieldSource],
) -> dict[str, float]:
    """Return means over the same held-out patches each time: MSE, log-spectral difference, content loss.

    Every process computes them: they are few.
    """
    if not sources:
        return {}
    data = PatchDataset(sources, config, seed=_VALIDATION, length=config.validation_batches)
    sums: dict[str, float] = {}
    for i in range(len(data)):
        coarse, fine = pair(data[i], normalization, gan.team.device)
        made = gan.generator(coarse)
        values = {
            "validation_mse": measures.mse(made, fine),
            "validation_log_spectral": measures.log_spectral(made, fine),
            "validation_content": content(made, fine),
        }
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.mean().item() / len(data)
    return sums


class _Report:
    """Means of what steps return, to the log, the bar and TensorBoard; only the leading process writes."""

    def __init__(self, config: SrganConfig, folder: Path, start: int, last: int, team: Team) -> None:
        self._every, self._last = config.log_every, last
        self._metrics = runs.MetricsLog(folder, start) if team.leads else None
        self._board = open_tensorboard(folder) if config.tensorboard and team.leads else None
        self._bar = Progress(start, last, team.leads, ("mse", "content", "adversarial", "discriminator"))
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="TOML configuration, e.g. one of srgan/presets")
    parser.add_argument("--content", choices=tuple(CONTENTS), help="content loss")
    parser.add_argument("--output", metavar="DIR", help="run folder (default: runs/NAME-CONTENT)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    parser.add_argument("--initial-generator", metavar="DIR", help="start from this generator, without pretraining")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override any key")
    args = parser.parse_args(arguments)
    leads = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if leads else logging.WARNING, format="%(message)s")
    try:
        overrides = parse_overrides(args.set)
        overrides |= {key: value for key in ("content", "initial_generator") if (value := getattr(args, key))}
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


if __name__ == "__main__":
    sys.exit(main())
