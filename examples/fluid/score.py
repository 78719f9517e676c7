"""Score a prediction of the fluid, and where its attention looks, on runs that it has not seen.

    cd examples
    python -m fluid.score ../runs/fluid-next/weights fluid/fluid.nc
    python -m fluid.score ../runs/fluid-next/weights fluid/fluid.nc --random

Prints one JSON object. ``errors``: squared errors as shares of that of persistence, over the cells that every shift
reaches; "shift" is the present moved by the whole number of cells that fits best, run by run. ``advection``: per split,
method, past field and head the score of ``atmoloss.verification.advection_score``, of single positions, of the means
of runs, of what differs within them, and of the means of runs where positions count by the vorticity that they have:
value, interval over runs, and each direction alone. Choose a head on the
validation runs and read its score on the test runs. The same with ``--random``, whose weights were never trained, is
what counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss.networks import Encoder
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.predictor import Predictor, load_predictor
from atmoloss.verification.results import finite
from atmoloss.verification.statistics.advection import advection_score, motion

from .make import FRAMES, PRESENT, SPACING

Method = Literal["head", "rollout", "gradient"]
REACH = 6  # cells of the largest shift that is tried
KINDS: dict[str, dict[str, Any]] = {
    "positions": {"block_days": 1},
    "runs": {"block_days": 1, "field_means": "only"},
    "within": {"block_days": 1, "field_means": "removed"},
    "vortices": {"block_days": 1, "field_means": "only", "weight": "field"},
}
INNER = (slice(None), slice(REACH, -REACH), slice(REACH, -REACH))
SPLITS = {"validation": slice(768, 896), "test": slice(896, 992)}


def untrained(predictor: Predictor, seed: int, periodic: bool = False) -> Predictor:
    """Return the same network with weights that were never trained; ``periodic`` wraps columns."""
    torch.manual_seed(seed)
    encoder = Encoder(**predictor.info.encoder)
    model = PredictionModel(encoder, build_prediction_head(predictor.info.head or {}, encoder))
    torch.nn.init.normal_(model.head.increment.weight, std=0.1)  # zero before training: no gradient would pass
    return Predictor(model, predictor.normalization, predictor.info, periodic)


def best_shift(present: Tensor, truth: Tensor) -> Tensor:
    """Return the squared error of the present moved by the whole cells that fit best, (N,), of (N, H, W)."""
    steps = range(-REACH, REACH + 1)
    moved = [(present.roll((i, j), (1, 2)) - truth)[INNER].square().mean((1, 2)) for i in steps for j in steps]
    return torch.stack(moved).amin(0)


def errors(predictor: Predictor, series: Tensor) -> dict[str, float]:
    """Return squared errors over that of persistence, of runs (N, 10, 64, 64), s⁻¹."""
    before = series[:, PRESENT + 1 - predictor.frames : PRESENT + 1]
    predicted = torch.cat([predictor(part[:, :, None])[:, 0] for part in before.split(16)])
    present, truth = series[:, PRESENT], series[:, PRESENT + 1]
    persistence = (present - truth)[INNER].square().mean()
    return {
        "prediction": float((predicted - truth)[INNER].square().mean() / persistence),
        "shift": float(best_shift(present, truth).mean() / persistence),
        "correlation": float(torch.corrcoef(torch.stack((predicted[INNER].flatten(), truth[INNER].flatten())))[0, 1]),
    }


def position_motion(predictor: Predictor, u: Tensor, v: Tensor, latitude: np.ndarray, spacing: float) -> np.ndarray:
    """Return how far the air moves in a step at each position of the features, (N, h, w, 2) positions.

    Args:
        predictor: whose features and step they are.
        u, v: winds, (N, H, W), m/s; the mean over the cells of a position counts.
        latitude: of the rows, (H,), degrees.
        spacing: of the grid, degrees.
    """
    stride = predictor.stride

    def pooled(x: Tensor) -> np.ndarray:
        return np.asarray(F.avg_pool2d(x.double()[:, None], stride, ceil_mode=True)[:, 0])

    rows = torch.tensor(latitude)[None, :, None].expand(1, -1, stride)
    return motion(pooled(u), pooled(v), pooled(rows)[0, :, 0], spacing * stride, predictor.info.base_step_hours)


def maps_of(predictor: Predictor, before: Tensor, method: Method) -> np.ndarray:
    """Return the maps of sequences, the wide windows of a rollout cut to the radius of the head."""
    radius = predictor.model.head.radius
    parts = []
    for part in before.split(4):
        maps = predictor.attention(part, method)
        middle = maps.shape[-1] // 2
        inner = slice(middle - radius, middle + radius + 1)
        parts.append(maps[..., inner, inner])
    return torch.cat(parts).numpy()


def advection(
    predictor: Predictor,
    before: Tensor,
    moved: np.ndarray,
    times: np.ndarray,
    method: Method,
    kinds: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield the scores of every past field and head.

    Args:
        predictor: whose maps are scored.
        before: the fields that it reads, (N, F, C, H, W).
        moved: of :func:`position_motion`.
        times: of the present, (N,).
        method: of the maps.
        kinds: name of a score to the options of :func:`advection_score`; ``weight``, whatever it is, stands for the
            strength of the present field at each position.
    """
    maps = maps_of(predictor, before, method)
    strength = F.avg_pool2d(before[:, -1].abs().mean(1, keepdim=True), predictor.stride, ceil_mode=True)[:, 0].numpy()
    steps = range(predictor.frames - 1, 0, -1)
    for frame, step in enumerate(steps):
        for head in range(maps.shape[1]):
            score = {"method": method, "field": -step, "head": head}
            for name, options in kinds.items():
                options = {**options, "weight": strength} if "weight" in options else options
                result = advection_score(maps[:, head, :, :, frame], step * moved, times, **options)
                score[name] = [round(float(x), 3) for x in result]
            yield score


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    import xarray as xr

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="A weights folder of a training with pretext 'next'.")
    parser.add_argument("data", help="What fluid.make wrote.")
    parser.add_argument("--random", action="store_true", help="Score the same network with weights never trained.")
    parser.add_argument("--methods", default="head,rollout", help="Some of head, rollout, gradient (slow).")
    parser.add_argument("--runs", type=int, help="At most so many of each split.")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    predictor = load_predictor(given.weights)
    predictor = untrained(predictor, 0) if given.random else predictor
    out: dict[str, Any] = {"weights": predictor.info.id, "random": given.random}
    with xr.open_dataset(given.data, engine="h5netcdf") as data:
        runs, latitude = data.sizes["time"] // FRAMES, data["latitude"].values
        for split, rows in SPLITS.items():
            chosen = range(runs)[rows][: given.runs]
            if not chosen:
                continue
            steps = slice(chosen[0] * FRAMES, (chosen[-1] + 1) * FRAMES)
            fields = {
                name: torch.from_numpy(data[name][steps].values).unflatten(0, (-1, FRAMES))
                for name in ("vorticity", "u", "v")
            }
            vorticity = fields["vorticity"]
            moved = position_motion(predictor, *(fields[n][:, PRESENT] for n in ("u", "v")), latitude, SPACING)
            before = vorticity[:, PRESENT + 1 - predictor.frames : PRESENT + 1, None]
            days = data["time"].values[PRESENT + FRAMES * np.array(chosen)]
            methods = given.methods.split(",")
            rows_of_methods = [s for m in methods for s in advection(predictor, before, moved, days, m, KINDS)]
            out[split] = {"errors": errors(predictor, vorticity), "advection": rows_of_methods}
    print(json.dumps(finite(out), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
