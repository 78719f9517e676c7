"""Open any source as xarray datasets: netCDF, Zarr and GRIB, by their content."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from atmoloss.data.files import HEAD, is_remote, kind_of, paths_of
from atmoloss.errors import DataError, MissingDependencyError, require

if TYPE_CHECKING:
    import xarray as xr


# Kind of a file → engine, which is the name of its library too, and the extra that brings it.
_ENGINES = {
    "grib": ("cfgrib", "grib"),
    "zarr": ("zarr", "data"),
    "netcdf3": ("scipy", "eval"),
    "netcdf4": ("h5netcdf", "data"),
}


def open_datasets(
    source: Any, storage_options: dict[str, Any] | None = None, group: str | None = None
) -> list[list[xr.Dataset]]:
    """Open a source as datasets that read lazily: for each of its files one, of GRIB one for each kind of level."""
    xarray = require("xarray", "data")
    if isinstance(source, xarray.Dataset):
        if group is not None:
            raise DataError(f"group: got {group!r} with an opened dataset, expected None")
        return [[source]]
    files: list[list[xr.Dataset]] = []
    try:
        for path in paths_of(source):
            files.append(_open(path, storage_options, group))
    except BaseException:
        close(files)
        raise
    return files


def close(files: Iterable[Iterable[xr.Dataset]]) -> None:
    """Close what :func:`open_datasets` has opened."""
    for datasets in files:
        for dataset in datasets:
            dataset.close()


def _open(path: str, storage_options: dict[str, Any] | None, group: str | None) -> list[xr.Dataset]:
    """Open one file, store or URL."""
    target: Any = path
    kind = kind_of(path)
    try:
        if is_remote(path) and kind != "zarr":
            target = require("fsspec", "data").open(path, **(storage_options or {})).open()
            kind = kind_of(path, target.read(HEAD))
            target.seek(0)
            if kind in ("grib", "zip"):
                raise DataError(f"path_or_url: {path} is {kind}, which is read from local files; download it first")
        engine = _engine(kind)
        if kind == "grib":
            if group is not None:
                raise DataError(f"group: got {group!r}, but {path} is GRIB, which has no groups; expected None")
            return _open_grib(path)
        options: dict[str, Any] = {"decode_timedelta": False, "engine": engine, "group": group}
        if kind == "zarr":
            version = require("zarr", "data").__version__
            if version.startswith("2.") and os.path.exists(os.path.join(path, "zarr.json")):
                raise DataError(f"path_or_url: {path} is Zarr v3, but zarr {version} reads v2; pip install 'zarr>=3'")
            options["storage_options"] = storage_options
        with warnings.catch_warnings():
            # Dates beyond those of datetime64[ns] come as cftime, which is what calendars.py reads.
            warnings.filterwarnings("ignore", message="Unable to decode time axis")
            dataset = require("xarray", "data").open_dataset(target, **options)
    except (DataError, MissingDependencyError):
        raise
    except Exception as error:  # the backends raise anything from KeyError to eccodes' own
        if "cftime" in str(error):
            require("cftime", "data")
        got = f"path_or_url: got {path!r}" if group is None else f"path_or_url, group: got {path!r} and {group!r}"
        raise DataError(f"{got}, expected readable {kind} data ({type(error).__name__}: {error})") from error
    if not dataset.data_vars and group is None:
        dataset.close()
        opened = require("xarray", "data").open_groups(path, engine=engine)
        if groups := [name for name, data in opened.items() if data.data_vars]:
            raise DataError(
                f"path_or_url: {path} holds its variables in the groups {', '.join(groups)}; pass group= with one of "
                "them (a command: --group)"
            )
    return [dataset]


def _open_grib(path: str) -> list[xr.Dataset]:
    cfgrib = require("cfgrib", "grib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of cfgrib's own use of xarray
        # No index file: it would lie beside data that may be read-only or shared.
        opened: list[xr.Dataset] = cfgrib.open_datasets(path, backend_kwargs={"indexpath": ""})
    if not opened:
        raise DataError(f"path_or_url: got {path!r} without any GRIB message, expected at least one")
    return opened


def _engine(kind: str) -> str:
    """Return the xarray engine for a kind of file."""
    # Of netCDF-3 netCDF4 reads what scipy does not (64-bit data).
    has = importlib.util.find_spec
    if has("netCDF4") and (kind == "netcdf3" or (kind == "netcdf4" and not has("h5netcdf"))):
        return "netcdf4"
    engine, extra = _ENGINES[kind]
    require(engine, extra)
    return engine


def _forget_threads() -> None:
    """Let dask start new threads in a forked process: those of its parent are not there, work given to them waits."""
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        vars(threaded)["default_pool"] = None
        threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
