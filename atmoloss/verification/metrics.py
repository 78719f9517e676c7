"""Every score: its name, its unit, how it is made of sums, and how its distance from the ideal is judged.

To add one: add a ``Metric`` to ``METRICS`` and its values to :func:`samples_of`; tables, intervals and differences
follow. What it is made of is summed by :mod:`atmoloss.verification.accumulators`; ``docs/verification.md`` defines all.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from atmoloss.verification.accumulators import EVERY_TIME, Draws
from atmoloss.verification.statistics.distributions import TAILS, percentiles_of_histogram
from atmoloss.verification.statistics.grid_artefacts import artefact_ratios
from atmoloss.verification.statistics.local_energy import compare_log_energy

# Cells whose maps are resampled at a time: 1000 draws of them, 2 MB, stay in the cache of a core.
_CELLS = 2**8


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
        name: key in results.
        label: of tables.
        meaning: a phrase for the report.
        units: ``None``: those of the field.
        ideal: what the truth would get.
        scale: how the distance from the ideal is judged: by the difference; by the ratio (2 is as far from 1 as 0.5);
            or by the ratio where it exceeds the ideal only.
    """

    name: str
    label: str
    meaning: str
    units: str | None = None
    ideal: float = 0.0
    scale: Literal["difference", "ratio", "excess"] = "difference"

    def from_ideal(self, values: Any) -> np.ndarray:
        """Return how far values are from the ideal, ≥ 0; for ratios the natural logarithm."""
        if self.scale == "difference":
            return np.abs(np.asarray(values) - self.ideal)
        with np.errstate(divide="ignore"):  # no power at all is infinitely far
            logarithm = np.log(np.asarray(values) / self.ideal)
        return np.abs(logarithm) if self.scale == "ratio" else np.maximum(logarithm, 0.0)


@np.errstate(divide="ignore", invalid="ignore")  # a model without any power has infinite decibels
def samples_of(draws: Draws) -> dict[str, np.ndarray]:
    """Return metric → values (n + 1,) of the data as they are and of every draw of blocks, of all that have sums."""
    out: dict[str, Any] = {}
    if "mse" in draws.model:
        mse, out["mae"], out["ssim"] = (draws.model_means(key) for key in ("mse", "mae", "ssim"))
        out["rmse"] = np.sqrt(mse)
    if draws.comparison.degree is not None and "spectrum" in draws.model:
        unresolved = draws.comparison.degree >= draws.comparison.unresolved_from
        truth, model = (spectra[:, unresolved] for spectra in draws.means("spectrum"))
        out["log_spectral_distance"] = np.sqrt(((10 * np.log10(model / truth)) ** 2).mean(1))
        out["unresolved_power"] = model.sum(1) / truth.sum(1)
    if "log_energy" in draws.model:
        out["local_energy"], out["local_energy_correlation"] = compare_log_energy(draws.model_means("log_energy"))
    if "semivariance" in draws.model:
        truth, model = draws.means("semivariance")  # the variance of the truth, which normalises both, cancels
        out["semivariogram"] = np.sqrt((np.log(model / truth) ** 2).mean(-1))
    if "histogram" in draws.model:
        edges, percentiles = draws.comparison.edges[draws.variable], (TAILS[0], 50.0, TAILS[1])
        truth, model = (percentiles_of_histogram(h, edges, percentiles).T for h in draws.means("histogram"))
        errors = 100 * (model - truth) / (truth - truth[1])  # 0 / 0 of the median itself
        out |= {"lower_tail": errors[0], "upper_tail": errors[2]}
        below = [np.cumsum(h, axis=-1) for h in draws.means("histogram")]
        out["wasserstein"] = np.abs(below[1] - below[0]).sum(-1) * (edges[1] - edges[0])
    if EVERY_TIME in draws.model:
        out["city_wasserstein"] = draws.city_distances.mean(0)
    if "map" in draws.model:
        out["mean_map"], out["std_map"] = _map_errors(draws)
    if "grid_scale" in draws.model:
        truth, model = draws.means("grid_scale")
        out["grid_scale_power"], out["peak_2"], out["peak_4"] = artefact_ratios(model, truth)
    out |= {key: draws.model_means(key) for key in ("atmodist_distance", "atmodist_hours") if key in draws.model}
    return out


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


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("rmse", "RMSE", "root of the area-weighted mean squared difference at each pixel and time"),
        Metric("mae", "MAE", "area-weighted mean absolute difference"),
        Metric(
            "ssim", "SSIM", "structural similarity, Gaussian window of 1.5 pixels, mean over area and times", "1", 1.0
        ),
        Metric(
            "log_spectral_distance", "Log-spectral distance",
            "root mean square over unresolved degrees of 10 log10 of the ratio of the time-mean power spectra", "dB",
        ),
        Metric(
            "unresolved_power", "Unresolved power / truth",
            "power summed over the unresolved degrees, those that the models' input does not hold, over the truth's",
            "1", 1.0, "ratio",
        ),
        Metric(
            "local_energy", "Local energy error",
            "root mean square over places and times of ln of the ratio of the energies of detail in windows, where "
            "detail is what the models' input does not hold", "1",
        ),
        Metric(
            "local_energy_correlation", "Local energy correlation",
            "correlation of the logarithms of these energies: is detail where the truth has it?", "1", 1.0,
        ),
        Metric(
            "semivariogram", "Semivariogram error",
            "root mean square over distances of ln of the ratio of the semivariograms", "1",
        ),
        Metric(
            "lower_tail", f"{TAILS[0]:g}th percentile error",
            "how much farther from the truth's median the percentile lies, in percent of the truth's distance from it",
            "%",
        ),
        Metric(
            "upper_tail", f"{TAILS[1]:g}th percentile error",
            "the same for the upper tail; negative: too weak extremes", "%",
        ),
        Metric("wasserstein", "Wasserstein-1 of values", "distance of the distributions over area and time together"),
        Metric(
            "city_wasserstein", "Wasserstein-1 at cities",
            "distance of the distributions over time at a city, mean over the cities of a fixed list on the grid",
        ),
        Metric("mean_map", "Mean map error", "area-weighted RMS difference of the maps of the time mean"),
        Metric(
            "std_map", "Standard deviation map error", "the same for the maps of the standard deviation over time"
        ),
        Metric(
            "grid_scale_power", "Grid-scale power / truth",
            "power of waves of 2 to 4 grid steps along rows or columns, whichever is larger, over the truth's",
            "1", 1.0, "ratio",
        ),
        Metric(
            "peak_2", "Artefact at 2 steps",
            "how far the ratio to the truth at 2 grid steps, the wavelength of a pattern like a checkerboard's, stands "
            "out from that beside it; values up to 1 are no fault", "1", 1.0, "excess",
        ),
        Metric("peak_4", "Artefact at 4 steps", "the same at 4 grid steps", "1", 1.0, "excess"),
        Metric(
            "atmodist_distance", "AtmoDist distance",
            "mean squared difference of the features that a network computes of both fields, mean over times", "1",
        ),
        Metric(
            "atmodist_hours", "AtmoDist distance in hours",
            "how many hours apart two analyses usually are that differ as much, mean over times; where a distance is "
            "beyond the largest lag that can be told, it counts as that lag", "h",
        ),
    )
}  # fmt: skip
"""Every score by name, in the order of the tables."""
