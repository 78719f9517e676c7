"""Where is AtmoDist the better content loss, and where not? Trains the GAN of examples/srgan with each and compares.

    python benchmarks/superres/compare.py sweep      # some losses x every adversarial weight; validation dates
    python benchmarks/superres/compare.py train      # every loss, alone and some with an adversary, preset quick
    python benchmarks/superres/compare.py finals     # the finalists with every seed, more steps
    python benchmarks/superres/compare.py test       # the finals on test dates: tables, figures

Options: [--jobs 2] [--runs DIR] [--only LOSS ...] [--seeds 0 1 2]. Finished runs are kept, interrupted ones continue.
The sweep chooses, for losses that are also tried with an adversary, its weight: that with the smallest log-spectral
distance among those whose RMSE is at most 10 % above that of the generator that all start from; the smallest RMSE where
there is none. Test dates are not opened before `test`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import ARMS, HERE, PRESETS, RESULTS, Arm, config_of, held_out, made_by, name_of, truth_like
from report import report
from rows import add_row, quick_scores, read_rows, trained
from srgan.config import read_config
from srgan.store import StoredGenerator, load_generator
from srgan.train import run

from atmoloss.data.sources import FieldSource
from atmoloss.files import write_atomically
from atmoloss.training.loop import open_sources

ROWS = RESULTS / "arms.jsonl"
RMSE_MARGIN = 1.1


def pretrained(runs: Path, sources: list[FieldSource]) -> Path:
    """Train the generator that all arms start from, where it is not there yet."""
    folder = runs / "pretrain"
    if not (folder / "pretrained").is_dir():
        values = {"content": "mse", "adversarial_weight": 0.0, "steps": 1, "final_steps": 0, "name": "pretrain"}
        config = read_config(PRESETS / "small.toml", {**values, "threads": 1, "workers": 0})
        run(config, folder, resume=(folder / "run.json").is_file(), sources=sources)
    return folder / "pretrained"


def scores_of(stored: StoredGenerator, sources: Iterable[FieldSource]) -> dict[str, dict[str, dict[str, float]]]:
    """Return source → variable → metric → value on held-out fields, for choosing: without intervals."""
    made = {source.name: (source, made_by(stored, source)) for source in sources}
    return {name: quick_scores(truth_like(fields, source), fields) for name, (source, fields) in made.items()}


def mean_of(scores: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, relative_to: Any = None) -> float:
    """Return the mean of a metric over sources, divergence and vorticity; as ratios to ``relative_to`` if given.

    NaN for a metric that is younger than the row.
    """
    values = [
        scores[source][variable].get(metric, np.nan) / (relative_to[source][variable][metric] if relative_to else 1.0)
        for source in scores
        for variable in ("divergence", "vorticity")
    ]
    return float(np.mean(values))


_shared: dict[str, Any] = {}


def _train(arm: Arm) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = _shared["runs"] / name_of(arm)
    config = config_of(arm, _shared["start"])
    scale = _shared["scales"].get(arm[0])
    if scale is not None:
        config = dataclasses.replace(config, content_scale=scale)
    run(config, folder, resume=(folder / "run.json").is_file(), sources=_shared["sources"])
    stored = load_generator(folder / "generator")
    row = {"content": arm[0], "adversarial_weight": arm[1], "steps": arm[2], "seed": arm[3]}
    row |= {"content_scale": stored.origin["content_scale"], "mse_weight": stored.origin["mse_weight"]}
    return {**row, "scores": scores_of(stored, _shared["validation"])}


def arm_of(row: Mapping[str, Any]) -> Arm:
    return row["content"], row["adversarial_weight"], row["steps"], row["seed"]


def train_all(arms: list[Arm], runs: Path, jobs: int) -> None:
    """Train and score the arms that have no row yet; rows are added to results/arms.jsonl as they come."""
    torch.set_num_threads(1)  # more would not survive the fork
    rows = read_rows(ROWS)
    done = {arm_of(row) for row in rows}
    arms = [arm for arm in arms if arm not in done]
    if not arms:
        return
    sources = open_sources(read_config(PRESETS / "quick.toml"))  # type: ignore[arg-type]
    _shared.update(runs=runs, sources=sources, start=pretrained(runs, sources))
    # One fit per loss: its arms differ in what they are compared for and in nothing else.
    _shared["scales"] = {row["content"]: row["content_scale"] for row in rows}
    _shared["validation"] = held_out(sources, "validation", every=4)
    if "start" not in {row["content"] for row in rows}:
        row = {"content": "start", "adversarial_weight": 0.0, "steps": 0, "seed": 0, "content_scale": 1.0}
        scores = scores_of(load_generator(_shared["start"]), _shared["validation"])
        add_row(ROWS, {**row, "mse_weight": 1.0, "scores": scores})
    for row in trained(_train, arms, ROWS, jobs):
        distance = mean_of(row["scores"], "log_spectral_distance")
        print(name_of(arm_of(row)), f"log-spectral {distance:.2f} dB", flush=True)


def chosen_weight(content: str, rows: list[dict[str, Any]]) -> float:
    """Return the adversarial weight that the sweep chooses for a loss."""
    start = next(row for row in rows if row["content"] == "start")["scores"]
    mine = [row for row in rows if row["content"] == content and row["steps"] == ARMS["sweep_steps"]]
    if not mine:
        raise SystemExit(f"sweep: has no rows of {content} yet; run `compare.py sweep` first")
    near = [row for row in mine if mean_of(row["scores"], "rmse", start) <= RMSE_MARGIN]
    if near:
        best = min(near, key=lambda row: mean_of(row["scores"], "log_spectral_distance"))
    else:
        best = min(mine, key=lambda row: mean_of(row["scores"], "rmse", start))
    return float(best["adversarial_weight"])


def finals(contents: Sequence[str], seeds: Sequence[int]) -> list[Arm]:
    """Return the arms of the test: finalists with every seed, and some with an adversary; seeds in turn."""
    rows = read_rows(ROWS)
    arms = [(c, 0.0, ARMS["finals_steps"], s) for c in contents if c in ARMS["finalists"] for s in seeds]
    arms += [(c, chosen_weight(c, rows), ARMS["finals_steps"], 0) for c in contents if c in ARMS["adversary"]]
    return sorted(dict.fromkeys(arms), key=lambda arm: arm[3])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown of all arms, on validation dates."""
    columns = {"log_spectral_distance": "log-spectral, dB", "unresolved_power": "unresolved power / truth"}
    columns |= {"local_energy": "local energy", "local_energy_correlation": "its correlation"}
    columns |= {"semivariogram": "semivariogram", "city_wasserstein": "cities / start", "upper_tail": "upper tail, %"}
    columns |= {"grid_scale_power": "grid-scale power / truth"}
    start = next(row for row in rows if row["content"] == "start")["scores"]
    lines = ["| content | adversarial weight | steps | seed | RMSE / start | " + " | ".join(columns.values()) + " |"]
    lines += ["|---" * (5 + len(columns)) + "|"]
    order = ["start", *ARMS["contents"]]
    for row in sorted(rows, key=lambda r: (r["steps"], order.index(r["content"]), r["adversarial_weight"], r["seed"])):
        cells = [f"{mean_of(row['scores'], 'rmse', start):.3f}"]
        cells += [f"{mean_of(row['scores'], m, start if m == 'city_wasserstein' else None):.2f}" for m in columns]
        head = f"| {row['content']} | {row['adversarial_weight']:g} | {row['steps']} | {row['seed']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("sweep", "train", "finals", "test"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    parser.add_argument("--only", nargs="+", default=list(ARMS["contents"]), metavar="LOSS", help="these losses")
    parser.add_argument("--seeds", type=int, nargs="+", default=ARMS["seeds"], help="of the finalists")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.only) - set(ARMS["contents"]))
    if unknown:
        parser.error(f"--only: got {unknown[0]}, expected some of {', '.join(ARMS['contents'])}")
    if arguments.stage == "sweep":
        # One weight before the rest, so that the scale of each loss is known when its other arms begin.
        for weight in ARMS["adversarial_weights"]:
            arms = [(c, weight, ARMS["sweep_steps"], 0) for c in arguments.only if c in ARMS["adversary"]]
            train_all(arms, arguments.runs, arguments.jobs)
    elif arguments.stage == "train":
        rows = read_rows(ROWS)
        arms = [(c, 0.0, ARMS["steps"], 0) for c in arguments.only]
        arms += [(c, chosen_weight(c, rows), ARMS["steps"], 0) for c in arguments.only if c in ARMS["adversary"]]
        train_all(list(dict.fromkeys(arms)), arguments.runs, arguments.jobs)
    else:
        arms = finals(arguments.only, arguments.seeds)
        if arguments.stage == "finals":
            train_all(arms, arguments.runs, arguments.jobs)
        else:
            report(arms, arguments.runs)
    text = "On validation dates; means over 1° 10 m and 850 hPa, divergence and vorticity.\n\n" + table(read_rows(ROWS))
    write_atomically(RESULTS / "arms.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
