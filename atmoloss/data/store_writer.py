"""What zarr writes of a prepared store: arrays, shards and, last of all, the group."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from atmoloss.data.store import FORMAT, KEY
from atmoloss.data.stored_fields import Sharding, shard_path
from atmoloss.errors import MissingDependencyError, require


def zarr3() -> ModuleType:
    """Return the module ``zarr``, of version 3 or later."""
    zarr = require("zarr", "data")
    if int(zarr.__version__.split(".")[0]) < 3:
        raise MissingDependencyError(
            f"zarr: got version {zarr.__version__}, but writing a prepared store needs zarr >= 3 (training from it "
            "does not): pip install 'zarr>=3', or prepare it in an environment of its own"
        )
    return zarr


def create_axis(path: Path, values: np.ndarray, dims: Sequence[str], attributes: Mapping[str, Any]) -> None:
    """Write a coordinate as an array of one chunk."""
    # Zeros too: the file is read as it is.
    _create(path, dims, attributes, data=values, chunks=values.shape, config={"write_empty_chunks": True})


def _create(path: Path, dims: Sequence[str], attributes: Mapping[str, Any], **layout: Any) -> None:
    """Create an uncompressed array; one of a process that was killed makes way."""
    names, described = list(dims), dict(attributes)
    zarr3().create_array(
        path, compressors=None, filters=None, attributes=described, dimension_names=names, overwrite=True, **layout
    )


def create_variable(path: Path, sharding: Sharding, attributes: Mapping[str, Any]) -> None:
    """Create the array of a variable, without values."""
    layout = {"shape": sharding.shape, "chunks": sharding.chunk, "shards": sharding.shard, "dtype": "float32"}
    # NaN fills chunks beyond the last time, which are then not stored.
    _create(path, ("time", "latitude", "longitude"), attributes, **layout, fill_value=float("nan"))


def write_shard(root: Path, variable: str, sharding: Sharding, shard: int, fields: np.ndarray) -> int:
    """Write (n, H, W) float32, all times of a shard; return the size of its file, 0 where all values are missing."""
    times, path = sharding.times(shard), shard_path(root, variable, shard)
    path.unlink(missing_ok=True)  # what a killed process has left, which zarr would read
    zarr3().open_array(root / variable, mode="r+")[times.start : times.stop] = fields
    if not path.is_file():
        return 0
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        return file.seek(0, os.SEEK_END)


def create_group(root: Path, record: Mapping[str, Any]) -> None:
    """Write the metadata of the group, which make the arrays under ``root`` a store."""
    zarr = zarr3()
    for partial in root.rglob("*.partial"):  # zarr's, of processes that were killed
        partial.unlink()
    (root / "zarr.json").unlink(missing_ok=True)  # incomplete, or this would not be called
    attributes = {"Conventions": "CF-1.8", "title": "atmoloss training store, physical units"}
    zarr.create_group(root, attributes={**attributes, KEY: {"format": FORMAT, **record}})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")  # not part of the specification yet
        warnings.filterwarnings("ignore", message="Object at progress")  # which goes next
        zarr.consolidate_metadata(root)
