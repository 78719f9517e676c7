"""Every score: its name, its unit, what it asks for, how it is finished, and how its distance from the ideal is judged.

To add one: write a class here and name it in ``METRICS``; tables, intervals and differences follow. What it asks for
is accumulated by :mod:`atmoloss.verification.accumulators`. ``docs/verification.md`` defines all of them.
"""

from __future__ import annotations

import abc
from typing import Any, Literal

import numpy as np

from atmoloss.verification.accumulators import Draws, city_distances
from atmoloss.verification.statistics.distributions import TAILS, percentiles_of_histogram
from atmoloss.verification.statistics.grid_artefacts import artefact_ratios

# Cells whose maps are resampled at a time: 1000 draws of them, 2 MB, stay in the cache of a core.
_CELLS = 2**8


class Metric(abc.ABC):
    """A score.

    Attributes:
        name: key in results.
        label: of tables.
        units: ``None``: those of the field.
        ideal: what the truth would get.
        meaning: a phrase for the report.
        scale: how the distance from the ideal is judged: by the difference; by the ratio (2 is as far from 1 as 0.5);
            or by the ratio where it exceeds the ideal only.
        keys: of the sums that it is made of; where a model lacks one of them there is no such score.
    """

    name: str
    label: str
    units: str | None = None
    ideal = 0.0
    meaning: str
    scale: Literal["difference", "ratio", "excess"] = "difference"
    keys: tuple[str, ...]

    def samples(self, draws: Draws) -> np.ndarray:
        """Return the score (n + 1,): of the data as they are, and of every draw of blocks."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a model without any power has infinite decibels
            return np.asarray(self._finish(draws))

    @abc.abstractmethod
    def _finish(self, draws: Draws) -> np.ndarray: ...

    def from_ideal(self, values: Any) -> np.ndarray:
        """Return how far values are from the ideal, ≥ 0; for ratios the natural logarithm."""
        if self.scale == "difference":
            return np.abs(np.asarray(values) - self.ideal)
        with np.errstate(divide="ignore"):  # no power at all is infinitely far
            logarithm = np.log(np.asarray(values) / self.ideal)
        return np.abs(logarithm) if self.scale == "ratio" else np.maximum(logarithm, 0.0)


class _RootMeanSquaredError(Metric):
    name, label, keys = "rmse", "RMSE", ("mse",)
    meaning = "root of the area-weighted mean squared difference at each pixel and time"

    def _finish(self, draws: Draws) -> np.ndarray:
        return np.asarray(np.sqrt(draws.model_means("mse")))


class _MeanAbsoluteError(Metric):
    name, label, keys = "mae", "MAE", ("mae",)
    meaning = "area-weighted mean absolute difference"

    def _finish(self, draws: Draws) -> np.ndarray:
        return draws.model_means("mae")


class _StructuralSimilarity(Metric):
    name, label, units, ideal, keys = "ssim", "SSIM", "1", 1.0, ("ssim",)
    meaning = "structural similarity, Gaussian window of 1.5 pixels, mean over area and times"

    def _finish(self, draws: Draws) -> np.ndarray:
        return draws.model_means("ssim")


def _unresolved(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return the time-mean spectra (n + 1, degrees) of truth and model at the unresolved degrees."""
    degree = draws.comparison.degree
    assert degree is not None
    use = degree >= draws.comparison.unresolved_from
    truth, model = draws.means("spectrum")
    return truth[:, use], model[:, use]


class _LogSpectralDistance(Metric):
    name, label, units, keys = "log_spectral_distance", "Log-spectral distance", "dB", ("spectrum",)
    meaning = "root mean square over unresolved degrees of 10 log10 of the ratio of the time-mean power spectra"

    def _finish(self, draws: Draws) -> np.ndarray:
        truth, model = _unresolved(draws)
        return np.asarray(np.sqrt(((10 * np.log10(model / truth)) ** 2).mean(1)))


class _UnresolvedPower(Metric):
    name, label, units, ideal, keys = "unresolved_power", "Unresolved power / truth", "1", 1.0, ("spectrum",)
    meaning = "power summed over the unresolved degrees, those that the models' input does not hold, over the truth's"
    scale = "ratio"

    def _finish(self, draws: Draws) -> np.ndarray:
        truth, model = _unresolved(draws)
        return np.asarray(model.sum(1) / truth.sum(1))


class _SemivariogramError(Metric):
    name, label, units, keys = "semivariogram", "Semivariogram error", "1", ("semivariance",)
    meaning = "root mean square over distances of ln of the ratio of the semivariograms"

    def _finish(self, draws: Draws) -> np.ndarray:
        # The variance of the truth, which normalises both, cancels.
        truth, model = draws.means("semivariance")
        return np.asarray(np.sqrt((np.log(model / truth) ** 2).mean(-1)))


