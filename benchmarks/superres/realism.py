"""Two-sample classifier: can a network that never trained a generator tell made fields from true ones?

A small network is trained on half of the dates to tell small true patches from small made ones, and asked on the other
half. Its score is the area under the ROC curve: how often, of a true and a made patch, it takes the true one for the
truer. 0.5 is a coin: with patches of that size it found nothing to go by. 1 means that every patch gives itself away.
(Classifier two-sample test: Lopez-Paz & Oquab 2017, arXiv:1610.06545.) The network sees as many cells as its receptive
field has, so that small ones say how far the finest scales are right where larger ones already see everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import scipy.stats
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from atmoloss.data.sequences import rows_inside
from atmoloss.data.sources import FieldSource, source_from_dataset
from atmoloss.verification.results import Score
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

DILATIONS = {5: (1, 1), 13: (1, 2, 3), 29: (1, 2, 4, 7)}
"""Receptive field, rows and columns → dilations of the 3 × 3 convolutions that have it."""
LATITUDE_BAND = (-75.0, 75.0)  # towards the poles the grid, not the field, decides what patches look like
HALF_DAYS = 2  # alternately for training and for the score
CALIBRATION = "truth against truth of other days"
_CHANNELS, _STEPS, _BATCH, _OUTPUTS, _RATE, _STRIDE, _DRAWS = 16, 150, 16, 16, 1e-2, 8, 100


def realism_scores(
    truth: xr.Dataset, models: Mapping[str, xr.Dataset], fields: Iterable[int] | None = None
) -> list[Score]:
    """Return the area under the curve of every model and receptive field, and of the truth against itself.

    The last, in which every other day of the truth stands for a model, is 0.5 within its interval if all is well.
    """
    true = source_from_dataset(truth, "truth")
    odd = days(true) % 2 == 1
    pairs = {name: (true, source_from_dataset(data, name)) for name, data in models.items()}
    pairs[CALIBRATION] = true.select(~odd), true.select(odd)
    title = "two-sample classifier, both variables"
    return [
        Score(title, f"{cells} × {cells} cells", name, *map(float, area_under_curve(*pair, cells)), "1")
        for name, pair in pairs.items()
        for cells in fields or DILATIONS
    ]


def days(source: FieldSource) -> np.ndarray:
    """Return the day of each time, counted from 1970, (T,)."""
    return source.times.astype("datetime64[D]").astype(int)


def area_under_curve(true: FieldSource, made: FieldSource, cells: int, seed: int = 0) -> np.ndarray:
    """Return the area under the ROC curve and its 95 % interval, (3,), by bootstrap over days of the second half.

    Args:
        true, made: on one grid, of the same or of other times; both have times in both halves of the dates.
        cells: receptive field, one of ``DILATIONS``.
        seed: of the network and of the patches that it is trained on.
    """
    halves = [days(source) // HALF_DAYS % 2 == 1 for source in (true, made)]
    first, second = ([s.select(h == part) for s, h in zip((true, made), halves, strict=True)] for part in (False, True))
    inside = rows_inside(true, LATITUDE_BAND)
    fields = [torch.from_numpy(np.ascontiguousarray(s.values[:][:, :, inside])) for s in first]
    std, mean = torch.std_mean(fields[0], (0, 2, 3), keepdim=True)
    network = train([(x - mean) / std for x in fields], cells, seed)
    stride, samples, blocks = max(_STRIDE, cells), [], []
    with torch.no_grad():
        for source in second:
            each = (torch.from_numpy(source.values[[t]][:, :, inside]) for t in range(len(source.times)))
            logits = torch.cat([network((x - mean) / std)[..., ::stride, ::stride] for x in each]).flatten(1).numpy()
            blocks.append(BlockBootstrap(source.times, 1.0, _DRAWS))
            counts = blocks[-1].counts[:, blocks[-1].block].astype(int)
            samples.append([np.repeat(logits, count, 0).ravel() for count in counts])
    areas = [scipy.stats.mannwhitneyu(a, b).statistic / (a.size * b.size) for a, b in zip(*samples, strict=True)]
    return blocks[0].bounds(np.array(areas))


def train(fields: list[Tensor], cells: int, seed: int) -> nn.Module:
    """Train a network to give true patches a larger number than made ones; it maps (N, C, H, W) to (N, 1, h, w).

    Args:
        fields: the true and the made ones, standardised, each (T, C, H, W).
        cells: receptive field.
        seed: of all that is drawn.
    """
    rng, size = np.random.default_rng(seed), cells + _OUTPUTS - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = classifier(fields[0].shape[1], cells)
    optimizer = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, _STEPS)
    labels = torch.tensor([1.0, 0.0]).repeat_interleave(_BATCH)[:, None, None, None]
    for _ in range(_STEPS):
        batch = torch.stack([draw(x, size, rng) for x in fields for _ in range(_BATCH)])
        logits = network(batch)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, labels.expand_as(logits)).backward()
        optimizer.step()
        schedule.step()
    return network


def draw(fields: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Return a patch (C, size, size) of a random time and place."""
    time, row, column = (rng.integers(n) for n in (len(fields), *(n - size + 1 for n in fields.shape[2:])))
    return fields[time, :, row : row + size, column : column + size]


def classifier(channels: int, cells: int) -> nn.Sequential:
    """Return convolutions without padding, whose every output sees ``cells`` × ``cells`` cells."""
    layers: list[nn.Module] = []
    for dilation in DILATIONS[cells]:
        layers += [nn.Conv2d(channels, _CHANNELS, 3, dilation=dilation), nn.LeakyReLU(0.2)]
        channels = _CHANNELS
    return nn.Sequential(*layers, nn.Conv2d(channels, 1, 1))
