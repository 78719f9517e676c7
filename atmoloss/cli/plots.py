"""The pictures of ``atmoloss distance --plot``, and the one of ``atmoloss report`` over lead times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from atmoloss.errors import InputError, require
from atmoloss.verification.report.coastlines import draw_coastlines
from atmoloss.verification.report.drawing import panels, style, to_plot

_LABELS = {"distance": "distance", "hours": "equivalent lag [h]"}


def check_format(path: str) -> None:
    """Raise ``InputError`` where matplotlib does not write this type of file."""
    types = require("matplotlib.figure", "eval").Figure().canvas.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in types:
        raise InputError(f"--plot: got {path!r}, expected a name that ends in one of .{', .'.join(types)}")


def save(figure: Any, path: str, title: str) -> None:
    """Write a figure under a title, in the format that the name of its file says."""
    figure.suptitle(title, fontsize=8, color="0.35", wrap=True)
    Path(path).write_bytes(to_plot(figure, Path(path).name.lower(), title, title).data)


def draw_series(path: str, title: str, *, x: np.ndarray, series: Mapping[str, ArrayLike], name: str) -> None:
    """Draw distances or equivalent lags over times (datetime64), or their means over runs by lead time (hours).

    Each of the series is (N,), or (3, N) with the lower and upper bounds of its interval, which are a shaded band.
    """
    label, highest, banded = _LABELS[name], 0.0, False
    figure, ((axes,),) = panels(1, 1, 3.6)
    for own, rows in series.items():
        values, *bounds = np.atleast_2d(rows)
        look = style(list(series), own)
        axes.plot(x, values, marker="o", markersize=4, label=own, **look)
        if bounds and np.isfinite(bounds).all():
            axes.fill_between(x, *bounds, color=look["color"], alpha=0.25, linewidth=0)
            banded = True
        highest = max(highest, np.nanmax(rows))
    if len(series) > 1:
        axes.legend(frameon=False)
    if x.dtype.kind == "M":
        dates = require("matplotlib.dates", "eval")
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.set_ylabel(label)
    else:
        axes.set(xlabel="lead time [h]", ylabel=f"{label}, mean over runs{', 95 %' * banded}")
    axes.set_ylim(0, 1.08 * highest or 1.0)
    axes.grid(alpha=0.3)
    save(figure, path, title)


def draw_matrix(
    path: str, title: str, *, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], name: str
) -> None:
    """Draw distances or equivalent lags (N, M) as an image, labelled with times."""
    figure, ((axes,),) = panels(1, 1, 6.5)
    image = axes.imshow(values, cmap="viridis", vmin=0.0, aspect="auto", interpolation="nearest")
    for axis, labels in ((axes.xaxis, columns), (axes.yaxis, rows)):
        ticks = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 8)).astype(int))
        axis.set_ticks(ticks, [labels[i].replace("T", " ") for i in ticks])
    for label in axes.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=axes, label=_LABELS[name])
    save(figure, path, title)


def draw_map(
    path: str, title: str, *, values: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, heading: str
) -> None:
    """Draw where two fields differ, (H, W), and the coastlines."""
    figure, ((axes,),) = panels(1, 1, 6.4 * np.clip(len(latitude) / len(longitude), 0.3, 1.2) + 1.0)
    mesh = axes.pcolormesh(longitude, latitude, values, cmap="magma_r", vmin=0.0, shading="nearest")
    draw_coastlines(axes, *axes.get_xlim())
    axes.set(title=heading, xlabel="longitude [°E]", ylabel="latitude [°N]", aspect="equal")
    figure.colorbar(mesh, ax=axes, label="contribution to the distance", shrink=0.8)
    save(figure, path, title)
