"""Every score: its name, its unit, what it asks for, how it is finished, and how its distance from the ideal is judged.

To add one: add a ``Metric`` to ``METRICS``; tables, intervals and differences follow. What it asks for is accumulated
by :mod:`atmoloss.verification.accumulators`. ``docs/verification.md`` defines all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from atmoloss.verification.accumulators import Draws, city_distances
from atmoloss.verification.statistics.distributions import TAILS, percentiles_of_histogram
from atmoloss.verification.statistics.grid_artefacts import artefact_ratios

# Cells whose maps are resampled at a time: 1000 draws of them, 2 MB, stay in the cache of a core.
_CELLS = 2**8


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: key in results.
        label: of tables.
        meaning: a phrase for the report.
        keys: of the sums that it is made of; where a model lacks one of them there is no such score.
        finish: makes of these sums the score (n + 1,): of the data as they are, and of every draw of blocks.
        units: ``None``: those of the field.
        ideal: what the truth would get.
        scale: how the distance from the ideal is judged: by the difference; by the ratio (2 is as far from 1 as 0.5);
            or by the ratio where it exceeds the ideal only.
    """

    name: str
    label: str
    meaning: str
    keys: tuple[str, ...]
    finish: Callable[[Draws], Any]
    units: str | None = None
    ideal: float = 0.0
    scale: Literal["difference", "ratio", "excess"] = "difference"

    def samples(self, draws: Draws) -> np.ndarray:
        """Return what ``finish`` does, without warnings."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a model without any power has infinite decibels
            return np.asarray(self.finish(draws))

    def from_ideal(self, values: Any) -> np.ndarray:
        """Return how far values are from the ideal, ≥ 0; for ratios the natural logarithm."""
        if self.scale == "difference":
            return np.abs(np.asarray(values) - self.ideal)
        with np.errstate(divide="ignore"):  # no power at all is infinitely far
            logarithm = np.log(np.asarray(values) / self.ideal)
        return np.abs(logarithm) if self.scale == "ratio" else np.maximum(logarithm, 0.0)


def _unresolved(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return the time-mean spectra (n + 1, degrees) of truth and model at the unresolved degrees."""
    degree = draws.comparison.degree
    assert degree is not None
    use = degree >= draws.comparison.unresolved_from
    truth, model = draws.means("spectrum")
    return truth[:, use], model[:, use]


def _log_spectral_distance(draws: Draws) -> Any:
    truth, model = _unresolved(draws)
    return np.sqrt(((10 * np.log10(model / truth)) ** 2).mean(1))


def _unresolved_power(draws: Draws) -> Any:
    truth, model = _unresolved(draws)
    return model.sum(1) / truth.sum(1)


def _semivariogram_error(draws: Draws) -> Any:
    truth, model = draws.means("semivariance")  # the variance of the truth, which normalises both, cancels
    return np.sqrt((np.log(model / truth) ** 2).mean(-1))


def _tail_errors(draws: Draws) -> np.ndarray:
    """Return how much farther out than the truth's the lower and the upper percentile lie, (2, n + 1), percent."""
    edges, percentiles = draws.comparison.edges[draws.variable], (TAILS[0], 50.0, TAILS[1])
    truth, model = (percentiles_of_histogram(h, edges, percentiles).T for h in draws.means("histogram"))
    return np.stack([100 * (model[i] - truth[i]) / (truth[i] - truth[1]) for i in (0, 2)])


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
    if draws.comparison.times.size == 1:
        totals[1] = np.nan
    return np.asarray(np.sqrt(totals))


def _artefacts(draws: Draws) -> np.ndarray:
    truth, model = draws.means("grid_scale")
    return artefact_ratios(model, truth)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "rmse", "RMSE", "root of the area-weighted mean squared difference at each pixel and time",
            ("mse",), lambda draws: np.sqrt(draws.model_means("mse")),
        ),
        Metric(
            "mae", "MAE", "area-weighted mean absolute difference",
            ("mae",), lambda draws: draws.model_means("mae"),
        ),
        Metric(
            "ssim", "SSIM", "structural similarity, Gaussian window of 1.5 pixels, mean over area and times",
            ("ssim",), lambda draws: draws.model_means("ssim"), "1", 1.0,
        ),
        Metric(
            "log_spectral_distance", "Log-spectral distance",
            "root mean square over unresolved degrees of 10 log10 of the ratio of the time-mean power spectra",
            ("spectrum",), _log_spectral_distance, "dB",
        ),
        Metric(
            "unresolved_power", "Unresolved power / truth",
            "power summed over the unresolved degrees, those that the models' input does not hold, over the truth's",
            ("spectrum",), _unresolved_power, "1", 1.0, "ratio",
        ),
        Metric(
            "semivariogram", "Semivariogram error",
            "root mean square over distances of ln of the ratio of the semivariograms",
            ("semivariance",), _semivariogram_error, "1",
        ),
        Metric(
            "lower_tail", f"{TAILS[0]:g}th percentile error",
            "how much farther from the truth's median the percentile lies, in percent of the truth's distance from it",
            ("histogram",), lambda draws: draws.once(_tail_errors)[0], "%",
        ),
        Metric(
            "upper_tail", f"{TAILS[1]:g}th percentile error",
            "the same for the upper tail; negative: too weak extremes",
            ("histogram",), lambda draws: draws.once(_tail_errors)[1], "%",
        ),
        Metric(
            "city_wasserstein", "Wasserstein-1 at cities",
            "distance of the distributions over time at a city, mean over the cities of a fixed list on the grid",
            ("cities",), lambda draws: draws.once(city_distances).mean(0),
        ),
        Metric(
            "mean_map", "Mean map error", "area-weighted RMS difference of the maps of the time mean",
            ("map", "map_square"), lambda draws: draws.once(_map_errors)[0],
        ),
        Metric(
            "std_map", "Standard deviation map error", "the same for the maps of the standard deviation over time",
            ("map", "map_square"), lambda draws: draws.once(_map_errors)[1],
        ),
        Metric(
            "grid_scale_power", "Grid-scale power / truth",
            "power of waves of 2 to 4 grid steps along rows or columns, whichever is larger, over the truth's",
            ("grid_scale",), lambda draws: draws.once(_artefacts)[0], "1", 1.0, "ratio",
        ),
        Metric(
            "peak_2", "Artefact at 2 steps",
            "how far the ratio to the truth at 2 grid steps, the wavelength of a pattern like a checkerboard's, stands "
            "out from that beside it; values up to 1 are no fault",
            ("grid_scale",), lambda draws: draws.once(_artefacts)[1], "1", 1.0, "excess",
        ),
        Metric(
            "peak_4", "Artefact at 4 steps", "the same at 4 grid steps",
            ("grid_scale",), lambda draws: draws.once(_artefacts)[2], "1", 1.0, "excess",
        ),
    )
}  # fmt: skip
"""Every score by name, in the order of the tables."""
