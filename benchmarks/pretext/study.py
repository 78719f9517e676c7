"""Which recipe is best? Trains every arm of study.toml and writes results/study.jsonl and results/study.md.

    python benchmarks/pretext/study.py [ARM …] [--seeds 0 1 2] [--jobs 2] [--runs DIR]

All arms share dates, sources and the number of encoded patches (budget in study.toml), and are compared on the
validation dates alone; the test dates are not opened. Finished (arm, seed) pairs are skipped, interrupted ones
continue. About three minutes an arm on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "superres"))
from rows import read_rows, trained
from sharpness import break_even, measure, of_weights

from atmoloss import load_extractor
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import Extractor
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.evaluate import lag_2afc
from atmoloss.lag_2afc.triples import patch_size
from atmoloss.training.config import TrainConfig, make_config, read_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from atmoloss.training.weights_folder import load_model, write_weights

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
ROWS = RESULTS / "study.jsonl"
STUDY = tomllib.loads((HERE / "study.toml").read_text(encoding="utf-8"))
SOURCES = {s.name: s for s in read_config(HERE.parents[1] / "configs" / "default.toml").sources}
SHORT = {
    "gfs-1deg-10m": "1° 10 m",
    "gfs-1deg-850hPa": "1° 850 hPa",
    "gfs-0.25deg-10m-japan": "0.25° Japan",
    "hrrr-12km-10m": "12 km",
    "speedy-T85-sigma0.883": "simulated",
}


def own_keys(arm: str) -> dict[str, Any]:
    """Return what an arm overrides, with what the arm that it is ``like`` does."""
    own = {key: value for key, value in STUDY["arms"][arm].items() if key not in ("about", "like")}
    like = STUDY["arms"][arm].get("like")
    return {**own_keys(like), **own} if like else own


def config_of(arm: str, seed: int) -> TrainConfig:
    """Return the configuration of an arm."""
    base, own = STUDY["base"], own_keys(arm)
    values = {**base, **own}
    values["encoder_options"] = {**base["encoder_options"], **own.get("encoder_options", {})}
    del values["shares"]
    shares = {**base["shares"], **own.get("shares", {})}
    sources = [{**dataclasses.asdict(s), "weight": shares.get(s.name, s.weight)} for s in SOURCES.values()]
    values |= {"name": arm, "seed": seed, "sources": sources}
    return make_config({**values, "validate_every": values["steps"], "validation_patches": 1})


def run_arm(arm: str, seed: int, runs: Path, sources: Sequence[FieldSource]) -> dict[str, Any]:
    """Train and measure one arm."""
    config = config_of(arm, seed)
    weights = {s.name: s.weight for s in config.sources}
    sources = [dataclasses.replace(s, weight=weights[s.name]) for s in sources]
    folder = runs / f"{arm}-{seed}"
    began = time.perf_counter()
    train(config, folder, resume=(folder / "run.json").is_file(), sources=sources)
    seconds = time.perf_counter() - began
    model, normalization, _ = load_model(config, folder)
    held_out = split_by_date(sources, config.validation, config.test)["validation"]
    write_weights(config, model, normalization, sources, held_out, folder / "weights")
    encoder = model.encoder
    return {
        "arm": arm,
        "seed": seed,
        "scores": scores_of(load_extractor(folder / "weights"), held_out),
        "seconds": round(seconds),
        "mflop_per_cell": round(list(encoder.flops(64, 64).values())[-1] / 64**2 / 1e6, 4),
        "break_even": round(break_even(measure(of_weights(str(folder / "weights")))), 2),
        "receptive_field": list(encoder.receptive_fields.values()),
        "config": {**STUDY["base"], **own_keys(arm)},
        "torch": torch.__version__,
    }


def scores_of(extractor: Extractor, held_out: Sequence[FieldSource]) -> dict[str, dict[str, float]]:
    """Return lag 2AFC by source and distance, the recommended one and each stage alone, of the sources in ``SHORT``."""
    scores: dict[str, dict[str, float]] = {}
    for source in (s for s in held_out if s.name in SHORT):
        accuracies = lag_2afc(extractor, source, size=patch_size(source), baselines=False)
        scores[source.name] = {name: round(entry["value"], 4) for name, entry in accuracies.items()}
    return scores


def values_of(row: dict[str, Any]) -> list[float]:
    """Return the distance's score per source; for heads that define no distance, those of the best single stage."""
    of_source = [row["scores"][name] for name in SHORT]
    if row["config"].get("head", "metric") == "metric":
        return [scores["distance"] for scores in of_source]
    stages = [name for name in of_source[0] if name != "distance"]
    best = max(stages, key=lambda stage: sum(scores[stage] for scores in of_source))
    return [scores[best] for scores in of_source]


