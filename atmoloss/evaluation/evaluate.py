"""Everything that a report shows, of fields in memory or on disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss._version import __version__
from atmoloss.errors import InputError, require
from atmoloss.evaluation.accumulate import Sums, accumulate, wind_pair
from atmoloss.evaluation.bootstrap import BOUNDS, DEFAULT_BLOCK_DAYS, BlockBootstrap
from atmoloss.evaluation.cities import at_cities
from atmoloss.evaluation.distributions import bin_edges
from atmoloss.evaluation.grid import Grid, grid_of, on_common_grid, ordered, units_of
from atmoloss.evaluation.results import KINETIC_ENERGY, METRICS, TRUTH, Difference, Evaluation, Score
from atmoloss.evaluation.scores import city_distances, field_scores, spectral_scores
from atmoloss.evaluation.spectra import power_spectrum
from atmoloss.evaluation.variogram import LAGS_KM

if TYPE_CHECKING:
    import xarray as xr

_BINS = 4096
_FEW_BLOCKS = 10


def evaluate_fields(
    truth: xr.Dataset,
    models: Mapping[str, xr.Dataset],
    *,
    unresolved_from: float | None = None,
    block_days: float = DEFAULT_BLOCK_DAYS,
    n_bootstrap: int = 1000,
    seed: int = 0,
    lags_km: Sequence[float] = LAGS_KM,
    n_samples: int = 2000,
    cities: xr.Dataset | None = None,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Compare fields of models with the truth: spectra, semivariogram, cities, moments, tails, pixels, artefacts.

    Times, rows and columns are those that all have. Data that read lazily (dask) are read twice, some times at a time;
    held in memory are sums per block, of which the maps are the largest: 16 bytes a cell, block, variable and data set.

    Args:
        truth: variables (time, latitude, longitude), any scalars, on a global or regional grid in either order of
            latitude and any convention of longitude. Of vorticity and divergence, or of two winds, the kinetic
            energy is compared, too.
        models: name → the same variables on the same grid, or on a part of it.
        unresolved_from: first degree that the models' input did not resolve; ``None``: a quarter of the shortest
            wave's, as for super-resolution by 4.
        block_days: see :class:`BlockBootstrap`.
        n_bootstrap: draws of blocks.
        seed: of the draws and of the pairs of the semivariogram.
        lags_km: distances of the semivariogram; those shorter than a grid step or longer than half a region are
            left out.
        n_samples: pairs for each time and distance.
        cities: see :func:`at_cities`.
        progress: called with a line for every part of the times.

    Raises:
        InputError: no model or variable, a reserved name, variables, grids or times that do not fit, missing values.
    """
    names, truth, models, cropped = _aligned(truth, models)
    first = truth[names[0]]
    grid = grid_of(first)
    blocks = BlockBootstrap(first["time"].values, block_days, n_bootstrap, seed)
    notes = [] if blocks.n_blocks >= _FEW_BLOCKS else [_few(blocks.n_blocks)]
    degree, why = _degrees(first)
    notes += [text for text in (cropped, why) if text]
    if unresolved_from is None:
        unresolved_from = 45.0 / grid.step[0]
    if degree is not None and not 0 < unresolved_from <= degree[-1]:
        raise InputError(f"unresolved_from: got {unresolved_from:g}, expected a degree between 0 and {degree[-1]:g}")
    lags = _usable_lags(lags_km, grid)
    everything = {TRUTH: truth, **models}
    edges = {n: bin_edges([d[n] for d in everything.values()], _BINS) for n in names}
    sums = accumulate(
        truth, models, blocks,
        edges=edges, lags=lags, cities=cities, spectra=degree is not None, n_samples=n_samples, seed=seed,
        progress=progress,
    )  # fmt: skip
    samples: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for name, model in itertools.product(sums, models):
        of_truth, of_model = sums[name][TRUTH], sums[name][model]
        with np.errstate(divide="ignore", invalid="ignore"):  # a model without any power has infinite decibels
            if name == KINETIC_ENERGY:
                assert degree is not None
                spectra = [blocks.means(s["spectrum"]) for s in (of_truth, of_model)]
                samples[name, model] = spectral_scores(spectra[0], spectra[1], degree, unresolved_from)
            else:
                samples[name, model] = field_scores(
                    of_truth, of_model, blocks,
                    row_weights=grid.row_weights, edges=edges[name], degree=degree, unresolved_from=unresolved_from,
                )  # fmt: skip
    if not sums[names[0]][TRUTH]["cities"].size:
        notes.append("No city of the list lies on the grid.")
    units = {n: units_of(truth[n]) for n in names} | {KINETIC_ENERGY: "m2 s-2"}
    curves = {
        n: _curves(n, everything, of, blocks, degree=degree, lags=lags, edges=edges.get(n), cities=cities)
        for n, of in sums.items()
    }
    times = first["time"].values
    settings = {
        "atmoloss": __version__,
        "models": list(models),
        "variables": {n: units[n] for n in sums},
        "n_times": len(times),
        "first_time": _text(times.min()),
        "last_time": _text(times.max()),
        "grid": str(grid),
        "spectrum": None if degree is None else "spherical" if grid.geometry else "planar",
        "unresolved_from_degree": float(unresolved_from),
        "energy_from": None if degree is None else wind_pair(names),
        "block_days": float(block_days),
        "n_blocks": blocks.n_blocks,
        "n_bootstrap": n_bootstrap,
        "seed": seed,
        "n_pairs_per_time_and_lag": n_samples,
        "n_cities": int(sums[names[0]][TRUTH]["cities"].shape[1]),
    }
    return Evaluation(
        scores=tuple(_scores(samples, blocks, units)),
        differences=tuple(_differences(samples, blocks, units, tuple(models))),
        curves=curves,
        models=tuple(models),
        settings=settings,
        notes=tuple(notes),
    )


