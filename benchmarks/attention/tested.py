"""The test stage of compare.py: scores of trained arms, and of the same networks with random weights, on test dates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import cases_of
from flow import of_gradients, of_maps
from fluid.score import untrained
from skill import damping, globe_over_patches, shares, squared_errors
from tables import report
from trainings import RESULTS, Arm, config_of, name_of, read_rows, sources_of, trained

from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.files import write_atomically
from atmoloss.predictor import Predictor, load_predictor
from atmoloss.training.config import TrainConfig
from atmoloss.training.predict import publish
from atmoloss.verification.results import finite

ROWS = RESULTS / "tested.jsonl"
# Cases at most: to fit damped persistence, to score errors, globes to cut into patches, patches to take gradients of.
FITTED, SCORED, CUT, DERIVED = 64, 96, 8, 16
MAPPED = {4: 24, 2: 6}
"""Globes at most to score maps, by stride: those of every second cell fill eight times the memory."""
GRADIENTS = {"fluid": ("fluid",), "winds": ("gfs-1deg-850hPa",)}
"""Of which sources gradients are taken; a patch of era5 holds too few positions, one of the fine arms too many."""
Splits = Mapping[str, Sequence[FieldSource]]
_shared: dict[str, Any] = {}


def weights_of(arm: Arm, runs: Path) -> Path:
    """Return the weights folder of a finished run, written where it is not there yet."""
    folder = runs / name_of(arm)
    if not (folder / "weights" / "metrics.json").is_file():
        publish(config_of(arm, runs), folder, folder / "weights")
    return folder / "weights"


def networks_of(weights: Path, seed: int, periodic: bool) -> dict[str, Predictor]:
    """Return the trained network, and the same with random weights."""
    predictor = load_predictor(weights, periodic=periodic)
    return {"trained": predictor, "random": untrained(predictor, seed, periodic)}


def error_rows(weights: Path, config: TrainConfig, splits: Splits) -> tuple[list[Any], list[Any]]:
    """Return errors beside the baselines, and those of globes over those of patches."""
    training = {source.name: source for source in splits["train"]}
    errors, ratios = [], []
    for source in splits["test"]:
        predictor = load_predictor(weights, periodic=source.periodic)
        damped = damping(cases_of(training[source.name], config, FITTED), predictor.normalization)
        cases = cases_of(source, config, SCORED)
        errors += shares(squared_errors(predictor, cases, damped), cases)
        if source.periodic:
            few = cases_of(source, config, CUT)
            ratios += globe_over_patches(predictor, load_predictor(weights), few, config.patch_sizes[0])
    return errors, ratios


def advection_rows(weights: Path, arm: Arm, config: TrainConfig, splits: Splits) -> Iterator[dict[str, Any]]:
    """Yield the advection scores of every method, past field and head, on the dates to choose by and those to score."""
    mapped = MAPPED[load_predictor(weights).stride]
    for split in ("validation", "test"):
        for source in splits[split]:
            cases = cases_of(source, config, mapped if source.periodic else SCORED)
            derived = split == "test" and source.name in GRADIENTS.get(arm[0], ())
            patches = networks_of(weights, arm[1], periodic=False) if derived else {}
            for name, network in networks_of(weights, arm[1], source.periodic).items():
                rows = [r for method in ("head", "rollout") for r in of_maps(network, cases, config.sources, method)]
                if derived:
                    few = cases_of(source, config, DERIVED)
                    rows += of_gradients(patches[name], few, config.sources, config.patch_sizes[0])
                for row in rows:
                    yield {"split": split, "source": source.name, "weights": name, **row}


def _test(arm: Arm) -> dict[str, Any]:
    torch.set_num_threads(1)
    began, runs = time.process_time(), _shared["runs"]
    config, weights = config_of(arm, runs), weights_of(arm, runs)
    splits = split_by_date(_shared["sources"][arm[0]], config.validation, config.test)
    errors, ratios = error_rows(weights, config, splits)
    advection = list(advection_rows(weights, arm, config, splits))
    row = {"arm": arm[0], "seed": arm[1], "cpu_seconds": round(time.process_time() - began)}
    row |= {"errors": errors, "globe_over_patches": ratios, "advection": advection}
    return finite(row)  # type: ignore[no-any-return]


def test_all(arms: Sequence[Arm], runs: Path, jobs: int) -> None:
    """Score the finished arms that have no row yet in results/tested.jsonl, and write results/test.md of all rows."""
    torch.set_num_threads(1)
    done = {(row["arm"], row["seed"]) for row in read_rows(ROWS)}
    arms = [arm for arm in arms if arm not in done and (runs / name_of(arm) / "checkpoint.pt").is_file()]
    opened: dict[Any, list[FieldSource]] = {}
    _shared.update(runs=runs, sources={name: sources_of(name, runs, opened) for name, _ in arms})
    for row in trained(_test, arms, ROWS, jobs):
        print(row["arm"], row["seed"], flush=True)
    write_atomically(RESULTS / "test.md", report(read_rows(ROWS)).encode())
