"""Which pretext makes the best distance? Trains the arms of pretexts.toml with one encoder, for the same time each.

    python benchmarks/pretext/pretexts.py [ARM …] [--seeds 0 1 2] [--jobs 2] [--runs DIR]
    python benchmarks/pretext/pretexts.py --measure probe
    python benchmarks/pretext/pretexts.py --measure test

The first command trains, and scores on validation dates. The others measure what it has trained: by the loss probe
(loss_probe.py), and, once at the end, on test dates. All add rows to results/pretexts.jsonl and write
results/pretexts.md. What is there is skipped, and interrupted trainings continue. Minutes of a core for an arm and
seed, one or two to score it, and minutes more for its probe.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from controls import train_autoencoder
from loss_probe import DATA, PERIODS, STEPS, probe
from rows import read_rows, trained
from study import RESULTS, SHORT, by_source, scores_of

from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import load_extractor
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import random_encoder
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.training import lag, predict
from atmoloss.training.config import TrainConfig, make_config
from atmoloss.training.config_reading import read_values
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_model, build_prediction, fit_normalization
from atmoloss.training.weights_folder import load_model, load_run, write_encoder, write_weights

HERE = Path(__file__).resolve().parent
DEFAULT = read_values(HERE.parents[1] / "configs" / "default.toml")
TABLES = tomllib.loads((HERE / "pretexts.toml").read_text(encoding="utf-8"))
ARMS: dict[str, list[str]] = TABLES["arms"]
MEASURES = ("validation", "probe", "test")

Row = dict[str, Any]


def own_keys(pretext: str) -> dict[str, Any]:
    """Return what a pretext overrides, with what the one that it is ``like`` does."""
    own = dict(TABLES["pretexts"][pretext])
    return {**own_keys(like), **own} if (like := own.pop("like", None)) else own


def config_of(pretext: str, seed: int, share: float = 1.0, initial_weights: str = "") -> TrainConfig:
    """Return the configuration of a pretext that has a share of the budget."""
    values = {**DEFAULT, **TABLES["base"], **own_keys(pretext)}
    steps = max(1, round(share * values["steps"]))
    values |= {"name": pretext, "seed": seed, "steps": steps, "initial_weights": initial_weights}
    return make_config({**values, "validate_every": steps, "validation_patches": 1})


def train_pretext(pretext: str, config: TrainConfig, folder: Path, sources: Sequence[FieldSource]) -> float:
    """Train one pretext, write ``weights`` into its folder, and return seconds of the core, of the training alone."""
    splits = split_by_date(sources, config.validation, config.test)
    resume = (folder / "run.json").is_file()
    began = time.process_time()
    if pretext == "lag":
        lag.train(config, folder, resume=resume, sources=sources)
        seconds = time.process_time() - began
        model, normalization, _ = load_model(config, folder)
        write_weights(config, model, normalization, sources, splits["validation"], folder / "weights")
        return seconds
    if pretext in ("random", "autoencoder"):
        encoder, normalization = without_sequences(pretext, config, splits["train"])
    else:
        predict.train(config, folder, resume=resume, sources=sources)
        predicts, normalization, _ = load_run(config, folder, build_prediction)
        encoder = predicts.encoder
    seconds = time.process_time() - began
    write_encoder(config, encoder, normalization, sources, splits["validation"], folder / "weights")
    return seconds


def without_sequences(
    pretext: str, config: TrainConfig, train: Sequence[FieldSource]
) -> tuple[Encoder, LogNormalization]:
    """Return the encoder of an autoencoder, or one of random weights, and its normalisation."""
    normalization = fit_normalization(config, train)
    if pretext == "random":
        x = normalization(SequenceDataset(train, config, seed=config.seed, length=1)[0].fields.flatten(0, 1))
        return random_encoder(build_model(config).encoder.architecture, x, config.seed), normalization
    encoder = train_autoencoder(config, train, normalization).encoder
    assert isinstance(encoder, Encoder)
    return encoder, normalization


_sources: list[FieldSource] = []  # the forked processes share them


def work(task: tuple[str, int], measure: str, runs: Path, budget: float) -> Row:
    """Return the row of an arm and seed, which is trained before it is scored on validation dates."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    arm, seed = task
    row: Row = {"arm": arm, "seed": seed, "measure": measure, "torch": torch.__version__}
    folder, parts = runs / f"{arm}-{seed}", ARMS[arm]
    weights = folder / parts[-1] / "weights"
    if measure == "validation":
        row |= {"steps": {}, "seconds": {}}
        initial = ""
        for pretext in parts:
            config = config_of(pretext, seed, budget / len(parts), initial)
            seconds = train_pretext(pretext, config, folder / pretext, _sources)
            row["steps"][pretext], row["seconds"][pretext] = config.steps, round(seconds)
            initial = str(folder / pretext / "weights")
    if measure == "probe":
        result = probe([str(weights)], DATA, PERIODS, max(1, round(budget * STEPS)), seed)
        found = result[str(weights)]
        faults = [f"{key}, {text}" for key, texts in found["faults"].items() for text in texts]
        return {**row, "faults": faults, "mse": found["mse"], "mse_of_mse": result["MSE"]["mse"]}
    config = config_of(parts[-1], seed)
    held_out = split_by_date(_sources, config.validation, config.test)[measure]
    return {**row, "scores": scores_of(load_extractor(weights), held_out)}


