"""How good a prediction is: squared errors beside those of persistence, damped persistence and the best shift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from cases import Cases
from fluid.score import best_shift
from torch import Tensor

from atmoloss.normalization import LogNormalization
from atmoloss.predictor import Predictor
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

UNITS = ("physical", "normalised")


def both(fields: Tensor, normalization: LogNormalization) -> Tensor:
    """Return (N, C, H, W) physical fields in both units, (N, 2, C, H, W)."""
    return torch.stack((fields, normalization(fields)), 1)


def damping(cases: Cases, normalization: LogNormalization) -> Tensor:
    """Fit the number by which the present is damped to predict the next field, (2, C), by least squares."""
    sums = torch.zeros(2, 2, cases.truth.shape[1], dtype=torch.float64)
    for present, truth in zip(cases.present.split(4), cases.truth.split(4), strict=True):
        x, y = (both(fields, normalization).double() for fields in (present, truth))
        sums += torch.stack([(cases.weight * x * other).sum((0, 3, 4)) for other in (y, x)])
    return sums[0] / sums[1]


def squared_errors(predictor: Predictor, cases: Cases, damped: Tensor) -> dict[str, np.ndarray]:
    """Return the mean squared error of each prediction by name, (T, 2, C): both units, each channel."""
    rows: dict[str, list[Tensor]] = {"prediction": [], "persistence": [], "damped": []}
    for before, truth in zip(cases.before.split(1), cases.truth.split(1), strict=True):
        x, y, predicted = (both(f, predictor.normalization) for f in (before[:, -1], truth, predictor(before)))
        made = {"prediction": predicted, "persistence": x, "damped": damped[..., None, None] * x}
        for name, field in made.items():
            rows[name].append((cases.weight * (field - y).square()).sum((3, 4)) / cases.weight.sum())
    errors = {name: torch.cat(parts).double().numpy() for name, parts in rows.items()}
    if not cases.source.periodic:
        x, y = (both(f, predictor.normalization).flatten(0, 2) for f in (cases.present, cases.truth))
        errors["shift"] = best_shift(x, y).double().numpy().reshape(errors["damped"].shape)
    return errors


def shares(errors: Mapping[str, np.ndarray], cases: Cases) -> list[dict[str, Any]]:
    """Return, for each channel and unit, errors as shares of that of persistence, with intervals over days.

    A day of the fluid is a run. ``below_damped`` is the difference of the errors of damped persistence and prediction.
    """
    bootstrap = BlockBootstrap(cases.times, block_days=1)
    out = []
    for c, channel in enumerate(cases.source.channels):
        for u, unit in enumerate(UNITS):
            sums = {name: bootstrap.block_sums(error[:, u, c]) for name, error in errors.items()}
            drawn = {name: bootstrap.ratios(s, sums["persistence"]) for name, s in sums.items()}
            del drawn["persistence"]
            drawn["below_damped"] = drawn["damped"] - drawn["prediction"]
            scores = {name: rounded(bootstrap.bounds(samples)) for name, samples in drawn.items()}
            out.append({"source": cases.source.name, "channel": channel, "units": unit, **scores})
    return out


def rounded(values: Any) -> list[float]:
    return [round(float(x), 4) for x in values]


def globe_over_patches(globe: Predictor, patch: Predictor, cases: Cases, size: int) -> list[dict[str, Any]]:
    """Return the squared error of predictions for the globe over that for patches, on the same cells, normalised.

    Patches of the training's ``size`` lie half of it apart. ``middle`` is the middle half of their rows and columns,
    ``whole`` all of their cells, near whose edges a patch does not see what comes in.
    """
    width = cases.truth.shape[-1]
    inside = np.flatnonzero(cases.weight[:, 0].numpy())
    rows = range(inside[0], inside[-1] + 2 - size, size // 2)
    places = [(row, column) for row in rows for column in range(0, width - size // 2 + 1, size // 2)]
    parts = {"whole": slice(None), "middle": slice(size // 4, size - size // 4)}
    sums = torch.zeros(len(parts), 2, cases.truth.shape[1], dtype=torch.float64)

    def cut(fields: Tensor) -> Tensor:
        return torch.stack([fields.roll(-c, -1)[..., r : r + size, :size] for r, c in places])

    for before, truth in zip(cases.before, cases.truth, strict=True):
        y = globe.normalization(cut(truth))
        of_globe = globe.normalization(cut(globe(before[None])[0]))
        of_patch = globe.normalization(torch.cat([patch(part) for part in cut(before).split(8)]))
        for p, part in enumerate(parts.values()):
            for m, made in enumerate((of_globe, of_patch)):
                sums[p, m] += (made - y).square()[..., part, part].double().sum((0, 2, 3))
    ratios = (sums[:, 0] / sums[:, 1]).T
    return [
        {"source": cases.source.name, "channel": channel, **dict(zip(parts, rounded(row), strict=True))}
        for channel, row in zip(cases.source.channels, ratios, strict=True)
    ]
