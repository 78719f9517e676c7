"""The pages of own_variables.py: lag 2AFC beside pixel norms as table, data and figure, and the table of settings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from atmoloss.errors import require

PLAIN = ("AtmoDist", "random weights", "MSE", "MAE")


def line(result: Mapping[str, Any]) -> str:
    """Return the lag 2AFC of all triples of validation dates, and the seconds."""
    return f"{result['validation']['all']['AtmoDist']['value']:.4f}, {result['cpu_seconds']} s"


def shown(result: Mapping[str, Any]) -> list[str]:
    """Return the distances of the table: of the smoothed norms those that are best on validation dates."""
    known = result["validation"]["all"]
    best = [
        max((n for n in known if n.startswith(f"{norm},")), key=lambda n: known[n]["value"]) for norm in ("MSE", "MAE")
    ]
    return [*PLAIN, *best]


def _interval(bounds: Sequence[float] | None, form: str) -> str:
    return f" ({bounds[0]:{form}} to {bounds[1]:{form}})" if bounds else ""


def _table(result: Mapping[str, Any]) -> list[str]:
    lines = ["| distance | all triples | AtmoDist minus it | same time of day | AtmoDist minus it |", "|---" * 5 + "|"]
    for name in shown(result):
        cells = []
        for kind in result["test"].values():
            score, ours = kind[name], kind["AtmoDist"]["value"]
            cells.append(f"{score['value']:.3f}{_interval(score['interval'], '.3f')}")
            gap = f"{ours - score['value']:+.3f}{_interval(score['gap'], '+.3f')}"
            cells.append("" if name == "AtmoDist" else gap)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _figure(results: Mapping[str, Any]) -> bytes:
    plt = require("matplotlib.pyplot", "eval")
    plt.rcParams["svg.hashsalt"] = "downstream"  # the same file from the same numbers
    figure, axes = plt.subplots(1, len(results), figsize=(9, 2.9), sharex=True, squeeze=False, layout="constrained")
    for ax, (variable, result) in zip(axes[0], results.items(), strict=True):
        names = shown(result)
        for shift, (kind, scores) in zip((-0.12, 0.12), result["test"].items(), strict=True):
            for place, name in enumerate(names):
                value, bounds = scores[name]["value"], scores[name]["interval"]
                error = [[max(value - bounds[0], 0)], [max(bounds[1] - value, 0)]] if bounds else None
                style = {"fmt": "o", "markersize": 4, "capsize": 2, "color": f"C{int(shift > 0)}"}
                ax.errorbar(
                    [value], [place + shift], xerr=error, label=f"{kind} triples" if place == 0 else None, **style
                )
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set(title=variable, xlabel="lag 2AFC, test dates")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def page(results: Mapping[str, Any]) -> tuple[str, dict[str, Any], bytes]:
    """Return the text, the data and the figure."""
    text = [f"`python benchmarks/downstream/own_variables.py`, torch {torch.__version__}."]
    for variable, result in results.items():
        seconds = result["cpu_seconds"]
        text += ["", f"## {variable}: lag 2AFC of test dates, 95 % over days; {seconds} CPU-seconds of training"]
        text += _table(result)
    rounded = {
        variable: {
            key: {k: {n: _rounded(s) for n, s in by.items()} for k, by in value.items()}
            if key in ("validation", "test")
            else value
            for key, value in result.items()
        }
        for variable, result in results.items()
    }
    return "\n".join(text) + "\n", rounded, _figure(results)


def _rounded(score: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {k: v and [round(x, 4) for x in v] for k, v in score.items() if k != "value"}
    return {"value": round(score["value"], 4), **pairs}


def settings(results: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Sequence[str]]) -> str:
    """Return the page of the settings: lag 2AFC of validation dates and seconds of a core, by variable and setting."""
    text = [
        f"`python benchmarks/downstream/own_variables.py --settings`, torch {torch.__version__}. Lag 2AFC of all "
        "triples of validation dates, and seconds of a core.",
        "",
        f"| setting | keys | {' | '.join(results)} |",
        "|---" * (2 + len(results)) + "|",
    ]
    for name, keys in changes.items():
        cells = [line(by[name]) for by in results.values()]
        text.append(f"| {name} | {', '.join(f'`{key}`' for key in keys)} | {' | '.join(cells)} |")
    norms = {name for by in results.values() for result in by.values() for name in result["validation"]["all"]}
    for norm in sorted(norms - {"AtmoDist", "random weights"}):
        values = [next(iter(by.values()))["validation"]["all"][norm]["value"] for by in results.values()]
        text.append(f"| {norm} | | {' | '.join(f'{v:.4f}' for v in values)} |")
    return "\n".join(text) + "\n"
