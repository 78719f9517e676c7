"""What an evaluation returns: scores with intervals, paired differences, and the curves behind them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

TRUTH = "truth"
KINETIC_ENERGY = "kinetic_energy"


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score: how to name it, its unit (``None``: that of the field), what the truth would get, and what it is.

    ``scale`` says how the distance from the ideal is judged: by the difference; by the ratio (2 is as far from 1 as
    0.5); or by the ratio where it exceeds the ideal only.
    """

    label: str
    units: str | None
    ideal: float
    meaning: str
    scale: Literal["difference", "ratio", "excess"] = "difference"

    def from_ideal(self, values: Any) -> np.ndarray:
        """Return how far values are from the ideal, ≥ 0; for ratios the natural logarithm."""
        if self.scale == "difference":
            return np.abs(np.asarray(values) - self.ideal)
        logarithm = np.log(np.asarray(values) / self.ideal)
        return np.abs(logarithm) if self.scale == "ratio" else np.maximum(logarithm, 0.0)


METRICS: Mapping[str, Metric] = {
    "rmse": Metric("RMSE", None, 0.0, "root of the area-weighted mean squared difference at each pixel and time"),
    "mae": Metric("MAE", None, 0.0, "area-weighted mean absolute difference"),
    "ssim": Metric("SSIM", "1", 1.0, "structural similarity, Gaussian window of 1.5 pixels, mean over area and times"),
    "log_spectral_distance": Metric(
        "Log-spectral distance",
        "dB",
        0.0,
        "root mean square over unresolved degrees of 10 log10 of the ratio of the time-mean power spectra",
    ),
    "unresolved_power": Metric(
        "Unresolved power / truth", "1", 1.0, "power summed over the unresolved degrees, over the truth's", "ratio"
    ),
    "semivariogram": Metric(
        "Semivariogram error", "1", 0.0, "root mean square over distances of ln of the ratio of the semivariograms"
    ),
    "lower_tail": Metric(
        "0.1th percentile error",
        "%",
        0.0,
        "how much farther from the truth's median the percentile lies, in percent of the truth's distance from it",
    ),
    "upper_tail": Metric(
        "99.9th percentile error", "%", 0.0, "the same for the upper tail; negative: too weak extremes"
    ),
    "city_wasserstein": Metric(
        "Wasserstein-1 at cities", None, 0.0, "distance of the distributions over time at a city, mean over cities"
    ),
    "mean_map": Metric("Mean map error", None, 0.0, "area-weighted RMS difference of the maps of the time mean"),
    "std_map": Metric(
        "Standard deviation map error", None, 0.0, "the same for the maps of the standard deviation over time"
    ),
    "grid_scale_power": Metric(
        "Grid-scale power / truth",
        "1",
        1.0,
        "power of waves of 2 to 4 grid steps along rows or columns, whichever is larger, over the truth's",
        "ratio",
    ),
    "peak_2": Metric(
        "Artefact at 2 steps",
        "1",
        1.0,
        "how far the ratio to the truth at 2 grid steps (checkerboard) stands out from that beside it",
        "excess",
    ),
    "peak_4": Metric("Artefact at 4 steps", "1", 1.0, "the same at 4 grid steps", "excess"),
}
"""Every score, in the order of the tables; ``docs/evaluation.md`` defines them."""


@dataclasses.dataclass(frozen=True)
class Score:
    """One score of one model; ``low`` and ``high`` bound the 95 % interval, NaN where there is none."""

    variable: str
    metric: str
    model: str
    value: float
    low: float
    high: float
    units: str


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much farther from the ideal a score of ``model`` is than that of ``other``, over the same draws of blocks.

    In the units of the score, of ratios the difference of the logarithms; negative: ``model`` is nearer to the truth.
    """

    variable: str
    metric: str
    model: str
    other: str
    value: float
    low: float
    high: float
    units: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of :func:`atmoloss.evaluation.evaluate_fields`.

    Attributes:
        scores: of every variable, metric and model; kinetic energy counts as the variable ``kinetic_energy``.
        differences: of all pairs of models.
        curves: by variable, what the plots show: ``spectrum`` (dataset, degree) with ``spectrum_ratio`` (model, bound,
            degree), ``semivariogram`` (dataset, lag), ``density`` (dataset, bin), ``mean`` and ``std`` (dataset,
            latitude, longitude), ``wasserstein`` (model, city), ``example`` (dataset, latitude, longitude). The
            dimension ``dataset`` is the truth and the models.
        models: names, in the order given.
        settings: times, grid, blocks, first unresolved degree, version.
        notes: what was left out and why, and what limits the intervals.
    """

    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    curves: Mapping[str, xr.Dataset]
    models: tuple[str, ...]
    settings: Mapping[str, Any]
    notes: tuple[str, ...]

    def score(self, variable: str, metric: str, model: str) -> Score:
        """Return one score.

        Raises:
            KeyError: there is none of that name.
        """
        for s in self.scores:
            if (s.variable, s.metric, s.model) == (variable, metric, model):
                return s
        raise KeyError((variable, metric, model))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the maps as what JSON can hold; NaN becomes ``None``."""
        curves: dict[str, Any] = {}
        for variable, data in self.curves.items():
            kept = data.drop_dims([d for d in ("latitude", "longitude", "bin") if d in data.dims])
            curves[variable] = {
                "coordinates": {str(k): c.values.tolist() for k, c in kept.coords.items()},
                "data": {
                    str(k): {"dims": list(v.dims), "units": v.attrs.get("units"), "values": v.values.tolist()}
                    for k, v in kept.data_vars.items()
                },
            }
        out = {
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "scores": [dataclasses.asdict(s) for s in self.scores],
            "differences": [dataclasses.asdict(d) for d in self.differences],
            "curves": curves,
        }
        return {key: _finite(value) for key, value in out.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
