"""Which loss should a forecast be trained with? Trains one small network with each and compares.

    python benchmarks/forecast/compare.py train      # every loss with every seed: results/arms.jsonl, validation dates
    python benchmarks/forecast/compare.py test       # the same on test dates: results/test-*.md

Options: [--jobs 2] [--runs DIR] [--only LOSS ...] [--seeds 0 1 2]. Finished runs are kept, interrupted ones continue.
Test dates are not opened before `test`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from forecaster import REPOSITORY, ForecastConfig, UNet, cases_of, forecasts, run

HERE = Path(__file__).resolve().parent
sys.path.append(str(REPOSITORY / "benchmarks" / "superres"))  # behind this folder, which has a compare.py of its own

from arms import dataset, thinned  # noqa: E402
from distances import atmodist_scores  # noqa: E402
from realism import realism_scores  # noqa: E402
from report import table  # noqa: E402
from rows import quick_scores, read_rows, trained  # noqa: E402
from srgan.store import StoredGenerator, load_generator  # noqa: E402

from atmoloss.data.sources import FieldSource  # noqa: E402
from atmoloss.data.splits import split_by_date  # noqa: E402
from atmoloss.files import write_atomically  # noqa: E402
from atmoloss.training.config_reading import build_dataclass, read_values  # noqa: E402
from atmoloss.training.loop import open_sources  # noqa: E402
from atmoloss.verification import evaluate_fields  # noqa: E402

RESULTS = HERE / "results"
ARMS = tomllib.loads((HERE / "arms.toml").read_text(encoding="utf-8"))
RECEPTIVE_FIELDS = (5, 13)  # of the classifier; larger ones tell every model from the truth
COMMAND = "python benchmarks/forecast/compare.py test"
Arm = tuple[str, int]
"""Content loss (a key of `contents` in arms.toml) and seed."""
_shared: dict[str, Any] = {}


def configuration(**values: Any) -> ForecastConfig:
    """Return forecast.toml with other values."""
    return build_dataclass(ForecastConfig, {**read_values(HERE / "forecast.toml"), **values})


def config_of(arm: Arm, start: Path) -> ForecastConfig:
    """Return the configuration of an arm, from the network in ``start``."""
    content, seed = arm
    values = {"content": content, "name": name_of(arm), "seed": seed, "initial_generator": str(start)}
    values |= {"validate_every": ARMS["training"]["steps"]}
    return configuration(**{**values, **ARMS["training"], **ARMS["contents"][content]})


def name_of(arm: Arm) -> str:
    return f"{arm[0]}-{arm[1]}"


def label(arm: Arm) -> str:
    """Name an arm for people: the loss, and the seed beyond the first."""
    return arm[0] + (f", seed {arm[1]}" if arm[1] else "")


def pretrained(runs: Path, sources: Sequence[FieldSource]) -> Path:
    """Train the network that all arms start from, where it is not there yet."""
    folder = runs / "pretrain"
    if not (folder / "generator").is_dir():
        config = configuration(name="pretrain", content="mse", **ARMS["pretraining"])
        run(config, folder, resume=(folder / "run.json").is_file(), sources=sources)
    return folder / "generator"


def cases_on(sources: Sequence[FieldSource], split: str, every: int = 1) -> list[FieldSource]:
    """Return the cases of every source on the dates of a split, thinned."""
    config = configuration()
    return [thinned(cases_of(s), every) for s in split_by_date(sources, config.validation, config.test)[split]]


def fields_of(cases: FieldSource, values: np.ndarray) -> xr.Dataset:
    """Wrap values (T, C, H, W) at the valid times of cases."""
    source = dataclasses.replace(cases, channels=cases.channels[: values.shape[1]], values=values)
    return dataset(values, source, cases.latitude, cases.longitude)


def persistence_and_truth(cases: FieldSource) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the fields that the forecasts start from, and the fields that they are of, both at the valid times."""
    _, now, later = np.split(np.asarray(cases.values[np.arange(len(cases.times))], np.float32), 3, 1)
    return fields_of(cases, now), fields_of(cases, later)


def made_by(stored: StoredGenerator, cases: FieldSource) -> xr.Dataset:
    return fields_of(cases, forecasts(stored, cases))


def _train(arm: Arm) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder, began = _shared["runs"] / name_of(arm), time.process_time()
    config = config_of(arm, _shared["start"])
    stored = load_generator(
        run(config, folder, resume=(folder / "run.json").is_file(), sources=_shared["sources"]), UNet
    )
    row = {"content": arm[0], "seed": arm[1], "steps": config.steps, "cpu_seconds": round(time.process_time() - began)}
    row |= {"content_scale": stored.origin["content_scale"], "mse_weight": stored.origin["mse_weight"]}
    scores = {c.name: quick_scores(persistence_and_truth(c)[1], made_by(stored, c)) for c in _shared["validation"]}
    return {**row, "scores": scores}


def train_all(arms: Sequence[Arm], runs: Path, jobs: int) -> None:
    """Train and score the arms that have no row yet."""
    torch.set_num_threads(1)  # more would not survive the fork
    path = RESULTS / "arms.jsonl"
    done = {(row["content"], row["seed"]) for row in read_rows(path)}
    arms = [arm for arm in arms if arm not in done]
    sources = open_sources(configuration())
    _shared.update(runs=runs, sources=sources, validation=cases_on(sources, "validation", every=4))
    _shared["start"] = pretrained(runs, sources)
    for row in trained(_train, arms, path, jobs):
        print(row["content"], row["seed"], f"{row['cpu_seconds']} s", flush=True)


def report(arms: Sequence[Arm], runs: Path) -> None:
    """Write results/test-SOURCE.md."""
    start = runs / "pretrain" / "generator"
    for cases in cases_on(open_sources(configuration()), "test"):
        persistence, truth = persistence_and_truth(cases)
        models = {"persistence": persistence, "start": made_by(load_generator(start, UNet), cases)}
        for arm in arms:
            folder = runs / name_of(arm) / "generator"
            if folder.is_dir():
                models[label(arm)] = made_by(load_generator(folder, UNet), cases)
                print(cases.name, label(arm), flush=True)
        extra = [*atmodist_scores(truth, models, cases.level), *realism_scores(truth, models, RECEPTIVE_FIELDS)]
        text = table(evaluate_fields(truth, models, atmodist=None), extra, COMMAND)
        write_atomically(RESULTS / f"test-{cases.name}.md", text.encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "test"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    parser.add_argument("--only", nargs="+", choices=ARMS["contents"], default=list(ARMS["contents"]), metavar="LOSS")
    parser.add_argument("--seeds", type=int, nargs="+", default=ARMS["seeds"])
    arguments = parser.parse_args()
    arms = [(content, seed) for seed in arguments.seeds for content in arguments.only]
    if arguments.stage == "train":
        train_all(arms, arguments.runs, arguments.jobs)
    else:
        report(arms, arguments.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
