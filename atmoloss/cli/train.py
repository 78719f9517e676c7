"""Train an encoder on your data, from a TOML file.

Writes a run folder, which --resume continues, and the weights folder made of it. Several processes are started by
torchrun: torchrun --nproc-per-node 2 -m atmoloss.train CONFIG.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmoloss.cli.options import names
from atmoloss.errors import ConfigError, require

if TYPE_CHECKING:
    from atmoloss.training.config import TrainConfig

_OF_CONFIG = ("set", "recipe", "variables", "seed", "steps", "device", "data")
"""Options in place of keys of the configuration."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss train``."""
    add = parser.add_argument
    add("config", metavar="CONFIG", nargs="?", help="A TOML file; not needed with --data, --resume or --publish.")
    add("--example", metavar="DIR", type=Path, help="Write a commented CONFIG with a week of winds there.")
    add("--output", metavar="DIR", type=Path, help="The run folder (default: runs/NAME).")
    add("--resume", action="store_true", help="Continue the run in the run folder.")
    add("--publish", metavar="DIR", type=Path, help="Write the weights folder there (default: OUTPUT/weights).")
    add("--push-to-hub", metavar="OWNER/NAME", help="Publish the weights folder, as atmoloss push does.")
    add("--recipe", choices=("fast", "paper"), help="Start from the defaults of this recipe.")
    add("--data", action="append", metavar="PATH", help="Train on this file or URL instead. May be repeated.")
    add("--variables", type=names, metavar="A,B", help="The channels, for example u10,v10.")
    add("--steps", type=int, help="The number of optimizer steps.")
    add("--seed", type=int, help="The seed of weights and batches.")
    add("--device", help="Compute on auto, cpu, cuda or mps (default: auto).")
    add("--set", action="append", metavar="KEY=VALUE", help="Override any key of the configuration. May be repeated.")


def epilog() -> str:
    """Return the keys of the configuration with their meaning."""
    from atmoloss.training.config import keys_help

    return keys_help()


def run(arguments: argparse.Namespace) -> int:
    """Train, continue or publish a run; push the weights where that is asked for. Or write an example."""
    if arguments.example is not None:
        return _write_example(arguments)
    from atmoloss import hub
    from atmoloss.cli.push import push
    from atmoloss.training import lag, predict
    from atmoloss.training import publish as lag_publish
    from atmoloss.training.distributed import init_process_group

    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_main else logging.WARNING, format="%(message)s")
    if arguments.push_to_hub and is_main:
        hub.check_push(arguments.push_to_hub)  # now, not after hours of training
    given = {key: value for key in _OF_CONFIG if (value := getattr(arguments, key)) is not None}
    output: Path | None = arguments.output
    if arguments.config is not None or "data" in given:
        config, only_publish = _configuration(arguments.config, given), False
    else:
        config = _recorded(output, given, resume=arguments.resume, publish=arguments.publish is not None)
        only_publish = not arguments.resume
    output = output or Path("runs") / config.name
    train, publish = (lag.train, lag_publish.publish) if config.pretext == "lag" else (predict.train, predict.publish)
    if config.pretext == "lag" and is_main:
        require("matplotlib", "train")  # now, too: for the figures of the weights folder
    if not only_publish:
        with init_process_group(_device(given.get("device", "auto")), config.timeout_minutes) as group:
            train(config, output, resume=arguments.resume, group=group)
    if not is_main:  # publishing is the work of one process, and waits for none
        return 0
    folder = arguments.publish or output / "weights"
    publish(config, output, folder)
    print(f"weights written to {folder}")
    if arguments.push_to_hub:
        push(folder, arguments.push_to_hub)
    return 0


def _write_example(arguments: argparse.Namespace) -> int:
    from atmoloss.training.example import write_example

    others = ("config", "output", "resume", "publish", "push_to_hub", *_OF_CONFIG)
    if refused := [key for key in others if getattr(arguments, key)]:
        raise ConfigError(f"--example: got {refused[0]} beside it, expected --example DIR alone")
    print(f"try: {shlex.join(['atmoloss', 'train', str(write_example(arguments.example))])}")
    return 0


def _configuration(path: str | None, given: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration of a file, or of nothing, with the options given in place of its keys."""
    from atmoloss.training.config import make_config, read_config
    from atmoloss.training.config_reading import parse_overrides

    overrides = parse_overrides(given.get("set", ()))
    named = {key: given[key] for key in ("recipe", "variables", "seed", "steps") if key in given}
    if "data" in given:
        named["sources"] = [{"name": Path(source).stem, "path": source} for source in given["data"]]
    if twice := sorted(named.keys() & overrides.keys()):
        option = "--data" if twice[0] == "sources" else f"--{twice[0]}"
        raise ConfigError(f"{twice[0]}: is given by {option} and by --set, expected one of them")
    overrides |= named
    return make_config(overrides) if path is None else read_config(Path(path), overrides)


def _recorded(output: Path | None, given: Mapping[str, Any], *, resume: bool, publish: bool) -> TrainConfig:
    """Return the configuration of a run to continue or publish; no option that was given may be passed over."""
    from atmoloss.training import checkpoint
    from atmoloss.training.config import make_config

    if output is None or not (output / checkpoint.RECORD).is_file() or not (resume or publish):
        raise ConfigError(
            "config: got none, expected a TOML file, --data PATH, or --output of a run to continue or publish"
        )
    refused = [key for key in given if not (resume and key in ("steps", "device"))]
    if refused:
        expected = "only --steps, which lengthens a finished run" if resume else "none to publish a run"
        raise ConfigError(f"--{refused[0]}: is for a configuration file or --data; expected {expected} in {output}")
    config = make_config(checkpoint.read_record(output)["config"])
    return dataclasses.replace(config, steps=given["steps"]) if "steps" in given else config


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
