"""One pass over time: the sums per block of every variable and data set that all scores and curves follow from.

To add one: write its functions here, add it to ``ACCUMULATORS``, and let a score of
:mod:`atmoloss.verification.metrics` ask for its key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.comparison import Comparison
from atmoloss.verification.results import KINETIC_ENERGY, TRUTH
from atmoloss.verification.statistics.bootstrap import BOUNDS
from atmoloss.verification.statistics.cities import wasserstein
from atmoloss.verification.statistics.distributions import area_shares
from atmoloss.verification.statistics.grid import Field
from atmoloss.verification.statistics.grid_artefacts import band_power
from atmoloss.verification.statistics.pixel import errors_of_times
from atmoloss.verification.statistics.spectra import energy_of_derivatives, energy_of_winds, power_of_degrees
from atmoloss.verification.statistics.variogram import pair_semivariance

if TYPE_CHECKING:
    import xarray as xr

Sums = dict[str, np.ndarray]
"""Key → sum per block (n_blocks, …); of what is not summed, all times (T, …)."""
Curves = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]
"""Name → dimensions, values and attributes."""
Coordinates = dict[str, Any]
_CHUNK_CELLS = 2**22
"""Cells of one variable that are held at a time in float64, 32 MB."""


class Chunk(NamedTuple):
    """Values (T, H, W) of one variable of one data set at some times, and those of the truth."""

    variable: str
    values: np.ndarray
    truth: np.ndarray | None
    times: np.ndarray


class Draws:
    """The sums of one variable of the truth and of a model, for the data as they are and for every draw of blocks."""

    def __init__(self, truth: Sums, model: Sums, variable: str, comparison: Comparison) -> None:
        self.truth, self.model, self.variable, self.comparison = truth, model, variable, comparison
        self._results: dict[Callable[[Draws], np.ndarray], np.ndarray] = {}

    def means(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the time means (n + 1, …) of truth and model; row 0 is the data as they are."""
        return self.comparison.blocks.means(self.truth[key]), self.model_means(key)

    def model_means(self, key: str) -> np.ndarray:
        """Return the time means (n + 1, …) of the model alone, for what the truth has none of: its errors."""
        return self.comparison.blocks.means(self.model[key])

    def once(self, compute: Callable[[Draws], np.ndarray]) -> np.ndarray:
        """Return what a function makes of these draws, computed at the first call only."""
        if compute not in self._results:
            self._results[compute] = compute(self)
        return self._results[compute]


def _all_means(draws: Sequence[Draws], key: str) -> np.ndarray:
    """Return the time means (dataset, …) of the truth and of all models."""
    sums = [draws[0].truth, *(d.model for d in draws)]
    return np.stack([s[key].sum(0) for s in sums]) / draws[0].comparison.times.size


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """Something that is summed over the times of each block.

    Attributes:
        key: of its sums, or of one of them.
        per_time: returns key → values (T, …) of a chunk; nothing where the grid or the data set has none.
        curves: returns what plots show of it, and the coordinates, from the draws of all models of one variable.
        summed: or kept for every time, for scores that do not follow from means.
    """

    key: str
    per_time: Callable[[Chunk, Comparison], dict[str, np.ndarray]]
    curves: Callable[[Sequence[Draws]], tuple[Curves, Coordinates]] = lambda draws: ({}, {})
    summed: bool = True


