"""Where attention looks, beside where the air came from: the advection score of a network on one split of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from cases import Cases, winds_of
from fluid.score import KINDS, Method, advection, position_motion
from torch import Tensor

from atmoloss.predictor import Predictor
from atmoloss.training.config import SourceConfig

WINDS = {"all": {"block_days": 1}, "removed": {"block_days": 1, "remove_latitude_means": True}}
"""Kinds of scores of winds: as they are, and without the mean of each latitude."""
Scores = list[dict[str, Any]]
_NORTHERNMOST = 77.0  # degrees, of the patches whose gradients are taken: what is scored of them at 1° lies at 30 to 60
_EASTWARD = 97  # columns from the patch of one case to that of the next


def of_maps(
    predictor: Predictor, cases: Cases, sources: Sequence[SourceConfig], method: Method
) -> list[dict[str, Any]]:
    """Return the scores of every past field and head on whole fields."""
    u, v = winds_of(cases, sources)
    moved = position_motion(predictor, u, v, cases.source.latitude, cases.source.grid_spacing)
    kinds = {name: {**o, "periodic": True} for name, o in WINDS.items()} if cases.source.periodic else KINDS
    return list(advection(predictor, cases.before, moved, cases.times, method, kinds))


def of_gradients(
    predictor: Predictor, cases: Cases, sources: Sequence[SourceConfig], size: int
) -> list[dict[str, Any]]:
    """Return the scores of gradient maps, which cost a backward pass a position: one patch a case, at one latitude."""
    u, v = winds_of(cases, sources)
    source = cases.source
    row = int(np.argmax(source.latitude <= _NORTHERNMOST)) if source.periodic else 0

    def cut(fields: Tensor) -> Tensor:
        turned = [field.roll(-_EASTWARD * t, -1) for t, field in enumerate(fields)] if source.periodic else list(fields)
        return torch.stack([field[..., row : row + size, :size] for field in turned])

    moved = position_motion(predictor, cut(u), cut(v), source.latitude[row : row + size], source.grid_spacing)
    kinds = WINDS if source.periodic else KINDS
    return list(advection(predictor, cut(cases.before), moved, cases.times, "gradient", kinds))
