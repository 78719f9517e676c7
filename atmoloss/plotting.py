"""The pictures of ``atmoloss distance --plot``; matplotlib without its global state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from atmoloss.errors import InputError, require
from atmoloss.verification.report.coastlines import draw_coastlines


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = require("matplotlib.figure", "eval").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Any, path: str | os.PathLike[str], title: str) -> None:
    figure.suptitle(title, fontsize=8, color="0.35")
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:  # a file type that matplotlib does not write
        raise InputError(f"--plot: got {os.fspath(path)!r}: {error}") from error


def draw_series(path: str | os.PathLike[str], times: np.ndarray, values: Sequence[float], title: str) -> None:
    """Draw distance over time."""
    figure, axes = _figure(8.0, 4.0)
    axes.plot(times, values, marker="o", markersize=4)
    dates = require("matplotlib.dates", "eval")
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.set_ylim(0, 1.08 * max(values) or 1.0)
    axes.set_ylabel("distance")
    axes.grid(alpha=0.3)
    _save(figure, path, title)


def draw_leads(path: str | os.PathLike[str], hours: np.ndarray, values: np.ndarray, title: str) -> None:
    """Draw mean distance over lead time."""
    figure, axes = _figure(8.0, 4.0)
    axes.plot(hours, values, marker="o", markersize=4)
    axes.set_ylim(0, 1.08 * values.max() or 1.0)
    axes.set(xlabel="lead time [h]", ylabel="distance, mean over runs")
    axes.grid(alpha=0.3)
    _save(figure, path, title)


def draw_matrix(
    path: str | os.PathLike[str], values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str
) -> None:
    """Draw distances (N, M) as an image, labelled with times."""
    figure, axes = _figure(8.0, 7.2)
    image = axes.imshow(values, cmap="viridis", vmin=0.0, aspect="auto", interpolation="nearest")
    for axis, labels in ((axes.xaxis, columns), (axes.yaxis, rows)):
        ticks = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 8)).astype(int))
        axis.set_ticks(ticks, [labels[i].replace("T", " ") for i in ticks])
    for label in axes.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=axes, label="distance")
    _save(figure, path, title)


def draw_map(
    path: str | os.PathLike[str],
    values: np.ndarray,
    latitude: np.ndarray,
    longitude: np.ndarray,
    heading: str,
    title: str,
) -> None:
    """Draw where two fields differ, (H, W), and the coastlines."""
    height = 8.0 * np.clip(len(latitude) / len(longitude), 0.3, 1.2) + 1.0
    figure, axes = _figure(9.0, height)
    mesh = axes.pcolormesh(longitude, latitude, values, cmap="magma_r", vmin=0.0, shading="nearest")
    draw_coastlines(axes, *axes.get_xlim())
    axes.set(title=heading, xlabel="longitude [°E]", ylabel="latitude [°N]", aspect="equal")
    figure.colorbar(mesh, ax=axes, label="contribution to the distance", shrink=0.8)
    _save(figure, path, title)
