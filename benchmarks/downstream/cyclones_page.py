"""The page of cyclones.py: its tables, the same as data, and the curves over the number of labels."""

from __future__ import annotations

import collections
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from storms import Scene

from atmoloss.errors import require

BASELINE = "smoothed fields, speed"
DRAWN = ("default", "winds", "autoencoder", "random default", "random winds", "smoothed fields", BASELINE)
WRONG = ("shuffled", "shifted")
Bounds = Callable[[np.ndarray], np.ndarray]


def line(result: dict[str, Any]) -> str:
    """Return average precision by number of labels, for the terminal."""
    return ", ".join(f"{k} {v['average_precision']:.3f}" for k, v in result.items() if isinstance(v, dict))


def _budgets(results: dict[str, Any]) -> list[str]:
    return [k for k, v in results[BASELINE].items() if isinstance(v, dict) and k not in WRONG]


def _precision_table(results: dict[str, Any], bounds: Bounds) -> list[str]:
    budgets = _budgets(results)
    heads = [f"{b} labels" for b in budgets]
    lines = ["| read-out of | " + " | ".join(heads) + f" | all, minus `{BASELINE}` |", "|---" * (len(heads) + 2) + "|"]
    for name, row in results.items():
        cells = ["{:.2f} ({:.2f}–{:.2f})".format(*bounds(row[b]["days"])) if b in row else "" for b in budgets]
        gap = bounds(row["all"]["days"] - results[BASELINE]["all"]["days"])
        last = "" if name == BASELINE else "{:+.2f} ({:+.2f} to {:+.2f})".format(*gap)
        lines.append(f"| {name} | {' | '.join(cells)} | {last} |")
    return lines


def _other_table(results: dict[str, Any]) -> list[str]:
    heads = ("found", "position error, km", "shuffled", "shifted", "false alarms", "false alarms, spring")
    lines = ["| read-out of | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in results.items():
        wrong = [f"{row[kind]['average_precision']:.2f}" if kind in row else "" for kind in WRONG]
        false = [f"{x:.2f}" for x in row["false_alarms"]]
        cells = [f"{row['all']['found']:.2f}", f"{row['all']['km']:.0f}", *wrong, *false]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _figure(results: dict[str, Any], bounds: Bounds) -> bytes:
    plt = require("matplotlib.pyplot", "eval")
    plt.rcParams["svg.hashsalt"] = "downstream"  # the same file from the same numbers
    figure, axes = plt.subplots(figsize=(7.2, 4), layout="constrained")
    budgets = _budgets(results)
    place = np.arange(len(budgets))
    for k, name in enumerate(n for n in results if n in DRAWN):
        values = np.array([bounds(results[name][b]["days"]) for b in budgets])
        error = np.abs(values[:, 1:] - values[:, :1]).T
        axes.errorbar(place + 0.04 * (k - 3), values[:, 0], error, marker="o", markersize=3, capsize=2, label=name)
    rule = results["vorticity rule"]["all"]["average_precision"]
    axes.axhline(rule, color="black", linestyle=":", linewidth=1, label="vorticity rule")
    axes.set_xticks(place, budgets)
    axes.set(xlabel="labels", ylabel="average precision, held-out storms", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8, ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _storms(scenes: Sequence[Scene]) -> str:
    counted = collections.Counter(c.storm.split()[0] for scene in scenes for c in scene.sought)
    return ", ".join(f"{storm} {n}" for storm, n in counted.most_common())


def page(
    results: dict[str, Any], bounds: Bounds, known: Sequence[Scene], unknown: Sequence[Scene], seconds: float
) -> tuple[str, dict[str, Any], bytes]:
    """Return the text, the data and the figure; ``bounds`` makes intervals of draws of held-out days."""
    text = [
        f"`python benchmarks/downstream/cyclones.py`: {seconds:.0f} CPU-seconds, torch {torch.__version__}.",
        "",
        f"Labels of training dates ({len(known)} boxes): {_storms(known)}. "
        f"Held-out dates ({len(unknown)} boxes): {_storms(unknown)}.",
        "",
        "## Average precision, and 95 % interval over days",
        *_precision_table(results, bounds),
        "",
        f"The rule on vorticity: {results['vorticity rule']['all']['rule']}.",
        "",
        "## With all labels",
        *_other_table(results),
    ]
    data: dict[str, Any] = {"cpu_seconds": round(seconds)}
    for name, row in results.items():
        data[name] = {"false_alarms": [round(x, 3) for x in row["false_alarms"]]}
        for budget in (k for k, v in row.items() if isinstance(v, dict)):
            kept = {key: value for key, value in row[budget].items() if key != "days"}
            data[name][budget] = kept | {"interval": [round(x, 4) for x in bounds(row[budget]["days"])[1:]]}
    return "\n".join(text) + "\n", data, _figure(results, bounds)
