"""The plots of a report; matplotlib without its global state."""

from __future__ import annotations

import dataclasses
import functools
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from atmoloss.errors import require
from atmoloss.evaluation.results import KINETIC_ENERGY, TRUTH, Evaluation

if TYPE_CHECKING:
    import xarray as xr

# Okabe & Ito's palette, distinguishable with any colour vision; every model has a dash pattern, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)), (0, (2, 2)))
_WIDTH = 7.2
_FOLD = 32  # bins of the evaluation per bin of the plot
# The example shows at most so many degrees of a field, around the North Atlantic storm track.
_EXAMPLE, _CENTRE = (50.0, 80.0), (45.0, 320.0)
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture: file name with its type, bytes, and what to write under it and in place of it."""

    file: str
    data: bytes
    caption: str
    alt: str


def raised(number: int | str) -> str:
    """Return a whole number as an exponent, −5 as ⁻⁵."""
    return str(number).translate(_RAISED)


def pretty_units(units: str) -> str:
    """Return CF units as they are printed: ``s-1`` as s⁻¹."""
    return re.sub(r"(?<=[A-Za-z)])-?\d+", lambda found: raised(found.group()), units)


def pretty_name(variable: str) -> str:
    """Return the name of a variable for people."""
    return variable.replace("_", " ")


def style(models: Sequence[str], dataset: str) -> dict[str, Any]:
    """Return colour and dashes of a data set, the same in every plot."""
    if dataset == TRUTH:
        return {"color": "black", "linewidth": 1.8, "zorder": 1}
    i = list(models).index(dataset)
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.4}


def readable(values: Any, units: str) -> tuple[float, str]:
    """Return the factor that makes values readable, and the unit that says so, e.g. 1e5 and 10⁻⁵ s⁻¹."""
    finite = np.abs(np.asarray(values, np.float64))
    finite = finite[np.isfinite(finite)]
    largest = float(finite.max()) if finite.size else 0.0
    unit = "" if units == "1" else pretty_units(units)
    if largest == 0 or 1e-3 <= largest < 1e4:
        return 1.0, unit
    exponent = math.floor(math.log10(largest))
    return 10.0**-exponent, f"10{raised(exponent)} {unit}".strip()


def _styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Give a plot its settings of matplotlib for as long as it is drawn."""

    @functools.wraps(draw)
    def styled(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with require("matplotlib", "eval").rc_context({"svg.hashsalt": "atmoloss", "font.size": 8.5}):
            return draw(*args, **kwargs)

    return styled


def _axes(rows: int, columns: int, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    figure = require("matplotlib.figure", "eval").Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _plot(figure: Any, file: str, caption: str, alt: str) -> Plot:
    out = io.BytesIO()
    kind = file.rpartition(".")[2]
    figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return Plot(file, out.getvalue(), caption, alt)


@_styled
def spectrum(evaluation: Evaluation, variable: str) -> Plot:
    """Draw the spectra of one variable and their ratio to the truth."""
    data, models = evaluation.curves[variable], evaluation.models
    figure, ((left, right),) = _axes(1, 2, 3.3, sharex=True)
    use = data["degree"].values > 0
    degree = data["degree"].values[use]
    for dataset in data["dataset"].values:
        left.loglog(degree, data["spectrum"].sel(dataset=dataset).values[use], label=dataset, **style(models, dataset))
    for model in models:
        value, low, high = data["spectrum_ratio"].sel(model=model).values[:, use]
        right.semilogx(degree, value, label=model, **style(models, model))
        right.fill_between(degree, low, high, color=style(models, model)["color"], alpha=0.2, linewidth=0)
    if variable == KINETIC_ENERGY:
        top = data["spectrum"].sel(dataset=TRUTH).values[use]
        start = int(np.searchsorted(degree, 20))
        if start < degree.size:
            x = np.array([degree[start], degree[-1]])
            for power, text in ((-3.0, "−3"), (-5 / 3, "−5/3")):
                y = 2.5 * top[start] * (x / x[0]) ** power
                left.loglog(x, y, color="0.6", linewidth=0.8)
                left.annotate(text, (x[1], y[1]), color="0.4", fontsize=7, ha="right", va="bottom")
    first = evaluation.settings["unresolved_from_degree"]
    for axes in (left, right):
        axes.axvspan(first, degree[-1], color="0.93", zorder=0)
        axes.set_xlabel(_degree_label(evaluation))
        axes.grid(alpha=0.25, which="major")
    right.axhline(1.0, color="black", linewidth=1.2)
    right.set_ylim(0, min(2.5, max(1.3, 1.15 * _nanmax(data["spectrum_ratio"].values[..., use]))))
    left.set_ylabel(f"power per degree [{pretty_units(data['spectrum'].attrs['units'])}]")
    right.set_ylabel("ratio to truth")
    left.legend(frameon=False, loc="lower left")
    return _plot(
        figure,
        f"spectrum_{variable}.svg",
        f"Time-mean {'kinetic-energy' if variable == KINETIC_ENERGY else 'power'} spectrum of {_of(variable)} and its "
        f"ratio to the truth; bands: 95 % intervals; grey: degrees counted as unresolved (from {first:.4g}).",
        f"Line plot of the spectrum of {pretty_name(variable)} for truth and models, and of the ratio to the truth",
    )


def _of(variable: str) -> str:
    return "the wind" if variable == KINETIC_ENERGY else pretty_name(variable)


def _nanmax(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 1.0


def _degree_label(evaluation: Evaluation) -> str:
    return "spherical-harmonic degree" if evaluation.settings["spectrum"] == "spherical" else "equivalent degree"


@_styled
def distances_and_tails(evaluation: Evaluation, variable: str) -> Plot:
    """Draw the semivariogram and the histogram of one variable."""
    data, models = evaluation.curves[variable], evaluation.models
    lags = "semivariogram" in data
    figure, axes = _axes(1, 2 if lags else 1, 3.3)
    right = axes[0, -1]
    if lags:
        left = axes[0, 0]
        for dataset in data["dataset"].values:
            gamma = data["semivariogram"].sel(dataset=dataset)
            left.semilogx(data["lag"], gamma, marker="o", markersize=3, label=dataset, **style(models, dataset))
        left.set(xlabel="distance [km]", ylabel="semivariance / variance of truth")
        left.set_xticks(data["lag"].values, [f"{lag:g}" for lag in data["lag"].values], minor=False)
        left.minorticks_off()
        left.set_ylim(bottom=0)
        left.grid(alpha=0.25)
        left.legend(frameon=False)
    bins, density = data["bin"].values, data["density"]
    factor, unit = readable(bins, data["bin"].attrs["units"])
    middle = factor * bins.reshape(-1, _FOLD).mean(1)
    for dataset in data["dataset"].values:
        coarse = density.sel(dataset=dataset).values.reshape(-1, _FOLD).mean(1) / factor
        right.semilogy(middle, np.where(coarse > 0, coarse, np.nan), label=dataset, **style(models, dataset))
    right.set(xlabel=f"{pretty_name(variable)} [{unit or 1}]", ylabel=f"density [1 / ({unit or 1})]")
    right.grid(alpha=0.25)
    if not lags:
        right.legend(frameon=False)
    first = "Left: semivariogram divided by the variance of the truth. Right: a" if lags else "A"
    return _plot(
        figure,
        f"distribution_{variable}.svg",
        f"{first}rea-weighted histogram of {pretty_name(variable)} (logarithmic density).",
        f"Line plots of the semivariogram over distance and of the density of {pretty_name(variable)}",
    )


@_styled
def cities(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw the Wasserstein distances at the cities, sorted, and on maps; ``None`` without cities."""
    data, models = evaluation.curves[variable], evaluation.models
    if "wasserstein" not in data:
        return None
    factor, unit = readable(data["wasserstein"].values, data["wasserstein"].attrs["units"])
    distances = factor * data["wasserstein"]
    rows = -(-len(models) // 2)
    figure, axes = _axes(rows + 1, 2, 2.6 + 2.0 * rows)
    gs = axes[0, 0].get_gridspec()
    for ax in axes[0]:
        ax.remove()
    top = figure.add_subplot(gs[0, :])
    for model in models:
        values = np.sort(distances.sel(model=model).values)
        top.plot(np.arange(1, values.size + 1), values, label=model, **style(models, model))
    top.set(
        xlabel="cities, sorted for each model", ylabel=f"Wasserstein-1 [{unit}]", xlim=(1, values.size), ylim=(0, None)
    )
    top.grid(alpha=0.25)
    top.legend(frameon=False)
    highest = float(np.percentile(distances.values, 98)) or 1.0
    points = None
    for ax, model in zip(axes[1:].ravel(), models, strict=False):
        points = ax.scatter(
            _near(data["city_longitude"].values, data["longitude"].values),
            data["city_latitude"],
            c=distances.sel(model=model),
            cmap="viridis_r",
            vmin=0,
            vmax=highest,
            s=11,
            edgecolors="0.3",
            linewidths=0.3,
        )
        _map_axes(ax, data, model)
    for ax in axes[1:].ravel()[len(models) :]:
        ax.remove()
    _bar(figure, points, axes[1:].ravel()[: len(models)], f"Wasserstein-1 [{unit}]", extend="max")
    return _plot(
        figure,
        f"cities_{variable}.svg",
        f"Wasserstein-1 distance between model and truth of {pretty_name(variable)} over time at "
        f"{evaluation.settings['n_cities']} cities.",
        f"Sorted Wasserstein distances of {pretty_name(variable)} at cities per model, and maps of them",
    )


def _near(longitude: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Turn longitudes to the range of an axis."""
    return np.asarray((longitude - axis[0] + 0.5) % 360.0 + axis[0] - 0.5)


def _map_axes(ax: Any, data: xr.Dataset, title: str) -> None:
    latitude, longitude = data["latitude"].values, data["longitude"].values
    ax.set(xlim=(longitude[0], longitude[-1]), ylim=(latitude[-1], latitude[0]))
    ax.set_aspect(1 / max(0.3, np.cos(np.deg2rad(latitude[[0, -1]].mean()))))
    ax.set_title(title, fontsize=8.5)
    ax.tick_params(labelsize=6.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}°")


def _limits(values: np.ndarray) -> dict[str, Any]:
    """Return colour map and limits: diverging about 0 where that lies inside the values, else sequential."""
    low, high = np.percentile(values, [0.5, 99.5])
    if low < 0 < high:
        bound = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
    return {"cmap": "viridis", "vmin": low, "vmax": high if high > low else low + 1.0}


def _maps(
    figure: Any,
    axes: np.ndarray,
    data: xr.Dataset,
    panels: list[tuple[str, np.ndarray]],
    unit: str,
    scale: int | None = None,
) -> None:
    """Draw maps that share one colour scale, made for the first ``scale`` of them, or for all."""
    limits = _limits(np.concatenate([values.ravel() for _, values in (panels if scale is None else panels[:scale])]))
    factor, text = readable([limits["vmin"], limits["vmax"]], unit)
    limits |= {name: factor * limits[name] for name in ("vmin", "vmax")}
    mesh = None
    for ax, (title, values) in zip(axes, panels, strict=True):
        mesh = ax.pcolormesh(data["longitude"], data["latitude"], factor * values, shading="nearest", **limits)
        _map_axes(ax, data, title)
    _bar(figure, mesh, axes, f"[{text}]", extend="both")


def _bar(figure: Any, mesh: Any, axes: np.ndarray, label: str, extend: str) -> None:
    rows = len({ax.get_subplotspec().rowspan.start for ax in axes})
    bar = figure.colorbar(
        mesh, ax=axes.tolist(), shrink=1.0 if rows == 1 else 0.7, aspect=12 if rows == 1 else 30, extend=extend
    )
    bar.set_label(label)


@_styled
def moment_maps(evaluation: Evaluation, variable: str) -> Plot:
    """Draw the mean and the standard deviation of the truth, and the errors of each model."""
    data, models = evaluation.curves[variable], evaluation.models
    unit = data["mean"].attrs["units"]
    shape = _panel_shape(data)
    figure, axes = _axes(1 + len(models), 2, (1 + len(models)) * shape + 0.2)
    for column, (name, text) in enumerate((("mean", "mean"), ("std", "standard deviation"))):
        truth = data[name].sel(dataset=TRUTH).values
        _maps(figure, axes[:1, column], data, [(f"truth: {text}", truth)], unit)
        errors = [(f"{m} − truth: {text}", data[name].sel(dataset=m).values - truth) for m in models]
        _maps(figure, axes[1:, column], data, errors, unit)
    return _plot(
        figure,
        f"moments_{variable}.png",
        f"Mean and standard deviation of {pretty_name(variable)} over time: truth, and model minus truth.",
        f"Maps of the mean and standard deviation of {pretty_name(variable)} and of the errors of each model",
    )


def _panel_shape(data: xr.Dataset) -> float:
    """Return the height of a map that is half the page wide, in inches."""
    latitude, longitude = data["latitude"].values, data["longitude"].values
    stretch = max(0.3, np.cos(np.deg2rad(latitude[[0, -1]].mean())))
    ratio = float((latitude[0] - latitude[-1]) / (longitude[-1] - longitude[0]) / stretch)
    return float(np.clip(0.38 * _WIDTH * ratio, 1.2, 4.0)) + 0.35


@_styled
def example(evaluation: Evaluation, variable: str) -> Plot:
    """Draw a part of the fields of truth and models at one time."""
    data = evaluation.curves[variable]
    rows, columns = (
        _window(data[axis].values, degrees, centre)
        for axis, degrees, centre in zip(("latitude", "longitude"), _EXAMPLE, _CENTRE, strict=True)
    )
    part = data.isel(latitude=rows, longitude=columns)
    names = [str(d) for d in part["dataset"].values]
    lines = -(-len(names) // 2)
    figure, axes = _axes(lines, 2, lines * _panel_shape(part) + 0.1)
    panels = [(n, part["example"].sel(dataset=n).values) for n in names]
    flat = axes.ravel()
    for ax in flat[len(names) :]:
        ax.remove()
    _maps(figure, flat[: len(names)], part, panels, part["example"].attrs["units"], scale=1)
    time = str(np.datetime_as_string(data["example_time"].values, unit="m")).replace("T", " ")
    return _plot(
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
