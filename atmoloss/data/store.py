"""Prepared stores: fields on disk in the layout that training reads. The format and its reader.

A store is a Zarr v3 group with one array (time, latitude, longitude) per variable, float32 in physical units,
which xarray and :func:`atmoloss.data.open_fields` read like any other. Every shard is one file: all of the
grid for some hundred times. Inside it lie chunks of a run of consecutive times of about 128 × 128 cells,
uncompressed, so that any patch of any time is found at a known place of the file and read with a few
``read`` calls. Why so: ``benchmarks/loading/results/layout.md`` (fields derived from winds shrink by a tenth
when compressed, for more work than all else that reading does; zarr-python spends 0.3 to 0.5 s of processor time
on a batch of 16 sequences, reading in place 0.01 to 0.02 s).

Units are physical, and the normalisation constants stand beside the fields, in the attribute ``atmoloss`` of
the group: constants belong to weights, not to data. Whoever trains may refit them (training does, on its
own split), and one store serves weights with different constants.

The metadata of the group are written last. Before that the folder is no Zarr group: nothing reads it.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.data.calendars import finest
from atmoloss.data.quantities import quantity
from atmoloss.errors import DataError, require

PROGRESS = "progress"
"""Folder of a store that is not complete: its plan, and a record of every finished shard."""
FORMAT = 1
_KEY = "atmoloss"
_MISSING = np.uint64(2**64 - 1)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the values of one variable lie.

    Attributes:
        shape: (T, H, W) of the array.
        chunk: (times, rows, columns) of a chunk; those at the edges are filled up with zeros.
        shard_times: times per shard, a multiple of those per chunk.
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int, int]
    shard_times: int

    @property
    def n_shards(self) -> int:
        """Number of shards, which follow each other in time."""
        return -(-self.shape[0] // self.shard_times)

    @property
    def grid(self) -> tuple[int, int]:
        """Chunks that cover the rows, and the columns."""
        return -(-self.shape[1] // self.chunk[1]), -(-self.shape[2] // self.chunk[2])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk."""
        return 4 * int(np.prod(self.chunk))

    def times(self, shard: int) -> range:
        """Return the times of a shard."""
        start = shard * self.shard_times
        return range(start, min(start + self.shard_times, self.shape[0]))

    def _n_chunks(self, shard: int) -> tuple[int, int]:
        """Return the number of chunks that a shard holds, and that its index lists."""
        per_plane = self.grid[0] * self.grid[1]
        held = -(-len(self.times(shard)) // self.chunk[0])
        return held * per_plane, self.shard_times // self.chunk[0] * per_plane

    def shard_bytes(self, shard: int) -> int:
        """Return the size of a shard's file: chunks, index (two 8-byte numbers each), checksum."""
        held, listed = self._n_chunks(shard)
        return held * self.chunk_bytes + 16 * listed + 4

    def offset(self, time: int, row: int, column: int) -> int:
        """Return the first byte of the chunk at these chunk indices, counted within its shard."""
        rows, columns = self.grid
        return ((time * rows + row) * columns + column) * self.chunk_bytes

    def encode(self, fields: np.ndarray) -> bytes:
        """Return the chunks of (n, H, W) float32, n times from the start of a chunk on, in file order."""
        (ct, ch, cw), (rows, columns) = self.chunk, self.grid
        steps = -(-len(fields) // ct)
        padded = np.zeros((steps * ct, rows * ch, columns * cw), "<f4")
        padded[: len(fields), : self.shape[1], : self.shape[2]] = fields
        blocks = padded.reshape(steps, ct, rows, ch, columns, cw).transpose(0, 2, 4, 1, 3, 5)
        return np.ascontiguousarray(blocks).tobytes()

    def footer(self, shard: int) -> bytes:
        """Return the index of a shard with its checksum, as the Zarr v3 sharding codec has it."""
        held, listed = self._n_chunks(shard)
        index = np.full((listed, 2), _MISSING, "<u8")
        index[:held, 0] = np.arange(held, dtype=np.uint64) * np.uint64(self.chunk_bytes)
        index[:held, 1] = self.chunk_bytes
        table = index.tobytes()
        checksum: int = require("google_crc32c", "data").value(table)
        return table + checksum.to_bytes(4, "little")

    def metadata(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``zarr.json`` of the array says."""
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        sharding = {
            "chunk_shape": list(self.chunk),
            "codecs": [little],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        (_, ch, cw), (rows, columns) = self.chunk, self.grid
        shard = [self.shard_times, rows * ch, columns * cw]
        names = ("time", "latitude", "longitude")
        out = array_metadata(self.shape, shard, "float32", names, attributes)
        out["codecs"] = [{"name": "sharding_indexed", "configuration": sharding}]
        return out


def choose_layout(
    shape: tuple[int, int, int], time_chunk: int = 16, space_chunk: int = 128, shard_bytes: int = 2**27
) -> Layout:
    """Lay out an array (T, H, W): chunks of about the size asked for, with little overhang, and shards of them.

    Args:
        shape: of the array.
        time_chunk: consecutive times per chunk.
        space_chunk: rows and columns per chunk, roughly.
        shard_bytes: size of a shard, roughly; at least one chunk of time.
    """
    t, h, w = shape
    chunk = (min(time_chunk, t), *(-(-n // max(1, round(n / space_chunk))) for n in (h, w)))
    one = Layout(shape, chunk, chunk[0])  # type: ignore[arg-type]
    steps = max(1, shard_bytes // (one.grid[0] * one.grid[1] * one.chunk_bytes))
    return Layout(shape, one.chunk, chunk[0] * min(steps, -(-t // chunk[0])))


def array_metadata(
    shape: Sequence[int], chunk: Sequence[int], dtype: str, dims: Sequence[str], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``zarr.json`` (Zarr v3) of an uncompressed array."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": dict(attributes),
        "dimension_names": list(dims),
    }


def write_axis(folder: Path, values: np.ndarray, dims: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """Write a coordinate as a Zarr array of one chunk."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder.joinpath("c", *("0" for _ in dims))
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_bytes(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
    meta = array_metadata(values.shape, values.shape, values.dtype.name, dims, attributes)
    (folder / "zarr.json").write_text(json.dumps(meta, indent=1))


def shard_path(root: Path, variable: str, shard: int) -> Path:
    """Return the file of a shard."""
    return root / variable / "c" / str(shard) / "0" / "0"


class StoredFields:
    """The values of a prepared store, (T, C, H, W) float32, read when indexed and never kept.

    Index with a time or an array or slice of times, then slices: ``fields[times, :, rows, columns]``. Holds
    paths and numbers only: it pickles into worker processes and survives a fork.

    Raises:
        DataError: when read: a shard that is absent or not of the size that its layout says.
    """

    def __init__(self, root: Path, variables: Sequence[str], layout: Layout) -> None:
        self._root, self._variables, self._layout = root, tuple(variables), layout
        self.shape = (layout.shape[0], len(variables), *layout.shape[1:])
        self.dtype = np.dtype(np.float32)
        self.bytes_read = 0

    def __len__(self) -> int:
        return self.shape[0]

    def sha256(self) -> str:
        """SHA-256 over those of all shards as they are now: all values are read, by as many threads as there are cores.

        Raises:
            DataError: a shard is absent.
        """
        shards = [shard_path(self._root, v, i) for v in self._variables for i in range(self._layout.n_shards)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves other threads alone
            return hashlib.sha256(b"".join(pool.map(_sha256_of, shards))).hexdigest()

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = (*key, *[slice(None)] * (4 - len(key))) if isinstance(key, tuple) else (key, *[slice(None)] * 3)
        if len(keys) != 4 or not all(isinstance(k, slice) and k.step in (None, 1) for k in keys[2:]):
            raise IndexError(f"fields: got index {key!r}, expected times, channels, and slices of rows and columns")
        times = np.asarray(np.arange(self.shape[0])[keys[0]])
        channels = np.asarray(np.arange(self.shape[1])[keys[1]])
        (top, bottom, _), (left, right, _) = (k.indices(n) for k, n in zip(keys[2:], self.shape[2:], strict=True))
        out = np.empty((times.size, channels.size, max(0, bottom - top), max(0, right - left)), np.float32)
        for c, channel in enumerate(channels.flat):
            for shard in np.unique(times // self._layout.shard_times):
                inside = np.flatnonzero(times.ravel() // self._layout.shard_times == shard)
                within = times.ravel()[inside] % self._layout.shard_times
                self._read(int(shard), self._variables[channel], inside, within, (top, bottom, left, right), out[:, c])
        shape: tuple[int, ...] = times.shape + channels.shape + out.shape[2:]
        return out.reshape(shape)

    def _read(
        self,
        shard: int,
        variable: str,
        places: np.ndarray,
        times: np.ndarray,
        box: tuple[int, int, int, int],
        out: np.ndarray,
    ) -> None:
        """Read ``box`` at ``times`` of a shard into ``out[places]``."""
        layout, (top, bottom, left, right) = self._layout, box
        ct, ch, cw = layout.chunk
        path = shard_path(self._root, variable, shard)
        try:
            # Opened for each read: a descriptor that is kept would be shared by forked workers, offset and all.
            with open(path, "rb", buffering=0) as file:
                size = file.seek(0, 2)
                if size != layout.shard_bytes(shard):
                    raise DataError(
                        f"{path}: has {size} bytes, expected {layout.shard_bytes(shard)}; prepare the store again"
                    )
                for row in range(top // ch, -(-bottom // ch)):
                    first, last = max(top, row * ch), min(bottom, (row + 1) * ch)
                    # Rows of a chunk lie behind each other: one read takes those needed, all their columns.
                    skip, size = 4 * cw * (first - row * ch), 4 * cw * (last - first)
                    for column in range(left // cw, -(-right // cw)):
                        west, east = max(left, column * cw), min(right, (column + 1) * cw)
                        for place, time in zip(places, times, strict=True):
                            start = layout.offset(int(time) // ct, row, column) + 4 * ch * cw * (int(time) % ct)
                            file.seek(start + skip)
                            rows = np.frombuffer(file.read(size), "<f4").reshape(last - first, cw)
                            self.bytes_read += size
                            out[place, first - top : last - top, west - left : east - left] = rows[
                                :, west - column * cw : east - column * cw
                            ]
        except FileNotFoundError as error:
            raise DataError(f"{path}: is missing from the prepared store; prepare it again") from error


def _sha256_of(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing from the prepared store; prepare it again") from error
    return digest.digest()


@dataclasses.dataclass(frozen=True)
class Store:
    """A complete prepared store.

    Attributes:
        path: of the folder.
        variables: canonical or usual names, in order.
        layout: of each variable.
        times: (T,) datetime64, exact in their ``calendar`` (see :mod:`atmoloss.data.calendars`).
        run: (T,) int64.
        latitude: (H,) degrees north, descending; longitude: (W,) degrees east, ascending.
        record: the attribute ``atmoloss`` of the group: ``level``, ``source``, ``normalization`` (constants of
            :class:`~atmoloss.normalization.LogNormalization`, ``None`` where a channel does not vary),
            ``fingerprint`` (SHA-256 of all values, shard by shard, when it was written) and how it was made.
    """

    path: Path
    variables: tuple[str, ...]
    layout: Layout
    times: np.ndarray
    run: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    record: dict[str, Any]
    calendar: str

    def fields(self, variables: Sequence[str]) -> StoredFields:
        """Return the values of some variables, (T, C, H, W), lazily.

        Raises:
            DataError: one of them is not in the store.
        """
        stored = [self._find(name) for name in variables]
        return StoredFields(self.path, stored, self.layout)

    def attributes(self, variables: Sequence[str]) -> tuple[dict[str, str], ...]:
        """Return the CF attributes of some variables, see :class:`atmoloss.data.sources.FieldSource`."""
        return tuple(self.record["plan"]["attributes"][self._find(name)] for name in variables)

    def _find(self, name: str) -> str:
        wanted = quantity(name)
        for stored in self.variables:
            if stored == name or (wanted is not None and quantity(stored) is wanted):
                return stored
        raise DataError(
            f"variables: got {name!r}, but {self.path} holds {', '.join(self.variables)}; expected one of these, "
            "or prepare a store with it"
        )


def is_complete(path: Path) -> bool:
    """Say whether a folder is a prepared store whose metadata, written last, are there."""
    return _KEY in _attributes(path)


def is_store(path: Any) -> bool:
    """Say whether a path is a prepared store, complete or not."""
    if "://" in str(path):
        return False
    folder = Path(path)
    return (folder / PROGRESS).is_dir() or is_complete(folder)


def _attributes(folder: Path) -> dict[str, Any]:
    try:
        out = json.loads((folder / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return out if isinstance(out, dict) else {}


def read_store(path: Any) -> Store:
    """Open a prepared store; its values stay on disk.

    Raises:
        DataError: not a prepared store, one that is not complete, or one of a later format.
    """
    root = Path(path)
    record = _attributes(root).get(_KEY)
    if record is None:
        if (root / PROGRESS).is_dir():
            raise DataError(f"{root}: is not complete; expected a finished store, run the same atmoloss prepare again")
        raise DataError(f"{root}: is no prepared store, expected one that atmoloss prepare has written")
    if record["format"] != FORMAT:
        raise DataError(f"{root}: has format {record['format']}, expected {FORMAT}; prepare it again")
    shape = tuple(record["shape"])
    layout = Layout(shape, tuple(record["chunk"]), record["shard_times"])

    def axis(name: str, dtype: str, size: int) -> np.ndarray:
        values = np.fromfile(root / name / "c" / "0", dtype)
        if values.size != size:
            raise DataError(f"{root}: {name} has {values.size} values, expected {size}; prepare the store again")
        return values

    return Store(
        path=root,
        variables=tuple(record["variables"]),
        layout=layout,
        times=finest(axis("time", "<i8", shape[0]).astype("datetime64[s]")),
        run=axis("run", "<i8", shape[0]),
        latitude=axis("latitude", "<f8", shape[1]),
        longitude=axis("longitude", "<f8", shape[2]),
        record=record,
        calendar=record["calendar"],
    )


def finish_store(root: Path, record: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the group, which make the arrays under ``root`` a store."""
    members = sorted(p.parent.name for p in root.glob("*/zarr.json"))
    inline = {name: json.loads((root / name / "zarr.json").read_text()) for name in members}
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {**attributes, _KEY: {"format": FORMAT, **record}},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": inline},
    }
