"""``atmoloss train``: from arguments to a run folder and a weights folder."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import torch

from atmoloss import hub
from atmoloss.errors import ConfigError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config, parse_overrides, read_config
from atmoloss.training.distributed import join
from atmoloss.training.loop import train
from atmoloss.training.publish import publish


def run(arguments: argparse.Namespace) -> int:
    """Train, continue or export as the arguments of :func:`add_arguments` say; return the exit code."""
    leads = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if leads else logging.WARNING, format="%(message)s")
    if arguments.push_to_hub and leads:
        hub.check_push(arguments.push_to_hub)  # now, not after hours of training
    overrides = _overrides(arguments)
    output = None if arguments.output is None else Path(arguments.output)
    if arguments.config is not None:
        config = read_config(Path(arguments.config), overrides)
    elif arguments.data:
        config = make_config(overrides)
    elif output is not None and (output / runs.RECORD).is_file() and (arguments.resume or arguments.export):
        config = runs.read_record(output)[0]
    else:
        raise ConfigError(
            "config: got none, expected a TOML file, --data PATH, or --output of a run to continue or export"
        )
    output = output or Path("runs") / config.name
    only_export = arguments.config is None and not arguments.data and not arguments.resume
    if not only_export:
        with join(_device(arguments.device), config.timeout_minutes) as team:
            train(config, output, resume=arguments.resume, team=team)
    if not leads:  # the export is the work of one process, and waits for none
        return 0
    folder = Path(arguments.export) if arguments.export else output / "weights"
    publish(config, output, folder)
    print(f"weights written to {folder}")
    if arguments.push_to_hub:
        hub.announce(arguments.push_to_hub, hub.push(folder, arguments.push_to_hub))
    return 0


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
