"""Numbers at every cell of a box, by which a storm can be told: features of encoders, and smoothed fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from storms import BOXES, NORTHERNMOST
from torch import Tensor

from atmoloss.extractor import Extractor
from atmoloss.lag_2afc.baselines import random_extractor

SCALES = (0, 1, 2, 4, 8)
"""Standard deviations of the Gaussians, cells of 1°."""


@dataclasses.dataclass(frozen=True)
class Globe:
    """One time: eastward and northward wind, divergence and vorticity, each (2, H, W) with both poles, 1°."""

    winds: np.ndarray
    derived: np.ndarray


@dataclasses.dataclass(frozen=True)
class Box:
    """Cells that are searched: their rows and columns in the globe, and their degrees north (h,) and east (w,)."""

    rows: np.ndarray
    columns: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray


Maps = Callable[[Globe, Box], np.ndarray]
"""From one time to (K, h, w)."""


def boxes_of(latitude: np.ndarray, longitude: np.ndarray) -> dict[str, Box]:
    """Return the boxes of a global grid."""
    rows = np.flatnonzero((latitude >= 0) & (latitude <= NORTHERNMOST))
    boxes = {}
    for name, (west, east) in BOXES.items():
        columns = np.flatnonzero((longitude >= west) & (longitude <= east))
        boxes[name] = Box(rows, columns, latitude[rows], longitude[columns])
    return boxes


def at_cells(feature: Tensor, stride: int, box: Box) -> Tensor:
    """Interpolate a map of an encoder (C, h, w) linearly to the middles of the cells of a box.

    Position i of a map stands in the middle of the cells from i · stride to (i + 1) · stride.
    """
    lengths = feature.shape[-2:]
    y, x = (
        (torch.from_numpy(cells) + 0.5) / stride * 2 / length - 1
        for cells, length in zip((box.rows, box.columns), lengths, strict=True)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(feature.dtype)[None]
    return F.grid_sample(feature[None], grid, padding_mode="border", align_corners=False)[0]


def of_extractor(extractor: Extractor) -> Maps:
    """Return all stages of an encoder of winds, or of divergence and vorticity, its columns closed."""
    extractor = extractor.with_periodic(True)
    reads_winds = extractor.info.channel_names[0] == "u"

    @torch.no_grad()
    def maps(globe: Globe, box: Box) -> np.ndarray:
        features = extractor(torch.from_numpy(globe.winds if reads_winds else globe.derived)[None])
        strides = extractor.encoder.strides
        return torch.cat([at_cells(features[name][0], strides[name], box) for name in features]).numpy()

    return maps


def random_like(extractor: Extractor, sample: list[Globe], seed: int = 0) -> Maps:
    """Return the same of an encoder of the same architecture with random weights."""
    reads_winds = extractor.info.channel_names[0] == "u"
    fields = torch.from_numpy(np.stack([g.winds if reads_winds else g.derived for g in sample]))
    return of_extractor(random_extractor(extractor.info, extractor.normalization, fields, seed))


def _smooth(field: np.ndarray, scale: float) -> np.ndarray:
    return np.asarray(gaussian_filter(field, scale, mode=("nearest", "wrap")) if scale else field)


def smoothed_fields(globe: Globe, box: Box) -> np.ndarray:
    """Return divergence and vorticity at all scales, the simplest thing that a read-out could be given."""
    where = np.ix_(box.rows, box.columns)
    return np.stack([_smooth(field, scale)[where] for scale in SCALES for field in globe.derived])


def smoothed_fields_and_speed(globe: Globe, box: Box) -> np.ndarray:
    """Return the same with the smoothed speed of the wind, and the speed of the smoothed wind: not linear in it."""
    where = np.ix_(box.rows, box.columns)
    speed = np.hypot(*globe.winds)
    speeds = [_smooth(speed, scale)[where] for scale in SCALES]
    speeds += [np.hypot(*(_smooth(wind, scale) for wind in globe.winds))[where] for scale in SCALES[1:]]
    return np.concatenate((smoothed_fields(globe, box), speeds))


def together(*parts: Maps) -> Maps:
    """Return what several kinds of maps have, for one read-out."""
    return lambda globe, box: np.concatenate([maps(globe, box) for maps in parts])
