"""From sums per block to samples of every score: row 0 is the data as they are, the others are draws of blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from atmoloss.evaluation.accumulate import Sums
from atmoloss.evaluation.bootstrap import BlockBootstrap
from atmoloss.evaluation.cities import wasserstein
from atmoloss.evaluation.distributions import TAILS, percentiles_of_histogram
from atmoloss.evaluation.lattice import lattice_ratios

# Cells whose maps are resampled at a time: (draws + 1) × this × 8 bytes is held four times.
_CELLS = 2**12


def field_scores(
    truth: Sums,
    model: Sums,
    blocks: BlockBootstrap,
    *,
    row_weights: np.ndarray,
    edges: np.ndarray,
    degree: np.ndarray | None,
    unresolved_from: float,
) -> dict[str, np.ndarray]:
    """Return metric → samples (n + 1,) of one variable of one model.

    Args:
        truth, model: sums of :func:`accumulate`.
        blocks: of the times.
        row_weights: share of area of each row.
        edges: of the histogram.
        degree: of the spectrum, ``None`` where there is none.
        unresolved_from: first degree of the unresolved scales.
    """
    t, m = ({k: blocks.means(v) for k, v in s.items() if k not in _BY_HAND} for s in (truth, model))
    out = {"rmse": np.sqrt(m["mse"]), "mae": m["mae"], "ssim": m["ssim"]}
    if degree is not None:
        out |= spectral_scores(t["spectrum"], m["spectrum"], degree, unresolved_from)
    if "semivariance" in t:
        # The variance of the truth, which normalises both, cancels.
        out["semivariogram"] = np.sqrt((np.log(m["semivariance"] / t["semivariance"]) ** 2).mean(-1))
    percentiles = (TAILS[0], 50.0, TAILS[1])
    q_t, q_m = (percentiles_of_histogram(blocks.means(s["histogram"]), edges, percentiles) for s in (truth, model))
    for name, i in (("lower_tail", 0), ("upper_tail", 2)):
        # Positive: farther out than the truth's, on either side.
        reach = q_t[:, i] - q_t[:, 1]
        out[name] = 100 * (q_m[:, i] - q_t[:, i]) / reach
    if truth["cities"].size:
        out["city_wasserstein"] = city_distances(truth["cities"], model["cities"], blocks).mean(0)
    out |= _map_errors(truth, model, blocks, row_weights)
    if blocks.sizes.sum() < 2:
        out["std_map"] = np.full_like(out["std_map"], np.nan)
    return out | lattice_ratios(m["lattice"], t["lattice"])


_BY_HAND = ("cities", "map", "map_square", "histogram")


def spectral_scores(
    truth: np.ndarray, model: np.ndarray, degree: np.ndarray, unresolved_from: float
) -> dict[str, np.ndarray]:
    """Return the two scores of spectra (n + 1, degree)."""
    use = degree >= unresolved_from
    decibels = 10 * np.log10(model[:, use] / truth[:, use])
    return {
        "log_spectral_distance": np.sqrt((decibels**2).mean(1)),
        "unresolved_power": model[:, use].sum(1) / truth[:, use].sum(1),
    }


def city_distances(truth: np.ndarray, model: np.ndarray, blocks: BlockBootstrap) -> np.ndarray:
    """Return Wasserstein-1 distances (city, n + 1) of values (T, city); only the times' blocks are redrawn."""
    weights = blocks.counts[:, blocks.block].T
    return np.stack(
        [wasserstein(m[:, None], t[:, None], weights, weights) for t, m in zip(truth.T, model.T, strict=True)]
    )


def _map_errors(
    truth: Mapping[str, np.ndarray], model: Mapping[str, np.ndarray], blocks: BlockBootstrap, row_weights: np.ndarray
) -> dict[str, np.ndarray]:
    columns = truth["map"].shape[2]
    weights = np.repeat(row_weights / columns, columns)
    totals = {"mean_map": np.zeros(len(blocks.counts)), "std_map": np.zeros(len(blocks.counts))}
    for start in range(0, weights.size, _CELLS):
        part = slice(start, start + _CELLS)
        mean, std = [], []
        for sums in (truth, model):
            first, second = (blocks.means(sums[k].reshape(blocks.n_blocks, -1)[:, part]) for k in ("map", "map_square"))
            mean.append(first)
            std.append(np.sqrt(np.maximum(second - first**2, 0.0)))
        for name, (a, b) in (("mean_map", mean), ("std_map", std)):
            totals[name] += (a - b) ** 2 @ weights[part]
    return {name: np.sqrt(total) for name, total in totals.items()}
