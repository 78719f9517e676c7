"""The maps of a report: cities, moments and an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.verification.report.coastlines import draw_coastlines
from atmoloss.verification.report.drawing import WIDTH, Plot, drawn_from, panels, pretty_name, readable, style, to_plot
from atmoloss.verification.results import TRUTH, Evaluation
from atmoloss.verification.statistics.grid import degrees

if TYPE_CHECKING:
    import xarray as xr

# The example shows at most so many degrees of a field, around the North Atlantic storm track.
_EXAMPLE, _CENTRE = (50.0, 80.0), (45.0, 320.0)
# A map has about so many pixels from west to east; finer grids are thinned.
_COLUMNS = 540


@drawn_from("wasserstein")
def cities(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw the Wasserstein distances at the cities, sorted, and on maps."""
    data, models = evaluation.curves[variable], evaluation.models
    factor, unit = readable(data["wasserstein"].values, data["wasserstein"].attrs["units"])
    distances = factor * data["wasserstein"]
    rows = -(-len(models) // 2)
    figure, axes = panels(rows + 1, 2, 2.6 + 2.0 * rows)
    for ax in (*axes[0], *axes[1:].flat[len(models) :]):
        ax.remove()
    top = figure.add_subplot(axes[0, 0].get_gridspec()[0, :])
    maps = axes[1:].ravel()[: len(models)]
    marks = {"marker": "o", "markersize": 3} if data.sizes["city"] < 20 else {}
    for model in models:
        values = np.sort(distances.sel(model=model).values)
        top.plot(np.arange(1, values.size + 1), values, label=model, **marks, **style(models, model))
    top.xaxis.get_major_locator().set_params(integer=True)
    top.set(
        xlabel="cities, sorted for each model", ylabel=f"Wasserstein-1 [{unit}]", xlim=(1, values.size), ylim=(0, None)
    )
    top.grid(alpha=0.25)
    top.legend(frameon=False)
    west = data["longitude"].values[0] - 0.5
    longitude = (data["city_longitude"].values - west) % 360.0 + west
    looks = {"s": 11, "edgecolors": "0.3", "linewidths": 0.3, "cmap": "viridis_r", "zorder": 3}  # over the coastlines
    looks |= {"vmin": 0, "vmax": float(np.percentile(distances.values, 98)) or 1.0}
    for ax, model in zip(maps, models, strict=True):
        points = ax.scatter(longitude, data["city_latitude"], c=distances.sel(model=model), **looks)
        _map_axes(ax, data, model)
    _bar(figure, points, maps, f"Wasserstein-1 [{unit}]", extend="max")
    return to_plot(
        figure,
        f"cities_{variable}.svg",
        f"Wasserstein-1 distance between model and truth of {pretty_name(variable)} over time at "
        f"{evaluation.settings['n_cities']} cities.",
        f"Sorted Wasserstein distances of {pretty_name(variable)} at cities per model, and maps of them",
    )


def _map_axes(ax: Any, data: xr.Dataset | xr.DataArray, title: str, coasts: bool = True) -> None:
    latitude, longitude = data["latitude"].values, data["longitude"].values
    ax.set(xlim=(longitude[0], longitude[-1]), ylim=(latitude[-1], latitude[0]))
    if coasts:
        draw_coastlines(ax, longitude[0], longitude[-1])
    ax.set_aspect(1 / _row_length(latitude))
    ax.set_title(title, fontsize=8.5)
    ax.tick_params(labelsize=6.5)
    ax.xaxis.set_major_formatter(lambda x, _: degrees(round((x + 180.0) % 360.0 - 180.0, 6), "EW"))
    ax.yaxis.set_major_formatter(lambda y, _: degrees(round(y, 6), "NS"))


def _limits(values: np.ndarray) -> dict[str, Any]:
    """Return colour map and limits: diverging about 0 where that lies inside the values, else sequential."""
    low, high = np.percentile(values, [0.5, 99.5])
    if low < 0 < high:
        bound = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    return {"cmap": "viridis", "vmin": low, "vmax": high if high > low else low + 1.0}


def draw_maps(
    figure: Any,
    axes: np.ndarray,
    data: xr.Dataset | xr.DataArray,
    pictures: dict[str, np.ndarray],
    unit: str,
    scale: np.ndarray,
    coasts: bool = True,
) -> None:
    """Draw maps that share one colour scale, and its bar.

    Args:
        figure, axes: of matplotlib; the axes one for each picture.
        data: whose latitude (descending) and longitude (ascending) the pictures have.
        pictures: title → values (H, W).
        unit: of the values, as CF writes it.
        scale: values, of any shape, that the colours are made for.
        coasts: whether coastlines are drawn.
    """
    limits = _limits(scale)
    factor, text = readable([limits["vmin"], limits["vmax"]], unit)
    limits |= {name: factor * limits[name] for name in ("vmin", "vmax")}
    thin = slice(None, None, max(1, data.sizes["longitude"] // _COLUMNS))
    axis = data["longitude"].values[thin], data["latitude"].values[thin]
    for ax, (title, values) in zip(axes, pictures.items(), strict=True):
        mesh = ax.pcolormesh(*axis, factor * values[thin, thin], shading="nearest", **limits)
        _map_axes(ax, data, title, coasts)
    _bar(figure, mesh, axes, f"[{text}]", extend="both")


def _bar(figure: Any, mesh: Any, axes: np.ndarray, label: str, extend: str) -> None:
    one_row = len({ax.get_subplotspec().rowspan.start for ax in axes}) == 1
    shape = {"shrink": 1.0, "aspect": 12} if one_row else {"shrink": 0.7, "aspect": 30}
    figure.colorbar(mesh, ax=axes.tolist(), extend=extend, **shape).set_label(label)


@drawn_from("mean")
def moment_maps(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw mean and standard deviation of the truth, and the errors of each model."""
    data, models = evaluation.curves[variable], evaluation.models
    unit = data["mean"].attrs["units"]
    shape = map_height(data)
    figure, axes = panels(1 + len(models), 2, (1 + len(models)) * shape + 0.2)
    for column, (name, text) in enumerate((("mean", "mean"), ("std", "standard deviation"))):
        truth = data[name].sel(dataset=TRUTH).values
        draw_maps(figure, axes[:1, column], data, {f"truth: {text}": truth}, unit, truth)
        errors = {f"{m} − truth: {text}": data[name].sel(dataset=m).values - truth for m in models}
        draw_maps(figure, axes[1:, column], data, errors, unit, np.stack(list(errors.values())))
    return to_plot(
        figure,
        f"moments_{variable}.png",
        f"Mean and standard deviation of {pretty_name(variable)} over time: truth, and model minus truth.",
        f"Maps of the mean and standard deviation of {pretty_name(variable)} and of the errors of each model",
    )


def map_height(data: xr.Dataset | xr.DataArray, columns: int = 2) -> float:
    """Return the height of a map and its title, in inches, where so many stand beside each other on the page."""
    latitude, longitude = data["latitude"].values, data["longitude"].values
    ratio = (latitude[0] - latitude[-1]) / (longitude[-1] - longitude[0]) / _row_length(latitude)
    return float(np.clip(0.76 * WIDTH / columns * ratio, 1.2, 4.0)) + 0.35


def _row_length(latitude: np.ndarray) -> float:
    """Return how long a degree of longitude is in the middle of a map, in degrees of latitude, at least 0.3."""
    return max(0.3, float(np.cos(np.deg2rad(latitude[[0, -1]].mean()))))


@drawn_from("example")
def example(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw a part of the fields of truth and models at one time."""
    data = evaluation.curves[variable]
    rows, columns = (
        _window(data[axis].values, degrees, centre)
        for axis, degrees, centre in zip(("latitude", "longitude"), _EXAMPLE, _CENTRE, strict=True)
    )
    part = data.isel(latitude=rows, longitude=columns)
    names = [str(d) for d in part["dataset"].values]
    lines = -(-len(names) // 2)
    figure, axes = panels(lines, 2, lines * map_height(part) + 0.1)
    for ax in axes.flat[len(names) :]:
        ax.remove()
    pictures = {n: part["example"].sel(dataset=n).values for n in names}
    draw_maps(figure, axes.ravel()[: len(names)], part, pictures, part["example"].attrs["units"], pictures[TRUTH])
    time = str(np.datetime_as_string(data["example_time"].values, unit="m")).replace("T", " ")
    return to_plot(
        figure,
        f"example_{variable}.png",
        f"{pretty_name(variable).capitalize()} at {time} UTC.",
        f"Maps of {pretty_name(variable)} of truth and models at one time",
    )


def _window(axis: np.ndarray, degrees: float, centre: float) -> slice:
    size = round(degrees / abs(float(axis[1] - axis[0])))
    if axis.size <= size:
        return slice(None)
    nearest = int(np.abs((axis - centre + 180.0) % 360.0 - 180.0).argmin())
    start = int(np.clip(nearest - size // 2, 0, axis.size - size))
    return slice(start, start + size)
