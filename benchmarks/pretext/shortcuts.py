"""What does a distance use? Lag 2AFC with the easy ways out closed, on validation dates.

    python benchmarks/pretext/shortcuts.py default [--json FILE]

- Time of day: triples whose two later fields are 24, 48 or 72 h apart (same time of day) beside those that are 6 h
  more or less apart (another one); and all triples after each hour's mean field over the training dates is removed.
- Place: all triples after the mean field over the training dates is removed.
- Traces of the product: all triples after noise twice as strong as the rounding of the winds to 0.1 m/s is added,
  and after everything is smoothed by a Gaussian of one cell.

The MSE of the normalised fields is shown beside the distance under the same change.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from atmoloss import load_extractor
from atmoloss.data import open_fields
from atmoloss.data.sources import FieldSource, source_from_dataset
from atmoloss.data.splits import split_by_date
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import extractor_measure, squared_distances
from atmoloss.lag_2afc.triples import Kept, Measure, PatchFields, iterate_patches, patch_size, tally_anchors
from atmoloss.training.config import read_config
from atmoloss.winds import WindToVorticityDivergence

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "default.toml"
DAY, STEP = 24, 6  # hours
NOISE = 2 * 0.1 / np.sqrt(12)  # m/s


def everything(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a < b


def same_time_of_day(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a < b) & ((b - a) % DAY == 0)


def other_time_of_day(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the triples 6 h more or less apart than those of :func:`same_time_of_day`."""
    return (a < b) & np.isin((b - a) % DAY, (STEP, DAY - STEP)) & (b - a > STEP)


def share(source: FieldSource, measure: Measure, kept: Kept) -> float:
    """Return lag 2AFC over the triples of lags a, b for which ``kept(a, b)``."""
    right = total = 0.0
    for patch in iterate_patches(source, None, patch_size(source)):
        distances = measure(patch)
        assert distances is not None
        counts = tally_anchors(distances.double().numpy(), source.hours, source.run, kept=kept)
        right, total = right + counts[0].sum(), total + counts[1].sum()
    return float(right / total) if total else float("nan")


def changed(source: FieldSource, change: Callable[[np.ndarray], np.ndarray]) -> FieldSource:
    return dataclasses.replace(source, values=change(source.values[np.arange(len(source.times))]))


def changes(held_out: FieldSource, train: FieldSource) -> dict[str, FieldSource]:
    """Return the held-out source under every change."""
    known, hour = train.values[np.arange(len(train.times))], (train.hours % DAY, held_out.hours % DAY)
    mean = known.mean(0)
    by_hour = {h: known[hour[0] == h].mean(0) if (hour[0] == h).any() else mean for h in np.unique(hour[1])}
    winds = WindToVorticityDivergence(held_out.latitude, held_out.longitude)
    rng = np.random.default_rng(0)

    def add_noise(x: np.ndarray) -> np.ndarray:
        noise = torch.from_numpy(rng.normal(0, NOISE, x.shape).astype(np.float32))
        return np.asarray(x + torch.cat([winds(n[None]) for n in noise]).nan_to_num().numpy())

    return {
        "as they are": held_out,
        "hourly mean fields removed": changed(held_out, lambda x: x - np.stack([by_hour[h] for h in hour[1]])),
        "mean field removed": changed(held_out, lambda x: x - mean),
        "noise added": changed(held_out, add_noise),
        # By a Gaussian of one cell.
        "smoothed": changed(held_out, lambda x: gaussian_filter(x, (0, 0, 1, 1), mode="nearest", radius=3)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    extractor, config = load_extractor(arguments.weights), read_config(CONFIG)
    distance = extractor_measure(extractor)

    def mse(patch: PatchFields) -> torch.Tensor:
        return squared_distances(extractor.normalization(patch["fields"]).flatten(1))

    rows: dict[str, dict[str, list[float]]] = {}
    for s in config.sources:
        source = source_from_dataset(open_fields(s.path, extractor.info.channel_names, s.level, grid=s.grid), s.name)
        splits = split_by_date([source], config.validation, config.test)
        if not splits["validation"]:
            continue
        found = rows.setdefault(s.name, {})
        for name, variant in changes(splits["validation"][0], splits["train"][0]).items():
            found[name] = [share(variant, m, everything) for m in (distance, mse)]
            if variant is splits["validation"][0]:
                for label, kept in (("same time of day", same_time_of_day), ("other time of day", other_time_of_day)):
                    found[label] = [share(variant, m, kept) for m in (distance, mse)]
    print("| source | triples | distance | MSE of fields |\n|---|---|---|---|")
    for name, entry in rows.items():
        for label, (ours, theirs) in entry.items():
            print(f"| {name} | {label} | {ours:.3f} | {theirs:.3f} |")
    if arguments.json:
        write_atomically(arguments.json, (json.dumps({"weights": extractor.info.id, **rows}, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
