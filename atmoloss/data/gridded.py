"""Variables of xarray objects in the promised layout of space, all other dimensions as they are, read part by part.

``open_fields`` makes one series in time of any files. Here members, initial times and lead times stay dimensions, and
nothing is read before it is asked for. Variables, levels, units and axes are recognised by the same functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data.conventions import from_greenwich, horizontal_axes, levels
from atmoloss.data.opening import close, open_datasets
from atmoloss.data.parts import Space, find_parts, level_of, present_names, space_of
from atmoloss.data.quantities import quantity
from atmoloss.data.series import differentiation, only_wind
from atmoloss.data.sources import describe_level
from atmoloss.data.spectral import COEFFICIENT, unpack
from atmoloss.data.variables import quantity_of
from atmoloss.errors import DataError, InputError, require
from atmoloss.sphere import is_periodic

if TYPE_CHECKING:
    import xarray as xr

Files = Sequence[Sequence["xr.Dataset"]]
Index = Mapping[str, slice]


def is_labelled(data: Any) -> bool:
    """Say whether something is an xarray object; xarray is not imported for the answer."""
    return type(data).__module__.partition(".")[0] == "xarray"


@contextlib.contextmanager
def opened(source: Any, names: Sequence[str], argument: str) -> Iterator[Files]:
    """Give the datasets of each file of a path, or those of an xarray object, which stays open.

    Of a ``DataArray`` the channels are those that a dimension names (``"u"``, ``"v"``), or it is the only one.
    """
    if is_labelled(source):
        yield [unpack(_as_dataset(source, names, argument))]
        return
    if not isinstance(source, (str, os.PathLike, Sequence)):
        raise InputError(f"{argument}: got {type(source).__name__}, expected an xarray object, a path or a URL")
    try:
        files = open_datasets(source)
    except DataError as error:  # which calls its argument by another name
        raise DataError(str(error).replace("path_or_url", argument, 1)) from error
    try:
        yield [[part for dataset in datasets for part in unpack(dataset)] for datasets in files]
    finally:
        close(files)


def _as_dataset(data: Any, names: Sequence[str], argument: str) -> Any:
    if isinstance(data, require("xarray", "data").Dataset):
        return data
    for dim in map(str, data.dims):
        if dim in data.coords and all(isinstance(label, str) for label in data[dim].values.tolist()):
            return data.to_dataset(dim)
    if data.name is None and len(names) > 1:
        raise InputError(
            f"{argument}: got a DataArray without a name and without a dimension that names its channels, expected a "
            f"Dataset of {', '.join(names)}, or a dimension with these labels"
        )
    return data.to_dataset(name=names[0] if data.name is None else data.name)


@dataclasses.dataclass(frozen=True)
class _Group:
    """One stored variable, or the two winds that divergence and vorticity are derived from."""

    spaces: tuple[Space, ...]
    derive: Callable[..., np.ndarray] | None = None

    def variables(self, stored: Sequence[np.ndarray]) -> np.ndarray:
        """Return (T, variables, latitude, longitude) of what is stored, (T, *core) each."""
        fields = [space.transform(values) for space, values in zip(self.spaces, stored, strict=True)]
        return fields[0][:, None] if self.derive is None else self.derive(*fields)


@dataclasses.dataclass(frozen=True)
class GriddedFields:
    """Fields (…, channel, latitude, longitude) that are read when they are asked for.

    Rows run southward. Columns run eastward, those of a globe from 0 or the first after it, so that the same fields
    are the same array wherever their longitudes start.

    Attributes:
        outer: a lazy array of the dimensions beside space, with their coordinates; its values mean nothing.
        grid: ``latitude`` and ``longitude`` of what is read, degrees, as coordinates.
        own: a lazy map on the axes of the data, with their coordinates; its values mean nothing.
        periodic: whether longitudes close.
        level: in words, ``"850 hPa"`` or ``"10 m"``; empty where nothing says so.
    """

    outer: xr.DataArray
    grid: xr.Dataset
    own: xr.DataArray
    periodic: bool
    level: str
    _groups: tuple[_Group, ...]
    _channels: tuple[tuple[int, int], ...]  # of each channel the number of its group, and of its variable there
    _columns: np.ndarray
    _own_degrees: tuple[np.ndarray, np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.sizes["latitude"], self.grid.sizes["longitude"]

    @property
    def spacing(self) -> float:
        """Degrees between rows."""
        latitude = self.grid["latitude"].values
        return float(abs(latitude[1] - latitude[0]))

    def read(self, index: Index | None = None) -> np.ndarray:
        """Return fields (…, channel, latitude, longitude), float32, in SI units; ``index`` has slices of dimensions."""
        chosen = index or {}
        spaces = [space for group in self._groups for space in group.spaces]
        parts = {str(n): space.field.variable.isel(chosen) for n, space in enumerate(spaces)}
        # All at once, since variables may be made of the same chunks. Transposed when read: on a file that reads lazily
        # it would make xarray fetch point by point.
        loaded = require("xarray", "data").Dataset(parts).load().values()
        stored = [p.transpose(*self.outer.dims, *s.core).values for p, s in zip(loaded, spaces, strict=True)]
        flat = iter([values.reshape(-1, *values.shape[self.outer.ndim :]) for values in stored])
        groups = [group.variables([next(flat) for _ in group.spaces]) for group in self._groups]
        values = np.stack([groups[g][:, v] for g, v in self._channels], axis=1)[..., self._columns]
        return values.reshape(*self.outer.isel(chosen).shape, *values.shape[1:])

    def blocks(self) -> Iterator[dict[str, slice]]:
        """Iterate over the parts that are stored together: dask's chunks, those of the file, or single fields."""
        stored = self._groups[0].spaces[0].field
        ranges = []
        for dim, size in self.outer.sizes.items():
            if stored.chunks is not None:
                sizes: Sequence[int] = stored.chunksizes[dim]
            else:
                step = int(stored.encoding.get("preferred_chunks", {}).get(dim, 1))
                sizes = [min(step, size - start) for start in range(0, size, step)]
            ranges.append([slice(a, b) for a, b in pairwise([0, *accumulate(sizes)])])
        for slices in product(*ranges):
            yield dict(zip(map(str, self.outer.dims), slices, strict=True))

    def on_own_grid(self, maps: np.ndarray) -> np.ndarray:
        """Return maps (…, latitude, longitude) of this grid in the order of the data's own axes."""
        north, east = self._own_degrees
        rows = np.abs(self.grid["latitude"].values - north[:, None]).argmin(1)
        apart = (self.grid["longitude"].values - east[:, None] + 180) % 360 - 180
        out: np.ndarray = maps[..., rows[:, None], np.abs(apart).argmin(1)]
        return out


