"""AtmoDist distance of made fields to the truth, and the hours that it stands for, patch by patch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from atmoloss import AtmoDistLoss
from atmoloss.data.sequences import read_patch
from atmoloss.data.sources import source_from_dataset
from atmoloss.hours import curve_for
from atmoloss.lag_2afc.triples import tiles
from atmoloss.verification.results import Score
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

SIZE = 64  # of the patches that the weights were trained on, and that their curves of distance against lag are of


@torch.no_grad()
def atmodist_scores(
    truth: xr.Dataset, models: Mapping[str, xr.Dataset], level: str, weights: str = "default"
) -> list[Score]:
    """Return the mean distance and the mean equivalent lag of every model, over patches and times.

    Args:
        truth: the variables of the weights, in their order.
        models: name → the same on the same grid and times.
        level: of the fields, as the curves of the weights name it.
        weights: bundled name or weights folder.
    """
    loss = AtmoDistLoss(weights, mse_weight=0.0, reduction="none")
    true = source_from_dataset(truth, "truth")
    made = {name: source_from_dataset(data, name) for name, data in models.items()}
    curve = curve_for(loss.extractor, (SIZE, SIZE), true.grid_spacing, level)
    distances = {name: torch.zeros(len(true.times), 0, dtype=torch.float64) for name in made}
    for row, column in tiles(true, SIZE):
        where = np.arange(len(true.times)), row, column, SIZE
        features = loss.features(torch.from_numpy(read_patch(true, *where)))
        for name, source in made.items():
            values = loss(torch.from_numpy(read_patch(source, *where)), features).double()
            distances[name] = torch.cat((distances[name], values[:, None]), 1)
    blocks = BlockBootstrap(true.times)
    scores = []
    for name, d in distances.items():
        hours = curve.equivalent_lag(d.flatten()).hours.reshape(d.shape)
        for metric, values, units in (("AtmoDist distance", d, "1"), ("AtmoDist hours", hours, "h")):
            mean = blocks.means(blocks.block_sums(values.mean(1).numpy()))
            scores.append(Score("AtmoDist, both variables", metric, name, *map(float, blocks.bounds(mean)), units))
    return scores
