"""The distances that a learned one has to beat: pixel norms of fields and winds, smoothed or not, and SSIM."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.distance import distance_matrix
from atmoloss.extractor import Extractor
from atmoloss.lag_2afc.triples import Measure, PatchFields
from atmoloss.loss import AtmoDistLoss
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.verification.statistics.pixel import SSIM_RADIUS, structural_similarity
from atmoloss.weights import WeightsInfo

_ENCODED_AT_A_TIME = 64


def squared_distances(features: Tensor) -> Tensor:
    """Squared Euclidean distances (T, T) between rows of (T, D), in float64."""
    x = features.double()
    x = x - x.mean(0)
    squares = x.square().sum(1)
    return (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp_min_(0)


def absolute_distances(features: Tensor) -> Tensor:
    """Mean absolute distances (T, T) between rows of (T, D)."""
    return torch.cdist(features, features, p=1.0) / features.shape[1]


def _gaussian(sigma: float, x: Tensor) -> Tensor:
    radius, c = round(4 * sigma), x.shape[1]
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    rows = (kernel / kernel.sum()).reshape(1, 1, -1, 1).expand(c, 1, -1, 1)
    x = F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), rows, groups=c)
    return F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), rows.transpose(2, 3), groups=c)


_FILTERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    **{f", Gaussian σ {sigma}": functools.partial(_gaussian, float(sigma)) for sigma in (1, 2, 4)},
    ", mean of 4x4": lambda x: F.avg_pool2d(x, 4),
}
_NORMS: Mapping[str, Callable[[Tensor], Tensor]] = {"MSE": squared_distances, "MAE": absolute_distances}


def pixel_measures(normalise: Callable[[Tensor], Tensor]) -> dict[str, Measure]:
    """Return MSE and MAE of the normalised fields and of the winds, each plain and smoothed in four ways."""

    def distances(filter_name: str, norm: str, key: str, patch: PatchFields) -> Tensor | None:
        if key not in patch:
            return None
        x = normalise(patch[key]) if key == "fields" else patch[key]
        return _NORMS[norm](_FILTERS[filter_name](x).flatten(1))

    names = itertools.product(_FILTERS, _NORMS, ("fields", "winds"))
    return {f"{norm} of {key}{name}": functools.partial(distances, name, norm, key) for name, norm, key in names}


def ssim_measure(normalise: Callable[[Tensor], Tensor]) -> Measure:
    """Return 1 − SSIM (structural similarity) of the normalised fields, with the range of the patch; needs scipy.

    As in torchmetrics, windows that leave the patch count, with what is reflected at its edges.
    """
    edges = ((0, 0), (0, 0), (SSIM_RADIUS, SSIM_RADIUS), (SSIM_RADIUS, SSIM_RADIUS))

    def measure(patch: PatchFields) -> Tensor:
        x = np.pad(normalise(patch["fields"]).double().numpy(), edges, mode="reflect")
        span = float(np.ptp(x))
        out = torch.zeros(len(x), len(x))
        every = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        for t, asked in enumerate(patch.get("pairs", every)):  # the others would cost as much, and stay 0
            for later in filter(len, asked.nonzero()[:, 0].split(_ENCODED_AT_A_TIME)):
                fields = x[later.numpy()]
                similarity = structural_similarity(fields, np.broadcast_to(x[t], fields.shape), dynamic_range=span)
                out[t, later] = 1 - torch.from_numpy(similarity.mean((1, 2))).float()
        return out

    return measure


def extractor_measure(extractor: Extractor, layers: Sequence[str] | None = None) -> Measure:
    """Return the content distance of an extractor: ``layers`` with equal scales, ``None`` as recommended.

    Without stored scales and layers (a network in training) all stages count as the metric head sums them.
    """
    options: dict[str, Any] = {"validate": False, "batch_size": _ENCODED_AT_A_TIME}
    if layers is not None or not extractor.info.layers:
        options |= {"layers": tuple(layers or extractor.encoder.stages), "scale": "none"}
    return lambda patch: distance_matrix(patch["fields"], weights=extractor, **options)


def stage_measures(extractor: Extractor) -> dict[str, Measure]:
    """Return ``"distance"``, as :func:`extractor_measure`, and ``"<stage> alone"``; each patch is encoded once."""
    trained = extractor.encoder.stages
    factors = AtmoDistLoss(extractor).factors if extractor.info.layers else dict.fromkeys(trained, 1.0)
    return mixtures(extractor, {"distance": factors, **{f"{stage} alone": {stage: 1.0} for stage in extractor.stages}})


def mixtures(extractor: Extractor, factors: Mapping[str, Mapping[str, float]]) -> dict[str, Measure]:
    """Return the sums of the stages' mean squared differences times ``factors``; each patch is encoded once for all."""
    last: list[Any] = [None, {}]  # the patch that all measures are asked for in turn

    @torch.no_grad()
    def mixture(per_stage: Mapping[str, float], patch: PatchFields) -> Tensor:
        if last[0] is not patch:
            parts = [extractor(block) for block in torch.split(patch["fields"], _ENCODED_AT_A_TIME)]
            rows = {n: torch.cat([part[n].flatten(1) for part in parts]) for n in extractor.stages}
            last[:] = patch, {n: squared_distances(f) / f.shape[1] for n, f in rows.items()}
        return torch.stack([factor * last[1][n] for n, factor in per_stage.items()]).sum(0)

    return {name: functools.partial(mixture, per_stage) for name, per_stage in factors.items()}


def random_encoder(architecture: Mapping[str, Any], normalised: Tensor, seed: int = 0) -> Encoder:
    """Return an encoder with random weights, whose batch-norm statistics are those of (N, C, H, W)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(**architecture)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what it sees
    with torch.no_grad():
        encoder.train()(normalised)
    return encoder.eval()


def random_extractor(info: WeightsInfo, normalization: LogNormalization, fields: Tensor, seed: int = 0) -> Extractor:
    """Return an extractor of the architecture of ``info`` with random weights, as good as random ones get.

    Batch-norm statistics are those of ``fields`` (N, C, H, W, physical units), and every stage is scaled to
    the same mean square, so that none drowns the others.
    """
    x = normalization(fields)
    encoder = random_encoder(info.encoder, x, seed)
    with torch.no_grad():
        features = encoder(x)
    gains = {n: f.square().mean().rsqrt().expand(f.shape[1]) for n, f in features.items()}
    info = dataclasses.replace(info, name="random", layers={}, layer_scales={}, sha256="")
    return Extractor(encoder, normalization, info, gains)