def _percentiles(draws: Draws) -> np.ndarray:
    """Return the lower, the middle and the upper percentile of truth and model, (2, n + 1, 3)."""
    edges = draws.comparison.edges[draws.variable]
    return np.stack([percentiles_of_histogram(h, edges, (TAILS[0], 50.0, TAILS[1])) for h in draws.means("histogram")])


class _LowerTailError(Metric):
    name, label, units, keys = "lower_tail", f"{TAILS[0]:g}th percentile error", "%", ("histogram",)
    meaning = "how much farther from the truth's median the percentile lies, in percent of the truth's distance from it"
    index = 0

    def _finish(self, draws: Draws) -> np.ndarray:
        truth, model = draws.once(_percentiles)
        # Positive: farther out than the truth's, on either side.
        reach = truth[:, self.index] - truth[:, 1]
        return np.asarray(100 * (model[:, self.index] - truth[:, self.index]) / reach)


class _UpperTailError(_LowerTailError):
    name, label = "upper_tail", f"{TAILS[1]:g}th percentile error"
    meaning = "the same for the upper tail; negative: too weak extremes"
    index = 2


class _CityWasserstein(Metric):
    name, label, keys = "city_wasserstein", "Wasserstein-1 at cities", ("cities",)
    meaning = "distance of the distributions over time at a city, mean over the cities of a fixed list on the grid"

    def _finish(self, draws: Draws) -> np.ndarray:
        return np.asarray(draws.once(city_distances).mean(0))


def _map_errors(draws: Draws) -> np.ndarray:
    """Return the root mean square differences of the maps of mean and standard deviation, (2, n + 1)."""
    blocks, columns = draws.comparison.blocks, draws.truth["map"].shape[2]
    weights = np.repeat(draws.comparison.grid.row_weights / columns, columns)
    totals = np.zeros((2, len(blocks.counts)))
    for start in range(0, weights.size, _CELLS):
        part = slice(start, start + _CELLS)
        maps = []
        for sums in (draws.truth, draws.model):
            mean, square = (blocks.means(sums[k].reshape(blocks.n_blocks, -1)[:, part]) for k in ("map", "map_square"))
            maps.append((mean, np.sqrt(np.maximum(square - mean**2, 0.0))))
        for i, (a, b) in enumerate(zip(*maps, strict=True)):
            totals[i] += (a - b) ** 2 @ weights[part]
    return np.asarray(np.sqrt(totals))


class _MeanMapError(Metric):
    name, label, keys = "mean_map", "Mean map error", ("map", "map_square")
    meaning = "area-weighted RMS difference of the maps of the time mean"

    def _finish(self, draws: Draws) -> np.ndarray:
        return np.asarray(draws.once(_map_errors)[0])


class _StandardDeviationMapError(Metric):
    name, label, keys = "std_map", "Standard deviation map error", ("map", "map_square")
    meaning = "the same for the maps of the standard deviation over time"

    def _finish(self, draws: Draws) -> np.ndarray:
        errors = draws.once(_map_errors)[1]
        return errors if draws.comparison.times.size > 1 else np.full_like(errors, np.nan)


class _GridScalePower(Metric):
    name, label, units, ideal, keys = "grid_scale_power", "Grid-scale power / truth", "1", 1.0, ("grid_scale",)
    meaning = "power of waves of 2 to 4 grid steps along rows or columns, whichever is larger, over the truth's"
    scale: Literal["difference", "ratio", "excess"] = "ratio"

    def _finish(self, draws: Draws) -> np.ndarray:
        truth, model = draws.means("grid_scale")
        return artefact_ratios(model, truth)[self.name]


class _ArtefactAt2Steps(_GridScalePower):
    name, label, scale = "peak_2", "Artefact at 2 steps", "excess"
    meaning = (
        "how far the ratio to the truth at 2 grid steps, the wavelength of a pattern like a checkerboard's, stands out "
        "from that beside it; values up to 1 are no fault"
    )


class _ArtefactAt4Steps(_ArtefactAt2Steps):
    name, label, meaning = "peak_4", "Artefact at 4 steps", "the same at 4 grid steps"


METRICS: dict[str, Metric] = {
    metric.name: metric()
    for metric in (
        _RootMeanSquaredError, _MeanAbsoluteError, _StructuralSimilarity, _LogSpectralDistance, _UnresolvedPower,
        _SemivariogramError, _LowerTailError, _UpperTailError, _CityWasserstein, _MeanMapError,
        _StandardDeviationMapError, _GridScalePower, _ArtefactAt2Steps, _ArtefactAt4Steps,
    )
}  # fmt: skip
"""Every score by name, in the order of the tables."""