def _pixel_errors(chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
    return {} if chunk.truth is None else errors_of_times(chunk.values, chunk.truth, comparison.grid)


def _power(chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
    return {} if comparison.degree is None else {"spectrum": power_of_degrees(chunk.values, comparison.grid)[1]}


def _spectra(draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
    comparison, ratios = draws[0].comparison, []
    for d in draws:
        truth, model = d.means("spectrum")
        with np.errstate(invalid="ignore", divide="ignore"):  # degree 0 of a wind has no power
            ratios.append(comparison.blocks.bounds(model / truth))
    units = {"units": comparison.units(draws[0].variable, 2)}
    return {
        "spectrum": (("dataset", "degree"), _all_means(draws, "spectrum"), units),
        "spectrum_ratio": (("model", "bound", "degree"), np.stack(ratios), {"units": "1"}),
    }, {"degree": comparison.degree}


def _semivariance(chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
    if not comparison.lags.size:
        return {}
    options, grid = comparison.options, comparison.grid
    pairs = options.n_samples, options.seed
    gamma = pair_semivariance(chunk.values, chunk.times, grid, comparison.lags, *pairs)
    return {"semivariance": gamma, "mean": grid.means(chunk.values), "square": grid.means(chunk.values**2)}


def _semivariograms(draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
    variance = _all_means(draws, "square")[0] - _all_means(draws, "mean")[0] ** 2
    gamma = _all_means(draws, "semivariance") / variance
    curves: Curves = {"semivariogram": (("dataset", "lag"), gamma, {"units": "1"})}
    return curves, {"lag": ("lag", draws[0].comparison.lags, {"units": "km"})}


def _histogram(chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
    return {"histogram": area_shares(chunk.values, comparison.edges[chunk.variable], comparison.grid)}


def _densities(draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
    comparison, variable = draws[0].comparison, draws[0].variable
    edges, unit = comparison.edges[variable], comparison.units(variable)
    density = _all_means(draws, "histogram") / (edges[1] - edges[0])
    curves: Curves = {"density": (("dataset", "bin"), density, {"units": f"({unit})-1"})}
    return curves, {"bin": ("bin", (edges[1:] + edges[:-1]) / 2, {"units": unit})}


def _at_cities(chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
    _, rows, columns = comparison.cities
    return {"cities": chunk.values[:, rows, columns]} if rows.size else {}


def city_distances(draws: Draws) -> np.ndarray:
    """Return Wasserstein-1 distances (city, n + 1) of the values over time; only the times' blocks are redrawn."""
    blocks = draws.comparison.blocks
    weights = blocks.counts[:, blocks.block].T
    series = zip(draws.truth["cities"].T, draws.model["cities"].T, strict=True)
    return np.stack([wasserstein(m, t, weights, weights) for t, m in series])


def _distances_at_cities(draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
    places, units = draws[0].comparison.cities[0], {"units": draws[0].comparison.units(draws[0].variable)}
    distances = np.stack([d.once(city_distances)[:, 0] for d in draws])
    coords: Coordinates = {"city": places["city"].values}
    coords |= {f"city_{a}": ("city", places[a].values) for a in ("latitude", "longitude")}
    return {"wasserstein": (("model", "city"), distances, units)}, coords


def _moments(draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
    comparison, variable = draws[0].comparison, draws[0].variable
    mean, square = _all_means(draws, "map"), _all_means(draws, "map_square")
    middle = comparison.times.size // 2
    example = np.stack([data[variable].isel(time=middle).values for data in comparison.data.values()])
    maps = {"mean": mean, "std": np.sqrt(np.maximum(square - mean**2, 0.0)), "example": example}
    dims, units = ("dataset", "latitude", "longitude"), {"units": comparison.units(variable)}
    coords: Coordinates = {axis: comparison.data[TRUTH][axis] for axis in dims[1:]}
    coords["example_time"] = comparison.times[middle]
    return {name: (dims, x, units) for name, x in maps.items()}, coords


ACCUMULATORS = (
    Accumulator("mse", _pixel_errors),
    Accumulator("spectrum", _power, _spectra),
    Accumulator("semivariance", _semivariance, _semivariograms),
    Accumulator("histogram", _histogram, _densities),
    Accumulator("cities", _at_cities, _distances_at_cities, summed=False),
    Accumulator("map", lambda chunk, _: {"map": chunk.values, "map_square": chunk.values**2}, _moments),
    Accumulator("grid_scale", lambda chunk, comparison: {"grid_scale": band_power(chunk.values, comparison.grid)}),
)


def accumulate(comparison: Comparison, progress: Callable[[str], None] | None = None) -> dict[str, dict[str, Sums]]:
    """Return variable → data set → sums; the kinetic energy, where there are winds, is a variable of its own.

    Data that are lazy are read some times at a time; ``progress`` is called with a line for each part.
    """
    names = [*comparison.variables, *([KINETIC_ENERGY] if comparison.winds else [])]
    sums: dict[str, dict[str, Sums]] = {name: {dataset: {} for dataset in comparison.data} for name in names}
    grid, blocks, n_times = comparison.grid, comparison.blocks, comparison.times.size
    size = max(1, _CHUNK_CELLS // (grid.latitude.size * grid.longitude.size))
    for start in range(0, n_times, size):
        part = slice(start, start + size)
        loaded = {name: data.isel(time=part).load() for name, data in comparison.data.items()}
        in_blocks, each = (blocks.block[part], blocks.n_blocks), (np.arange(n_times)[part], n_times)
        for variable in comparison.variables:
            truth = None
            for dataset, data in loaded.items():  # the truth is the first
                chunk = Chunk(variable, Field(data[variable], dataset).values, truth, comparison.times[part])
                for accumulator in ACCUMULATORS:
                    for key, values in accumulator.per_time(chunk, comparison).items():
                        _add(sums[variable][dataset], key, values, *(in_blocks if accumulator.summed else each))
                truth = chunk.values if dataset == TRUTH else truth
        if comparison.winds:
            energy_of = energy_of_winds if "u" in comparison.winds else energy_of_derivatives
            for dataset, data in loaded.items():
                a, b = (Field(data[name], name).values for name in comparison.winds.values())
                _add(sums[KINETIC_ENERGY][dataset], "spectrum", energy_of(a, b, grid)[1], *in_blocks)
        if progress is not None:
            progress(f"{min(part.stop, n_times)} of {n_times} times")
    return sums


def _add(sums: Sums, key: str, values: np.ndarray, index: np.ndarray, size: int) -> None:
    if key not in sums:
        sums[key] = np.zeros((size, *values.shape[1:]))
    np.add.at(sums[key], index, values)


def curves_of(draws: Sequence[Draws]) -> xr.Dataset:
    """Return what the plots of one variable show, from the draws of all models."""
    comparison = draws[0].comparison
    variables: Curves = {}
    coords: Coordinates = {name: list(names) for name, names in (
        ("dataset", comparison.data), ("model", comparison.models), ("bound", BOUNDS),
    )}  # fmt: skip
    for accumulator in ACCUMULATORS:
        if accumulator.key in draws[0].truth:
            own, axes = accumulator.curves(draws)
            variables |= own
            coords |= axes
    out: xr.Dataset = require("xarray", "eval").Dataset(variables, coords)
    return out
