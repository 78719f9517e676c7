"""Prepared stores: fields on disk in the layout that training reads.

A store is a Zarr v3 group with one array (time, latitude, longitude) per variable, float32 in physical units,
which xarray and :func:`atmoloss.data.open_fields` read like any other; training reads it in place, see
:mod:`atmoloss.data.stored_fields`, and needs no zarr for it.

Units are physical: the constants of a normalisation belong to weights, and training fits them on its own dates.

The metadata of the group are written last. Before that the folder is no Zarr group: nothing reads it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.data.calendars import finest
from atmoloss.data.quantities import quantity
from atmoloss.data.stored_fields import Sharding, StoredFields
from atmoloss.errors import DataError

PROGRESS = "progress"
"""Folder of a store that is not complete: its plan, and a record of every finished shard."""
FORMAT = 2
KEY = "atmoloss"
"""Attribute of the group that holds the record of a store."""


@dataclasses.dataclass(frozen=True)
class Store:
    """A complete prepared store.

    Attributes:
        path: of the folder.
        record: the attribute ``atmoloss`` of the group: ``plan`` (what was taken from where, and how it is laid out)
            and ``shard_bytes`` (size of each shard's file by variable).
        variables: names of the variables, in order.
        level: that was asked for.
        calendar: that times are counted in.
        times: (T,) datetime64, exact in their ``calendar`` (see :mod:`atmoloss.data.calendars`).
        run: (T,) int64.
        latitude: (H,) degrees north, descending.
        longitude: (W,) degrees east, ascending.
    """

    path: Path
    record: dict[str, Any]
    variables: tuple[str, ...]
    level: float | None
    calendar: str
    times: np.ndarray
    run: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W) of each variable."""
        return len(self.times), len(self.latitude), len(self.longitude)

    @property
    def nbytes(self) -> int:
        """Size of all shards."""
        return sum(map(sum, self.record["shard_bytes"].values()))

    def fields(self, variables: Sequence[str]) -> StoredFields:
        """Return the values of some variables, (T, C, H, W), lazily.

        Raises:
            DataError: one of them is not in the store.
        """
        plan = self.record["plan"]["sharding"]
        sharding = Sharding(self.shape, tuple(plan["chunk"]), plan["shard_times"])
        return StoredFields(self.path, [self._find(name) for name in variables], sharding, self.record["shard_bytes"])

    def attributes(self, variables: Sequence[str]) -> tuple[dict[str, str], ...]:
        """Return the CF attributes of some variables, see :class:`atmoloss.data.sources.FieldSource`."""
        return tuple(self.record["plan"]["attributes"][self._find(name)] for name in variables)

    def _find(self, name: str) -> str:
        wanted = quantity(name)
        for stored in self.variables:
            if stored == name or (wanted is not None and quantity(stored) == wanted):
                return stored
        raise DataError(
            f"variables: got {name!r}, but {self.path} holds {', '.join(self.variables)}; expected one of these, "
            "or prepare a store with it"
        )


def is_store(path: Any) -> bool:
    """Say whether a path is a prepared store, complete or not."""
    return "://" not in str(path) and ((Path(path) / PROGRESS).is_dir() or record_of(Path(path)) is not None)


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return the record of a store, ``None`` before it is complete: the metadata are written last."""
    try:
        record = json.loads((folder / "zarr.json").read_text())["attributes"][KEY]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def read_store(path: Any) -> Store:
    """Open a prepared store; its values stay on disk.

    Raises:
        DataError: not a prepared store, one that is not complete, or one of another format.
    """
    root = Path(path)
    record = record_of(root)
    if record is None:
        if (root / PROGRESS).is_dir():
            raise DataError(f"{root}: is not complete; expected a finished store, run the same atmoloss prepare again")
        raise DataError(f"{root}: is no prepared store, expected one that atmoloss prepare has written")
    if record["format"] != FORMAT:
        raise DataError(f"{root}: has format {record['format']}, expected {FORMAT}; prepare it again in a new folder")
    plan = record["plan"]
    t, h, w = plan["sharding"]["shape"]
    layout = {"time": ("<i8", t), "run": ("<i8", t), "latitude": ("<f8", h), "longitude": ("<f8", w)}
    axes = {name: np.fromfile(root / name / "c" / "0", dtype) for name, (dtype, _) in layout.items()}
    for name, (_, size) in layout.items():
        if axes[name].size != size:
            raise DataError(f"{root}: {name} has {axes[name].size} values, expected {size}; prepare the store again")
    times = finest(axes.pop("time").astype("datetime64[s]"))
    return Store(root, record, tuple(plan["attributes"]), plan["options"]["level"], plan["calendar"], times, **axes)