def _few(n: int) -> str:
    if n == 1:
        return "All times lie in one block: there are no intervals."
    return f"Only {n} blocks of time: the intervals are rough, and too narrow rather than too wide."


def _aligned(
    truth: xr.Dataset, models: Mapping[str, xr.Dataset]
) -> tuple[list[str], xr.Dataset, dict[str, xr.Dataset], str]:
    """Return the variables, truth and models ordered, at the times and points that all have, and what was left out."""
    xarray = require("xarray", "eval")
    names = [str(name) for name in truth.data_vars]
    if not models or not names:
        raise InputError(f"truth, models: got {len(names)} variables and {len(models)} models, expected one or more")
    if TRUTH in models:
        raise InputError(f"models: got one named {TRUTH!r}, expected another name")
    if KINETIC_ENERGY in names:
        raise InputError(f"truth: got a variable {KINETIC_ENERGY!r}, which is reserved; expected another name")
    times = None
    for label, data in ((TRUTH, truth), *models.items()):
        missing = [n for n in names if n not in data.data_vars]
        if missing:
            raise InputError(f"{label}: lacks {', '.join(missing)}, expected the variables of the truth")
        if "time" not in data.coords or "time" not in data.dims:
            raise InputError(f"{label}: has no time axis, expected (time, latitude, longitude)")
        own = data["time"].values
        if len(np.unique(own)) < len(own):
            raise InputError(f"{label}: some times occur twice, expected each once; choose one forecast run")
        times = own if times is None else np.intersect1d(times, own)
        if not len(times):
            raise InputError(
                f"{label}: has no time in common with the others ({len(own)} from {_text(own.min())} to "
                f"{_text(own.max())}), expected fields of the same times"
            )
    fitted: dict[str, xr.Dataset] = {}
    for label, data in ((TRUTH, truth), *models.items()):
        at = data.sel(time=times)
        fields = {n: ordered(at[n], label).reset_coords(drop=True) for n in names}
        ready: xr.Dataset = xarray.Dataset(fields)
        fitted[label] = ready
    shapes = {label: (data.sizes["latitude"], data.sizes["longitude"]) for label, data in fitted.items()}
    fitted = on_common_grid(fitted)
    truth = fitted.pop(TRUTH)
    rows, columns = truth.sizes["latitude"], truth.sizes["longitude"]
    larger = [f"{label} has {h} × {w}" for label, (h, w) in shapes.items() if (h, w) != (rows, columns)]
    note = f"Compared on the {rows} × {columns} points that all have: {', '.join(larger)}." if larger else ""
    return names, truth, fitted, note


def _degrees(field: xr.DataArray) -> tuple[np.ndarray | None, str]:
    """Return the degrees of the spectrum of a field, or ``None`` and why its grid has none."""
    empty = field.isel(time=[0]).copy(data=np.zeros((1, *field.shape[1:])))
    try:
        return power_spectrum(empty)["degree"].values, ""
    except InputError as error:
        return None, f"No spectra: {error}."


def _usable_lags(lags_km: Sequence[float], grid: Grid) -> list[float]:
    longest = np.inf
    if grid.geometry is None:
        width = grid.step[1] * np.cos(np.deg2rad(grid.latitude)).min() * grid.longitude.size
        longest = grid.spacing_km / grid.step[0] * min(width, grid.step[0] * grid.latitude.size) / 2
    return [lag for lag in lags_km if grid.spacing_km <= lag <= longest]