def gridded(files: Files, names: Sequence[str], level: float | None = None) -> GriddedFields:
    """Find variables in the datasets of one file, by names that :func:`~atmoloss.data.open_fields` takes.

    Raises:
        DataError: a variable, level, unit or coordinate that is absent, ambiguous or unknown, or variables that do
            not share dimensions and grid.
    """
    xarray = require("xarray", "data")
    groups: dict[object, _Group] = {}
    channels: list[tuple[object, int]] = []
    for name in names:
        source = find_parts(files, name, level)
        wanted = quantity_of(source[0], name) if source else quantity(name)
        if source:
            groups[name] = _Group((space_of(source[0], name, level),))
            channels.append((name, 0))
        elif wanted is not None and wanted.units == "s-1":
            at = level_of(wanted, level)
            if at not in groups:
                groups[at] = _of_winds(files, name, at)
            channels.append((at, int("vorticity" in wanted.names)))
        else:
            raise DataError(f"variables: got {name!r}, {present_names(files)}")
    spaces = [space for group in groups.values() for space in group.spaces]
    outer, first = _shared(spaces), spaces[0]
    periodic = is_periodic(first.longitude)
    columns = from_greenwich(first.longitude) if periodic else np.arange(first.longitude.size)
    east = first.longitude[columns] % 360 if periodic else first.longitude
    grid = xarray.Dataset(coords={"latitude": first.latitude, "longitude": east})
    own, degrees = grid["latitude"] * grid["longitude"], (first.latitude, east)
    if first.core[-1] != COEFFICIENT:
        dims, degrees = horizontal_axes(first.field)
        own = first.field.isel({d: 0 for d in first.field.dims if d not in dims}, drop=True).transpose(*dims)
    keys = list(groups)
    return GriddedFields(
        outer,
        grid,
        own,
        periodic,
        _place(first.field, level),
        tuple(groups.values()),
        tuple((keys.index(key), variable) for key, variable in channels),
        columns,
        degrees,
    )


def _place(field: xr.DataArray, level: float | None) -> str:
    """Return the level of a field in words: that asked for, or what its name or coordinates say."""
    axis = levels(field)
    if level is None and axis is not None and axis[1] in ("hPa", "m"):  # a scalar, as a selection leaves it
        return f"{axis[0][0]:g} {axis[1]}"
    return describe_level(field.to_dataset(name=field.name), level)


def _of_winds(files: Files, name: str, level: float | None) -> _Group:
    """Return what derives divergence and vorticity from the one wind that fits."""
    label, components = only_wind(files, name, level)
    spaces = tuple(space_of(field[0], c, level) for c, field in zip("uv", components, strict=True))
    try:
        return _Group(spaces, differentiation(spaces[0].latitude, spaces[0].longitude))
    except InputError as error:
        raise DataError(f"variables: {name!r} cannot be derived from {label}: {error}") from error


def _shared(spaces: Sequence[Space]) -> xr.DataArray:
    """Return the dimensions beside space that all variables have in common, or refuse different ones."""
    first = spaces[0]
    outer = [space.field.isel(dict.fromkeys(space.core, 0), drop=True) for space in spaces]
    for space, other in zip(spaces, outer, strict=True):
        same_grid = all(
            a.shape == b.shape and np.allclose(a, b)
            for a, b in ((space.latitude, first.latitude), (space.longitude, first.longitude))
        )
        same_dims = other.sizes == outer[0].sizes and all(other[d].equals(outer[0][d]) for d in outer[0].dims)
        if not (same_grid and same_dims):
            raise DataError(
                f"variables: {first.field.name} and {space.field.name} do not share dimensions and grid "
                f"({dict(first.field.sizes)} and {dict(space.field.sizes)}), expected the same"
            )
    return outer[0]
