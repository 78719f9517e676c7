"""Arms of a comparison are trained once: a row of JSON each, added to a file as they come."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import xarray as xr

from atmoloss.verification import evaluate_fields

ArmT = TypeVar("ArmT")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def add_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row at the end of a file."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def trained(
    train: Callable[[ArmT], dict[str, Any]], arms: Sequence[ArmT], path: Path, jobs: int
) -> Iterator[dict[str, Any]]:
    """Train arms in so many processes, add their rows to a file, and yield them.

    Args:
        train: of an arm to its row, a function of a module: processes are forked, and see what is in memory by then.
        arms: that are to be trained.
        path: of the file.
        jobs: processes.
    """
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(train, arms):
            add_row(path, row)
            yield row


def quick_scores(truth: xr.Dataset, made: xr.Dataset) -> dict[str, dict[str, float]]:
    """Return variable → metric → value of made fields, for choosing: without intervals."""
    out: dict[str, dict[str, float]] = {}
    for score in evaluate_fields(truth, {"made": made}, n_bootstrap=10, n_samples=500, atmodist=None).scores:
        out.setdefault(score.variable, {})[score.metric] = float(f"{score.value:.5g}")
    return out
