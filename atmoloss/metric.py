"""The distance as a torchmetrics metric (extra ``metrics``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from atmoloss.errors import require
from atmoloss.loss import AtmoDistLoss

_torchmetrics = require("torchmetrics", "metrics")


class AtmoDistMetric(_torchmetrics.Metric):  # type: ignore[misc, name-defined]
    """Mean AtmoDist distance over everything that ``update`` saw; keeps two numbers, no history.

    Args:
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        **options: of :class:`~atmoloss.AtmoDistLoss`, except ``reduction``; ``mse_weight`` is 0 unless given.

    Shape:
        ``update(prediction, target, weight=None)`` takes (N, C, H, W) fields in physical units;
        ``compute()`` returns a scalar, float64.
    """

    is_differentiable = False  # update detaches: a graph kept in a state grows for ever
    higher_is_better = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, weights: Any = "default", **options: Any) -> None:
        super().__init__()
        self.loss = AtmoDistLoss(weights, **{"mse_weight": 0.0, **options, "reduction": "none"})
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> None:
        """Add the distances of a batch of pairs."""
        values = self.loss(prediction, target, weight).detach()
        self.total = self.total + values.sum().double()
        self.count = self.count + len(values)

    def compute(self) -> Tensor:
        """Return the mean distance of all pairs so far; NaN before the first ``update``."""
        return self.total / self.count
