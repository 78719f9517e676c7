"""Field sources: fields of one product on one grid."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atmoloss.data.calendars import STANDARD, calendar_of, dates
from atmoloss.data.quantities import plain_units, quantity
from atmoloss.data.reading import open_fields
from atmoloss.data.store import is_store, read_store
from atmoloss.data.stored_fields import StoredFields
from atmoloss.errors import DataError
from atmoloss.sphere import is_periodic

_HOUR = np.timedelta64(1, "h")
_HASHED_AT_A_TIME = 16


@dataclasses.dataclass(frozen=True, eq=False)
class FieldSource:
    """Fields of one product: what sampling and evaluation need to know of a data set.

    Attributes:
        name: for messages and reports.
        channels: canonical variable names, in order.
        values: (T, C, H, W) physical units, float32 or float16; anything indexed by an array of times and
            slices of rows and columns: an array, a memory map, the fields of a prepared store.
        times: (T,) valid times, ``datetime64``, ascending within a run; differences are exact in every calendar.
        run: (T,) forecast run of each time; pairs never cross runs.
        latitude: (H,) degrees north, descending.
        longitude: (W,) degrees east, ascending.
        weight: relative share of the training sequences.
        level: vertical level as text, for reports.
        attributes: CF attributes of each channel, ``units`` and ``standard_name`` among them; empty: not known.
        calendar: that ``times`` are counted in, see :mod:`atmoloss.data.calendars`.
    """

    name: str
    channels: tuple[str, ...]
    values: Any
    times: np.ndarray
    run: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    weight: float = 1.0
    level: str = ""
    attributes: tuple[Mapping[str, str], ...] = ()
    calendar: str = STANDARD

    def __post_init__(self) -> None:
        t, c, h, w = self.values.shape
        expected = (len(self.times), len(self.channels), len(self.latitude), len(self.longitude))
        if (t, c, h, w) != expected or len(self.run) != t:
            raise DataError(f"{self.name}: values of shape {(t, c, h, w)}, expected {expected}")

    @functools.cached_property
    def hours(self) -> np.ndarray:
        """Valid times as whole hours since 1970, (T,) int64."""
        return (self.times.astype("datetime64[s]") - np.datetime64(0, "s")) // _HOUR

    @functools.cached_property
    def dates(self) -> np.ndarray:
        """Valid times as the data's own calendar writes them, (T,) ``datetime64``: what splits by date go by.

        30 February of a year of 360 days counts as the last day of the month.
        """
        return dates(self.times, self.calendar)

    @functools.cached_property
    def periodic(self) -> bool:
        """Whether the grid closes in longitude."""
        return is_periodic(self.longitude)

    @property
    def grid_spacing(self) -> float:
        """Degrees between rows."""
        return float(abs(self.latitude[1] - self.latitude[0]))

    def select(self, keep: np.ndarray) -> FieldSource:
        """Return the source with the times where ``keep`` (T,) is true; values are not copied."""
        index = np.flatnonzero(keep)
        return dataclasses.replace(
            self, values=_TimeSubset(self.values, index), times=self.times[index], run=self.run[index]
        )

    def sha256(self) -> str:
        """SHA-256 over channels, grid, times, runs and all values, as they are now: what a run is trained on.

        Values in memory are hashed as float32, whatever file or URL they came from; those of a prepared store by its
        files. All of them are read, at one to two GB/s and core.
        """
        digest = hashlib.sha256(repr((self.channels, self.values.shape)).encode())
        for axis in (self.times.astype("int64"), self.latitude, self.longitude, self.run):
            digest.update(np.ascontiguousarray(axis).tobytes())
        if isinstance(self.values, StoredFields):
            digest.update(self.values.sha256().encode())
            return digest.hexdigest()
        for start in range(0, len(self.times), _HASHED_AT_A_TIME):
            times = np.arange(start, min(start + _HASHED_AT_A_TIME, len(self.times)))
            digest.update(np.ascontiguousarray(self.values[times], "<f4").data)
        return digest.hexdigest()


class _TimeSubset:
    """A view of some times of an array, without copying it."""

    _values: Any

    def __init__(self, values: Any, index: np.ndarray) -> None:
        if isinstance(values, _TimeSubset):
            values, index = values._values, values._index[index]
        self._values, self._index = values, index
        self.shape = (len(index), *values.shape[1:])

    def __getitem__(self, key: Any) -> np.ndarray:
        time, *rest = key if isinstance(key, tuple) else (key,)
        return np.asarray(self._values[(self._index[time], *rest)])


def attributes_of(field: Any) -> dict[str, str]:
    """Return the attributes of a field that go with it into stores and weights."""
    keys = ("standard_name", "long_name", "units", "derived_from")
    return {key: str(field.attrs[key]) for key in keys if key in field.attrs}


def describe_level(dataset: Any, level: float | None = None) -> str:
    """Return where the fields of :func:`atmoloss.data.open_fields` are, ``"850 hPa"`` or ``"10 m"``; empty if unknown.

    A ``level`` that was asked for is taken as pressure; a height is read off the names that the fields come from.
    """
    if level is not None:
        return f"{level:g} hPa"
    for field in dataset.data_vars.values():
        known = quantity(str(field.attrs.get("derived_from", field.name)).split(",")[0])
        if known is not None and known.place is not None:
            return f"{known.place[0]:g} {known.place[1]}"
        if match := re.search(r"\b(\d+) ?(?:m|met(?:re|er)s?)\b", str(field.attrs.get("long_name", ""))):
            return f"{match[1]} m"
    return ""


def source_from_dataset(dataset: Any, name: str, weight: float = 1.0, level: str = "") -> FieldSource:
    """Load what :func:`atmoloss.data.open_fields` returned into memory as a source."""
    channels = tuple(dataset.data_vars)
    shape = tuple(dataset.sizes[d] for d in ("time", "latitude", "longitude"))
    values = np.empty((shape[0], len(channels), *shape[1:]), np.float32)
    for c, channel in enumerate(channels):
        for start in range(0, shape[0], 64):
            block = slice(start, start + 64)
            values[block, c] = dataset[channel].isel(time=block).values
    return FieldSource(
        name=name,
        channels=channels,
        values=values,
        times=dataset["time"].values,
        run=dataset["run"].values if "run" in dataset.coords else np.zeros(shape[0], np.int64),
        latitude=dataset["latitude"].values.astype(np.float64),
        longitude=dataset["longitude"].values.astype(np.float64),
        weight=weight,
        level=level,
        attributes=tuple(attributes_of(dataset[channel]) for channel in channels),
        calendar=calendar_of(dataset),
    )


def open_source(
    path: str,
    name: str,
    variables: Sequence[str],
    level: float | None = None,
    *,
    grid: float | None = None,
    weight: float = 1.0,
    missing: Any = "error",
) -> FieldSource:
    """Open a source for training: a prepared store stays on disk, everything else is read into memory.

    Args:
        path: what :func:`atmoloss.data.open_fields` reads, or a folder that ``atmoloss prepare`` has written.
        name: for messages and reports.
        variables, level, grid: see :func:`atmoloss.data.open_fields`; a prepared store has one level.
        weight: relative share of the training sequences.
        missing: see :func:`atmoloss.data.open_fields`; a prepared store was written with its own.

    Raises:
        DataError: a source that cannot be read or lacks a variable or level, or a store that is not complete.
    """
    if not is_store(path):
        fields = open_fields(path, variables, level, grid=grid, missing=missing)
        return source_from_dataset(fields, name, weight, describe_level(fields, level))
    if grid is not None:
        raise DataError(f"grid: got {grid:g} for {name}, expected None: {path} has the grid that it was prepared with")
    stored = read_store(path)
    if level is not None and level != stored.level:
        raise DataError(f"level: got {level:g} for {name}, but {path} was prepared with level {stored.level}")
    return FieldSource(
        name=name,
        channels=tuple(variables),
        values=stored.fields(variables),
        times=stored.times,
        run=stored.run,
        latitude=stored.latitude,
        longitude=stored.longitude,
        weight=weight,
        level="" if stored.level is None else f"{stored.level:g} hPa",
        attributes=stored.attributes(variables),
        calendar=stored.calendar,
    )


def describe_channels(channels: Sequence[str], sources: Sequence[FieldSource]) -> tuple[dict[str, str], ...]:
    """Return name, standard name and units of each channel, as ``config.json`` of the weights holds them.

    The sources decide; where none says anything, what the name means (:mod:`atmoloss.data.quantities`) does.

    Raises:
        DataError: sources that differ in the units of a channel.
    """
    out = []
    for index, name in enumerate(channels):
        described = {source.name: source.attributes[index] for source in sources if source.attributes}
        units = {source: a["units"] for source, a in described.items() if a.get("units")}
        if len(set(map(plain_units, units.values()))) > 1:
            present = ", ".join(f"{unit!r} in {source}" for source, unit in units.items())
            raise DataError(f"sources: {name!r} is in {present}, expected one unit; convert one of them first")
        known = None if described else quantity(name)
        standards = [a["standard_name"] for a in described.values() if a.get("standard_name")]
        standard = next(iter(standards), known.standard_names[0] if known else "")
        unit = next(iter(units.values()), known.units if known else "")
        out.append({"name": name, "standard_name": standard, "units": unit})
    return tuple(out)
