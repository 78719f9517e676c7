"""How right is a distance in hours? On test dates, beside the same made of squared and absolute differences of winds.

    python benchmarks/pretext/hours.py [WEIGHTS …]      # results/hours.md; a few minutes

For every pair of fields of a patch whose lag is known, the distance is read as a lag by the curve that was fitted on
validation dates (`atmoloss.hours`). The error is the median of |lag read − true lag| in hours, and coverage the share
of pairs whose true lag lies in the 80 % range. The squared (MSE) and absolute (MAE) differences of winds get a curve in
the same way, on the same patches and dates. Lags are read off the whole curve here, also beyond what can be told.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import torch
from study import RESULTS, SHORT

from atmoloss import load_extractor
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.distance import distance_matrix
from atmoloss.files import write_atomically
from atmoloss.hours import LagCurve, fit_lag_curve
from atmoloss.lag_2afc.baselines import absolute_distances, squared_distances
from atmoloss.lag_2afc.triples import PatchFields, iterate_patches, later_pairs, patch_size
from atmoloss.training.config import TrainConfig, read_config
from atmoloss.training.loop import open_sources
from atmoloss.training.publish import winds_of

LONGEST, PATCHES = 96, 48
Distance = Callable[[PatchFields], torch.Tensor]


def pairs_of(
    source: FieldSource, winds: FieldSource | None, distances: dict[str, Distance]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return lags (P,) and, by name, distances (P,) of all pairs of all patches of a source."""
    lag = source.hours[None, :] - source.hours[:, None]
    chosen = later_pairs(source.hours, source.run, LONGEST) & (lag % 3 == 0)
    values: dict[str, list[np.ndarray]] = {name: [] for name in distances}
    for patch in iterate_patches(source, winds, patch_size(source), PATCHES):
        for name, distance in distances.items():
            values[name].append(distance(patch).numpy()[chosen])
    n = len(next(iter(values.values())))
    return np.tile(lag[chosen], n), {name: np.concatenate(v) for name, v in values.items()}


def judge(curve: LagCurve, distances: np.ndarray, lags: np.ndarray) -> tuple[float, float, float]:
    """Return the median error of lags to 24 h and of those of 24 h, and the coverage of the 80 % range to 24 h."""
    _, low, high, _ = (x.numpy() for x in curve.equivalent_lag(torch.from_numpy(distances)))
    # Not cut at the largest lag that can be told: that would help or harm a distance by where its limit happens to lie.
    hours = np.interp(distances, (0.0, *curve.median), (0.0, *curve.hours))
    error, short = np.abs(hours - lags), lags <= 24
    covered = (low <= lags) & (lags <= high)
    return float(np.median(error[short])), float(np.median(error[lags == 24])), float(covered[short].mean())


def measure(name: str, config: TrainConfig) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return, by source and distance, what :func:`judge` says of test dates."""
    extractor = load_extractor(name)
    distances: dict[str, Distance] = {
        name: lambda patch: distance_matrix(patch["fields"], weights=extractor, validate=False),
        "MSE of winds": lambda patch: squared_distances(patch["winds"].flatten(1)) / patch["winds"][0].numel(),
        "MAE of winds": lambda patch: absolute_distances(patch["winds"].flatten(1)),
    }
    curves = {c["source"]: LagCurve(**c) for c in reversed(extractor.info.lag_curves)}  # the first one is of patches
    splits = split_by_date(open_sources(config), config.validation, config.test)
    held_out = {split: {s.name: s for s in splits[split]} for split in ("validation", "test")}
    out = {}
    for source in held_out["test"].values():
        if source.name not in curves:
            continue
        before = held_out["validation"][source.name]
        lags, known = pairs_of(before, winds_of(config, before), distances)
        fitted = {n: fit_lag_curve(d, lags, curves[source.name].size) for n, d in known.items() if n != name}
        lags, values = pairs_of(source, winds_of(config, source), distances)
        out[source.name] = {
            n: judge(curves[source.name] if n == name else fitted[n], d, lags) for n, d in values.items()
        }
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=["default", "winds"])
    arguments = parser.parse_args()
    lines = [
        "`python benchmarks/pretext/hours.py`: median error in hours of pairs 24 h apart or less, of pairs 24 h apart, "
        f"and share of true lags in the 80 % range; test dates, torch {torch.__version__}.",
        "",
        "| source | distance | error, to 24 h | error at 24 h | coverage |",
        "|---" * 5 + "|",
    ]
    for name in arguments.weights:
        config = read_config(RESULTS.parents[2] / "configs" / f"{name}.toml")
        for source, entries in measure(name, config).items():
            for distance, (error, at_24, coverage) in entries.items():
                row = f"| {SHORT.get(source, source)} | {distance} | {error:.1f} | {at_24:.1f} | {coverage:.2f} |"
                lines.append(row)
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomically(RESULTS / "hours.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
