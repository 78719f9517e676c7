"""The values of a prepared store, read in place.

A variable is a sharded Zarr v3 array (time, latitude, longitude) of float32. Every shard is one file: all of the
grid for some hundred times, as chunks of a run of consecutive times of about 128 × 128 cells, uncompressed, with an
index at the end that says where each chunk begins. So a few ``read`` calls give any patch of any time, where zarr
reads whole chunks: ``benchmarks/loading/results/layout.md`` has both, and says why chunks are not compressed.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss.errors import DataError

_ABSENT = np.uint64(2**64 - 1)


@dataclasses.dataclass(frozen=True)
class Sharding:
    """How an array (time, latitude, longitude) is divided into chunks and shards."""

    shape: tuple[int, int, int]  # (T, H, W) of the array
    chunk: tuple[int, int, int]  # (times, rows, columns) of a chunk
    shard_times: int  # a multiple of the times of a chunk

    @property
    def n_shards(self) -> int:
        """Number of shards, which follow each other in time."""
        return -(-self.shape[0] // self.shard_times)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Chunks of a shard along time, rows and columns."""
        return self.shard_times // self.chunk[0], -(-self.shape[1] // self.chunk[1]), -(-self.shape[2] // self.chunk[2])

    @property
    def shard(self) -> tuple[int, int, int]:
        """(times, rows, columns) of a shard, those beyond the edges of the array included."""
        return self.shard_times, self.grid[1] * self.chunk[1], self.grid[2] * self.chunk[2]

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk."""
        return 4 * int(np.prod(self.chunk))

    def times(self, shard: int) -> range:
        """Return the times of a shard."""
        start = shard * self.shard_times
        return range(start, min(start + self.shard_times, self.shape[0]))


def choose_sharding(
    shape: tuple[int, int, int], time_chunk: int = 16, space_chunk: int = 128, shard_bytes: int = 2**27
) -> Sharding:
    """Divide an array (T, H, W) into chunks of about the size asked for, with little overhang, and shards of them.

    For the sizes see :class:`atmoloss.data.plan.PrepareOptions`; a shard has at least one chunk of time.
    """
    rows, columns = (-(-n // max(1, round(n / space_chunk))) for n in shape[1:])
    times = min(time_chunk, shape[0])
    one = Sharding(shape, (times, rows, columns), times)
    steps = max(1, shard_bytes // (4 * int(np.prod(one.shard))))
    return Sharding(shape, one.chunk, times * min(steps, -(-shape[0] // times)))


def shard_path(root: Path, variable: str, shard: int) -> Path:
    """Return the file of a shard."""
    return root / variable / "c" / str(shard) / "0" / "0"


class StoredFields:
    """The values of a prepared store, (T, C, H, W) float32, read when indexed and never kept.

    Index with a time or an array or slice of times, then slices: ``fields[times, :, rows, columns]``. Holds
    paths and numbers only: it pickles into worker processes and survives a fork. A shard that is absent or damaged
    raises a ``DataError`` when it is read; one without any value has 0 bytes and no file.
    """

    def __init__(
        self, root: Path, variables: Sequence[str], sharding: Sharding, shard_bytes: Mapping[str, Sequence[int]]
    ) -> None:
        self._root, self._variables, self._sharding = root, tuple(variables), sharding
        self._shard_bytes = {name: tuple(shard_bytes[name]) for name in self._variables}
        self.shape = (sharding.shape[0], len(variables), *sharding.shape[1:])
        self.bytes_read = 0

    def sha256(self) -> str:
        """SHA-256 over those of all shards as they are now: all values are read, by a thread for each core."""
        every = ((name, shard, size) for name, sizes in self._shard_bytes.items() for shard, size in enumerate(sizes))
        shards = [shard_path(self._root, name, shard) for name, shard, size in every if size]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves other threads alone
            return hashlib.sha256(b"".join(pool.map(_sha256_of, shards))).hexdigest()

    def __getitem__(self, key: Any) -> np.ndarray:
        keys = (*key, *[slice(None)] * (4 - len(key))) if isinstance(key, tuple) else (key, *[slice(None)] * 3)
        if len(keys) != 4 or not all(isinstance(k, slice) and k.step in (None, 1) for k in keys[2:]):
            raise IndexError(f"fields: got index {key!r}, expected times, channels, and slices of rows and columns")
        times = np.asarray(np.arange(self.shape[0])[keys[0]])
        channels = np.asarray(np.arange(self.shape[1])[keys[1]])
        rows, columns = (range(*k.indices(n)) for k, n in zip(keys[2:], self.shape[2:], strict=True))
        out = np.empty((times.size, channels.size, len(rows), len(columns)), np.float32)
        shards, within = np.divmod(times.ravel(), self._sharding.shard_times)
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            for c, channel in enumerate(channels.flat):
                out[places, c] = self._read(self._variables[channel], shard, within[places], rows, columns)
        return out.reshape(times.shape + channels.shape + out.shape[2:])

    def _read(self, variable: str, shard: int, times: np.ndarray, rows: range, columns: range) -> np.ndarray:
        """Return (len(times), len(rows), len(columns)) of one shard; ``times`` count from its first."""
        ct, ch, cw = self._sharding.chunk
        out = np.full((len(times), len(rows), len(columns)), np.nan, np.float32)
        size = self._shard_bytes[variable][shard]
        if not (size and out.size):
            return out
        # Opened for each read: a descriptor that is kept would be shared by forked workers, offset and all.
        with _open(shard_path(self._root, variable, shard)) as file:
            begins = self._index(file, size)
            for row in range(rows.start // ch, -(-rows.stop // ch)):
                first, last = max(rows.start, row * ch), min(rows.stop, (row + 1) * ch)
                for column in range(columns.start // cw, -(-columns.stop // cw)):
                    west, east = max(columns.start, column * cw), min(columns.stop, (column + 1) * cw)
                    for place, time in enumerate(times.tolist()):
                        begin = int(begins[time // ct, row, column])
                        if begin == _ABSENT:
                            continue
                        # Rows of a chunk lie behind each other: one read takes those needed, all their columns.
                        file.seek(begin + 4 * cw * (ch * (time % ct) + first - row * ch))
                        read = np.frombuffer(file.read(4 * cw * (last - first)), "<f4").reshape(-1, cw)
                        self.bytes_read += read.nbytes
                        out[
                            place, first - rows.start : last - rows.start, west - columns.start : east - columns.start
                        ] = read[:, west - column * cw : east - column * cw]
        return out

    def _index(self, file: io.FileIO, expected: int) -> np.ndarray:
        """Return where each chunk of a shard begins, (times, rows, columns) of chunks, as the sharding codec has it."""
        grid = self._sharding.grid
        index_bytes = 16 * int(np.prod(grid)) + 4  # two 8-byte numbers a chunk, and a checksum
        size = file.seek(0, os.SEEK_END)
        if size != expected:
            raise DataError(f"{file.name}: has {size} bytes, expected {expected}; prepare the store again")
        file.seek(size - index_bytes)
        index = np.frombuffer(file.read(index_bytes - 4), "<u8").reshape(*grid, 2)
        self.bytes_read += index.nbytes
        begins, lengths = index[..., 0], index[..., 1]
        ends = begins + np.uint64(self._sharding.chunk_bytes)
        if not ((begins == _ABSENT) | ((begins + lengths == ends) & (ends <= size))).all():
            raise DataError(f"{file.name}: has a damaged index of its chunks; prepare the store again")
        return begins


def _open(path: Path) -> io.FileIO:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise DataError(f"{path}: is missing from the prepared store; prepare it again") from error


def _sha256_of(path: Path) -> bytes:
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").digest()
