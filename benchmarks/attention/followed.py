"""Add a known mean flow to fresh runs of the fluid: do prediction and attention follow it?

The present stays as it is, only the past moves. What changes in the prediction is what was read of the past.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from fluid.make import HOUR, MAX_FLOW, PRESENT, SEEN, draw, moved, still
from fluid.score import INNER, maps_of
from fluid.solver import shift
from skill import rounded
from torch import Tensor

from atmoloss.predictor import Predictor
from atmoloss.verification.statistics.advection import displacement, interior
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

ADDED = (-2.0, -1.0, 0.0, 1.0, 2.0)  # cells a step
TRIED = np.arange(-5.0, 5.01, 0.25)  # cells
AXES = ("east", "north")


class Runs(NamedTuple):
    """Fresh runs with each flow that is added.

    Attributes:
        fields: axis and flow to vorticity until the present, (N, PRESENT + 1, 64, 64), s⁻¹.
        tried: axis to the truth after the present, without the flow, moved by each of TRIED, (len(TRIED), N, 64, 64).
    """

    fields: dict[tuple[str, float], Tensor]
    tried: dict[str, Tensor]


def fresh_runs(drawn: int = 160, seed: int = 1000) -> Runs:
    """Draw runs, and keep those, about a quarter, whose flows stay within those of the training."""
    start, flow = draw(drawn, seed)
    slow = flow.abs().amax(1) <= MAX_FLOW - max(ADDED)
    series, flow = still(start[slow]), flow[slow]
    after = moved(series, flow)[:, PRESENT + 1]

    def by(cells: float, axis: str) -> Tensor:
        return cells * torch.tensor([float(axis == name) for name in AXES]).double().expand_as(flow)

    def seen(vorticity: Tensor) -> Tensor:
        return (vorticity[..., SEEN, SEEN] / HOUR).float()

    past = {(axis, cells): seen(moved(series, flow, by(cells, axis))) for axis in AXES for cells in ADDED}
    tried = {axis: torch.stack([seen(shift(after, *by(c, axis).unbind(1))) for c in TRIED]) for axis in AXES}
    return Runs({key: fields[:, : PRESENT + 1] for key, fields in past.items()}, tried)


def moved_by(predicted: Tensor, tried: Tensor) -> np.ndarray:
    """Return how far the truth must be moved to fit predictions (N, 64, 64) best but for a factor, (N,) cells."""
    tried, predicted = (fields[(..., *INNER[1:])].double() for fields in (tried, predicted))
    fit = ((tried * predicted).sum((-2, -1)) / tried.square().sum((-2, -1)).sqrt()).numpy()
    best = fit.argmax(0).clip(1, len(TRIED) - 2)
    before, at, after = (fit[best + i, np.arange(len(best))] for i in (-1, 0, 1))
    between = np.clip((after - before) / np.maximum(2 * at - before - after, np.finfo(float).tiny), -1, 1) / 2
    return np.asarray(TRIED[best] + (TRIED[1] - TRIED[0]) * between)


def looks(maps: np.ndarray, axis: str, stride: int, weight: np.ndarray) -> np.ndarray:
    """Return the mean displacement of maps (N, h, w, S, S) along an axis, (N,) cells, by the weight of positions."""
    south, east = np.moveaxis(displacement(maps.astype(np.float64)), -1, 0)
    weight = weight * interior(*maps.shape[1:4])
    along = east if axis == "east" else -south
    return np.asarray(stride * (weight * along).sum((1, 2)) / weight.sum((1, 2)))


def slope(measured: Mapping[tuple[str, float], np.ndarray]) -> list[float]:
    """Return by how much what was measured of each run grows with the added flow, with an interval over runs.

    The mean of both axes; ``measured`` has (N,) for each axis and flow.
    """
    added = np.array(ADDED) - np.mean(ADDED)
    of_axes = [added @ np.stack([measured[axis, by] for by in ADDED]) / (added @ added) for axis in AXES]
    per_run = np.mean(of_axes, 0)
    bootstrap = BlockBootstrap(np.datetime64("2001-01-01") + np.arange(len(per_run)), block_days=1)
    return rounded(bootstrap.bounds(bootstrap.means(bootstrap.block_sums(per_run))))


def followed(predictor: Predictor, runs: Runs, heads: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return the slope of the prediction, and for each past field those of a head and of the rollout for each step.

    Args:
        predictor: of the fluid.
        runs: of :func:`fresh_runs`.
        heads: past field, −2 or −1, to the head that is measured.
    """
    stride = predictor.stride
    before = {key: fields[:, -predictor.frames :, None] for key, fields in runs.fields.items()}
    predicted = {key: torch.cat([predictor(x)[:, 0] for x in fields.split(8)]) for key, fields in before.items()}
    shifts = {key: moved_by(field, runs.tried[key[0]]) for key, field in predicted.items()}
    out: list[dict[str, Any]] = [{"what": "prediction", "field": 1, "where": "", "slope": slope(shifts)}]
    present = F.avg_pool2d(runs.fields["east", 0.0][:, -1].abs(), stride).double().numpy()
    for method in ("head", "rollout"):
        maps = {key: maps_of(predictor, fields, method) for key, fields in before.items()}
        for field, head in heads.items():
            of_field = {key: m[:, head if method == "head" else 0, :, :, field - 1] for key, m in maps.items()}
            for where, weight in (("everywhere", np.ones_like(present)), ("in vortices", present)):
                looked = {key: looks(m, key[0], stride, weight) / -field for key, m in of_field.items()}
                out.append({"what": method, "field": field, "where": where, "slope": slope(looked)})
    return out
