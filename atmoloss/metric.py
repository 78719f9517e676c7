"""The distance as a torchmetrics metric (extra ``metrics``)."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch import Tensor

from atmoloss.errors import InputError, option, require
from atmoloss.hours import LagCurve, check_fields, check_options, curve_for
from atmoloss.loss import AtmoDistLoss

try:
    from torchmetrics import Metric
except ImportError:  # the class can be looked at, and says what is missing when one is made
    Metric = torch.nn.Module  # type: ignore[assignment, misc]

_LOSS_OPTIONS = set(inspect.signature(AtmoDistLoss).parameters) - {"weights", "reduction"}
# What torchmetrics.Metric takes since 1.4.
_TORCHMETRICS_OPTIONS = {
    "compute_on_cpu", "compute_with_cache", "dist_sync_fn", "dist_sync_on_step", "distributed_available_fn",
    "process_group", "sync_on_compute",
}  # fmt: skip


class AtmoDistMetric(Metric):
    """Mean AtmoDist distance, or equivalent lag, over everything that ``update`` saw; keeps two numbers, no history.

    Args:
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        units: ``"distance"``, or ``"hours"`` for the equivalent lag of each pair, see :func:`~atmoloss.atmodist_hours`.
        grid_spacing, level, curve: which curve is meant with ``"hours"``, see :func:`~atmoloss.atmodist_hours`.
        **options: of :class:`~atmoloss.AtmoDistLoss`, except ``reduction``; ``mse_weight`` is 0 unless given. And
            those of ``torchmetrics.Metric``: ``sync_on_compute``, ``compute_on_cpu``, ``dist_sync_on_step``, …

    Shape:
        ``update(prediction, target, weight=None)`` takes (N, C, H, W) fields in physical units;
        ``compute()`` returns a scalar, float64.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
        InputError: an option that neither of the two takes.
    """

    is_differentiable = False  # update detaches: a graph kept in a state grows for ever
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0
    total: Tensor
    count: Tensor

    def __init__(
        self,
        weights: Any = "default",
        *,
        units: Literal["distance", "hours"] = "distance",
        grid_spacing: float | None = None,
        level: str | None = None,
        curve: LagCurve | None = None,
        **options: Any,
    ) -> None:
        require("torchmetrics", "metrics")
        unknown = sorted(options.keys() - _LOSS_OPTIONS - _TORCHMETRICS_OPTIONS)
        if unknown:
            raise InputError(
                f"{unknown[0]}: got an unknown option, expected one of AtmoDistLoss "
                f"({', '.join(sorted(_LOSS_OPTIONS))}) or of torchmetrics ({', '.join(sorted(_TORCHMETRICS_OPTIONS))})"
            )
        option("units", units, ("distance", "hours"))
        check_fields(grid_spacing, level, curve)
        of_hours = {"grid_spacing": grid_spacing, "level": level, "curve": curve}
        given = [name for name, value in of_hours.items() if value is not None]
        if units == "hours":
            check_options(options)
        elif given:
            raise InputError(f"{given[0]}: got one with units='distance', expected None, or units='hours'")
        super().__init__(**{name: value for name, value in options.items() if name in _TORCHMETRICS_OPTIONS})
        chosen = {name: value for name, value in options.items() if name in _LOSS_OPTIONS}
        self.loss = AtmoDistLoss(weights, **{"mse_weight": 0.0, **chosen, "reduction": "none"})
        self.units, self.grid_spacing, self.level, self.curve = units, grid_spacing, level, curve
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Add the distances of a batch of pairs."""
        values = self.loss(prediction, target, weight).detach()
        if self.units == "hours":
            size = (int(prediction.shape[-2]), int(prediction.shape[-1]))
            curve = curve_for(self.loss.extractor, size, self.grid_spacing, self.level, self.curve)
            values = curve.equivalent_lag(values).hours
        self.total = self.total + values.sum().double()
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """Return the mean distance of all pairs so far; NaN before the first ``update``."""
        return self.total / self.count

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw what ``compute()`` or ``forward()`` returned, or a sequence of it, as torchmetrics' metrics do."""
        return self._plot(val, ax)
