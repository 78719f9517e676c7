"""Figures of a weights folder, from its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.errors import require
from atmoloss.training.card import BASELINES, FIGURES, best_baseline
from atmoloss.weights import WeightsInfo


def write_figures(folder: Path, info: WeightsInfo, metrics: dict[str, Any]) -> None:
    """Write confusion matrix, accuracy per lag, distance against lag, and lag 2AFC as PNG."""
    require("matplotlib", "train").use("Agg")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    for name in FIGURES:  # an earlier publication may have had dates that this one has not
        (figures / f"{name}.png").unlink(missing_ok=True)
    test = [s for s in metrics["sources"] if s["split"] == "test"] or metrics["sources"]
    classes = [s for s in test if s.get("classes")]
    if classes:
        _draw_classes(figures, info, classes)
    _draw_curves(figures, info, metrics)
    if test:
        _draw_lag_2afc(figures, test)


@contextlib.contextmanager
def _axes(path: Path, size: tuple[float, float], **labels: Any) -> Iterator[Any]:
    """Give the axes of a new figure, which is labelled and written at the end."""
    plt = require("matplotlib.pyplot", "train")
    fig, axes = plt.subplots(figsize=size, layout="constrained")
    yield axes
    axes.set(**labels)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def _draw_classes(figures: Path, info: WeightsInfo, classes: Sequence[dict[str, Any]]) -> None:
    counts = np.sum([s["classes"]["confusion"] for s in classes], axis=0)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    span = (info.base_step_hours / 2, (info.n_lag_classes + 0.5) * info.base_step_hours)
    title = "Lag classes, unseen dates"
    labels = {"xlabel": "answered lag (h)", "ylabel": "true lag (h)", "title": title}
    with _axes(figures / "confusion.png", (5.5, 4.8), **labels) as axes:
        image = axes.imshow(share, origin="lower", cmap="magma_r", extent=(*span, *span))
        axes.figure.colorbar(image, label="share of pairs of that lag")
    labels = {"xlabel": "lag (h)", "ylabel": "top-3 accuracy", "title": title}
    with _axes(figures / "accuracy_per_lag.png", (6, 3.8), ylim=(0, 1), **labels) as axes:
        for s in classes:
            lags = s["classes"]["per_lag"]
            axes.plot([p["hours"] for p in lags], [p["top3"] for p in lags], marker=".", label=s["name"])
        axes.legend(fontsize=8)


def _draw_curves(figures: Path, info: WeightsInfo, metrics: dict[str, Any]) -> None:
    hours = np.array(metrics["lag_hours"])
    dates = "validation" if metrics["config"]["validation"] else "training"
    labels = {"xlabel": "lag (h)", "ylabel": f"mean over {dates} pairs", "title": "Distance against lag"}
    with _axes(figures / "distance_vs_lag.png", (8, 3.8), ylim=(0, None), **labels) as axes:
        for k, (source, curves) in enumerate(metrics["lag_curves"].items()):
            values = {n: np.array(c, float) for n, c in curves.items()}
            whole = np.sum([info.layers[n] * info.layer_scales[n] * values[n] for n in info.layers], axis=0)
            has = np.isfinite(values["mse"])
            axes.plot(hours[has], whole[has], f"C{k}.-", label=f"AtmoDist, {source}")
            axes.plot(hours[has], values["mse"][has], f"C{k}.:", label=f"MSE, {source}")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_lag_2afc(figures: Path, test: Sequence[dict[str, Any]]) -> None:
    names = ("distance", "best baseline", *BASELINES)
    colours = dict(zip(names, require("matplotlib", "train").colormaps["tab10"].colors, strict=False))
    labels = {"xlabel": "lag 2AFC, unseen dates (95 % over days)", "ylim": (len(test) - 0.5, -0.6)}
    with _axes(figures / "lag_2afc.png", (7, 0.9 + 0.75 * len(test)), **labels) as axes:
        for row, s in enumerate(test):
            scores = s["lag_2afc"]
            shown = ["distance", best_baseline(scores)[0], *[b for b in BASELINES if b in scores]]
            for k, name in enumerate(dict.fromkeys(shown)):
                value = scores[name]["value"]
                low, high = scores[name]["interval"] or (value, value)
                label = "best baseline" if k == 1 else name
                axes.errorbar(
                    value, row - 0.08 * k + 0.2, xerr=[[value - low], [high - value]], fmt="o", ms=5 if k < 2 else 3.5,
                    color=colours.get(label, "grey"), label=label if row == 0 else None,
                )  # fmt: skip
        axes.set_yticks(range(len(test)), [s["name"] for s in test], fontsize=8)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
