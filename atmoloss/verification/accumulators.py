"""One pass over time: what is summed of every variable and data set, and the curves that are drawn of the sums.

To add one: write a class here, name it in ``ACCUMULATORS``, and let a score of :mod:`atmoloss.verification.metrics`
ask for its key.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.comparison import Comparison
from atmoloss.verification.results import TRUTH
from atmoloss.verification.statistics.bootstrap import BOUNDS
from atmoloss.verification.statistics.cities import wasserstein
from atmoloss.verification.statistics.distributions import area_shares
from atmoloss.verification.statistics.grid_artefacts import band_power
from atmoloss.verification.statistics.pixel import errors_of_times
from atmoloss.verification.statistics.spectra import power_of_degrees
from atmoloss.verification.statistics.variogram import pair_semivariance

if TYPE_CHECKING:
    import xarray as xr

Sums = dict[str, np.ndarray]
"""Key → sum per block (n_blocks, …); of what is not summed, all times (T, …)."""
Curves = dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]
"""Name → dimensions, values and attributes."""
Coordinates = dict[str, Any]


class Chunk(NamedTuple):
    """Values (T, H, W) of one variable of one data set at some times, and those of the truth."""

    variable: str
    values: np.ndarray
    truth: np.ndarray | None
    times: np.ndarray


class Draws:
    """The sums of one variable of the truth and of a model, for the data as they are and for every draw of blocks.

    Args:
        truth, model: sums of :func:`accumulate`.
        variable: its name.
        comparison: of which they are.
    """

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


class Accumulator(abc.ABC):
    """Something that is summed over the times of each block.

    Attributes:
        keys: of its sums.
        summed: or kept for every time, for scores that do not follow from means.
    """

    keys: tuple[str, ...]
    summed = True

    def applies(self, comparison: Comparison) -> bool:
        """Say whether the grid has it."""
        return True

    @abc.abstractmethod
    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        """Return key → values (T, …)."""

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
        """Return what plots show of it, and the coordinates, from the draws of all models of one variable."""
        return {}, {}


class _PixelErrors(Accumulator):
    """Mean squared and absolute error, and structural similarity; of models only."""

    keys = ("mse", "mae", "ssim")

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        return {} if chunk.truth is None else errors_of_times(chunk.values, chunk.truth, comparison.grid)


class _Spectrum(Accumulator):
    """Power, or kinetic energy, at each degree."""

    keys = ("spectrum",)

    def applies(self, comparison: Comparison) -> bool:
        return comparison.degree is not None

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        return {"spectrum": power_of_degrees(chunk.values, comparison.grid)[1]}

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
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


class _Semivariance(Accumulator):
    """Half of the mean squared difference of two points, by their distance."""

    keys = ("semivariance", "mean", "square")

    def applies(self, comparison: Comparison) -> bool:
        return bool(comparison.lags.size)

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        options, weights = comparison.options, comparison.grid.row_weights
        gamma = pair_semivariance(
            chunk.values, chunk.times, comparison.grid, comparison.lags, options.n_samples, options.seed
        )
        mean, square = (x.mean(2) @ weights for x in (chunk.values, chunk.values**2))
        return {"semivariance": gamma, "mean": mean, "square": square}

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
        variance = _all_means(draws, "square")[0] - _all_means(draws, "mean")[0] ** 2
        gamma = _all_means(draws, "semivariance") / variance
        curves: Curves = {"semivariogram": (("dataset", "lag"), gamma, {"units": "1"})}
        return curves, {"lag": ("lag", draws[0].comparison.lags, {"units": "km"})}


class _Histogram(Accumulator):
    """Share of area in bins of values."""

    keys = ("histogram",)

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        return {"histogram": area_shares(chunk.values, comparison.edges[chunk.variable], comparison.grid)}

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
        comparison, variable = draws[0].comparison, draws[0].variable
        edges, unit = comparison.edges[variable], comparison.units(variable)
        density = _all_means(draws, "histogram") / (edges[1] - edges[0])
        curves: Curves = {"density": (("dataset", "bin"), density, {"units": f"({unit})-1"})}
        return curves, {"bin": ("bin", (edges[1:] + edges[:-1]) / 2, {"units": unit})}


class _Cities(Accumulator):
    """Values at cities, of which the distributions over time are compared."""

    keys = ("cities",)
    summed = False

    def applies(self, comparison: Comparison) -> bool:
        return bool(comparison.cities[0].sizes["city"])

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        _, rows, columns = comparison.cities
        return {"cities": chunk.values[:, rows, columns]}

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
        comparison = draws[0].comparison
        places = comparison.cities[0]
        distances = np.stack([d.once(city_distances)[:, 0] for d in draws])
        coords: Coordinates = {"city": places["city"].values}
        coords |= {f"city_{a}": ("city", places[a].values) for a in ("latitude", "longitude")}
        units = {"units": comparison.units(draws[0].variable)}
        return {"wasserstein": (("model", "city"), distances, units)}, coords


def city_distances(draws: Draws) -> np.ndarray:
    """Return Wasserstein-1 distances (city, n + 1) of the values over time; only the times' blocks are redrawn."""
    blocks = draws.comparison.blocks
    weights = blocks.counts[:, blocks.block].T
    series = zip(draws.truth["cities"].T, draws.model["cities"].T, strict=True)
    return np.stack([wasserstein(m[:, None], t[:, None], weights, weights) for t, m in series])


class _Maps(Accumulator):
    """The field and its square, of which the maps of mean and standard deviation follow."""

    keys = ("map", "map_square")

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        return {"map": chunk.values, "map_square": chunk.values**2}

    def curves(self, draws: Sequence[Draws]) -> tuple[Curves, Coordinates]:
        comparison, variable = draws[0].comparison, draws[0].variable
        mean, square = _all_means(draws, "map"), _all_means(draws, "map_square")
        fields = {name: data[variable] for name, data in comparison.data.items()}
        middle = comparison.times.size // 2
        maps: dict[str, np.ndarray] = {"mean": mean, "std": np.sqrt(np.maximum(square - mean**2, 0.0))}
        maps["example"] = np.stack([field.isel(time=middle).values for field in fields.values()])
        units = {"units": comparison.units(draws[0].variable)}
        coords: dict[str, Any] = {axis: fields[TRUTH][axis] for axis in ("latitude", "longitude")}
        coords["example_time"] = comparison.times[middle]
        dims = ("dataset", "latitude", "longitude")
        return {name: (dims, x, units) for name, x in maps.items()}, coords


class _GridScale(Accumulator):
    """Power near the grid scale, along rows and columns."""

    keys = ("grid_scale",)

    def per_time(self, chunk: Chunk, comparison: Comparison) -> dict[str, np.ndarray]:
        return {"grid_scale": band_power(chunk.values, comparison.grid)}


ACCUMULATORS: tuple[Accumulator, ...] = (
    _PixelErrors(), _Spectrum(), _Semivariance(), _Histogram(), _Cities(), _Maps(), _GridScale(),
)  # fmt: skip


def curves_of(draws: Sequence[Draws]) -> xr.Dataset:
    """Return what the plots of one variable show, from the draws of all models."""
    comparison = draws[0].comparison
    variables: Curves = {}
    coords: Coordinates = {name: list(names) for name, names in (
        ("dataset", comparison.data), ("model", comparison.models), ("bound", BOUNDS),
    )}  # fmt: skip
    for accumulator in ACCUMULATORS:
        if set(accumulator.keys) <= set(draws[0].truth):
            own, axes = accumulator.curves(draws)
            variables |= own
            coords |= axes
    out: xr.Dataset = require("xarray", "eval").Dataset(variables, coords)
    return out
