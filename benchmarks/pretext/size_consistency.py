"""Do distances depend on how much of the field was encoded?

    python benchmarks/pretext/size_consistency.py default [MORE WEIGHTS …] [--json FILE]

Distances of 64×64 patches of 1° analyses between 64S and 64N, at lags of 6 to 72 h, computed twice: each
patch encoded alone (its border padded with zeros), and cut from one pass over all of it. Prints Spearman's
rank correlation over patches and lags, and within each lag, and the mean ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.data import open_fields
from atmoloss.data.sources import source_from_dataset
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.files import write_atomically
from atmoloss.functional import content_distance, mix

PATCH = 64
MARGIN = 16  # cells that every patch keeps from the border of the whole; a multiple of the stride
LAGS = (1, 2, 4, 8, 12)  # times of 6 h
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FIRST_ROW = 10  # 80N: pole rows hold no derivatives


def by_stage(loss: AtmoDistLoss, first: dict[str, Tensor], second: dict[str, Tensor]) -> Tensor:
    """Return the distance (N,) of features (and of the fields themselves, as far as mse_weight says)."""
    return mix(lambda factors: content_distance(first, second, factors), loss.mixture)


def crop(features: dict[str, Tensor], row: int, column: int, width: int) -> dict[str, Tensor]:
    """Cut the features of a patch, (N, C, h, w), from those of the globe."""
    out = {}
    for name, f in features.items():
        stride = round(width / f.shape[-1])
        cells = PATCH // stride
        out[name] = f[..., row // stride : row // stride + cells, column // stride : column // stride + cells]
    return out


@torch.no_grad()
def compare(weights: str, fields: Tensor) -> dict[str, Any]:
    """Compute both distances for (T, 2, H, W) fields from 80N; H and W multiples of the largest stride."""
    loss = AtmoDistLoss(weights, mse_weight=0.0, validate=False)  # the distance, whatever the weights recommend
    width = fields.shape[-1]
    columns = range(MARGIN, width - PATCH - MARGIN + 1, PATCH)
    globe = [loss.features(field[None]) for field in fields]
    rows = range(MARGIN, fields.shape[-2] - PATCH - MARGIN + 1, PATCH)
    results: dict[int, list[np.ndarray]] = {}
    for row in rows:
        for column in columns:
            patch = loss.features(fields[..., row : row + PATCH, column : column + PATCH].contiguous())
            cut = {n: torch.cat([crop(g, row, column, width)[n] for g in globe]) for n in globe[0]}
            for lag in LAGS:
                pairs = [
                    by_stage(loss, {n: f[:-lag] for n, f in x.items()}, {n: f[lag:] for n, f in x.items()}).numpy()
                    for x in (patch, cut)
                ]
                results.setdefault(lag, []).append(np.stack(pairs))
    together = np.concatenate([np.concatenate(r, 1) for r in results.values()], 1)
    return {
        "rank_correlation": float(spearmanr(*together).statistic),
        "within_lag": {6 * lag: float(spearmanr(*np.concatenate(r, 1)).statistic) for lag, r in results.items()},
        "mean_ratio": float(together[1].mean() / together[0].mean()),
        "n": together.shape[1],
    }


def read(weights: str, data: Path, dates: str) -> Tensor:
    """Return (T, 2, H, W) of the channels of ``weights``, without the rows near the poles; whole strides."""
    dataset = open_fields(str(data), load_extractor(weights).info.channel_names)
    source = source_from_dataset(dataset, data.stem)
    source = source.select(in_periods(source.times, parse_periods([dates])))
    fields = torch.from_numpy(source.values[np.arange(len(source.times))][:, :, FIRST_ROW:-FIRST_ROW])
    return fields[:, :, : fields.shape[2] // 32 * 32, : fields.shape[3] // 32 * 32]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--data", type=Path, default=SHARED / "gfs_1p00_10m_2026_train.nc")
    parser.add_argument("--dates", default="2026-07-15/2026-07-18")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {name: compare(name, read(name, arguments.data, arguments.dates)) for name in arguments.weights}
    for name, entry in result.items():
        lags = ", ".join(f"{hours} h {value:.4f}" for hours, value in entry["within_lag"].items())
        print(f"{name}: rank correlation {entry['rank_correlation']:.4f} (n {entry['n']}; within a lag: {lags}); "
              f"crop / alone {entry['mean_ratio']:.3f}")  # fmt: skip
    if arguments.json:
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
