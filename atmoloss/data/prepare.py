"""``atmoloss prepare``: from any source that ``open_fields`` reads to a prepared store for training.

The unit of work is a shard in time, all variables: read, derive, write, and last of all record it as done. A run that
was killed therefore loses at most the shards it was writing: a shard without a record is written again, one with a
record is neither written nor read. Shards are independent of each other; dask spreads them over processes or machines.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss._version import __version__
from atmoloss.data.plan import DEFAULTS, Plan, PrepareOptions, Source, absolute, make_plan
from atmoloss.data.store import PROGRESS, Store, read_store, record_of
from atmoloss.data.store_writer import create_axis, create_group, create_variable, write_shard, zarr3
from atmoloss.data.stored_fields import Sharding
from atmoloss.errors import DataError, require
from atmoloss.files import write_atomically


def prepare(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PrepareOptions = DEFAULTS,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: bool = False,
) -> Store:
    """Write a prepared store, or finish one that an earlier call with the same options has left.

    Args:
        source: path, URL, or list of these as :func:`atmoloss.data.open_fields` takes them.
        out: local folder to write; absent, empty, or of an unfinished run.
        options: what to take and how to lay it out.
        scheduler: address of a running dask scheduler; its workers must see ``source`` and ``out`` by the
            same names and have atmoloss installed.
        workers: processes of a local dask cluster; ``None``: one per core, 0: none, in this process.
        storage_options: passed to fsspec; never written to disk.
        progress: draw a bar on standard error.

    Returns:
        The store, complete.

    Raises:
        DataError: a source that cannot be read or has missing values in the times asked for, or a folder that
            holds something else.
        MissingDependencyError: a library of the extra ``data`` is not installed, or zarr is older than version 3.
    """
    zarr3()
    root = Path(out).absolute()
    opened = Source(uuid.uuid4().hex, absolute(source), options, storage_options)
    plan, axes, index = make_plan(opened)
    if record_of(root) is not None:
        done = read_store(root)
        if done.record["plan"] != plan.record():
            raise DataError(f"out: {root} holds a store made of something else; expected a new folder")
        shutil.rmtree(root / PROGRESS, ignore_errors=True)  # killed while it tidied up
        return done
    start(root, plan, axes)
    shards = {n: plan.sharding.times(n) for n in range(plan.sharding.n_shards)}
    tasks = [(n, index[t.start : t.stop]) for n, t in shards.items() if not _done(root, n).is_file()]
    written: Iterable[object] = _run(functools.partial(_write, root, opened, plan.sharding), tasks, scheduler, workers)
    if progress and importlib.util.find_spec("tqdm"):
        count = {"total": len(shards), "initial": len(shards) - len(tasks)}
        written = require("tqdm", "train").tqdm(written, **count, unit="shard", dynamic_ncols=True)
    for _ in written:
        pass
    sizes = zip(*(json.loads(_done(root, number).read_text()) for number in shards), strict=True)
    shard_bytes = dict(zip(options.variables, sizes, strict=True))
    create_group(root, {"plan": plan.record(), "shard_bytes": shard_bytes, "package_version": __version__})
    shutil.rmtree(root / PROGRESS)
    return read_store(root)


def start(root: Path, plan: Plan, axes: dict[str, np.ndarray]) -> None:
    """Make the folder of a store and its arrays, or check that it is an unfinished one of the same plan."""
    file = root / PROGRESS / "plan.json"
    if file.is_file():
        if json.loads(file.read_text()) != plan.record():
            raise DataError(
                f"out: {root} holds an unfinished store of another source, other options or another version of "
                "atmoloss; expected the same command as before, or a new folder"
            )
        return
    # With the folder but without a plan it was killed right here, before anything was worth keeping.
    if root.exists() and any(root.iterdir()) and not file.parent.is_dir():
        raise DataError(f"out: {root} exists and is no unfinished store, expected a new folder")
    needed = 4 * len(plan.attributes) * plan.sharding.n_shards * int(np.prod(plan.sharding.shard))
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DataError(f"out: {root} has {free / 1e9:.1f} GB left, expected the {needed / 1e9:.1f} GB of the store")
    file.parent.mkdir(exist_ok=True)
    clock = {"units": "seconds since 1970-01-01", "calendar": plan.calendar}
    attributes = {
        "time": {"standard_name": "time", **clock},
        "init_time": {"standard_name": "forecast_reference_time", **clock},
        "run": {"long_name": "forecast run that the time belongs to"},
        "latitude": {"standard_name": "latitude", "units": "degrees_north"},
        "longitude": {"standard_name": "longitude", "units": "degrees_east"},
    }
    for name, values in axes.items():
        create_axis(root / name, values, ["time" if name in ("run", "init_time") else name], attributes[name])
    coordinates = "run init_time" if "init_time" in axes else "run"
    if plan.options.level is not None:
        coordinates += " level"
        create_axis(root / "level", np.array(plan.options.level), [], {"long_name": "vertical level"})
    for name, described in plan.attributes.items():
        create_variable(root / name, plan.sharding, {**described, "coordinates": coordinates})
    # The plan comes last: where there is one, there are all arrays.
    write_atomically(file, json.dumps(plan.record(), indent=1).encode())


def _done(root: Path, number: int) -> Path:
    """Return the file that says that a shard is whole."""
    return root / PROGRESS / f"{number:06d}.json"


def _write(root: Path, source: Source, sharding: Sharding, number: int, index: np.ndarray) -> None:
    """Write a shard of every variable, whose times stand at ``index`` in the source, and record it."""
    try:
        fields = source.read(lambda _: index)
    except DataError as error:
        times = sharding.times(number)
        raise DataError(f"{error} (times {times.start} to {times.stop - 1} of those chosen)") from error
    fields = fields.load(scheduler="synchronous") if fields.chunks else fields
    names = source.options.variables
    sizes = [write_shard(root, name, sharding, number, fields[name].values) for name in names]
    write_atomically(_done(root, number), json.dumps(sizes).encode())


def _run(
    write: Callable[..., None], tasks: Sequence[tuple[int, np.ndarray]], scheduler: str | None, workers: int | None
) -> Iterator[object]:
    """Write shards here or by dask; yields when each is done."""
    if not tasks or (scheduler is None and workers == 0):
        yield from itertools.starmap(write, tasks)
        return
    distributed = require("distributed", "data")
    with tempfile.TemporaryDirectory(prefix="atmoloss-dask-") as scratch:
        local = {"threads_per_worker": 1, "dashboard_address": None, "local_directory": scratch, "silence_logs": 50}
        local |= {"n_workers": min(workers or os.cpu_count() or 1, len(tasks))}
        with distributed.Client(scheduler) if scheduler else distributed.Client(**local) as client:
            # Not pure: what was written is on disk, a result that dask remembers means nothing.
            futures = client.map(write, *zip(*tasks, strict=True), pure=False)
            try:
                for future in distributed.as_completed(futures):
                    yield future.result()
            finally:
                client.cancel(futures)
