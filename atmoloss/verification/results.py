"""What an evaluation returns: scores with intervals, paired differences, and the curves behind them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

TRUTH = "truth"
KINETIC_ENERGY = "kinetic_energy"
ATMODIST = "AtmoDist"


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
class Difference(Score):
    """How much farther from the ideal a score of ``model`` is than that of ``other``, over the same draws of blocks.

    In the units of the score, of ratios the difference of the logarithms; negative: ``model`` is nearer to the truth.
    """

    other: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of :func:`atmoloss.verification.evaluate_fields`.

    Attributes:
        scores: of every variable, metric and model; what is made of several variables counts as the variables
            ``kinetic_energy`` and ``AtmoDist``.
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
        """Return one score; a ``KeyError`` says that there is none of that name."""
        return {(s.variable, s.metric, s.model): s for s in self.scores}[variable, metric, model]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: no maps and histograms, curves by ``Dataset.to_dict``, ``None`` for NaN."""
        curves = {
            variable: data.drop_dims(("latitude", "longitude", "bin"), errors="ignore")
            .drop_vars("example_time", errors="ignore")
            .to_dict()
            for variable, data in self.curves.items()
        }
        out = {
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "scores": [dataclasses.asdict(s) for s in self.scores],
            "differences": [dataclasses.asdict(d) for d in self.differences],
            "curves": curves,
        }
        return {key: finite(value) for key, value in out.items()}


def finite(value: Any) -> Any:
    """Return what JSON can hold: ``None`` for numbers that are not finite, at any depth."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
