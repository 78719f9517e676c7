"""Run folders: what was asked, what happened, and a checkpoint that is whole or not there."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from atmoloss._version import __version__
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.files import write_atomically
from atmoloss.training.config import RunConfig
from atmoloss.training.config_reading import build_dataclass

RECORD, CHECKPOINT, METRICS = "run.json", "checkpoint.pt", "metrics.jsonl"


def git_commit(folder: Path) -> str:
    """Return the commit of the source tree, with ``+`` when it has changes; ``""`` outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(config: RunConfig, sources: Sequence[FieldSource]) -> dict[str, Any]:
    """Return what a run keeps of its origin: configuration, versions, commit and SHA-256 of all values of the data."""
    return {
        "config": dataclasses.asdict(config),
        "atmoloss": __version__,
        "torch": torch.__version__,
        "git_commit": git_commit(Path(__file__).resolve().parent),
        "data": {s.name: s.sha256() for s in sources},
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_atomically(folder / RECORD, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())


def read_record(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; ``ConfigError`` where there is none."""
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"output: {folder} holds no run to continue or publish: {error}") from error


def has_steps(folder: Path) -> bool:
    """Whether the folder holds a run that took a step, as far as its files tell: one that failed before is none."""
    log = folder / METRICS
    taken = (folder / CHECKPOINT).is_file() or (log.is_file() and log.stat().st_size > 0)
    return taken and (folder / RECORD).is_file()


def create_folder(folder: Path, resume: bool) -> None:
    """Make the folder, or raise ``ConfigError`` where it holds a run that is not to be continued."""
    if has_steps(folder) and not resume:
        raise ConfigError(f"output: {folder} already holds a run; expected --resume or another folder")
    folder.mkdir(parents=True, exist_ok=True)


def open_folder(
    folder: Path, record: dict[str, Any], kind: type[RunConfig], resume: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Write ``run.json``, or check that the run of the folder is the same; ``ConfigError`` as :func:`check_same`.

    Args:
        folder: of the run.
        record: as :func:`describe` returns it, of a configuration of this ``kind``.
        resume: whether the run may go on.

    Returns:
        The record that ``run.json`` holds, and the last checkpoint, if any. ``"lengthened"`` of the record lists the
        numbers of steps after which the run was lengthened.
    """
    state = load_checkpoint(folder) if resume else None
    if not has_steps(folder):
        write_record(folder, record)
        return record, state
    before = read_record(folder)
    last, steps = before["config"]["steps"], record["config"]["steps"]
    lengthened = kind.CAN_BE_LENGTHENED and state is not None and state["step"] == last < steps
    if lengthened:
        config = {**before["config"], "steps": steps}
        before = {**before, "config": config, "lengthened": [*before.get("lengthened", []), last]}
    check_same(before, record, kind)
    if lengthened:
        write_record(folder, before)
    return before, state


def check_same(before: dict[str, Any], now: dict[str, Any], kind: type[RunConfig]) -> None:
    """Raise ``ConfigError`` where a continued run would compute something else than it began."""
    was, config = (_what_is_computed(build_dataclass(kind, record["config"])) for record in (before, now))
    for key, value in config.items():
        if value != was[key]:
            more = " (more once the run has taken all of its steps)" if key == "steps" else ""
            raise ConfigError(
                f"resume: {key} is {value!r}, but the run began with {was[key]!r}; expected the same{more}, or a new "
                "--output"
            )
    for name, sha256 in now["data"].items():
        if before["data"].get(name) != sha256:
            raise ConfigError(f"resume: the data of source {name!r} changed since the run began")


def _what_is_computed(config: RunConfig) -> dict[str, Any]:
    """Leave out what may differ; data may have moved, their SHA-256 tells whether they are the same."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))  # tuples and lists are the same there
    moves = ("path", "license", "attribution")
    plain["sources"] = [{key: value for key, value in s.items() if key not in moves} for s in plain["sources"]]
    return {key: value for key, value in plain.items() if key not in config.MAY_DIFFER}


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``checkpoint.pt`` under a temporary name, then rename it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder / CHECKPOINT, buffer.getvalue())


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the last checkpoint, or ``None`` if there is none yet; tensors and plain values only."""
    if not (folder / CHECKPOINT).is_file():
        return None
    return dict(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True))
