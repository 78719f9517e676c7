"""Figures and model card of a weights folder, from its metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.data.sources import FieldSource
from atmoloss.errors import require
from atmoloss.networks import LOW_PASS, Encoder
from atmoloss.training.config import SourceConfig
from atmoloss.weights import WeightsInfo, write_atomically

_BASELINES = ("random weights", "MSE of fields", "MAE of fields", "MSE of winds", "MAE of winds", "SSIM of fields")


def write_figures(folder: Path, info: WeightsInfo, metrics: dict[str, Any]) -> None:
    """Write confusion matrix, accuracy per lag, distance against lag, and lag 2AFC as PNG."""
    require("matplotlib", "train").use("Agg")
    plt = require("matplotlib.pyplot", "train")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    test = [s for s in metrics["sources"] if s["split"] == "test"] or metrics["sources"]
    classes = [s for s in test if s.get("classes")]

    if classes:
        counts = np.sum([s["classes"]["confusion"] for s in classes], axis=0)
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        fig, axes = plt.subplots(figsize=(5.5, 4.8), layout="constrained")
        last = info.n_lag_classes * info.base_step_hours
        span = (info.base_step_hours / 2, last + info.base_step_hours / 2)
        image = axes.imshow(share, origin="lower", cmap="magma_r", extent=(*span, *span))
        fig.colorbar(image, label="share of pairs of that lag")
        axes.set(xlabel="answered lag (h)", ylabel="true lag (h)", title="Lag classes, unseen dates")
        _save(plt, fig, figures / "confusion.png")

        fig, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
        for s in classes:
            lags = s["classes"]["per_lag"]
            axes.plot([p["hours"] for p in lags], [p["top3"] for p in lags], marker=".", label=s["name"])
        axes.set(xlabel="lag (h)", ylabel="top-3 accuracy", title="Lag classes, unseen dates", ylim=(0, 1))
        axes.legend(fontsize=8)
        _save(plt, fig, figures / "accuracy_per_lag.png")

    fig, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    hours = np.array(metrics["lag_hours"])
    for k, (source, curves) in enumerate(metrics["lag_curves"].items()):
        values = {n: np.array(c, float) for n, c in curves.items()}
        whole = np.sum([info.layers[n] * info.layer_scales[n] * values[n] for n in info.layers], axis=0)
        has = np.isfinite(values["mse"])
        axes.plot(hours[has], whole[has], f"C{k}.-", label=f"AtmoDist, {source}")
        axes.plot(hours[has], values["mse"][has], f"C{k}.:", label=f"MSE, {source}")
    axes.set(xlabel="lag (h)", ylabel="mean over validation pairs", title="Distance against lag", ylim=(0, None))
    axes.legend(fontsize=7, ncols=2)
    _save(plt, fig, figures / "distance_vs_lag.png")

    fig, axes = plt.subplots(figsize=(7, 0.9 + 0.75 * len(test)), layout="constrained")
    colours = plt.get_cmap("tab10").colors
    for row, s in enumerate(test):
        scores = s["lag_2afc"]
        shown = ["distance", best_baseline(scores)[0], *[b for b in _BASELINES if b in scores]]
        for k, name in enumerate(dict.fromkeys(shown)):
            value, (low, high) = scores[name]["value"], scores[name]["interval"]
            label = "best baseline" if k == 1 else name
            y = row - 0.08 * k + 0.2
            axes.errorbar(
                value, y, xerr=[[value - low], [high - value]], fmt="o", ms=5 if k < 2 else 3.5,
                color=_colour(colours, label), label=label if row == 0 else None,
            )  # fmt: skip
    axes.set_yticks(range(len(test)), [s["name"] for s in test], fontsize=8)
    axes.set(xlabel="lag 2AFC, unseen dates (95 % over days)", ylim=(len(test) - 0.5, -0.6))
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    _save(plt, fig, figures / "lag_2afc.png")


_COLOUR_ORDER = ("distance", "best baseline", *_BASELINES)


def _colour(colours: Any, label: str) -> Any:
    return colours[_COLOUR_ORDER.index(label)] if label in _COLOUR_ORDER else "grey"


def _save(plt: Any, fig: Any, path: Path) -> None:
    fig.savefig(path, dpi=110)
    plt.close(fig)


def baselines(scores: dict[str, Any]) -> dict[str, float]:
    """Return the lag 2AFC of everything that is neither the distance nor a stage of the weights themselves."""
    return {n: s["value"] for n, s in scores.items() if n != "distance" and not n.endswith(" alone")}


def best_baseline(scores: dict[str, Any]) -> tuple[str, float]:
    """Return name and value of the best of :func:`baselines`."""
    others = baselines(scores)
    name = max(others, key=others.__getitem__)
    return name, others[name]


# What ECMWF asks of those who use ERA5 (CC-BY): confluence.ecmwf.int, "How to acknowledge and cite a CDS entry".
_ERA5_LICENSE = "CC-BY, Copernicus Climate Change Service"
_ERA5_ATTRIBUTION = (
    "Contains modified Copernicus Climate Change Service information {years}. Neither the European Commission nor "
    "ECMWF is responsible for any use that may be made of the Copernicus information or data it contains."
)


def public_path(path: str) -> str:
    """Return what others can use of a path: a URL as it is, of a file its name."""
    return path if "://" in path else Path(path).name


def describe_data(
    configured: Sequence[SourceConfig], train: Sequence[FieldSource], hashes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return name, origin, share, dates, grid, SHA-256, licence and attribution of what weights were trained on.

    Where neither is configured, sources with ERA5 in their name or path get what its licence asks for.

    Args:
        configured: sources of the configuration.
        train: their training dates; sources that have none are left out.
        hashes: fingerprint by name.
    """
    by_name = {source.name: source for source in configured}
    out = []
    for source in train:
        asked = by_name[source.name]
        days = source.dates.astype("datetime64[D]")
        first, last = (str(day)[:4] for day in (days.min(), days.max()))
        era5 = re.search(r"era-?5(?!\d)", f"{asked.name} {asked.path}", re.IGNORECASE) is not None
        attribution = _ERA5_ATTRIBUTION.format(years=first if first == last else f"{first}–{last}") if era5 else ""
        out.append(
            {
                "name": source.name,
                "path": public_path(asked.path),
                "share": source.weight,
                "level": source.level,
                "grid_spacing": source.grid_spacing,
                "n_times": len(source.times),
                "dates": f"{days.min()}/{days.max()}",
                "sha256": hashes[source.name],
                "license": asked.license or (_ERA5_LICENSE if era5 else ""),
                "attribution": asked.attribution or attribution,
            }
        )
    return out