def _bounds(blocks: BlockBootstrap, samples: np.ndarray) -> tuple[float, float, float]:
    value, low, high = blocks.bounds(samples)
    return float(value), float(low), float(high)


def _scores(
    samples: Mapping[tuple[str, str], Mapping[str, np.ndarray]], blocks: BlockBootstrap, units: Mapping[str, str]
) -> list[Score]:
    return [
        Score(variable, metric, model, *_bounds(blocks, own[metric]), units=METRICS[metric].units or units[variable])
        for (variable, model), own in samples.items()
        for metric in METRICS
        if metric in own
    ]


def _differences(
    samples: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    blocks: BlockBootstrap,
    units: Mapping[str, str],
    models: Sequence[str],
) -> list[Difference]:
    out = []
    for variable, unit in units.items():
        for a, b in itertools.combinations(models, 2):
            if (variable, a) not in samples:
                continue
            for metric in METRICS:
                if metric in samples[variable, a]:
                    of = METRICS[metric]
                    distance = [of.from_ideal(samples[variable, model][metric]) for model in (a, b)]
                    bounds = _bounds(blocks, distance[0] - distance[1])
                    out.append(Difference(variable, metric, a, b, *bounds, units=of.units or unit))
    return out


def _curves(
    name: str,
    everything: Mapping[str, xr.Dataset],
    sums: Mapping[str, Sums],
    blocks: BlockBootstrap,
    *,
    degree: np.ndarray | None,
    lags: Sequence[float],
    edges: np.ndarray | None,
    cities: xr.Dataset | None,
) -> xr.Dataset:
    """Return what the plots of one variable show."""
    n = int(blocks.sizes.sum())
    models = [d for d in everything if d != TRUTH]
    out: dict[str, Any] = {}
    coords: dict[str, Any] = {"dataset": list(everything), "model": models, "bound": list(BOUNDS)}

    def means(key: str) -> np.ndarray:
        return np.stack([sums[d][key].sum(0) for d in everything]) / n

    if degree is not None:
        drawn = {d: blocks.means(sums[d]["spectrum"]) for d in everything}
        with np.errstate(invalid="ignore", divide="ignore"):  # degree 0 of a wind has no power
            ratio = np.stack([blocks.bounds(drawn[d] / drawn[TRUTH]) for d in models])
        unit = "m2 s-2" if name == KINETIC_ENERGY else units_of(everything[TRUTH][name], 2)
        out["spectrum"] = (("dataset", "degree"), means("spectrum"), {"units": unit})
        out["spectrum_ratio"] = (("model", "bound", "degree"), ratio, {"units": "1"})
        coords["degree"] = degree
    if name == KINETIC_ENERGY or edges is None:
        return _dataset(out, coords)
    truth = everything[TRUTH][name]
    unit = units_of(truth)
    if lags:
        variance = means("square")[0] - means("mean")[0] ** 2
        out["semivariogram"] = (("dataset", "lag"), means("semivariance") / variance, {"units": "1"})
        coords["lag"] = ("lag", list(lags), {"units": "km"})
    out["density"] = (("dataset", "bin"), means("histogram") / (edges[1] - edges[0]), {"units": f"({unit})-1"})
    coords["bin"] = ("bin", (edges[1:] + edges[:-1]) / 2, {"units": unit})
    mean, square = means("map"), means("map_square")
    space = ("dataset", "latitude", "longitude")
    out["mean"] = (space, mean, {"units": unit})
    out["std"] = (space, np.sqrt(np.maximum(square - mean**2, 0.0)), {"units": unit})
    middle = truth.sizes["time"] // 2
    out["example"] = (space, np.stack([d[name].isel(time=middle).values for d in everything.values()]), {"units": unit})
    coords |= {axis: truth[axis] for axis in ("latitude", "longitude")}
    coords["example_time"] = truth["time"].values[middle]
    if sums[TRUTH]["cities"].size:
        distances = [city_distances(sums[TRUTH]["cities"], sums[d]["cities"], blocks)[:, 0] for d in models]
        out["wasserstein"] = (("model", "city"), np.stack(distances), {"units": unit})
        where = at_cities(truth.isel(time=[0]), cities)
        coords |= {"city": where["city"].values}
        coords |= {f"city_{a}": ("city", where[a].values) for a in ("latitude", "longitude")}
    return _dataset(out, coords)


def _dataset(variables: Mapping[str, Any], coords: Mapping[str, Any]) -> xr.Dataset:
    out: xr.Dataset = require("xarray", "eval").Dataset(variables, coords)
    return out


def _text(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="m"))
