"""One pass over time: the sums per block of every variable and data set that all scores and curves follow from.

To add one: give it a key in :func:`_sums_of`, and let a score of :mod:`atmoloss.verification.metrics` ask for that key.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.comparison import Comparison
from atmoloss.verification.results import ATMODIST, KINETIC_ENERGY, TRUTH
from atmoloss.verification.statistics.bootstrap import BOUNDS
from atmoloss.verification.statistics.cities import wasserstein
from atmoloss.verification.statistics.distributions import area_shares
from atmoloss.verification.statistics.grid import Field
from atmoloss.verification.statistics.grid_artefacts import band_power
from atmoloss.verification.statistics.local_energy import log_energy_moments
from atmoloss.verification.statistics.pixel import errors_of_times
from atmoloss.verification.statistics.spectra import energy_of_derivatives, energy_of_winds, power_of_degrees
from atmoloss.verification.statistics.variogram import pair_semivariance

if TYPE_CHECKING:
    import xarray as xr

Sums = dict[str, np.ndarray]
"""Key → sum per block (n_blocks, …); of what is kept for every time (T, …)."""
EVERY_TIME = "cities"
"""The key of what is kept for every time, since its scores do not follow from means."""
_CHUNK_CELLS = 2**22
"""Cells of one variable that are held at a time in float64, 32 MB."""


@dataclasses.dataclass(frozen=True, eq=False)
class Draws:
    """The sums of one variable of the truth and of a model, for the data as they are and for every draw of blocks."""

    truth: Sums
    model: Sums
    variable: str
    comparison: Comparison

    def means(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the time means (n + 1, …) of truth and model; row 0 is the data as they are."""
        return self.comparison.blocks.means(self.truth[key]), self.model_means(key)

    def model_means(self, key: str) -> np.ndarray:
        """Return the time means (n + 1, …) of the model alone, for what the truth has none of: its errors."""
        return self.comparison.blocks.means(self.model[key])

    @functools.cached_property
    def city_distances(self) -> np.ndarray:
        """Wasserstein-1 distances (city, n + 1) of the values over time; only the times' blocks are redrawn."""
        blocks = self.comparison.blocks
        weights = blocks.counts[:, blocks.block].T
        series = zip(self.truth[EVERY_TIME].T, self.model[EVERY_TIME].T, strict=True)
        return np.stack([wasserstein(m, t, weights, weights) for t, m in series])


def _sums_of(
    variable: str, values: np.ndarray, truth: np.ndarray | None, times: np.ndarray, comparison: Comparison
) -> dict[str, np.ndarray]:
    """Return key → what is summed (T, …) of values (T, H, W); nothing where the grid or the data set has none."""
    grid, options, (_, rows, columns) = comparison.grid, comparison.options, comparison.cities
    out = {"map": values, "map_square": values**2, "grid_scale": band_power(values, grid)}
    out["histogram"] = area_shares(values, comparison.edges[variable], grid)
    if truth is not None:
        out |= errors_of_times(values, truth, grid)
        if min(values.shape[1:]) >= 2 * comparison.detail_cells:
            out["log_energy"] = log_energy_moments(values, truth, grid, comparison.detail_cells)
    if comparison.degree is not None:
        out["spectrum"] = power_of_degrees(values, grid)[1]
    if comparison.lags.size:
        pairs = options.n_samples, options.seed
        out["semivariance"] = pair_semivariance(values, times, grid, comparison.lags, *pairs)
        out |= {"mean": grid.means(values), "square": grid.means(values**2)}
    if rows.size:
        out[EVERY_TIME] = values[:, rows, columns]
    return out


