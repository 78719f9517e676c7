"""The picture of ``atmoloss attention --plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.cli.look import Look, Read
from atmoloss.cli.plots import save
from atmoloss.data.forecasts import valid_texts
from atmoloss.errors import require
from atmoloss.sphere import EARTH_RADIUS
from atmoloss.verification.report.drawing import panels, pretty_name
from atmoloss.verification.report.maps import draw_maps, map_height

if TYPE_CHECKING:
    import xarray as xr

_MAP, _PLACE, _WIND = "black", "#007A5A", "0.45"
_VEILED = 0.6  # how much of the colour is taken away where a map has no weight
_ARROWS = 11  # of the wind, from one side of a map to the other


def draw(path: str, title: str, look: Look, channel: str, *, coasts: bool) -> None:
    """Draw the fields with the maps over them, and below what was predicted, what came, and a key to the signs.

    Args:
        path: of the picture.
        title: over it.
        look: to draw.
        channel: of the fields.
        coasts: whether coastlines are drawn.
    """
    reach, columns = (look.radius + 1) * look.position.stride, max(len(look.reads), 3)
    fields, predicted = (look.position.view(data[channel], reach) for data in (look.fields, look.predicted))
    times, (later,) = ([t.replace("T", " ") for t in valid_texts(data)] for data in (look.fields, look.predicted))
    pictures = {
        f"{time}\n{_ago(read)}, {100 * read.map.sum():.0f} % of the map": field
        for read, time, field in zip(look.reads, times, fields.values, strict=False)
    }
    pictures[f"predicted for\n{later}"] = predicted.values[0]
    if look.came:
        pictures[f"came at\n{later}"] = fields.values[-1]
    figure, axes = panels(2, columns, 2 * map_height(fields, columns) + 0.6)
    past, then = axes[0, : len(look.reads)], axes[1, : len(pictures) - len(look.reads)]
    used, units = np.concatenate((past, then)), str(fields.attrs.get("units", "1"))
    scale = fields.values[np.isfinite(fields.values)]  # what came may have missing values
    draw_maps(figure, used, fields, pictures, units, scale, coasts)
    for ax in {*axes.flat} - {*used}:
        ax.set_axis_off()
    for ax, read in zip(past, look.reads, strict=True):
        _draw_map(ax, look, read)
    if look.winds is not None:
        winds = look.position.view(look.winds, reach)
        for ax, time in zip((*past, *then[1:]), winds["time"], strict=True):
            _draw_winds(ax, winds.sel(time=time), look.step)
    for ax in used:
        (north, south), (west, east) = look.position.places(*2 * [np.array((-0.5, 0.5))])
        ax.plot((west, east, east, west, west), (north, north, south, south, north), color=_PLACE, linewidth=1.8)
    _draw_key(axes[-1, -1], look, pretty_name(channel))
    save(figure, path, title)


def _ago(read: Read) -> str:
    return f"{-read.hours:g} h before" if read.hours else "now"


def _draw_map(ax: Any, look: Look, read: Read) -> None:
    """Veil a field where its map has little weight, frame half of it, and draw its centroid and the way of the air."""
    weights = np.pad(read.map, 2)  # beyond the window there is none
    edges = np.arange(weights.shape[0] + 1) - weights.shape[0] / 2
    latitude, longitude = look.position.places(edges, edges)
    white = [(1.0, 1.0, 1.0, _VEILED), (1.0, 1.0, 1.0, 0.0)]
    veil = require("matplotlib.colors", "eval").LinearSegmentedColormap.from_list("veil", white)
    ax.pcolormesh(longitude, latitude, weights, cmap=veil, vmin=0, zorder=1.5)  # below the coastlines
    ax.add_artist(_frame(_half(weights), latitude, longitude))
    ax.plot(*read.centroid[::-1], "x", color=_MAP, markersize=6, markeredgewidth=1.5)
    if read.air is not None and read.hours:
        arrow = {"arrowstyle": "->", "color": _PLACE, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", look.position.centre[::-1], read.air[::-1], arrowprops=arrow)


def _half(weights: np.ndarray) -> np.ndarray:
    """Return the fewest positions that hold half of a map, bool."""
    ordered = np.sort(weights.ravel())[::-1]
    least = ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)]
    return np.asarray(weights >= least)


def _frame(inside: np.ndarray, latitude: np.ndarray, longitude: np.ndarray) -> Any:
    """Return the edges between positions (N, M) inside and outside, as lines; edges (N + 1,) and (M + 1,)."""
    lines = [
        ((longitude[j], latitude[i + 1]), (longitude[j + 1], latitude[i + 1]))
        for i, j in np.argwhere(inside[1:] != inside[:-1])
    ]
    lines += [
        ((longitude[j + 1], latitude[i]), (longitude[j + 1], latitude[i + 1]))
        for i, j in np.argwhere(inside[:, 1:] != inside[:, :-1])
    ]
    return require("matplotlib.collections", "eval").LineCollection(lines, colors=_MAP, linewidths=0.9, zorder=2.5)


def _draw_winds(ax: Any, winds: xr.Dataset, hours: float) -> None:
    """Draw how far the air goes in some hours."""
    thin = max(1, winds.sizes["longitude"] // _ARROWS)
    part = winds.isel(latitude=slice(thin // 2, None, thin), longitude=slice(thin // 2, None, thin))
    degrees = 3600.0 * hours / np.radians(1.0) / EARTH_RADIUS
    east = degrees * part["u"] / np.cos(np.radians(part["latitude"])).clip(0.1)
    ax.quiver(
        part["longitude"],
        part["latitude"],
        east,
        degrees * part["v"],
        angles="xy",
        scale_units="xy",
        scale=1,
        color=_WIND,
        width=0.005,
        zorder=2.2,
    )


def _draw_key(ax: Any, look: Look, channel: str) -> None:
    """Say what the signs are, where no map is."""
    line, n = require("matplotlib.lines", "eval").Line2D, look.position.stride
    hollow = {"linestyle": "none", "marker": "s", "fillstyle": "none"}
    signs = {
        f"the place, {n}x{n} cells": line([], [], color=_PLACE, markersize=7, markeredgewidth=1.8, **hollow),
        "half of what its prediction\nreads of a field; the paler,\nthe less it reads": line(
            [], [], color=_MAP, markersize=11, **hollow
        ),
        "centroid of the map there": line([], [], marker="x", color=_MAP, linestyle="none"),
    }
    if look.winds is not None:
        signs |= {
            "way of its air since then,\nby the wind of the present": line(
                [], [], color=_PLACE, linewidth=1.8, marker=">"
            ),
            f"wind: way of the air in {look.step:g} h": line(
                [], [], color=_WIND, linewidth=1, marker=">", markersize=4
            ),
        }
    legend = ax.legend(
        signs.values(), signs.keys(), loc="center left", frameon=False, title=channel, fontsize=7.5, borderpad=0
    )
    legend.set_in_layout(False)
