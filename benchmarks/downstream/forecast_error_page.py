"""The page of forecast_error.py: its tables, the same as data, and the figure."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch

from atmoloss.errors import require
from atmoloss.verification.report.coastlines import draw_coastlines

LEADS = (6, 12, 24, 48, 72)
SHOWN = ("AtmoDist winds", "MAE of winds", "MAE of winds, Gaussian σ 4")


def by_lead(values: np.ndarray, lead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the leads, and the 10th, 50th and 90th percentile of values at each, (leads, 3)."""
    hours = np.unique(lead)
    return hours, np.array([np.percentile(values[lead == h], (10, 50, 90)) for h in hours])


def linearity(values: np.ndarray, lead: np.ndarray) -> float:
    """Return the share of the variance of the medians by lead that a straight line through 0 explains (R²)."""
    hours, spread = by_lead(values, lead)
    median = spread[:, 1]
    slope = (hours @ median) / (hours @ hours)
    return float(1 - np.square(median - slope * hours).sum() / np.square(median - median.mean()).sum())


def _leads_table(results: dict[str, Any]) -> list[str]:
    lead = results["rows"]["lead"]
    lines = ["| distance | " + " | ".join(f"{h} h ahead" for h in LEADS) + " | R² of a line |", "|---" * 7 + "|"]
    displaced = results["rows"]["km"]
    told = np.isfinite(displaced)
    known, spread = by_lead(displaced[told], lead[told])
    cells = ["{1:.0f} ({0:.0f}–{2:.0f}) km".format(*spread[known == h][0]) for h in LEADS if (known == h).any()]
    lines.append(f"| displacement | {' | '.join(cells)} | |")
    for name, hours in results["hours"].items():
        known, spread = by_lead(hours, lead)
        cells = ["{1:.1f} ({0:.1f}–{2:.1f})".format(*spread[known == h][0]) for h in LEADS if (known == h).any()]
        lines.append(f"| {name} | {' | '.join(cells)} | {linearity(hours, lead):.2f} |")
    return lines


def _moved_table(results: dict[str, Any]) -> list[str]:
    km = results["km"]
    lines = ["| distance | " + " | ".join(f"{x:.0f} km" for x in km) + " | exponent | largest lag told |"]
    lines.append("|---" * (len(km) + 3) + "|")
    for name, row in results["scores"].items():
        cells = " | ".join(f"{h:.1f}" for h in row["moved"])
        lines.append(f"| {name} | {cells} | {row['growth']:.2f} | {row['limit']:.0f} h |")
    return lines


def _relations_table(results: dict[str, Any]) -> list[str]:
    lines = [
        "| distance | with displacement | with what is left of the error | beyond what can be told |",
        "|---" * 4 + "|",
    ]
    for name, row in results["scores"].items():
        cells = ["{:.2f} ({:.2f}–{:.2f})".format(*row[key]) for key in ("with_km", "with_unlike")]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['beyond']:.2f} |")
    return lines


