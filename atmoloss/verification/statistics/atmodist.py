"""The AtmoDist distance from the truth at each time, by those of the bundled weights that the variables fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from atmoloss.arrays import AREA, convert
from atmoloss.data.gridded import gridded
from atmoloss.distance import distance_of
from atmoloss.errors import DataError, InputError
from atmoloss.hours import LagCurve, curve_for
from atmoloss.loss import AtmoDistLoss
from atmoloss.verification.statistics.grid import Grid

if TYPE_CHECKING:
    import xarray as xr

_WEIGHTS = ("winds", "default")
"""The first that fit are taken: where there are winds, they order lags better than what is derived from them."""


@dataclasses.dataclass(frozen=True, eq=False)
class AtmoDist:
    """How fields are compared.

    Attributes:
        loss: the distance of some weights, one value a pair.
        curve: of distance against lag; with it distances are said in hours.
    """

    loss: AtmoDistLoss
    curve: LagCurve | None = None

    @property
    def metric(self) -> str:
        """The name of the score."""
        return "atmodist_distance" if self.curve is None else "atmodist_hours"

    def describe(self) -> dict[str, Any]:
        """Return what to write beside the score; ``limit`` is the largest lag that can be told, hours."""
        curve = {} if self.curve is None else {"curve": self.curve.describe(), "limit": self.curve.limit}
        return {"weights": self.loss.extractor.info.id, **curve}

    @torch.no_grad()
    def of_times(self, data: Mapping[str, xr.Dataset]) -> dict[str, np.ndarray]:
        """Return name → how far fields are from the first of ``data`` at each time, (T,), for all others.

        As :func:`atmoloss.score` says it: points count by the cosine of latitude, but all the same in hours. Each field
        is encoded once.
        """
        fields = convert(data, AREA if self.curve is None else None, self.loss.extractor)
        truth, *models = fields.tensors
        distances = torch.empty(len(models), len(truth))
        for time, field in enumerate(truth):
            target = self.loss.features(field[None], fields.weight)
            for model, own in enumerate(models):
                distances[model, time] = self.loss(own[time : time + 1], target, fields.weight)
        values = distances if self.curve is None else self.curve.equivalent_lag(distances).hours
        return dict(zip(list(data)[1:], values.double().numpy(), strict=True))


def atmodist_of(truth: xr.Dataset, grid: Grid, *, hours: bool = False, level: str = "") -> AtmoDist:
    """Return how fields like the truth's are compared on a grid.

    Args:
        truth: whose variables are looked at: names, units and level.
        grid: on which they are compared.
        hours: say distances in hours, by the curve of the weights for the grid and level.
        level: ``"10 m"`` or ``"850 hPa"``; empty: what the truth says.

    Raises:
        InputError: no bundled weights fit the variables and the size, or have a curve for the grid and level.
    """
    shape, refused = (grid.latitude.size, grid.longitude.size), []
    for weights in _WEIGHTS:
        loss = distance_of(weights, torch.device("cpu"), {"periodic": grid.periodic})
        info = loss.extractor.info
        try:
            fields = gridded([[truth]], info.channel_names)
            loss.extractor.check_shape("truth", torch.empty(1, len(info.channels), *shape), tuple(loss.factors))
        except (DataError, InputError) as error:
            refused.append(f"{error} (weights {weights})")
            continue
        level = level or fields.level
        return AtmoDist(loss, curve_for(loss.extractor, shape, grid.step[0], level or None) if hours else None)
    raise InputError("; ".join(refused))