def _data_line(s: Mapping[str, Any]) -> str:
    parts = [
        f"- {s['name']}, share {s['share']:g}: {s['path']}, {s['n_times']} times of {s['dates']}",
        f"{s['grid_spacing']:.3g}°, sha256 {s['sha256'][:12]}…",
        s["license"] or "licence not stated",
    ]
    return ", ".join(parts) + (f". {s['attribution']}" if s["attribution"] else "")


# Of the identifiers that the Hub knows (hf.co/docs/hub/repositories-licenses) those that weights tend to have.
_HUB_LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")


def _license_header(name: str) -> str:
    """Return the lines of the card's metadata; the Hub refuses identifiers that it does not know."""
    if name.lower() in _HUB_LICENSES:
        return f"license: {name.lower()}"
    return f"license: other\nlicense_name: {json.dumps(name or 'not-stated')}"


def _commit(commit: str) -> str:
    return f" (commit {commit[:12]}{' with changes' if commit.endswith('+') else ''})" if commit else ""


def write_card(folder: Path, info: WeightsInfo, metrics: dict[str, Any]) -> None:
    """Write ``README.md``, a Hugging Face model card."""
    rows = []
    for s in metrics["sources"]:
        scores = s["lag_2afc"]
        low, high = scores["distance"]["interval"]
        best, value = best_baseline(scores)
        gap = scores[best]["gap"]
        cells = [
            s["split"],
            s["name"],
            f"{s['grid_spacing']:.3g}°",
            s["n_times"],
            f"**{scores['distance']['value']:.3f}** ({low:.3f}–{high:.3f})",
            *(f"{scores[b]['value']:.3f}" if b in scores else "–" for b in _BASELINES),
            f"{value:.3f} ({best})",
            f"{gap[0]:+.3f} to {gap[1]:+.3f}",
            *(f"{s['classes'][k]:.2f}" if s.get("classes") else "–" for k in ("top1", "top3")),
            f"{s['classes']['mae_hours']:.0f} h" if s.get("classes") else "–",
        ]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    config = metrics["config"]
    head = ["split", "source", "grid", "times", "lag 2AFC (95 % over days)", *_BASELINES, "best baseline"]
    head += ["gap to it", "top-1", "top-3", "lag error"]
    channels = ", ".join(f"{c['name']} ({c['units'] or 'the data name no units'})" for c in info.channels)
    layers = ", ".join(f"{n} × {w:.3g}" for n, w in info.layers.items())
    sources = "\n".join(_data_line(s) for s in metrics["training"])
    processes, origin = metrics["processes"], metrics["origin"]
    start = "atmoloss train" if processes == 1 else f"torchrun --nproc-per-node {processes} -m atmoloss.train"
    last = info.n_lag_classes * info.base_step_hours
    encoder = Encoder(**info.encoder)
    fields = ", ".join(f"{stage} {cells}" for stage, cells in encoder.receptive_fields.items())
    smallest = max(encoder.smallest_input(stage) for stage in encoder.strides)
    unseen = "" if LOW_PASS in info.layers else "Bias: the mean over a patch is weak in the features.\n"
    held = {split: ", ".join(config[split]) or "none" for split in ("validation", "test")}
    text = f"""---
library_name: atmoloss
{_license_header(info.license)}
tags: [weather, perceptual-loss, representation-learning]
---
# {info.name}

Features whose distances measure how far apart two states of the atmosphere are (AtmoDist, Hoffmann & Lessig
2023, arXiv:2202.01897), trained with atmoloss {info.package_version}. Id: `{info.id}`.

- Channels, in this order: {channels}.
- Trained on grids of {", ".join(f"{g:.3g}°" for g in info.grid_spacings)}, patches of {info.patch_sizes} cells,
  lags to {last} h in steps of {info.base_step_hours} h. Other spacings: check with `atmoloss evaluate` first.
- Receptive field: {fields} cells; outside a field it sees zeros (or wraps, `periodic=True`). Any size from {smallest}
  rows and columns works, and is on the same scale; how much distances depend on the size of what was encoded:
  `benchmarks/pretext/size_consistency.py`.
- Recommended layers: {layers}; `mse_weight` {info.mse_weight:g}.
- {metrics["step"]} steps; configuration and data fingerprints: `metrics.json`.

## Held-out dates
Lag 2AFC: how often the earlier of two later fields is nearer to an anchor, lags to
{last} h, all triples of each patch; chance 0.5. Intervals by bootstrap over days.
The value depends on how long the held-out blocks are (short blocks hold more easy, short lags): compare within a row.
Validation dates served to fit layer scales; test dates for nothing but this table. Lag classes: a source with 6-hourly
fields has every other class only, and the head, trained mostly on such, prefers those.

| {" | ".join(head)} |
|{"---|" * len(head)}
{chr(10).join(rows)}

![lag 2AFC](figures/lag_2afc.png) ![distance against lag](figures/distance_vs_lag.png)
![confusion](figures/confusion.png) ![accuracy per lag](figures/accuracy_per_lag.png)

## Data
{sources}

Held out of every source: validation {held["validation"]}; test {held["test"]}.
The weights: {info.license or "no licence stated"}.

## Train it again
With the files named above in the folder of `metrics.json` (which holds the whole configuration):

    {start} metrics.json --output runs/{info.name}

Made with atmoloss {origin["atmoloss"]}{_commit(origin["git_commit"])} and torch {origin["torch"]}.

## What it does not measure
{unseen}Anything in channels it does not see, and differences at the edge of a
patch as reliably as inside it.
"""
    write_atomically(folder / "README.md", text.encode())
