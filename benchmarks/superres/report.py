"""The test stage of compare.py: finished arms on test dates, as tables with intervals and as figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import EVALUATED, PRESETS, RESULTS, Arm, held_out, made_by, name_of, truth_like
from distances import atmodist_scores
from realism import realism_scores
from srgan.config import read_config
from srgan.store import load_generator

from atmoloss.data.sources import FieldSource
from atmoloss.files import write_atomically
from atmoloss.training.loop import open_sources
from atmoloss.verification import Evaluation, evaluate_fields
from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report import figures, maps
from atmoloss.verification.report.drawing import Plot, readable
from atmoloss.verification.results import Score

SHOWN = ("mse", "amse", "adjusted", "atmodist", "sharp")  # in curves
PICTURED = ("coarse", "mse", "amse", "atmodist", "sharp")  # beside the truth
COMMAND = "python benchmarks/superres/compare.py test"
VARIABLES = ("divergence", "vorticity", "kinetic_energy")


def report(arms: list[Arm], runs: Path) -> None:
    """Write results/test-SOURCE.json and .md, and the figures of the first source."""
    sources = open_sources(read_config(PRESETS / "quick.toml"))  # type: ignore[arg-type]
    torch.set_num_threads(2)
    for source in held_out(sources, "test", every=1):
        models = {"start": made_by(load_generator(runs / "pretrain" / "pretrained"), source)}
        for arm in arms:
            folder = runs / name_of(arm) / "generator"
            if folder.is_dir():
                models[label(arm)] = made_by(load_generator(folder), source)
                print(source.name, label(arm), flush=True)
        truth = truth_like(models["start"], source)
        evaluation = evaluate_fields(truth, models, atmodist=None)  # distances are of patches, below
        write(evaluation, source, [*atmodist_scores(truth, models, source.level), *realism_scores(truth, models)])
        if source.name == EVALUATED[0]:
            coarse = truth.coarsen(latitude=4, longitude=4, boundary="trim").mean()
            models["coarse"] = coarse.reindex_like(truth, method="nearest")
            drawn = (figures.spectrum, figures.distances_and_tails, maps.cities)
            draw(evaluate_fields(truth, {n: models[n] for n in SHOWN if n in models}), drawn)
            draw(evaluate_fields(truth, {n: models[n] for n in PICTURED if n in models}), (maps.example,))


def label(arm: Arm) -> str:
    """Name an arm for people: the loss, whether there was an adversary, the seed beyond the first."""
    content, adversarial, _, seed = arm
    return f"{content}{', adversary' * (adversarial > 0)}{f', seed {seed}' if seed else ''}"


def write(evaluation: Evaluation, source: FieldSource, extra: Sequence[Score]) -> None:
    """Write the scores of one source; ``extra`` are those that are not of the evaluation."""
    record: dict[str, Any] = {"settings": dict(evaluation.settings), "notes": list(evaluation.notes)}
    record["scores"] = [
        [s.variable, s.metric, s.model, *(float(f"{x:.5g}") for x in (s.value, s.low, s.high))]
        for s in (*evaluation.scores, *extra)
    ]
    record["differences"] = [
        [d.variable, d.metric, d.model, d.other, *(float(f"{x:.5g}") for x in (d.value, d.low, d.high))]
        for d in evaluation.differences
        if "sharp" in (d.model, d.other)
    ]
    text = json.dumps(record, ensure_ascii=False).replace("], [", "],\n[") + "\n"
    write_atomically(RESULTS / f"test-{source.name}.json", text.replace("NaN", "null").encode())
    write_atomically(RESULTS / f"test-{source.name}.md", table(evaluation, extra, COMMAND).encode())


def table(evaluation: Evaluation, extra: Sequence[Score], command: str) -> str:
    """Return Markdown: value and 95 % interval per model and score, and means over seeds with their spread."""
    s = evaluation.settings
    lines = [
        f"`{command}`: {s['n_times']} times from {s['first_time']} to "
        f"{s['last_time']}, {s['grid']}; 95 % intervals by bootstrap over {s['n_blocks']} blocks of "
        f"{s['block_days']:g} days; unresolved from degree {s['unresolved_from_degree']:g}.",
        "",
    ]
    for title in (*VARIABLES, *dict.fromkeys(x.variable for x in extra)):
        lines += section(title, [x for x in (*evaluation.scores, *extra) if x.variable == title])
    return "\n".join(lines)


def section(title: str, scores: Sequence[Score]) -> list[str]:
    """Return the lines of one table, and of one of means over seeds where there are several."""
    models, metrics = (list(dict.fromkeys(getattr(x, key) for x in scores)) for key in ("model", "metric"))
    values = {(x.model, x.metric): x for x in scores}
    factors, labels = zip(*(factor_and_label(m, [values[x, m] for x in models]) for m in metrics), strict=True)
    rule = "|---" * (1 + len(metrics)) + "|"
    lines = [f"## {title}", "", "| content | " + " | ".join(labels) + " |", rule]
    for model in models:
        row = [(values[model, m], f) for m, f in zip(metrics, factors, strict=True)]
        cells = [f"{f * x.value:.3g} [{f * x.low:.3g}, {f * x.high:.3g}]" for x, f in row]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    means = []
    for content in [m for m in models if ", seed" not in m]:
        seeds = [m for m in models if m == content or m.startswith(f"{content}, seed")]
        if len(seeds) < 2:
            continue
        table = np.array([[values[s, m].value for m in metrics] for s in seeds]) * factors
        cells = [f"{a:.3g} ± {b:.2g}" for a, b in zip(table.mean(0), table.std(0, ddof=1), strict=True)]
        means.append(f"| {content}: {len(seeds)} seeds | " + " | ".join(cells) + " |")
    if means:
        lines += ["", "| mean ± standard deviation | " + " | ".join(labels) + " |", rule, *means]
    return [*lines, ""]


def factor_and_label(metric: str, scores: Sequence[Score]) -> tuple[float, str]:
    """Return what the scores of a column are multiplied with, and its head, which says the unit that they then have."""
    known = METRICS.get(metric)
    if known is None:
        return 1.0, metric
    factor, unit = readable([s.value for s in scores], scores[0].units) if known.units is None else (1.0, known.units)
    return factor, f"{known.label}, {unit}" if unit != "1" else known.label


def draw(evaluation: Evaluation, plots: Sequence[Callable[[Evaluation, str], Plot | None]]) -> None:
    """Write figures of docs/figures that begin with `superres`."""
    for draw_one in plots:
        plot = draw_one(evaluation, "vorticity")
        if plot is not None:
            name = f"superres-{draw_one.__name__.replace('_', '-')}.{plot.file.rpartition('.')[2]}"
            write_atomically(RESULTS.parents[2] / "docs" / "figures" / name, plot.data)
            print(name, flush=True)
