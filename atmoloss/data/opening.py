"""Open any source as xarray datasets: netCDF, Zarr and GRIB, by their content."""

from __future__ import annotations

import glob
import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmoloss.errors import DataError, MissingDependencyError, require

if TYPE_CHECKING:
    import xarray as xr

_GRIB = (".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2")
_NETCDF = (".nc", ".nc4", ".cdf", ".h5")


def open_datasets(source: Any, storage_options: dict[str, Any] | None, engine: str | None) -> list[xr.Dataset]:
    """Open a source as datasets that read lazily; GRIB gives one for each kind of level."""
    xarray = require("xarray", "data")
    if isinstance(source, xarray.Dataset):
        return [source]
    if not isinstance(source, (str, os.PathLike, list, tuple)):
        raise DataError(f"path_or_url: got {type(source).__name__}, expected a path, URL, list or Dataset")
    options: dict[str, Any] = {"decode_timedelta": False}
    many = [os.fspath(p) for p in source] if isinstance(source, (list, tuple)) else []
    text = "" if many or isinstance(source, (list, tuple)) else os.fspath(source)
    text = text.removeprefix("file://")
    if any(c in text for c in "*?[") and not os.path.exists(text):
        many = sorted(glob.glob(text))
    remote = "://" in text or "::" in text
    if not many and not remote and not (text and os.path.exists(text)):
        raise DataError(f"path_or_url: got {source!r}, expected a file or folder that exists, or a URL")
    chosen = engine or _engine(many[0] if many else text)
    if chosen == "cfgrib" and (many or remote):
        raise DataError(f"path_or_url: got {source!r}, expected one local file as these are GRIB; download first")
    try:
        if many:
            require("dask", "data")
            return [xarray.open_mfdataset(many, engine=chosen, combine="by_coords", **options)]
        if chosen == "cfgrib":
            return _open_grib(text)
        if chosen == "zarr":
            require("zarr", "data")
            store = {"storage_options": storage_options} if storage_options else {}
            return [xarray.open_dataset(text, engine="zarr", chunks=None, **store, **options)]
        target: Any = text
        if remote:
            target = require("fsspec", "data").open(text, **(storage_options or {})).open()
        return [xarray.open_dataset(target, engine=chosen, **options)]
    except (DataError, MissingDependencyError):
        raise
    except Exception as error:  # the backends raise anything from KeyError to eccodes' own
        raise DataError(
            f"path_or_url: got {source!r}, expected readable {chosen} data ({type(error).__name__}: {error})"
        ) from error


def _open_grib(path: str) -> list[xr.Dataset]:
    cfgrib = require("cfgrib", "grib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of cfgrib's own use of xarray
        # No index file: it would lie beside data that may be read-only or shared.
        opened: list[xr.Dataset] = cfgrib.open_datasets(path, backend_kwargs={"indexpath": ""})
    if not opened:
        raise DataError(f"path_or_url: got {path!r} without any GRIB message, expected at least one")
    return opened


def _engine(text: str) -> str:
    """Return the xarray engine for a path or URL, by its first bytes where it is a local file."""
    magic = b""
    if os.path.isfile(text):
        with open(text, "rb") as file:
            magic = file.read(4)
    if magic == b"GRIB" or Path(text).suffix.lower() in _GRIB:
        return "cfgrib"
    if os.path.isdir(text) or ("://" in text and Path(text).suffix.lower() not in _NETCDF):
        return "zarr"
    if magic[:3] == b"CDF":  # netCDF3, which h5netcdf does not read
        if _installed("netCDF4"):
            return "netcdf4"
        require("scipy", "eval")
        return "scipy"
    if _installed("netCDF4") and not _installed("h5netcdf"):
        return "netcdf4"
    require("h5netcdf", "data")
    return "h5netcdf"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
