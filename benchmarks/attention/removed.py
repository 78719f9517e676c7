"""Take away what a position reads upstream, downstream or anywhere: which removal hurts the prediction most?

The weights of the head's attention that are taken away become zero, and the others are normalised again. The features
of their neighbours still know something of what was there: what counts is which removal raises the error more.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from cases import Cases, winds_of
from fluid.score import position_motion
from skill import rounded
from torch import Tensor

from atmoloss.attention import averages, neighbourhood_attention
from atmoloss.predictor import Predictor
from atmoloss.training.config import SourceConfig
from atmoloss.verification.statistics.advection import interior
from atmoloss.verification.statistics.bootstrap import BlockBootstrap
from atmoloss.windows import extend

WHICH = ("upstream", "downstream", "random")
_FASTER = 0.5  # positions a step: below it there is no upstream to speak of


@contextlib.contextmanager
def reading_only(kept: Tensor) -> Iterator[None]:
    """Let the head's attention read only what is ``kept``, (N, h, w, F, S²), 1 or 0; the encoder's reads everything."""

    def masked(query: Tensor, key: Tensor, value: Tensor, *offsets: Tensor, periodic: bool = False) -> Any:
        output, weights = neighbourhood_attention(query, key, value, *offsets, periodic)
        if weights.shape[-2:] != kept.shape[-2:]:  # the encoder has one field
            return output, weights
        weights = weights * kept[:, None]
        weights = weights / weights.sum((-2, -1), keepdim=True)
        extended = extend(value, math.isqrt(kept.shape[-1]) // 2, periodic)
        return averages(weights.flatten(-2).movedim(-1, 2), extended, offsets[-1]), weights

    with mock.patch("atmoloss.attention.neighbourhood_attention", masked):
        yield


def kept_without(moved: Tensor, radius: int, frames: int, which: str, generator: torch.Generator) -> Tensor:
    """Return what is kept, (N, h, w, frames, S²), without a quarter of the window in the past fields.

    Args:
        moved: by how many positions the air moves in a step, southward and eastward, (N, h, w, 2).
        radius: of the window.
        frames: fields that are read; the last, the present, is kept.
        which: of :data:`WHICH`; at random as many are taken as lie upstream. The position itself is kept.
        generator: of what is random.
    """
    axis = torch.arange(-radius, radius + 1, dtype=moved.dtype)
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    cosine = F.normalize(moved, dim=-1) @ F.normalize(offsets, dim=-1).T
    middle = len(offsets) // 2
    taken = cosine > math.sqrt(0.5) if which == "downstream" else cosine < -math.sqrt(0.5)
    taken[..., middle] = False
    if which == "random":
        order = torch.rand(cosine.shape, generator=generator)
        order[..., middle] = 1.0
        taken = order.argsort(-1).argsort(-1) < taken.sum(-1, keepdim=True)
    kept = torch.ones(*moved.shape[:3], frames, len(offsets))
    kept[..., :-1, :] = 1.0 - taken[..., None, :].float()
    return kept


def position_errors(predictor: Predictor, before: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error at each position, (N, h, w), normalised, summed over channels."""
    stride = predictor.stride
    made, true = (predictor.normalization(fields) for fields in (predictor(before), truth))
    return F.avg_pool2d((made - true).square().sum(1, keepdim=True), stride, ceil_mode=True)[:, 0].double()


def removed(predictor: Predictor, cases: Cases, sources: Sequence[SourceConfig]) -> list[dict[str, Any]]:
    """Return the rise of the squared error by each removal, as a share of it, with intervals over days or runs.

    Counted are positions whose window lies in the field and where the air moves by at least half a position a step.
    """
    u, v = winds_of(cases, sources)
    moved = position_motion(predictor, u, v, cases.source.latitude, cases.source.grid_spacing)
    head = predictor.model.head
    counted = interior(*moved.shape[1:3], 2 * head.radius + 1, cases.source.periodic)
    counted = torch.from_numpy(counted & (np.hypot(*np.moveaxis(moved, -1, 0)) > _FASTER))
    flow, generator = torch.from_numpy(moved), torch.Generator().manual_seed(0)
    sums: dict[str, list[float]] = {name: [] for name in ("whole", *WHICH)}
    for i in range(len(cases.times)):
        case = cases.before[i : i + 1], cases.truth[i : i + 1]
        sums["whole"].append(float(position_errors(predictor, *case)[counted[i, None]].sum()))
        for which in WHICH:
            kept = kept_without(flow[i : i + 1], head.radius, head.frames, which, generator)
            with reading_only(kept):
                sums[which].append(float(position_errors(predictor, *case)[counted[i, None]].sum()))
    bootstrap = BlockBootstrap(cases.times, block_days=1)
    blocks = {name: bootstrap.block_sums(np.array(values)) for name, values in sums.items()}
    rise = {name: bootstrap.ratios(blocks[name], blocks["whole"]) - 1 for name in WHICH}
    share = float(counted.double().mean())
    rows = [{"removed": name, "rise": rounded(bootstrap.bounds(samples))} for name, samples in rise.items()]
    return [{"source": cases.source.name, "positions": round(share, 3), **row} for row in rows]
