"""What trainings with a content loss share: normalisation, validation, stored generators, the command line."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from atmoloss.errors import AtmolossError, ConfigError
from atmoloss.normalization import LogNormalization
from atmoloss.training.config_reading import build_dataclass, parse_overrides, read_values
from atmoloss.training.distributed import ProcessGroup, init_process_group
from atmoloss.training.loop import Run

from .config import CONTENTS, ContentConfig
from .content import ContentLoss, calibrate, make_content, make_normalization
from .data import PatchBatch, PatchDataset
from .store import save_generator

log = logging.getLogger("atmoloss")
ConfigT = TypeVar("ConfigT", bound=ContentConfig)
# Streams of patches beside that of training; seeds below 2**32 are free for users.
_SAMPLE, _VALIDATION = 2**32, 2**33
_SAMPLE_BATCH = 64


class ContentTrainer(Generic[ConfigT]):
    """The part of a :class:`atmoloss.training.loop.Trainer` that does not depend on the network.

    Args:
        run: that is to be trained.
        normalization: of the fields.
        content: loss of normalised fields.
        generator: what is trained and stored; it has an ``architecture``.
        folders: step → folder inside the run folder that gets the generator after that step; the last is the end.
    """

    def __init__(
        self,
        run: Run[ConfigT],
        normalization: LogNormalization,
        content: ContentLoss,
        generator: nn.Module,
        folders: Mapping[int, str],
    ) -> None:
        self.run, self.config, self.group = run, run.config, run.group
        self.normalization, self.content = normalization, content
        self.module = self.generator = generator
        self.milestones = self.folders = folders

    @property
    def batches(self) -> PatchDataset:
        """Patches of the training dates."""
        return PatchDataset(
            self.run.splits["train"],
            self.config,
            seed=self.config.seed,
            length=max(self.folders),
            rank=self.group.rank,
            world_size=self.group.world_size,
        )

    @property
    def trained(self) -> Path:
        """Folder of the trained generator, see :mod:`srgan.store`."""
        return self.run.folder / self.folders[max(self.folders)]

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Return means over the same held-out patches each time. Every process computes them: they are few."""
        if not self.run.splits["validation"]:
            return {}
        count = self.config.validation_batches
        data = PatchDataset(self.run.splits["validation"], self.config, seed=_VALIDATION, length=count)
        sums: dict[str, float] = {}
        for i in range(count):
            for name, value in self.examine(data[i]).items():
                sums[name] = sums.get(name, 0.0) + value.mean().item() / count
        return {"validation": sums}

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return what to log of a held-out batch, each (N,)."""
        raise NotImplementedError

    def store(self, step: int) -> None:
        """Write the generator of a milestone."""
        origin = {**self.run.record, "content": self.config.content, "content_scale": self.content.scale}
        origin |= {"mse_weight": self.content.mse_weight, "step": step}
        folder = self.run.folder / self.folders[step]
        save_generator(folder, self.generator, self.normalization, self.config.variables, origin)

    def state_dict(self) -> dict[str, Any]:
        """Return what :func:`prepare` reads where a run continues; networks and optimizers come on top."""
        return {"normalization": self.normalization.constants(), "content_scale": self.content.scale}


def means(group: ProcessGroup, **losses: Tensor) -> dict[str, float]:
    """Return the mean over processes of each loss.

    Raises:
        ConfigError: one is not finite.
    """
    numbers = group.mean({name: loss.item() for name, loss in losses.items()})
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise ConfigError(f"training: the {name} loss is {number}; try a lower learning_rate")
    return numbers


def prepare(run: Run[Any]) -> tuple[LogNormalization, ContentLoss]:
    """Return normalisation and content loss with its scale: fitted at the start, read where a run continues."""
    config, group, train, state = run.config, run.group, run.splits["train"], run.state
    patches = PatchDataset(train, config, seed=config.seed + _SAMPLE, length=-(-_SAMPLE_BATCH // config.batch_size))
    sample = torch.cat([patches[i].fields for i in range(len(patches))])
    known = None if state is None else LogNormalization(**state["normalization"])
    normalization = known or make_normalization(config, sample)
    content = make_content(config, normalization, sample)

    def fit() -> float:
        if config.content == "mse":
            return 1.0
        return calibrate(content.measure, normalization, train, config.content_size, config.latitude_band)

    content.scale = state["content_scale"] if state is not None else config.content_scale or group.run_on_main(fit)
    log.info("content loss: %s, scale %.4g, mse_weight %g", config.content, content.scale, content.mse_weight)
    if isinstance(content.measure, nn.Module):
        content.measure.to(group.device)
    return normalization.to(group.device), content


def command(
    arguments: Sequence[str] | None,
    description: str | None,
    kind: type[ContentConfig],
    run: Callable[..., Path],
    options: Mapping[str, str] | None = None,
) -> int:
    """Train as the command line says; return the exit code.

    Args:
        arguments: those of the process where ``None``.
        description: for ``--help``.
        kind: of the configuration.
        run: of a configuration, into a folder, with ``resume`` and ``group``; returns the folder of the generator.
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
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_main else logging.WARNING, format="%(message)s")
    try:
        overrides = parse_overrides(args.set)
        overrides |= {key: value for key in ("content", *(options or {})) if (value := getattr(args, key))}
        config = build_dataclass(kind, {**read_values(Path(args.config)), **overrides})
        output = Path(args.output or f"runs/{config.name}-{config.content}")
        with init_process_group(args.device, config.timeout_minutes) as group:
            generator = run(config, output, resume=args.resume, group=group)
    except AtmolossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if is_main:
        print(f"generator written to {generator}")
    return 0