def _told_table(results: dict[str, Any]) -> list[str]:
    lags = list(next(iter(results["atlantic"].values())))
    heads = [f"{place}, {lag} h" for place in ("Japan", "Atlantic") for lag in lags]
    lines = ["| distance | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in results["scores"]:
        cells = [f"{results[place][name].get(lag, np.nan):.1f}" for place in ("analyses", "atlantic") for lag in lags]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _disagreement(results: dict[str, Any]) -> list[str]:
    """The two forecasts that AtmoDist of winds and MAE of winds judge most differently, among those of their lead."""
    rows, hours = results["rows"], results["hours"]
    scaled = {}
    for name in SHOWN[:2]:
        middle = {h: np.median(hours[name][rows["lead"] == h]) for h in np.unique(rows["lead"])}
        scaled[name] = np.log(np.maximum(hours[name], 0.1) / [middle[h] for h in rows["lead"]])
    gap = np.where(rows["lead"] >= 12, scaled[SHOWN[0]] - scaled[SHOWN[1]], 0)
    lines = ["| valid | lead | displaced | " + " | ".join(hours) + " |", "|---" * (3 + len(hours)) + "|"]
    for i in (int(np.argmax(gap)), int(np.argmin(gap))):
        cells = " | ".join(f"{h[i]:.1f}" for h in hours.values())
        when = str(rows["time"][i])[:13]
        lines.append(f"| {when} | {rows['lead'][i]:.0f} h | {rows['km'][i]:.0f} km | {cells} |")
    return lines


def _figure(results: dict[str, Any]) -> bytes:
    plt = require("matplotlib.pyplot", "eval")
    figure = plt.figure(figsize=(10, 7.4), layout="constrained")
    axes = figure.subplot_mosaic([["lead"] * 2 + ["moved"] * 2, [0, 24, 48, 72]], height_ratios=(1, 0.8))
    for name in SHOWN:
        lead, spread = by_lead(results["hours"][name], results["rows"]["lead"])
        axes["lead"].plot(lead, spread[:, 1], label=name)
        axes["lead"].fill_between(lead, spread[:, 0], spread[:, 2], alpha=0.15)
        axes["moved"].plot(results["km"], results["scores"][name]["moved"], marker="o", markersize=3, label=name)
    axes["lead"].set(xlabel="lead (h)", ylabel="error (h): median, 80 % of forecasts", xlim=(0, None), ylim=(0, None))
    axes["moved"].set(xlabel="analysis moved east (km)", ylabel="read as (h)", xlim=(0, None), ylim=(0, None))
    axes["lead"].legend(frameon=False)
    case = results["case"]
    west, east, south, north = (
        case[k][i] for k, i in (("longitude", 0), ("longitude", -1), ("latitude", -1), ("latitude", 0))
    )
    for lead, winds in case["maps"].items():
        speed = np.hypot(*winds)
        image = axes[lead].imshow(
            speed, extent=(west, east, south, north), vmin=0, vmax=30, cmap="viridis", aspect="auto"
        )
        draw_coastlines(axes[lead], west, east)
        read = case["hours"].get(lead)
        said = f"{lead} h ahead: {read[SHOWN[0]]:.1f} h, MAE {read[SHOWN[1]]:.1f} h" if read else "analysis"
        axes[lead].set_title(said, fontsize=8)
    figure.colorbar(image, ax=[axes[lead] for lead in case["maps"]], label="wind (m/s)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    plt.close(figure)
    return buffer.getvalue()


def page(results: dict[str, Any], seconds: float) -> tuple[str, dict[str, Any], bytes]:
    """Return the text, the data and the figure."""
    rows = results["rows"]
    text = [
        f"`python benchmarks/downstream/forecast_error.py`: {len(rows['lead'])} forecasts of "
        f"{len(np.unique(rows['time'].astype('datetime64[D]')))} held-out days; {seconds:.0f} CPU-seconds, "
        f"torch {torch.__version__}.",
    ]
    case = [
        f"{lead} h: " + ", ".join(f"{k} {v:.1f}" for k, v in read.items())
        for lead, read in results["case"]["hours"].items()
    ]
    for title, lines in (
        ("Error in hours by lead: median, and 10th to 90th percentile", _leads_table(results)),
        ("Analyses moved east: hours, medians", _moved_table(results)),
        ("Among forecasts of one lead: correlation of ranks, 95 % over days", _relations_table(results)),
        ("Fields of a known lag, read by the curves: median hours", _told_table(results)),
        ("Where AtmoDist of winds and MAE of winds disagree most: hours", _disagreement(results)),
        ("Typhoon Dolphin, 2026-08-08 00 UTC: km of displacement, and hours", [f"- {line}" for line in case]),
    ):
        text += ["", f"## {title}", *lines]
    data = {key: results[key] for key in ("km", "scores", "analyses", "atlantic")}
    data |= {"case": results["case"]["hours"], "cpu_seconds": round(seconds)}
    data["leads"] = {}
    for name, hours in results["hours"].items():
        known, spread = by_lead(hours, rows["lead"])
        data["leads"][name] = {f"{h:.0f}": [round(float(x), 2) for x in s] for h, s in zip(known, spread, strict=True)}
    return "\n".join(text) + "\n", data, _figure(results)
