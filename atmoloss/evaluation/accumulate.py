"""One pass over time: of every variable and data set the sums per block that all scores follow from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data import quantities
from atmoloss.evaluation.bootstrap import BlockBootstrap
from atmoloss.evaluation.cities import at_cities
from atmoloss.evaluation.distributions import histogram
from atmoloss.evaluation.grid import area_mean
from atmoloss.evaluation.lattice import lattice_power
from atmoloss.evaluation.pixel import pixel_errors
from atmoloss.evaluation.results import KINETIC_ENERGY, TRUTH
from atmoloss.evaluation.spectra import kinetic_energy_spectrum, power_spectrum
from atmoloss.evaluation.variogram import semivariance

if TYPE_CHECKING:
    import xarray as xr

_CHUNK_CELLS = 2**22
"""Cells of one variable that are held at a time in float64, 32 MB."""

Sums = dict[str, np.ndarray]
"""Statistic to its sum per block (n_blocks, …); ``cities`` alone keeps all times (T, cities)."""


def wind_pair(variables: Sequence[str]) -> dict[str, str] | None:
    """Return which variables give the kinetic energy, by argument of :func:`kinetic_energy_spectrum`, if any."""
    known = {name: quantities.quantity(name) for name in variables}
    pairs = [("vorticity", "divergence"), *quantities.WIND_PAIRS]
    for first, second in pairs:
        wanted = [quantities.VARIABLES[first], quantities.VARIABLES[second]]
        found = [next((n for n, q in known.items() if q is w), None) for w in wanted]
        if None not in found:
            return dict(zip((first.rstrip("0123456789"), second.rstrip("0123456789")), map(str, found), strict=True))
    return None


def time_chunks(field: xr.DataArray) -> Iterator[slice]:
    """Yield slices of time that bound the memory of one variable."""
    size = max(1, _CHUNK_CELLS // (field.sizes["latitude"] * field.sizes["longitude"]))
    return (slice(start, start + size) for start in range(0, field.sizes["time"], size))


def accumulate(
    truth: xr.Dataset,
    models: Mapping[str, xr.Dataset],
    blocks: BlockBootstrap,
    *,
    edges: Mapping[str, np.ndarray],
    lags: Sequence[float],
    cities: xr.Dataset | None,
    spectra: bool,
    n_samples: int,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Sums]]:
    """Return variable → data set → sums; data sets are aligned: same ordered grid, same times.

    Args:
        truth, models: variables (time, latitude, longitude).
        blocks: of the times.
        edges: bins of each variable.
        lags: of the semivariogram, kilometres.
        cities: places, see :func:`at_cities`.
        spectra: whether the grid has any.
        n_samples, seed: see :func:`semivariance`.
        progress: called with a line per chunk.
    """
    names = [str(name) for name in truth.data_vars]
    pair = wind_pair(names) if spectra else None
    sums: dict[str, dict[str, Sums]] = {n: {d: {} for d in (TRUTH, *models)} for n in (*names, KINETIC_ENERGY)}

    def add(into: Sums, index: np.ndarray, **statistics: np.ndarray) -> None:
        for key, values in statistics.items():
            if key not in into:
                into[key] = np.zeros((blocks.n_blocks, *values.shape[1:]))
            np.add.at(into[key], index, values)

    places: dict[str, dict[str, list[np.ndarray]]] = {n: {d: [] for d in (TRUTH, *models)} for n in names}
    for part in time_chunks(truth[names[0]]):
        index = blocks.block[part]
        loaded = {d: data.isel(time=part).load() for d, data in ((TRUTH, truth), *models.items())}
        for dataset, fields in loaded.items():
            for name in names:
                field = fields[name].astype(np.float64)
                into = sums[name][dataset]
                values = field.values
                add(into, index, lattice=lattice_power(field).values, histogram=histogram(field, edges[name]).values)
                add(into, index, mean=area_mean(field).values, square=area_mean(field**2).values)
                add(into, index, map=values, map_square=values**2)
                if lags:
                    add(into, index, semivariance=semivariance(field, lags, n_samples=n_samples, seed=seed).values)
                if spectra:
                    add(into, index, spectrum=power_spectrum(field).values)
                if dataset != TRUTH:
                    errors = pixel_errors(field, loaded[TRUTH][name])
                    add(into, index, **{str(key): e.values for key, e in errors.items()})
                places[name][dataset].append(at_cities(field, cities).values)
            if pair is not None:
                winds: Any = {role: fields[name] for role, name in pair.items()}
                energy = kinetic_energy_spectrum(**winds)
                add(sums[KINETIC_ENERGY][dataset], index, spectrum=energy.values)
        if progress is not None:
            progress(f"{min(part.stop, truth.sizes['time'])} of {truth.sizes['time']} times")
    for name in names:
        for dataset, series in places[name].items():
            sums[name][dataset]["cities"] = np.concatenate(series)
    if pair is None:
        del sums[KINETIC_ENERGY]
    return sums
