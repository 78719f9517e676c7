"""``atmoloss train``: from arguments to a run folder and a weights folder."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import torch

from atmoloss import hub
from atmoloss.errors import ConfigError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import TrainConfig, make_config, read_config
from atmoloss.training.config_reading import parse_overrides
from atmoloss.training.distributed import init_process_group
from atmoloss.training.lag import train
from atmoloss.training.publish import publish


def run(arguments: argparse.Namespace) -> int:
    """Train, continue or export as the arguments of :func:`add_arguments` say; return the exit code."""
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_main else logging.WARNING, format="%(message)s")
    if arguments.push_to_hub and is_main:
        hub.check_push(arguments.push_to_hub)  # now, not after hours of training
    output = None if arguments.output is None else Path(arguments.output)
    config, only_export = _configuration(arguments, output)
    output = output or Path("runs") / config.name
    if not only_export:
        with init_process_group(_device(arguments.device), config.timeout_minutes) as group:
            train(config, output, resume=arguments.resume, group=group)
    if not is_main:  # the export is the work of one process, and waits for none
        return 0
    folder = Path(arguments.export) if arguments.export else output / "weights"
    publish(config, output, folder)
    print(f"weights written to {folder}")
    if arguments.push_to_hub:
        hub.announce(arguments.push_to_hub, hub.push(folder, arguments.push_to_hub))
    return 0


def _configuration(arguments: argparse.Namespace, output: Path | None) -> tuple[TrainConfig, bool]:
    """Return the configuration that the arguments ask for, and whether the run is only to be exported."""
    overrides = _overrides(arguments)
    if arguments.config is not None:
        return read_config(Path(arguments.config), overrides), False
    if arguments.data:
        return make_config(overrides), False
    if output is None or not (output / runs.RECORD).is_file() or not (arguments.resume or arguments.export):
        raise ConfigError(
            "config: got none, expected a TOML file, --data PATH, or --output of a run to continue or export"
        )
    # The configuration is that of the run; nothing that was asked for may be passed over.
    asked = ["set"] if arguments.set else []
    asked += [name for name in ("recipe", "variables", "seed") if getattr(arguments, name) is not None]
    if not arguments.resume:
        asked += ["steps"] if arguments.steps is not None else []
        asked += ["device"] if arguments.device != "auto" else []
    if asked:
        goes_on = "only --steps, which lengthens a finished run" if arguments.resume else "none to export a run"
        raise ConfigError(f"--{asked[0]}: is for a configuration file or --data; expected {goes_on} in {output}")
    config = runs.read_record(output)[0]
    if arguments.steps is not None:
        config = dataclasses.replace(config, steps=arguments.steps)
    return config, not arguments.resume


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    out = parse_overrides(arguments.set)
    for key in ("recipe", "steps", "seed"):
        if getattr(arguments, key) is not None:
            out[key] = getattr(arguments, key)
    if arguments.variables:
        out["variables"] = [name.strip() for name in arguments.variables.split(",")]
    if arguments.data:
        out["sources"] = [{"name": Path(path).stem, "path": path} for path in arguments.data]
    return out


def _device(name: str) -> str:
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
