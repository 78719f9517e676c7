"""What is compared and how: the one object that accumulators, scores and curves of an evaluation look at."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Literal

import numpy as np

from atmoloss.data.quantities import parse
from atmoloss.errors import InputError, instance, number, option
from atmoloss.verification.overlap import overlap
from atmoloss.verification.results import ATMODIST, KINETIC_ENERGY, TRUTH
from atmoloss.verification.statistics.bootstrap import DEFAULT_BLOCK_DAYS, BlockBootstrap
from atmoloss.verification.statistics.cities import nearest_points
from atmoloss.verification.statistics.distributions import bin_edges
from atmoloss.verification.statistics.grid import Field, Grid, grid_of
from atmoloss.verification.statistics.spectra import power_of_degrees
from atmoloss.verification.statistics.variogram import LAGS_KM, check_pairs

if TYPE_CHECKING:
    import xarray as xr

    from atmoloss.verification.statistics.atmodist import AtmoDist

_BINS = 4096
_FEW_BLOCKS = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """How fields are compared.

    Attributes:
        unresolved_from: first degree that the models' input did not resolve; ``None``: a quarter of the shortest
            wave's, as for super-resolution by 4.
        block_days: length of the blocks of time that the bootstrap draws, days.
        n_bootstrap: draws of blocks.
        seed: of the draws and of the pairs of the semivariogram.
        lags_km: distances of the semivariogram; those shorter than a grid step or longer than half a region are
            left out.
        n_samples: pairs of the semivariogram for each time and distance.
        atmodist: what the AtmoDist score says, which there is where variables are the channels of bundled weights: the
            ``"distance"``, or how many ``"hours"`` two analyses are apart that differ as much; ``None``: no such score.
        level: of the fields, ``"10 m"`` or ``"850 hPa"``, which the curves for hours are chosen by; empty: what the
            truth says.
    """

    unresolved_from: float | None = None
    block_days: float = DEFAULT_BLOCK_DAYS
    n_bootstrap: int = 1000
    seed: int = 0
    lags_km: Sequence[float] = LAGS_KM
    n_samples: int = 2000
    atmodist: Literal["distance", "hours"] | None = "distance"
    level: str = ""

    def __post_init__(self) -> None:
        if self.unresolved_from is not None:
            number("unresolved_from", self.unresolved_from, np.isfinite, "a degree, or None")
        number("block_days", self.block_days, lambda x: x > 0, "a positive number of days")
        number("n_bootstrap", self.n_bootstrap, lambda x: x > 0, "a positive number of draws", Integral)
        check_pairs(self.lags_km, self.n_samples, self.seed)
        option("atmodist", self.atmodist, ("distance", "hours", None))
        instance("level", self.level, str, "a text such as '10 m', or an empty one")


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Truth and models at the times and points that all have, and what follows from them alone.

    Attributes:
        data: name → variables (time, latitude, longitude); the truth is the first, named ``truth``.
        options: as given.
        grid: of all of them.
        blocks: of the times.
        degree: of the spectra, ``None`` where the grid has none.
        unresolved_from: first degree that counts as unresolved.
        lags: distances of the semivariogram that the grid has, kilometres.
        atmodist: the AtmoDist distance, ``None`` where it is not asked for or no bundled weights fit.
        notes: what was left out and why, and what limits the intervals.
    """

    data: Mapping[str, xr.Dataset]
    options: Options
    grid: Grid
    blocks: BlockBootstrap
    degree: np.ndarray | None
    unresolved_from: float
    lags: np.ndarray
    atmodist: AtmoDist | None
    notes: tuple[str, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(name for name in self.data if name != TRUTH)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the data; kinetic energy and AtmoDist are not among them."""
        return tuple(str(name) for name in self.data[TRUTH].data_vars)

    @property
    def times(self) -> np.ndarray:
        """The times that all have, (T,)."""
        return np.asarray(self.data[TRUTH]["time"].values)

    @property
    def detail_cells(self) -> int:
        """Rows and columns of the cells of the models' input, in cells of the grid; at least 2."""
        return max(2, round(180.0 / (self.unresolved_from * self.grid.step[0])))

    @functools.cached_property
    def edges(self) -> dict[str, np.ndarray]:
        """Variable → edges of the bins of its histogram, from the smallest to the largest value of all data."""
        return {n: bin_edges([data[n] for data in self.data.values()], _BINS) for n in self.variables}

    @functools.cached_property
    def cities(self) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
        """The cities on the grid, with row and column, see :func:`nearest_points`."""
        return nearest_points(self.grid)

    @functools.cached_property
    def winds(self) -> dict[str, str] | None:
        """Which variables give the kinetic energy, by argument of :func:`kinetic_energy_spectrum`, if any."""
        return None if self.degree is None else wind_pair(self.variables)

    def units(self, variable: str, power: int = 1) -> str:
        """Return the CF units of a variable, or of its square; of what is made of several in any case its own."""
        if variable == ATMODIST:
            return "1" if self.options.atmodist == "distance" else "h"
        return "m2 s-2" if variable == KINETIC_ENERGY else Field(self.data[TRUTH][variable]).units(power)


def compare(truth: xr.Dataset, models: Mapping[str, xr.Dataset], options: Options) -> Comparison:
    """Return truth and models as they can be compared; arguments and errors are those of ``evaluate_fields``."""
    data, cropped = overlap(truth, models)
    first = next(iter(data[TRUTH].data_vars.values()))
    grid = grid_of(first)
    blocks = BlockBootstrap(first["time"].values, options.block_days, options.n_bootstrap, options.seed)
    degree, no_spectra = _degrees(grid)
    atmodist, no_distance = _atmodist(truth, grid, options)
    unresolved_from = 45.0 / grid.step[0] if options.unresolved_from is None else options.unresolved_from
    highest = 180.0 / grid.step[0] if degree is None else degree[-1]
    if not 0 < unresolved_from <= highest:
        raise InputError(f"unresolved_from: got {unresolved_from:g}, expected a degree between 0 and {highest:g}")
    few = ""
    if blocks.n_blocks == 1:
        few = "All times lie in one block: there are no intervals."
    elif blocks.n_blocks < _FEW_BLOCKS:
        few = f"Only {blocks.n_blocks} blocks of time: the intervals are rough, and too narrow rather than too wide."
    notes = tuple(filter(None, (few, cropped, no_spectra, no_distance)))
    lags = _usable_lags(options.lags_km, grid)
    return Comparison(data, options, grid, blocks, degree, unresolved_from, lags, atmodist, notes)


def wind_pair(variables: Sequence[str]) -> dict[str, str] | None:
    """Return vorticity and divergence, or u and v, of one place (a level, a height, or none); the first such pair."""
    parsed = {parse(name): name for name in reversed(variables)}
    for first, second in (("vorticity", "divergence"), ("u", "v")):
        for name in variables:
            key, place = parse(name) or ("", None)
            if key == first and (second, place) in parsed:
                return {first: name, second: parsed[second, place]}
    return None


def _degrees(grid: Grid) -> tuple[np.ndarray | None, str]:
    """Return the degrees of the spectrum on a grid, or ``None`` and why it has none."""
    try:
        return power_of_degrees(np.zeros((1, grid.latitude.size, grid.longitude.size)), grid)[0], ""
    except InputError as error:
        return None, f"No spectra: {error}."


def _atmodist(truth: xr.Dataset, grid: Grid, options: Options) -> tuple[AtmoDist | None, str]:
    """Return the AtmoDist distance, or ``None`` and why there is none; hours are asked for, and so must be there."""
    if options.atmodist is None:
        return None, ""
    from atmoloss.verification.statistics.atmodist import atmodist_of  # which loads torch

    try:
        return atmodist_of(truth, grid, hours=options.atmodist == "hours", level=options.level), ""
    except InputError as error:
        if options.atmodist == "hours":
            raise
        return None, f"No AtmoDist distance: {error}."


def _usable_lags(lags_km: Sequence[float], grid: Grid) -> np.ndarray:
    longest = np.inf
    if grid.geometry is None:
        width = grid.step[1] * np.cos(np.deg2rad(grid.latitude)).min() * grid.longitude.size
        longest = grid.spacing_km / grid.step[0] * min(width, grid.step[0] * grid.latitude.size) / 2
    return np.array([lag for lag in lags_km if grid.spacing_km <= lag <= longest])