def scores_table(rows: Sequence[Row], measure: str) -> str:
    """Return a Markdown table of lag 2AFC, means over seeds, arms in the order of pretexts.toml."""
    lines = [f"| arm | seeds | {' | '.join(SHORT.values())} | mean | best stage |", "|---" * (len(SHORT) + 4) + "|"]
    for arm in ARMS:
        mine = [r["scores"] for r in rows if r["arm"] == arm and r["measure"] == measure]
        if not mine:
            continue
        values = {name: np.array([[r[s][name] for s in SHORT] for r in mine]) for name in mine[0]["gfs-1deg-10m"]}
        distance = values.pop("distance")
        best = max(stage.mean() for stage in values.values())
        means = distance.mean(1)
        spread = f" ± {means.std(ddof=1):.3f}" if len(mine) > 1 else ""
        cells = by_source(dict(zip(SHORT, distance.mean(0), strict=True)))
        lines.append(f"| {arm} | {len(mine)} | {cells} | {means.mean():.3f}{spread} | {best:.3f} |")
    return "\n".join(lines) + "\n"


def probe_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of the cost of each arm, and of the faults that the loss probe finds, a number a seed."""
    lines = ["| arm | steps | seconds of a core | faults, seed by seed | MSE over that of the MSE |", "|---" * 5 + "|"]
    for arm in ARMS:
        mine = sorted((r for r in rows if r["arm"] == arm), key=lambda r: int(r["seed"]))
        trained = [r for r in mine if r["measure"] == "validation"]
        probed = [r for r in mine if r["measure"] == "probe"]
        if not trained:
            continue
        steps = " + ".join(map(str, trained[0]["steps"].values()))
        seconds = np.mean([sum(r["seconds"].values()) for r in trained])
        faults = ", ".join(str(len(r["faults"])) for r in probed) or "–"
        ratio = f"{np.mean([r['mse'] / r['mse_of_mse'] for r in probed]):.3f}" if probed else "–"
        lines.append(f"| {arm} | {steps} | {seconds:.0f} | {faults} | {ratio} |")
    return "\n".join(lines) + "\n"


def report(rows: Sequence[Row]) -> str:
    """Return the page of all rows."""
    return (
        f"Lag 2AFC on validation dates\n\n{scores_table(rows, 'validation')}\n"
        f"Lag 2AFC on test dates\n\n{scores_table(rows, 'test')}\n"
        f"Training, and the loss probe at `mse_weight` {DEFAULT['mse_weight']}\n\n{probe_table(rows)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", default=list(ARMS))
    parser.add_argument("--measure", choices=MEASURES, default="validation", help="validation trains first")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="all arms of one before the next")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=1.0, help="of the steps in pretexts.toml, to try the script")
    parser.add_argument("--runs", type=Path, default=HERE / "runs" / "pretexts", help="run folders (not committed)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of pretexts.jsonl and pretexts.md")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.arms) - set(ARMS)):
        parser.error(f"arms: got {unknown[0]}, expected some of {', '.join(ARMS)}")
    path, measure = arguments.results / "pretexts.jsonl", arguments.measure
    done = {(r["arm"], r["seed"]) for r in read_rows(path) if r["measure"] == measure}
    tasks = [(arm, seed) for seed in arguments.seeds for arm in arguments.arms if (arm, seed) not in done]
    torch.set_num_threads(1)  # more would not survive the fork
    if tasks and measure != "probe":
        _sources.extend(open_sources(config_of("lag", 0)))
    function = functools.partial(work, measure=measure, runs=arguments.runs, budget=arguments.budget)
    for row in trained(function, tasks, path, arguments.jobs):
        print(row["arm"], row["seed"], row.get("scores", row.get("faults")), flush=True)
    page = report(read_rows(path))
    write_atomically(arguments.results / "pretexts.md", page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
