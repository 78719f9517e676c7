"""``atmoloss prepare``: from any source that ``open_fields`` reads to a prepared store for training.

The unit of work is a shard in time, all variables: read, derive, write under a temporary name, rename, and
last of all record it as done with the sums that the normalisation needs. A run that was killed therefore
loses at most the shards it was writing, and its successor neither writes nor reads the finished ones again.
Units are independent of each other; dask spreads them over processes or machines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss._version import __version__
from atmoloss.data import store
from atmoloss.data.calendars import STANDARD, calendar_of, dates
from atmoloss.data.moments import Moments, normalization_constants
from atmoloss.data.opening import open_datasets
from atmoloss.data.parts import find_parts
from atmoloss.data.reading import Keep, read_fields
from atmoloss.data.sources import attributes_of, in_periods, parse_periods
from atmoloss.errors import DataError, require
from atmoloss.files import write_atomically

if TYPE_CHECKING:
    import xarray as xr

_PLAN, _INDEX = "plan.json", "index.npy"
# Float32 values of all variables that a process reads at a time: bounds its memory to a few times that.
_READ_BYTES = 2**27


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


def prepare(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: PrepareOptions = PrepareOptions(),
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    storage_options: dict[str, Any] | None = None,
    progress: bool = False,
) -> store.Store:
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
        MissingDependencyError: a library of the extra ``data`` is not installed.
    """
    root = Path(out).absolute()
    plan, axes, index = _plan(_absolute(source), options, storage_options)
    if store.is_complete(root):
        done = store.read_store(root)
        if done.record["plan"] != plan:
            raise DataError(f"out: {root} holds a store made of something else; expected a new folder")
        shutil.rmtree(root / store.PROGRESS, ignore_errors=True)  # killed while it tidied up
        return done
    _start(root, plan, axes, index)
    job = _Job(root, storage_options)
    missing = [unit for unit in range(job.layout.n_shards) if not job.record(unit).is_file()]
    with _bar(job.layout.n_shards, len(missing), progress) as advance:
        for _ in _run(job.identity, missing, storage_options, scheduler, workers):
            advance()
    _finish(job)
    return store.read_store(root)


def _absolute(source: Any) -> Any:
    """Return the source as text that means the same in every process of this machine."""
    if isinstance(source, (list, tuple)):
        return [_absolute(s) for s in source]
    text = os.fspath(source)
    return text if "://" in text or "::" in text else os.path.abspath(text)


def _plan(
    source: Any, options: PrepareOptions, storage_options: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, np.ndarray], np.ndarray]:
    """Return what decides every byte of the store (as plain JSON), its axes, and the chosen times of the source."""
    seen: dict[str, np.ndarray] = {}

    def first(time: xr.DataArray) -> np.ndarray:
        days = dates(time.values, str(time.attrs.get("source_calendar", STANDARD)))
        index = options.keep(days)
        if not len(index):
            raise DataError(
                f"dates: none of the {len(days)} times from {days.min()} to {days.max()} fits {options.dates or ''} "
                f"every {options.every or 1} h"
            )
        seen.update(time=time.values[index], run=time["run"].values[index], index=index)
        if "init_time" in time.coords:
            seen.update(init_time=time["init_time"].values[index])
        return index[:1]

    files = _open(source, options, storage_options)
    fields = _read(files, options, first)
    axes = {
        "time": seen["time"].astype("datetime64[s]").astype("<i8"),
        "run": seen["run"].astype("<i8"),
        "latitude": fields["latitude"].values.astype("<f8"),
        "longitude": fields["longitude"].values.astype("<f8"),
    }
    if "init_time" in seen:
        axes["init_time"] = seen["init_time"].astype("datetime64[s]").astype("<i8")
    shape = (len(axes["time"]), len(axes["latitude"]), len(axes["longitude"]))
    layout = store.choose_layout(shape, options.time_chunk, options.space_chunk, options.shard_bytes)
    digest = hashlib.sha256()
    for name in sorted(axes):
        digest.update(axes[name].tobytes())
    plan = {
        "source": source,
        "options": dataclasses.asdict(options),
        "layout": dataclasses.asdict(layout),
        "axes": digest.hexdigest(),
        "attributes": {name: attributes_of(fields[name]) for name in options.variables},
        "calendar": calendar_of(fields),
    }
    return json.loads(json.dumps(plan)), axes, seen["index"]


