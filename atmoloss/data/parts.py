"""A variable in each of the files of a source, and how each file lays it out."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data.conventions import (
    at_level,
    describe_levels,
    horizontal_axes,
    latitude_order,
    longitude_order,
    one_member,
)
from atmoloss.data.quantities import Place, Quantity, conversion, quantity
from atmoloss.data.spectral import COEFFICIENT, grid_axes, to_grid, truncation
from atmoloss.data.times import Folded, experiments, fold_time
from atmoloss.data.variables import find_variable, quantity_of, winds_by_place
from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

Transform = Callable[[np.ndarray], np.ndarray]
BLOCK_BYTES = 2**26
"""Work on time blocks of about this size: bounds the memory of float64 decoding and of derivatives."""


def find_parts(files: Sequence[Sequence[xr.Dataset]], name: str, level: float | None) -> list[xr.DataArray]:
    """Return the variable that a name means in every file that has it; refuse several that fit, or different ones."""
    parts, without = [], None
    for datasets in files:
        try:
            variable = find_variable(datasets, name, level)
        except DataError as error:
            # Of files for a level each, those of the others do not count.
            if level is None or len(files) == 1:
                raise
            variable, without = None, error
        if variable is not None:
            parts.append(variable)
    if not parts and without is not None:
        raise without
    _check_alike(parts, name, level)
    return parts


def find_winds(
    files: Sequence[Sequence[xr.Dataset]], level: float | None
) -> dict[str, tuple[list[xr.DataArray], list[xr.DataArray]]]:
    """Return the pairs of winds that ``level`` leaves, each in every file that has it, by their names."""
    if level is not None:
        pairs = [(find_parts(files, "u", level), find_parts(files, "v", level))]
    else:
        us, vs = ([winds_by_place(datasets, component) for datasets in files] for component in "uv")
        places = {place: None for file in us for place in file if any(place in other for other in vs)}
        pairs = [(_only(us, place, "u"), _only(vs, place, "v")) for place in places]
    return {f"{u[0].name}, {v[0].name}": (u, v) for u, v in pairs if u and v}


def _only(
    files: Sequence[dict[Place | None, list[xr.DataArray]]], place: Place | None, component: str
) -> list[xr.DataArray]:
    """Return the one wind at a place in each of the files that have it."""
    for fields in (file.get(place, []) for file in files):
        if len(fields) > 1:
            present = "; ".join(f"{f.name} (levels: {describe_levels(f)})" for f in fields)
            raise DataError(f"level: got None, expected one that leaves one of the winds {present}")
    parts = [field for file in files for field in file.get(place, [])]
    _check_alike(parts, component, None)
    return parts


def present_names(files: Sequence[Sequence[xr.Dataset]]) -> str:
    """Return what the data hold, for an error message."""
    fields = (d[v] for datasets in files for d in datasets for v in d.data_vars)
    said = {str(f.name): f" ({standard})" if (standard := f.attrs.get("standard_name")) else "" for f in fields}
    return "expected one of those present: " + ", ".join(name + said[name] for name in sorted(said))


def level_of(wanted: Quantity | None, level: float | None) -> float | None:
    """Return the level or height that a name says, or else the one asked for."""
    return level if wanted is None or wanted.place is None else wanted.place[0]


def _check_alike(parts: Sequence[xr.DataArray], name: str, level: float | None) -> None:
    """Refuse files that hold different variables, or levels, of which no one can say that they are one series."""
    own = {str(part.name) for part in parts}
    meant = [quantity(n) for n in own]
    if len(own) > 1 and (meant[0] is None or any(q != meant[0] for q in meant)):
        raise DataError(f"variables: {name!r} is {' and '.join(sorted(own))} in different files, name one of them")
    if level is None:
        described = {describe_levels(part) for part in parts} - {"none"}
        if len(described) > 1:
            raise DataError(
                f"level: got None for {name!r}, whose files hold different levels ({'; '.join(sorted(described))}); "
                "expected one of them"
            )


@dataclasses.dataclass(frozen=True)
class Space:
    """How a variable lies in space, at one level."""

    field: xr.DataArray  # at that level, lazy
    core: tuple[str, ...]  # the dimensions of space, in the order that ``transform`` takes them
    latitude: np.ndarray  # of what ``transform`` returns, degrees, descending
    longitude: np.ndarray
    transform: Transform  # (T, *core) as stored to float32 (T, latitude, longitude)

    @property
    def outer(self) -> list[str]:
        """All other dimensions, in the order of the field."""
        return [str(d) for d in self.field.dims if d not in self.core]


def space_of(source: xr.DataArray, name: str, level: float | None, grid: float | None = None) -> Space:
    """Find the axes of a variable, and what brings its values to the promised order and units."""
    wanted = quantity_of(source, name)
    factor, offset = (1.0, 0.0) if wanted is None else conversion(source, wanted)
    lmax = truncation(source)
    if lmax is not None and (factor, offset) != (1.0, 0.0):
        raise DataError(f"{source.name}: got coefficients in {source.attrs['units']!r}, expected SI units")
    field = at_level(source, level_of(wanted, level))
    if lmax is None and grid is not None:
        raise DataError(f"grid: got {grid:g}, expected None: {source.name!r} is no spherical harmonics")
    if lmax is not None:
        core, (latitude, longitude) = [COEFFICIENT], grid_axes(lmax, grid)
        transform: Transform = partial(to_grid, lmax=lmax, nlat=latitude.size, nlon=longitude.size)
    else:
        core, (latitude, longitude) = horizontal_axes(field)
        rows = latitude_order(latitude)
        columns, longitude = longitude_order(longitude)
        latitude = latitude[rows]
        transform = partial(_ordered, rows=as_slice(rows), columns=as_slice(columns), factor=factor, offset=offset)
    if field.sizes.get("expver", 1) > 1:
        field, transform = _both_versions(field), partial(_first_present, transform=transform)
        core = ["expver", *core]
    return Space(field, tuple(core), latitude, longitude, transform)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one file holds a variable, its times in one dimension."""

    folded: Folded
    space: Space
    block: int  # times to read at a time


