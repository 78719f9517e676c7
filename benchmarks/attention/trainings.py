"""The trainings of the benchmark: their configurations and data, and what is left of them."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.append(str(REPOSITORY / "examples"))
sys.path.append(str(REPOSITORY / "benchmarks" / "superres"))  # behind this folder, which has a compare.py of its own

from fluid.make import write  # noqa: E402
from rows import read_rows, trained  # noqa: E402

from atmoloss.data.sources import FieldSource  # noqa: E402
from atmoloss.data.splits import split_by_date  # noqa: E402
from atmoloss.training.config import TrainConfig, read_config  # noqa: E402
from atmoloss.training.loop import open_sources  # noqa: E402
from atmoloss.training.model import build_prediction  # noqa: E402
from atmoloss.training.predict import prediction_errors, train  # noqa: E402
from atmoloss.training.weights_folder import load_run  # noqa: E402

RESULTS = HERE / "results"
SPEC = tomllib.loads((HERE / "arms.toml").read_text(encoding="utf-8"))
Arm = tuple[str, int]
"""A table of ``arms`` in arms.toml, and a seed."""

_RUNS = 992  # of the fluid, 768 of them to train on
_VALIDATION_BATCHES = 32
_shared: dict[str, Any] = {}


def name_of(arm: Arm) -> str:
    return f"{arm[0]}-{arm[1]}"


def fluid_data(runs: Path) -> Path:
    """Return the file of the fluid, made where it is not there yet."""
    path = runs / "fluid.nc"
    if not path.is_file():
        runs.mkdir(parents=True, exist_ok=True)
        partial = path.with_name("fluid.nc.part")
        write(str(partial), _RUNS, seed=0)
        partial.replace(path)
    return path


def config_of(arm: Arm, runs: Path) -> TrainConfig:
    """Return the configuration of an arm."""
    name, seed = arm
    own = dict(SPEC["arms"][name])
    path = HERE / own.pop("config")
    values = {"name": name_of(arm), "seed": seed, **SPEC["training"], **own}
    if path.parent.name == "fluid":
        values["sources"] = [{"name": "fluid", "path": str(fluid_data(runs))}]
    return read_config(path, values)


def sources_of(arm: str, runs: Path, opened: dict[Any, list[FieldSource]]) -> list[FieldSource]:
    """Open the sources of an arm, once for all arms with the same ones."""
    config = config_of((arm, 0), runs)
    key = (config.variables, config.sources)
    if key not in opened:
        opened[key] = open_sources(config)
    return opened[key]


def _train(arm: Arm) -> dict[str, Any]:
    torch.set_num_threads(1)
    began, folder = time.process_time(), _shared["runs"] / name_of(arm)
    config, sources = config_of(arm, _shared["runs"]), _shared["sources"][arm[0]]
    train(config, folder, resume=(folder / "run.json").is_file(), sources=sources)
    seconds = round(time.process_time() - began)
    model, normalization, step = load_run(config, folder, build_prediction)
    held_out = split_by_date(sources, config.validation, config.test)["validation"]
    errors = {s.name: prediction_errors(model, normalization, s, config, _VALIDATION_BATCHES) for s in held_out}
    return {"arm": arm[0], "seed": arm[1], "steps": step, "cpu_seconds": seconds, "validation": errors}


def train_all(arms: Sequence[Arm], runs: Path, jobs: int) -> None:
    """Train the arms that have no row yet; rows with errors on validation dates are added to results/trained.jsonl."""
    torch.set_num_threads(1)  # more would not survive the fork
    rows = RESULTS / "trained.jsonl"
    done = {(row["arm"], row["seed"]) for row in read_rows(rows)}
    arms = [arm for arm in arms if arm not in done]
    opened: dict[Any, list[FieldSource]] = {}
    _shared.update(runs=runs, sources={name: sources_of(name, runs, opened) for name, _ in arms})
    for row in trained(_train, arms, rows, jobs):
        print(row["arm"], row["seed"], f"{row['cpu_seconds']} s", row["validation"], flush=True)
