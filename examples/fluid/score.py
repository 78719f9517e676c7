"""Score a prediction of the fluid, and where its attention looks, on runs that it has not seen.

    cd examples
    python -m fluid.score ../runs/fluid-next/weights fluid/fluid.nc
    python -m fluid.score ../runs/fluid-next/weights fluid/fluid.nc --random

Prints one JSON object. ``errors``: squared errors as shares of that of persistence, over the cells that every shift
reaches; "shift" is the present moved by the whole number of cells that fits best, run by run. ``advection``: per split,
method, past field and head the score of ``atmoloss.verification.advection_score``, of single positions and of the means
of runs, each with its interval over runs. Choose a head on the validation runs and read its score on the test runs. The
same with ``--random``, whose weights were never trained, is what counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.networks import Encoder
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.predictor import Predictor, load_predictor
from atmoloss.verification.results import finite
from atmoloss.verification.statistics.advection import advection_score, motion

from .make import FRAMES, PATCH, SPACING

PRESENT = 5  # of the ten fields of a run
REACH = 6  # cells of the largest shift that is tried
SPLITS = {"validation": slice(768, 896), "test": slice(896, 992)}


def untrained(predictor: Predictor, seed: int) -> Predictor:
    """Return the same network with weights that were never trained."""
    torch.manual_seed(seed)
    encoder = Encoder(**predictor.info.encoder)
    model = PredictionModel(encoder, build_prediction_head(predictor.info.head or {}, encoder))
    torch.nn.init.normal_(model.head.increment.weight, std=0.1)  # zero before training: no gradient would pass
    return Predictor(model, predictor.normalization, predictor.info)


def errors(predictor: Predictor, series: Tensor) -> dict[str, float]:
    """Return squared errors over that of persistence, of runs (N, 10, 64, 64), s⁻¹."""
    before = series[:, PRESENT + 1 - predictor.frames : PRESENT + 1]
    predicted = torch.cat([predictor(part[:, :, None])[:, 0] for part in before.split(16)])
    present, truth = series[:, PRESENT], series[:, PRESENT + 1]
    inner = (slice(None), slice(REACH, -REACH), slice(REACH, -REACH))
    steps = range(-REACH, REACH + 1)
    shifted = torch.stack(
        [(present.roll((i, j), (1, 2)) - truth)[inner].square().mean((1, 2)) for i in steps for j in steps]
    )
    persistence = (present - truth)[inner].square().mean()
    return {
        "prediction": float((predicted - truth)[inner].square().mean() / persistence),
        "shift": float(shifted.amin(0).mean() / persistence),
        "correlation": float(torch.corrcoef(torch.stack((predicted[inner].flatten(), truth[inner].flatten())))[0, 1]),
    }


def advection(predictor: Predictor, fields: dict[str, Tensor], method: str) -> Iterator[dict[str, Any]]:
    """Yield the scores of every head and past field."""
    frames, stride = predictor.frames, predictor.stride
    before = fields["vorticity"][:, PRESENT + 1 - frames : PRESENT + 1][:, :, None]
    maps = torch.cat([predictor.attention(part, method) for part in before.split(8)]).double().numpy()  # type: ignore[arg-type]
    u, v = (torch.nn.functional.avg_pool2d(fields[name][:, PRESENT], stride).double().numpy() for name in ("u", "v"))
    latitude = -SPACING * stride * (np.arange(PATCH // stride) - (PATCH // stride - 1) / 2)
    days = np.datetime64("2001-01-01") + np.arange(len(u)) * np.timedelta64(1, "D")
    radius = predictor.model.head.radius
    for frame in range(frames - 1):
        moved = motion(u, v, latitude, SPACING * stride, frames - 1 - frame)
        for head in range(maps.shape[1]):
            score = {"method": method, "field": frame - frames + 1, "head": head}
            for name, of_fields in (("positions", False), ("runs", True)):
                of_head = maps[:, head, :, :, frame]
                result = advection_score(of_head, moved, days, radius=radius, block_days=1, field_means=of_fields)
                score[name] = [round(float(x), 3) for x in result[:3]]
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
        runs = data.sizes["time"] // FRAMES
        for split, rows in SPLITS.items():
            chosen = range(runs)[rows][: given.runs]
            if not chosen:
                continue
            steps = slice(chosen[0] * FRAMES, (chosen[-1] + 1) * FRAMES)
            fields = {
                name: torch.from_numpy(data[name][steps].values).unflatten(0, (-1, FRAMES))
                for name in ("vorticity", "u", "v")
            }
            rows_of_methods = [s for method in given.methods.split(",") for s in advection(predictor, fields, method)]
            out[split] = {"errors": errors(predictor, fields["vorticity"]), "advection": rows_of_methods}
    print(json.dumps(finite(out), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
