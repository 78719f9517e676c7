"""What a prepared store will hold: the options of ``atmoloss prepare``, and what they mean for a source."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.data.calendars import calendar_of, dates
from atmoloss.data.files import is_remote
from atmoloss.data.opening import open_datasets
from atmoloss.data.parts import find_parts, present_names
from atmoloss.data.reading import read_fields
from atmoloss.data.series import Keep
from atmoloss.data.sources import attributes_of
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.data.store import FORMAT
from atmoloss.data.stored_fields import Sharding, choose_sharding
from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What is taken from a source, and how it is laid out.

    Attributes:
        variables: names as :func:`atmoloss.data.open_fields` takes them; divergence and vorticity are derived
            where the source has none.
        level: as there.
        grid: as there, spacing in degrees of spectral sources.
        winds: the wind that divergence and vorticity are derived from, e.g. ``("u10", "v10")``, where the
            source has several; everything else in it is then ignored.
        missing: as there; with ``"ignore"`` the store holds NaN, and training draws no patch with any.
        group: as there.
        dates: periods ``"YYYY-MM-DD/YYYY-MM-DD"``, both days included; empty: all times.
        every: take only valid times at multiples of that many hours after 00 UTC.
        time_chunk: consecutive times per chunk.
        space_chunk: rows and columns per chunk, roughly.
        shard_bytes: size of a file, roughly.
    """

    variables: tuple[str, ...] = ("divergence", "vorticity")
    level: float | None = None
    grid: float | None = None
    winds: tuple[str, ...] = ()
    missing: str | float = "error"
    group: str | None = None
    dates: tuple[str, ...] = ()
    every: int | None = None
    time_chunk: int = 16
    space_chunk: int = 128
    shard_bytes: int = 2**27

    def __post_init__(self) -> None:
        for key in ("time_chunk", "space_chunk", "shard_bytes"):
            if getattr(self, key) < 1:
                raise DataError(f"{key}: got {getattr(self, key)}, expected at least 1")
        if not self.variables or len(set(self.variables)) < len(self.variables):
            raise DataError(f"variables: got {self.variables}, expected at least one name, each once")
        if self.every is not None and not 1 <= self.every <= 24:
            raise DataError(f"every: got {self.every}, expected 1 to 24 hours")
        if self.winds and len(self.winds) != 2:
            raise DataError(f"winds: got {self.winds}, expected two names, eastward and northward")

    def keep(self, times: np.ndarray) -> np.ndarray:
        """Return the indices of the times (datetime64, the calendar's own dates) that are wanted."""
        wanted = np.ones(len(times), bool)
        if self.dates:
            wanted &= in_periods(times, parse_periods(self.dates))
        if self.every is not None:
            seconds = (times - times.astype("datetime64[D]")).astype("timedelta64[s]").astype(np.int64)
            wanted &= seconds % (3600 * self.every) == 0
        return np.flatnonzero(wanted)


DEFAULTS = PrepareOptions()


def absolute(source: Any) -> Any:
    """Return the source as text that means the same in every process of this machine."""
    if isinstance(source, (list, tuple)):
        return [absolute(s) for s in source]
    text = os.fspath(source)
    return text if is_remote(text) else os.path.abspath(text)


@dataclasses.dataclass(frozen=True)
class Source:
    """What is read, in any process; ``call`` tells one call of :func:`~atmoloss.data.prepare.prepare` from the next."""

    call: str
    path: Any = dataclasses.field(compare=False)
    options: PrepareOptions = dataclasses.field(compare=False)
    storage_options: dict[str, Any] | None = dataclasses.field(compare=False)

    def read(self, keep: Keep) -> xr.Dataset:
        """Read the fields of some times; the files stay open for the next."""
        o = self.options
        return read_fields(_open(self), o.variables, o.level, grid=o.grid, missing=o.missing, keep=keep)


@functools.lru_cache(maxsize=1)
def _open(source: Source) -> list[list[xr.Dataset]]:
    options = source.options
    files = open_datasets(source.path, source.storage_options, options.group)
    found = {name: find_parts(files, name, options.level) for name in options.winds}
    for name, parts in found.items():
        if not parts:
            raise DataError(f"winds: got {name!r}, {present_names(files)}")
    # One dataset each: find_parts has told apart variables that two kinds of level share a name in.
    return [[field.to_dataset()] for parts in found.values() for field in parts] or files


@dataclasses.dataclass(frozen=True)
class Plan:
    """What decides every byte of a store; ``axes`` is a SHA-256 of all coordinates."""

    source: Any
    options: PrepareOptions
    sharding: Sharding
    axes: str
    attributes: dict[str, dict[str, str]]
    calendar: str
    format: int = FORMAT

    def record(self) -> Any:
        """Return it as JSON reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def make_plan(source: Source) -> tuple[Plan, dict[str, np.ndarray], np.ndarray]:
    """Return the plan of a store, its coordinates, and the indices of the chosen times of the source."""
    chosen: dict[str, np.ndarray] = {}
    options = source.options

    def first(time: xr.DataArray) -> np.ndarray:
        days = dates(time.values, calendar_of(time))
        index = options.keep(days)
        if not len(index):
            raise DataError(
                f"dates: none of the {len(days)} times from {days.min()} to {days.max()} fits {options.dates or ''} "
                f"every {options.every or 1} h"
            )
        chosen.update({name: time[name].values[index] for name in ("time", "run", "init_time") if name in time.coords})
        chosen["index"] = index
        return index[:1]

    fields = source.read(first)
    index = chosen.pop("index")
    axes = {name: fields[name].values.astype("<f8") for name in ("latitude", "longitude")}
    for name, values in chosen.items():
        axes[name] = (values if name == "run" else values.astype("datetime64[s]")).astype("<i8")
    shape = (len(axes["time"]), len(axes["latitude"]), len(axes["longitude"]))
    sharding = choose_sharding(shape, options.time_chunk, options.space_chunk, options.shard_bytes)
    digest = hashlib.sha256(b"".join(axes[name].tobytes() for name in sorted(axes))).hexdigest()
    attributes = {name: attributes_of(fields[name]) for name in options.variables}
    return Plan(source.path, options, sharding, digest, attributes, calendar_of(fields)), axes, index