def _open(source: Any, options: PrepareOptions, storage_options: dict[str, Any] | None) -> list[list[xr.Dataset]]:
    files = open_datasets(source, storage_options, group=options.group)
    if not options.winds:
        return files
    kept = []
    for name in options.winds:
        found = find_parts(files, name, options.level)
        if not found:
            present = ", ".join(sorted({str(v) for datasets in files for d in datasets for v in d.data_vars}))
            raise DataError(f"winds: got {name!r}, expected one of those present: {present}")
        kept += found
    # One dataset each: find_parts has told apart variables that two kinds of level share a name in.
    return [[field.to_dataset()] for field in kept]


def _read(files: Sequence[Sequence[xr.Dataset]], options: PrepareOptions, keep: Keep) -> xr.Dataset:
    o = options
    return read_fields(files, o.variables, o.level, grid=o.grid, missing=o.missing, keep=keep)


def _start(root: Path, plan: dict[str, Any], axes: dict[str, np.ndarray], index: np.ndarray) -> None:
    """Make the folder, or check that it is an unfinished one of the same plan."""
    folder = root / store.PROGRESS
    if (folder / _PLAN).is_file():
        if json.loads((folder / _PLAN).read_text()) != plan:
            raise DataError(
                f"out: {root} holds an unfinished store of another source or other options; expected the same "
                "command as before, or a new folder"
            )
        return
    # With the folder but without a plan it was killed right here, before anything was worth keeping.
    if root.exists() and any(root.iterdir()) and not folder.is_dir():
        raise DataError(f"out: {root} exists and is no unfinished store, expected a new folder")
    layout = _layout(plan)
    needed = len(plan["attributes"]) * sum(layout.shard_bytes(s) for s in range(layout.n_shards))
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise DataError(f"out: {root} has {free / 1e9:.1f} GB left, expected the {needed / 1e9:.1f} GB of the store")
    folder.mkdir(exist_ok=True)
    np.save(folder / _INDEX, index)
    # The plan comes last: whatever has one has all that the workers look for.
    clock = {"units": "seconds since 1970-01-01", "calendar": plan["calendar"]}
    described = {
        "time": {"standard_name": "time", **clock},
        "init_time": {"standard_name": "forecast_reference_time", **clock},
        "run": {"long_name": "forecast run that the time belongs to"},
        "latitude": {"standard_name": "latitude", "units": "degrees_north"},
        "longitude": {"standard_name": "longitude", "units": "degrees_east"},
    }
    for name, values in axes.items():
        store.write_axis(root / name, values, ["time" if name in ("run", "init_time") else name], described[name])
    coordinates = "run init_time" if "init_time" in axes else "run"
    if plan["options"]["level"] is not None:
        coordinates += " level"
        level = np.array(plan["options"]["level"], np.float64)
        store.write_axis(root / "level", level, [], {"long_name": "vertical level"})
    for name, attributes in plan["attributes"].items():
        (root / name).mkdir(exist_ok=True)
        metadata = layout.metadata({**attributes, "coordinates": coordinates})
        (root / name / "zarr.json").write_text(json.dumps(metadata, indent=1))
    write_atomically(folder / _PLAN, json.dumps(plan, indent=1).encode())


def _layout(plan: dict[str, Any]) -> store.Layout:
    values = plan["layout"]
    return store.Layout(tuple(values["shape"]), tuple(values["chunk"]), values["shard_times"])


class _Job:
    """An unfinished store as a worker sees it; opens the source when the first shard asks for it."""

    def __init__(self, root: Path, storage_options: dict[str, Any] | None) -> None:
        self.root, self._storage = root, storage_options
        text = (root / store.PROGRESS / _PLAN).read_bytes()
        self.plan, self.identity = json.loads(text), (root, hashlib.sha256(text).hexdigest())
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in self.plan["options"].items()}
        self.options = PrepareOptions(**options)
        self.layout = _layout(self.plan)
        self.index = np.load(root / store.PROGRESS / _INDEX)
        self._files: list[list[xr.Dataset]] | None = None

    def record(self, unit: int) -> Path:
        """Return the file that says that a shard is whole."""
        return self.root / store.PROGRESS / f"{unit:06d}.npz"

    def read(self, times: range) -> xr.Dataset:
        """Read the fields of some times of the store into memory."""
        if self._files is None:
            self._files = _open(self.plan["source"], self.options, self._storage)
        index = self.index[times.start : times.stop]
        fields = _read(self._files, self.options, lambda _: index)
        return fields.load(scheduler="synchronous") if fields.chunks else fields


_job: _Job | None = None


