"""The distances that a learned one has to beat: pixel norms of fields and winds, smoothed or not, and SSIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.errors import require
from atmoloss.training.lag_2afc import Measure, PatchFields


def squared_distances(features: Tensor) -> Tensor:
    """Squared Euclidean distances (T, T) between rows of (T, D), in float64."""
    x = features.double()
    x = x - x.mean(0)
    squares = x.square().sum(1)
    return (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp_min_(0)


def absolute_distances(features: Tensor) -> Tensor:
    """Mean absolute distances (T, T) between rows of (T, D)."""
    return torch.cdist(features, features, p=1.0) / features.shape[1]


def _smooth(sigma: float) -> Callable[[Tensor], Tensor]:
    radius = round(4 * sigma)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()

    def apply(x: Tensor) -> Tensor:
        c = x.shape[1]
        rows = kernel.reshape(1, 1, -1, 1).expand(c, 1, -1, 1)
        x = F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), rows, groups=c)
        return F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), rows.transpose(2, 3), groups=c)

    return apply


_FILTERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    ", Gaussian σ 1": _smooth(1.0),
    ", Gaussian σ 2": _smooth(2.0),
    ", Gaussian σ 4": _smooth(4.0),
    ", mean of 4x4": lambda x: F.avg_pool2d(x, 4),
}
_NORMS: Mapping[str, Callable[[Tensor], Tensor]] = {"MSE": squared_distances, "MAE": absolute_distances}


def _pixel(key: str, norm: Callable[[Tensor], Tensor], filt: Callable[[Tensor], Tensor]) -> Measure:
    def measure(patch: PatchFields) -> Tensor | None:
        return norm(filt(patch[key]).flatten(1)) if key in patch else None

    return measure


def pixel_measures(normalise: Callable[[Tensor], Tensor]) -> dict[str, Measure]:
    """Return MSE and MAE of the normalised fields and of the winds, each plain and smoothed in five ways.

    Args:
        normalise: (T, C, h, w) physical fields to comparable channels.
    """

    def of_fields(norm: Callable[[Tensor], Tensor], filt: Callable[[Tensor], Tensor]) -> Measure:
        return lambda patch: norm(filt(normalise(patch["fields"])).flatten(1))

    out: dict[str, Measure] = {}
    for filter_name, filt in _FILTERS.items():
        for norm_name, norm in _NORMS.items():
            out[f"{norm_name} of fields{filter_name}"] = of_fields(norm, filt)
            out[f"{norm_name} of winds{filter_name}"] = _pixel("winds", norm, filt)
    return out


def ssim_measure(normalise: Callable[[Tensor], Tensor]) -> Measure:
    """1 − SSIM of the normalised fields (torchmetrics, Gaussian window σ 1.5, range of the patch)."""
    ssim = require("torchmetrics.functional.image", "eval").structural_similarity_index_measure

    def measure(patch: PatchFields) -> Tensor:
        x = normalise(patch["fields"])
        span = float(x.max() - x.min())
        out = torch.zeros(len(x), len(x))
        # Only later times are asked for: the lower triangle stays empty.
        for t in range(len(x) - 1):
            later = x[t + 1 : t + 97]
            values = ssim(later, x[t : t + 1].expand_as(later), data_range=span, reduction="none")
            out[t, t + 1 : t + 1 + len(later)] = 1 - values
        return out

    return measure