_sources: dict[tuple[str, ...], list[FieldSource]] = {}  # per set of variables; the forked processes share them


def _work(task: tuple[str, int, Path]) -> dict[str, Any]:
    torch.set_num_threads(1)
    return run_arm(*task, _sources[config_of(*task[:2]).variables])


def read_results() -> list[dict[str, Any]]:
    return read_rows(ROWS)


def by_source(row: Mapping[str, float]) -> str:
    """Return the cells of a Markdown row, a value per source, in the order of ``SHORT``."""
    return " | ".join(f"{row[s]:.3f}" if s in row else "–" for s in SHORT)


Scores = dict[str, dict[str, float]]
"""Lag 2AFC by source, per distance."""


def compare_runs(doc: str | None, scores: Callable[[Path], tuple[str, Scores]]) -> Iterator[tuple[str, int, str, str]]:
    """Score the finished runs of the command line; yield name, seeds, distance, and cells of means over the seeds.

    Args:
        doc: of the script, its help.
        scores: from a run folder to what its seeds have in common, and the scores of its distances.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found: dict[str, list[Scores]] = {}
    for run in parser.parse_args().runs:
        name, rows = scores(run)
        found.setdefault(name, []).append(rows)
        print(run, flush=True)
    for name, runs in found.items():
        for key in runs[0]:
            means = {s: float(np.mean([run[key][s] for run in runs])) for s in SHORT if s in runs[0][key]}
            yield name, len(runs), key, f"{by_source(means)} | {np.mean(list(means.values())):.3f}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the Markdown table: means over seeds, arms in the order of study.toml, removed ones last.

    Break-even is the coherence with the truth above which detail pays, see ../superres/sharpness.py.
    """
    lines = [
        "| arm | what | seeds | " + " | ".join(SHORT.values()) + " | mean | break-even | Mflop per cell |",
        "|---|---|---|" + "---|" * (len(SHORT) + 3),
    ]
    about = {arm: entry["about"] for arm, entry in STUDY["arms"].items()} | STUDY["removed"]
    for arm, text in about.items():
        mine = [r for r in rows if r["arm"] == arm]
        if not mine:
            continue
        values = np.array([values_of(r) for r in mine])
        cells = [f"{m:.3f}" for m in values.mean(0)]
        mean = values.mean(1)
        even = [r["break_even"] for r in mine if "break_even" in r]
        detail = f"{np.mean(even):.2f}" if even else "–"
        spread = f" ± {mean.std(ddof=1):.3f}" if len(mine) > 1 else ""
        lines.append(
            f"| {arm} | {text} | {len(mine)} | {' | '.join(cells)} | {mean.mean():.3f}{spread} | "
            f"{detail} | {mine[0]['mflop_per_cell']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", default=list(STUDY["arms"]))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.arms) - set(STUDY["arms"]))
    if unknown:
        parser.error(f"arms: got {unknown[0]}, expected some of {', '.join(STUDY['arms'])}")
    done = {(r["arm"], r["seed"]) for r in read_results()}
    tasks = [(a, s, arguments.runs) for s in arguments.seeds for a in arguments.arms if (a, s) not in done]
    torch.set_num_threads(1)  # more would not survive the fork
    for arm in {a for a, _, _ in tasks}:
        config = config_of(arm, 0)
        if config.variables not in _sources:
            _sources[config.variables] = open_sources(config)
    for row in trained(_work, tasks, ROWS, arguments.jobs):
        mean, ratio = np.mean(values_of(row)), row["break_even"]
        print(row["arm"], row["seed"], values_of(row), f"mean {mean:.3f}, break-even {ratio}", flush=True)
    write_atomically(RESULTS / "study.md", table(read_results()).encode())
    print(table(read_results()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
