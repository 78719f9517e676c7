"""``atmoloss train``: from arguments to a run folder and a weights folder."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch

from atmoloss.errors import ConfigError
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config, parse_overrides, read_config
from atmoloss.training.loop import train
from atmoloss.training.publish import publish


def run(arguments: argparse.Namespace) -> int:
    """Train, continue or export as the arguments of :func:`add_arguments` say; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
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
        train(config, output, resume=arguments.resume, device=_device(arguments.device))
    folder = Path(arguments.export) if arguments.export else output / "weights"
    publish(config, output, folder)
    print(f"weights written to {folder}")
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
