"""One pass over time: the sums per block of every variable and data set that all scores follow from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.verification.accumulators import ACCUMULATORS, Chunk, Sums
from atmoloss.verification.comparison import Comparison
from atmoloss.verification.results import KINETIC_ENERGY, TRUTH
from atmoloss.verification.statistics.grid import Field
from atmoloss.verification.statistics.spectra import energy_of_derivatives, energy_of_winds

if TYPE_CHECKING:
    import xarray as xr

_CHUNK_CELLS = 2**22
"""Cells of one variable that are held at a time in float64, 32 MB."""


def accumulate(comparison: Comparison, progress: Callable[[str], None] | None = None) -> dict[str, dict[str, Sums]]:
    """Return variable → data set → sums; the kinetic energy, where there are winds, is a variable of its own.

    Args:
        comparison: whose data, if they are lazy, are read some times at a time.
        progress: called with a line for every part of the times.
    """
    used = [a for a in ACCUMULATORS if a.applies(comparison)]
    names = [*comparison.variables, *([KINETIC_ENERGY] if comparison.winds else [])]
    sums: dict[str, dict[str, Sums]] = {name: {dataset: {} for dataset in comparison.data} for name in names}
    n_times, blocks = comparison.times.size, comparison.blocks
    for part in _time_chunks(comparison):
        loaded = {name: data.isel(time=part).load() for name, data in comparison.data.items()}
        for dataset, chunk in _chunks(loaded, comparison.times[part]):
            into = sums[chunk.variable][dataset]
            for accumulator in used:
                for key, values in accumulator.per_time(chunk, comparison).items():
                    if accumulator.summed:
                        _add(into, key, values, blocks.block[part], blocks.n_blocks)
                    else:
                        _add(into, key, values, np.arange(n_times)[part], n_times)
        for dataset, data in loaded.items() if comparison.winds else ():
            energy = _kinetic_energy(data, comparison)
            _add(sums[KINETIC_ENERGY][dataset], "spectrum", energy, blocks.block[part], blocks.n_blocks)
        if progress is not None:
            progress(f"{min(part.stop, n_times)} of {n_times} times")
    return sums


def _time_chunks(comparison: Comparison) -> Iterator[slice]:
    """Yield slices of time that bound the memory of one variable."""
    size = max(1, _CHUNK_CELLS // (comparison.grid.latitude.size * comparison.grid.longitude.size))
    return (slice(start, start + size) for start in range(0, comparison.times.size, size))


def _chunks(loaded: Mapping[str, xr.Dataset], times: np.ndarray) -> Iterator[tuple[str, Chunk]]:
    """Yield every variable of every data set."""
    for variable in map(str, loaded[TRUTH].data_vars):
        truth = Field(loaded[TRUTH][variable], TRUTH).values
        for dataset, data in loaded.items():
            if dataset == TRUTH:
                yield dataset, Chunk(variable, truth, None, times)
            else:
                yield dataset, Chunk(variable, Field(data[variable], dataset).values, truth, times)


def _kinetic_energy(data: xr.Dataset, comparison: Comparison) -> np.ndarray:
    assert comparison.winds is not None
    core = energy_of_winds if "u" in comparison.winds else energy_of_derivatives
    a, b = (Field(data[name], name).values for name in comparison.winds.values())
    return core(a, b, comparison.grid)[1]


def _add(sums: Sums, key: str, values: np.ndarray, index: np.ndarray, size: int) -> None:
    if key not in sums:
        sums[key] = np.zeros((size, *values.shape[1:]))
    np.add.at(sums[key], index, values)
