"""The page of analogues.py: its tables, the same as data, and the figure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from analogue_search import CORRELATION, LEADS, RMSE, SHARES

from atmoloss.errors import require
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

BLOCK_DAYS = 2.0  # as long as a forecast
SCORES = (RMSE, CORRELATION, "AtmoDist winds", "AtmoDist default")
SHOWN = ("AtmoDist winds", "AtmoDist default", "MSE of winds, smoothed", "principal components", "random weights winds")
RIVALS = ("MSE of winds", "MSE of winds, smoothed", "principal components", "random weights winds")


def _blocks(result: Mapping[str, Any]) -> BlockBootstrap:
    return BlockBootstrap(result["times"], block_days=BLOCK_DAYS)


def _bounds(blocks: BlockBootstrap, per_query: np.ndarray) -> np.ndarray:
    """Return value, lower and upper bound, (3, …), of the mean over queries (Q, …)."""
    return blocks.bounds(blocks.means(blocks.block_sums(per_query)))


def _scores_table(result: Mapping[str, Any], group: str) -> list[str]:
    """Each score in one group of regions: its mean over leads with an interval, and at the first and the last lead."""
    blocks, of = _blocks(result), result["groups"][group]
    heads = [f"{name} | at {LEADS[0]} h, {LEADS[-1]} h" for name in SCORES]
    lines = [f"| chosen by | {' | '.join(heads)} | same hour |", "|---" * (2 * len(SCORES) + 2) + "|"]
    for name, row in of["rows"].items():
        cells = []
        for score in SCORES:
            value, low, high = _bounds(blocks, row[score].mean(1))
            leads = row[score].mean(0)
            cells += [f"{value:.3f} ({low:.3f} to {high:.3f})", f"{leads[0]:.2f}, {leads[-1]:.2f}"]
        same = f"{row['same hour'].mean():.2f}" if "same hour" in row else ""
        setting = f", {of['settings'][name]}" if of["settings"][name] else ""
        lines.append(f"| {name}{setting} | {' | '.join(cells)} | {same} |")
    return lines


def _gains_table(result: Mapping[str, Any]) -> list[str]:
    """AtmoDist minus its rivals, paired, for each group of regions and each score of winds."""
    blocks = _blocks(result)
    lines = [f"| region | score | AtmoDist | minus {' | minus '.join(RIVALS)} |", "|---" * (3 + len(RIVALS)) + "|"]
    for group, of in result["groups"].items():
        for score in (RMSE, CORRELATION):
            for name in SHOWN[:2]:
                gaps = [(of["rows"][name][score] - of["rows"][rival][score]).mean(1) for rival in RIVALS]
                cells = ["{:+.3f} ({:+.3f} to {:+.3f})".format(*_bounds(blocks, gap)) for gap in gaps]
                lines.append(f"| {group} | {score} | {name} | {' | '.join(cells)} |")
    return lines


def _thinned_table(result: Mapping[str, Any]) -> list[str]:
    shares = [f"1/{1 / share:.0f} of the days" for share in SHARES]
    lines = [f"| chosen by | {' | '.join(shares)} | all days |", "|---" * (2 + len(shares)) + "|"]
    for name, row in result["groups"]["boxes"]["rows"].items():
        if "thinned" in row:
            values = [*row["thinned"].mean(0), row[CORRELATION].mean()]
            lines.append(f"| {name} | {' | '.join(f'{v:.3f}' for v in values)} |")
    return lines


def _figure(result: Mapping[str, Any]) -> bytes:
    plt = require("matplotlib.pyplot", "eval")
    plt.rcParams["svg.hashsalt"] = "downstream"  # the same file from the same numbers
    blocks, rows, drawn = _blocks(result), result["groups"]["boxes"]["rows"], SCORES[:3]
    figure, axes = plt.subplots(1, len(drawn), figsize=(9.6, 3.6), layout="constrained")
    for ax, score in zip(axes, drawn, strict=True):
        for k, name in enumerate(SHOWN):
            value, low, high = _bounds(blocks, rows[name][score])
            place = np.arange(len(LEADS)) + 0.07 * (k - 2)
            ax.errorbar(place, value, (value - low, high - value), marker="o", markersize=3, capsize=2, label=name)
        for name, style in (("random state", ":"), ("best of the archive", "--")):
            ax.plot(rows[name][score].mean(0), color="black", linewidth=1, linestyle=style, label=name)
        ax.set_xticks(range(len(LEADS)), [str(lead) for lead in LEADS])
        unit = {RMSE: " ÷ climatology", CORRELATION: ""}.get(score, " ÷ random state")
        ax.set(xlabel="hours ahead", title=f"{score}{unit}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


def _data(result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    blocks, states = _blocks(result), result["states"]
    out: dict[str, Any] = {"cpu_seconds": round(seconds), "leads": LEADS, "queries": len(result["times"])}
    out["states"] = [int(states.min()), int(states.max())]
    for group, of in result["groups"].items():
        rows = {
            name: {score: np.round(_bounds(blocks, row[score]), 4).tolist() for score in SCORES}
            for name, row in of["rows"].items()
        }
        out[group] = {"settings": {n: s for n, s in of["settings"].items() if s}, "value, low, high by lead": rows}
    return out


def page(archive: str, result: Mapping[str, Any], seconds: float) -> tuple[str, dict[str, Any], bytes]:
    """Return the text, the data and the figure of one archive."""
    states, days = result["states"], len(np.unique(result["times"].astype("datetime64[D]")))
    text = [
        f"`python benchmarks/downstream/analogues.py --archives {archive}`: {len(result['times'])} queries of "
        f"{days} days, {states.min()} to {states.max()} states may answer; {seconds:.0f} CPU-seconds, "
        f"torch {torch.__version__}.",
    ]
    for group in ("globe", "boxes"):
        text += [
            "",
            f"## {group.capitalize()}: mean over leads, 95 % interval over days",
            *_scores_table(result, group),
        ]
    text += ["", "## AtmoDist minus others, mean over leads, 95 % interval over days", *_gains_table(result)]
    text += ["", "## Boxes: anomaly correlation where only a share of the days may answer", *_thinned_table(result)]
    return "\n".join(text) + "\n", _data(result, seconds), _figure(result)
