"""Where are the wrong answers? Lag 2AFC by the hours to the nearer field, and by the length of the held-out block.

    python benchmarks/pretext/lags.py default winds      # results/lags.md

On the test dates of the weights, for nothing but this table. A distance answers triples whose nearer field is within a
day of the anchor almost always, and those beyond two days hardly better than a coin; a longer block of days holds more
of the latter. Beside it, the baseline that is best on most sources.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from study import RESULTS, SHORT

from atmoloss import load_extractor
from atmoloss.data.splits import split_by_date
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import extractor_measure, pixel_measures
from atmoloss.lag_2afc.triples import Measure, iterate_patches, patch_size, tally_anchors
from atmoloss.training.config import read_config
from atmoloss.training.loop import open_sources
from atmoloss.training.publish import winds_of

BASELINE = "MAE of winds, Gaussian σ 4"
BINS = ((0, 24), (24, 48), (48, 72), (72, 96))
DAYS = (2, 3, 4, 5, 6)


def by_lag(distances: np.ndarray, hours: np.ndarray, run: np.ndarray) -> np.ndarray:
    """Count right answers and triples by the hours from the anchor to the nearer field, (len(BINS), 2)."""

    def counts(low: int, high: int) -> tuple[float, float]:
        right, total = tally_anchors(distances, hours, run, kept=lambda a, b: (a < b) & (low < a) & (a <= high))
        return right.sum(), total.sum()

    return np.array([counts(*ends) for ends in BINS])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+", help="bundled names or weights folders, of one training configuration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    extractors = [load_extractor(name) for name in arguments.weights]
    lines = [f"`python benchmarks/pretext/lags.py {' '.join(arguments.weights)}`: "
             f"{', '.join(e.info.id for e in extractors)}; test dates, lag 2AFC.", ""]  # fmt: skip
    bins = " | ".join(f"{low}–{high} h" for low, high in BINS)
    lines += [f"| source | distance | {bins} | {' | '.join(f'first {n} days' for n in DAYS)} |"]
    lines += ["|---" * (2 + len(BINS) + len(DAYS)) + "|"]
    folder = RESULTS.parents[2] / "configs"
    for number, extractor in enumerate(extractors):
        config = read_config(folder / "default.toml", {"variables": list(extractor.info.channel_names)})
        for source in split_by_date(open_sources(config), config.validation, config.test)["test"]:
            if source.name not in SHORT:
                continue
            size = patch_size(source)
            measures: dict[str, Measure] = {extractor.info.name: extractor_measure(extractor)}
            if number == 0:
                measures[BASELINE] = pixel_measures(extractor.normalization)[BASELINE]
            winds = winds_of(config, source)
            first = source.hours - source.hours[0]
            binned = {name: np.zeros((len(BINS), 2)) for name in measures}
            blocks = {name: np.zeros((len(DAYS), 2)) for name in measures}
            for patch in iterate_patches(source, winds, size):
                for name, measure in measures.items():
                    distances = measure(patch)
                    if distances is None:
                        continue
                    d = distances.double().numpy()
                    # Blocks of one stretch of days: longer pauses between held-out periods hold no triple.
                    binned[name] += by_lag(d, source.hours, source.run)
                    for i, days in enumerate(DAYS):
                        kept = np.flatnonzero(first < 24 * days)
                        right, total = tally_anchors(d[np.ix_(kept, kept)], source.hours[kept], source.run[kept])
                        blocks[name][i] += right.sum(), total.sum()
            if number == 0:
                shares = binned[extractor.info.name][:, 1]
                cells = " | ".join(f"{x:.0%}" for x in shares / shares.sum())
                lines.append(f"| {SHORT[source.name]} | *share of triples* | {cells} |{' |' * len(DAYS)}")
            for name in measures:
                counts = np.concatenate((binned[name], blocks[name]))
                if counts[:, 1].any():
                    values = (f"{right / total:.3f}" if total else "–" for right, total in counts)
                    lines.append(f"| {SHORT[source.name]} | {name} | {' | '.join(values)} |")
            print("\n".join(lines[-len(measures) :]), flush=True)
    write_atomically(RESULTS / "lags.md", ("\n".join(lines) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
