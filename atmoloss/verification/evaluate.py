"""Everything that a report shows, of fields in memory or on disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss._version import __version__
from atmoloss.errors import InputError, shown
from atmoloss.verification.accumulators import Draws, accumulate, curves_of
from atmoloss.verification.comparison import Comparison, Options, compare
from atmoloss.verification.metrics import METRICS, samples_of
from atmoloss.verification.results import TRUTH, Difference, Evaluation, Score

if TYPE_CHECKING:
    import xarray as xr


def evaluate_fields(
    truth: xr.Dataset,
    models: Mapping[str, xr.Dataset],
    *,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Evaluation:
    """Compare fields of models with the truth: spectra, semivariogram, cities, moments, tails, pixels, artefacts.

    Times, rows and columns are those that all have. Data that read lazily (dask) are read twice, some times at a time;
    held in memory are sums per block, of which the maps are the largest: 16 bytes a cell, block, variable and data set.

    Args:
        truth: variables (time, latitude, longitude), any scalars, on a global or regional grid in either order of
            latitude and any convention of longitude. Of vorticity and divergence, or of two winds, the kinetic
            energy is compared, too, and the AtmoDist distance is a score.
        models: name → the same variables on the same grid, or on a part of it.
        progress: called with a line for every part of the times.
        **options: of :class:`Options`.

    Raises:
        InputError: no model or variable, a reserved name, variables, grids or times that do not fit, missing values, or
            hours of variables, a grid or a level that no bundled weights have a curve for.
        TypeError: an unknown option.
    """
    if progress is not None and not callable(progress):
        raise InputError(f"progress: got {shown(progress)}, expected a function that takes a line of text, or None")
    comparison = compare(truth, models, Options(**options))
    draws = {
        variable: [Draws(sums[TRUTH], sums[model], variable, comparison) for model in comparison.models]
        for variable, sums in accumulate(comparison, progress).items()
    }
    scores, differences = _scores(draws, comparison)
    no_city = () if comparison.cities[0].sizes["city"] else ("No city of the list lies on the grid.",)
    return Evaluation(
        scores=scores,
        differences=differences,
        curves={variable: curves_of(own) for variable, own in draws.items()},
        models=comparison.models,
        settings=_settings(comparison, list(draws)),
        notes=(*comparison.notes, *no_city),
    )


def _scores(
    draws: Mapping[str, list[Draws]], comparison: Comparison
) -> tuple[tuple[Score, ...], tuple[Difference, ...]]:
    """Return every score of every model, and the differences of all pairs of models."""
    scores: list[Score] = []
    differences: list[Difference] = []
    for variable, own in draws.items():
        samples = {model: samples_of(d) for model, d in zip(comparison.models, own, strict=True)}
        units = {name: metric.units or comparison.units(variable) for name, metric in METRICS.items()}
        present = [name for name in METRICS if name in samples[comparison.models[0]]]
        for model, values in samples.items():
            for name in present:
                value, low, high = comparison.blocks.bounds(values[name]).tolist()
                scores.append(Score(variable, name, model, value, low, high, units[name]))
        for a, b in itertools.combinations(samples, 2):
            for name in present:
                first, second = (METRICS[name].from_ideal(samples[model][name]) for model in (a, b))
                value, low, high = comparison.blocks.bounds(first - second).tolist()
                differences.append(Difference(variable, name, a, value, low, high, units[name], other=b))
    return tuple(scores), tuple(differences)


def _settings(comparison: Comparison, variables: list[str]) -> dict[str, Any]:
    times, grid, options = comparison.times, comparison.grid, comparison.options
    first, last = (str(np.datetime_as_string(time, unit="m")) for time in (times.min(), times.max()))
    return {
        "atmoloss": __version__,
        "models": list(comparison.models),
        "variables": {name: comparison.units(name) for name in variables},
        "n_times": len(times),
        "first_time": first,
        "last_time": last,
        "grid": str(grid),
        "spectrum": None if comparison.degree is None else "spherical" if grid.geometry else "planar",
        "unresolved_from_degree": float(comparison.unresolved_from),
        "energy_from": comparison.winds,
        "atmodist": None if comparison.atmodist is None else comparison.atmodist.describe(),
        "block_days": float(options.block_days),
        "n_blocks": comparison.blocks.n_blocks,
        "n_bootstrap": options.n_bootstrap,
        "seed": options.seed,
        "n_pairs_per_time_and_lag": options.n_samples,
        "n_cities": int(comparison.cities[0].sizes["city"]),
    }