def accumulate(comparison: Comparison, progress: Callable[[str], None] | None = None) -> dict[str, dict[str, Sums]]:
    """Return variable → data set → sums; kinetic energy and AtmoDist, where they are, are variables of their own.

    Data that are lazy are read some times at a time; ``progress`` is called with a line for each part.
    """
    made = {KINETIC_ENERGY: comparison.winds, ATMODIST: comparison.atmodist}
    names = [*comparison.variables, *(name for name, there in made.items() if there)]
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
                fields = Field(data[variable], dataset).values
                for key, values in _sums_of(variable, fields, truth, comparison.times[part], comparison).items():
                    _add(sums[variable][dataset], key, values, *(each if key == EVERY_TIME else in_blocks))
                truth = fields if truth is None else truth
        if comparison.winds:
            energy_of = energy_of_winds if "u" in comparison.winds else energy_of_derivatives
            for dataset, data in loaded.items():
                a, b = (Field(data[name], name).values for name in comparison.winds.values())
                _add(sums[KINETIC_ENERGY][dataset], "spectrum", energy_of(a, b, grid)[1], *in_blocks)
        if comparison.atmodist is not None:
            for dataset, distances in comparison.atmodist.of_times(loaded).items():
                _add(sums[ATMODIST][dataset], comparison.atmodist.metric, distances, *in_blocks)
        if progress is not None:
            progress(f"{min(part.stop, n_times)} of {n_times} times")
    return sums


def _add(sums: Sums, key: str, values: np.ndarray, index: np.ndarray, size: int) -> None:
    if key not in sums:
        sums[key] = np.zeros((size, *values.shape[1:]))
    np.add.at(sums[key], index, values)


def curves_of(draws: Sequence[Draws]) -> xr.Dataset:
    """Return what the plots of one variable show, from the draws of all models."""
    first, comparison = draws[0], draws[0].comparison
    unit, maps = comparison.units(first.variable), ("dataset", "latitude", "longitude")

    def means(key: str) -> np.ndarray:
        """Return the time means (dataset, …) of the truth and of all models."""
        return np.stack([sums[key].sum(0) for sums in (first.truth, *(d.model for d in draws))]) / comparison.times.size

    curves: dict[str, tuple[Any, ...]] = {}
    coords: dict[str, Any] = {"dataset": list(comparison.data), "model": list(comparison.models), "bound": list(BOUNDS)}
    if "spectrum" in first.truth:
        with np.errstate(invalid="ignore", divide="ignore"):  # degree 0 of a wind has no power
            pairs = (d.means("spectrum") for d in draws)
            ratios = [comparison.blocks.bounds(model / truth) for truth, model in pairs]
        units = {"units": comparison.units(first.variable, 2)}
        curves["spectrum"] = ("dataset", "degree"), means("spectrum"), units
        curves["spectrum_ratio"] = ("model", "bound", "degree"), np.stack(ratios), {"units": "1"}
        coords["degree"] = comparison.degree
    if "semivariance" in first.truth:
        variance = means("square")[0] - means("mean")[0] ** 2
        curves["semivariogram"] = ("dataset", "lag"), means("semivariance") / variance, {"units": "1"}
        coords["lag"] = "lag", comparison.lags, {"units": "km"}
    if EVERY_TIME in first.truth:
        distances, places = np.stack([d.city_distances[:, 0] for d in draws]), comparison.cities[0]
        curves["wasserstein"] = ("model", "city"), distances, {"units": unit}
        coords["city"] = places["city"].values
        coords |= {f"city_{a}": ("city", places[a].values) for a in ("latitude", "longitude")}
    if "map" in first.truth:  # of what is made of several variables there is neither map nor histogram
        edges = comparison.edges[first.variable]
        curves["density"] = ("dataset", "bin"), means("histogram") / (edges[1] - edges[0]), {"units": f"({unit})-1"}
        coords["bin"] = "bin", (edges[1:] + edges[:-1]) / 2, {"units": unit}
        mean, middle = means("map"), comparison.times.size // 2
        spread = np.sqrt(np.maximum(means("map_square") - mean**2, 0.0))
        example = np.stack([data[first.variable].isel(time=middle).values for data in comparison.data.values()])
        curves |= {n: (maps, x, {"units": unit}) for n, x in (("mean", mean), ("std", spread), ("example", example))}
        coords |= {axis: comparison.data[TRUTH][axis] for axis in maps[1:]}
        coords["example_time"] = comparison.times[middle]
    out: xr.Dataset = require("xarray", "eval").Dataset(curves, coords)
    return out