def layout_of(source: xr.DataArray, name: str, level: float | None, grid: float | None, eager_bytes: int) -> Layout:
    """Find the axes of a variable of one file; two dimensions of time are stacked in memory up to ``eager_bytes``."""
    space = space_of(one_member(source), name, level, grid)
    field, outer = space.field, space.outer
    stored = field.encoding.get("preferred_chunks", {})
    # Whole chunks of the file: a chunk that holds many times must not be decoded once for each block.
    cells = space.latitude.size * space.longitude.size
    block = max(1, BLOCK_BYTES // (8 * cells), *(int(stored.get(d, 1)) for d in outer))
    if len(outer) > 1 and 4 * field.size > eager_bytes:
        field = lazily(field, {outer[0]: block, **dict.fromkeys(outer[1:], 1)})
    return Layout(fold_time(field, outer, space.core), space, block)


def _both_versions(field: xr.DataArray) -> xr.DataArray:
    """Order the dimension ``expver`` of ERA5 that ends in ERA5T: final before preliminary."""
    numbers = experiments(field["expver"].values)
    if not set(numbers.tolist()) <= {1, 5}:
        present = field["expver"].values.tolist()
        raise DataError(f"expver: got {present} in {field.name!r}, expected 1 (ERA5) and 5 (ERA5T)")
    return field.isel(expver=as_slice(np.argsort(numbers)))


def _first_present(block: np.ndarray, transform: Transform) -> np.ndarray:
    """Take of (T, 2, …) the first version, or the second where it is missing."""
    return transform(np.where(np.isnan(block[:, 0]), block[:, 1], block[:, 0]))


def _ordered(block: np.ndarray, rows: Any, columns: Any, factor: float, offset: float) -> np.ndarray:
    """Turn (T, H, W) as stored into float32 in SI units with latitude descending and longitude ascending."""
    block = block[:, rows][:, :, columns]
    if (factor, offset) != (1.0, 0.0):
        block = block.astype(np.float64) * factor + offset
    return np.ascontiguousarray(block, dtype=np.float32)


def as_slice(index: np.ndarray) -> Any:
    """Return evenly spaced indices as a slice, which every file format reads fast; others as they are."""
    if not index.size:
        return slice(0, 0)
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step == 0 or not np.array_equal(index, index[0] + step * np.arange(index.size)):
        return index
    end = int(index[-1]) + (1 if step > 0 else -1)
    return slice(int(index[0]), end if end >= 0 else None, step)


def lazily(field: xr.DataArray, chunks: dict[str, int]) -> xr.DataArray:
    """Put a variable into dask chunks where dask is installed and it is in none."""
    if field.chunks is None and importlib.util.find_spec("dask"):
        return field.chunk(chunks)
    return field