def _write_unit(identity: tuple[Path, str], unit: int, storage_options: dict[str, Any] | None) -> int:
    """Write one shard of every variable and record it; runs in any process, which keeps the source open."""
    global _job
    root = identity[0]
    if _job is None or _job.identity != identity:  # a worker may outlive a store, and a folder its plan
        _job = _Job(root, storage_options)
    job, layout = _job, _job.layout
    names = job.options.variables
    times = layout.times(unit)
    ct = layout.chunk[0]
    plane = 4 * len(names) * layout.shape[1] * layout.shape[2]
    step = ct * max(1, _READ_BYTES // (ct * plane))
    moments, digest = [Moments() for _ in names], hashlib.sha256()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_whole(store.shard_path(root, name, unit))) for name in names]
        for start in range(times.start, times.stop, step):
            part = range(start, min(start + step, times.stop))
            try:
                fields = job.read(part)
            except DataError as error:
                raise DataError(f"{error} (times {part.start} to {part.stop - 1} of those chosen)") from error
            for name, file, moment in zip(names, files, moments, strict=True):
                values = fields[name].values
                digest.update(np.ascontiguousarray(values, "<f4").tobytes())
                moment.add(values)
                for chunk in range(0, len(part), ct):
                    file.write(layout.encode(values[chunk : chunk + ct]))
        for file in files:
            file.write(layout.footer(unit))
    record = io.BytesIO()
    tables = {f"moments{c}": moment.sparse() for c, moment in enumerate(moments)}
    np.savez_compressed(record, sha256=np.array(digest.hexdigest()), **tables)  # type: ignore[arg-type]
    write_atomically(job.record(unit), record.getvalue())
    return unit


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Any]:
    """Open a file that takes its name only when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for all attempts: what a killed one has left is overwritten, not gathered.
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _run(
    identity: tuple[Path, str],
    units: Sequence[int],
    storage_options: dict[str, Any] | None,
    scheduler: str | None,
    workers: int | None,
) -> Iterator[int]:
    """Write units here or by dask; yields each as it is done."""
    if not units:
        return
    if scheduler is None and workers == 0:
        for unit in units:
            yield _write_unit(identity, unit, storage_options)
        return
    distributed = require("distributed", "data")
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="atmoloss-dask-"))
            count = min(workers or os.cpu_count() or 1, len(units))
            cluster = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address=None,
                local_directory=scratch,
                silence_logs=50,
            )
            client = stack.enter_context(distributed.Client(stack.enter_context(cluster)))
        else:
            client = stack.enter_context(distributed.Client(scheduler))
        # Not pure: what a unit did is on disk, a result that dask remembers means nothing.
        futures = [client.submit(_write_unit, identity, unit, storage_options, pure=False) for unit in units]
        try:
            for future in distributed.as_completed(futures):
                yield future.result()
        finally:
            client.cancel(futures)


@contextlib.contextmanager
def _bar(total: int, missing: int, shown: bool) -> Iterator[Callable[[], object]]:
    if not shown or importlib.util.find_spec("tqdm") is None:
        yield lambda: None
        return
    tqdm = require("tqdm", "train").tqdm
    with tqdm(total=total, initial=total - missing, unit="shard", file=sys.stderr, dynamic_ncols=True) as bar:
        yield lambda: bar.update()


def _finish(job: _Job) -> None:
    """Add up the records, write the metadata of the group, and remove what only an unfinished store needs."""
    names = job.options.variables
    totals, digest = [Moments() for _ in names], hashlib.sha256(job.plan["axes"].encode())
    for unit in range(job.layout.n_shards):
        with np.load(job.record(unit)) as record:
            digest.update(str(record["sha256"]).encode())
            for c, total in enumerate(totals):
                total.merge(Moments.from_sparse(record[f"moments{c}"]))
    record = {
        **job.plan["layout"],
        "variables": list(names),
        "units": [job.plan["attributes"][name].get("units", "") for name in names],
        "level": job.options.level,
        "calendar": job.plan["calendar"],
        "source": job.plan["source"],
        "normalization": normalization_constants(totals),
        "fingerprint": digest.hexdigest(),
        "plan": job.plan,
        "package_version": __version__,
    }
    attributes = {"Conventions": "CF-1.8", "title": "atmoloss training store, physical units"}
    metadata = store.finish_store(job.root, record, attributes)
    write_atomically(job.root / "zarr.json", (json.dumps(metadata, indent=1) + "\n").encode())
    shutil.rmtree(job.root / store.PROGRESS)
