"""Open netCDF, Zarr, GRIB and spherical-harmonic data in one layout.

Variables are recognised by their usual names in any spelling, with or without a height or a level
(``atmoloss.data.quantities``), or by CF standard name, which must not contradict. ``u`` also stands for ``u10``,
``u850`` … where ``level`` says so or a file holds no other; the same holds for ``t`` and ``t2m``.
Divergence and vorticity are read where stored, from spherical harmonics too, and otherwise derived
from the winds of the same level (attribute ``derived_from``), by finite differences on regular
latitude–longitude grids, through spherical harmonics on global Gaussian ones.

Time is the valid time. Forecast dimensions (reference time, step) are stacked into it, and ``run``
numbers the forecast run of each time, by reference time: pairs must stay inside one run. Runs are
told apart only where they overlap, i.e. where a valid time occurs twice or the times of several runs
interleave. Everything else, such as analyses, one run, or the shortest forecast step of each time,
is a plain series with ``run`` 0. Times are sorted by run, then time. Where the data say when a forecast
started, ``init_time`` and ``lead_time`` stand beside ``run``.

Several files are put together along time, whatever each calls its axes and whichever way these run. A time
that they hold twice is taken once if its fields are equal, and refused if not. Of ERA5 and ERA5T
(``expver`` 1 and 5) the former counts wherever it has values.

Differences of times are exact in every calendar. Of another calendar than the real one (noleap, 360_day,
julian …), ``time`` is counted from 1970-01-01 in that calendar (attribute ``source_calendar``), and the
coordinate ``date`` has the dates that the calendar itself writes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from atmoloss.data.opening import close, open_datasets
from atmoloss.data.parts import find_parts, level_of, present_names
from atmoloss.data.quantities import quantity
from atmoloss.data.series import Keep, checked, derive, regular_series
from atmoloss.data.spectral import unpack
from atmoloss.data.variables import quantity_of
from atmoloss.errors import DataError, InputError, instance, number, require, shown

if TYPE_CHECKING:
    import xarray as xr


def open_fields(
    path_or_url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    variables: str | Sequence[str] = ("divergence", "vorticity"),
    level: float | None = None,
    *,
    grid: float | None = None,
    missing: Literal["error", "ignore"] | float = "error",
    storage_options: dict[str, Any] | None = None,
    group: str | None = None,
) -> xr.Dataset:
    """Open fields of any common file in the layout that the rest of the package reads.

    :mod:`atmoloss.data.reading` says how variables are recognised, derivatives taken, and files put together.

    Up to 1 GiB a variable is read into memory; larger ones, or data already in dask chunks, stay lazy.
    Counting missing values reads lazy data once, ``missing="ignore"`` avoids it.

    Args:
        path_or_url: netCDF, Zarr (folder or fsspec URL such as ``s3://``) or GRIB (extra ``grib``), told by content;
            a list, glob, folder or zip archive of such files; or an opened dataset, e.g. after a selection.
        variables: names asked for, and the names returned; any usual name, or one of the file's own.
        level: hPa for pressure (whatever the file's unit), else the level's number, σ or metres.
            ``None`` takes the only level.
        grid: spacing in degrees for spherical harmonics; ``None``: the finest that they support.
        missing: ``"error"``, ``"ignore"``, or a value to fill in; see attribute ``missing_count``.
        storage_options: passed to fsspec.
        group: of netCDF files or Zarr stores that hold their variables in groups.

    Returns:
        Dataset of float32 variables (time, latitude, longitude) in the quantity's SI units (s-1, m s-1, K,
        Pa, …; converted where that is linear), others in those of the file: ``time``
        datetime64[ns] (µs for years before 1678 or after 2261), ``run`` int64 (time), latitude descending,
        longitude ascending in degrees (on past 360 where a regional grid crosses the date line); where known,
        ``init_time`` datetime64 (time) and ``lead_time`` timedelta64 (time).

    Raises:
        InputError: an argument of another type, or with another value, than is said here.
        DataError: nothing to open, a file that is none of these, a variable, level, unit or coordinate that
            is absent, ambiguous or unknown, files that do not fit together, an ensemble, or missing values.
        MissingDependencyError: a library of the extra ``data`` or ``grib`` is not installed.
    """
    names = (variables,) if isinstance(variables, str) else variables
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"variables: got {shown(variables)}, expected at least one name")
    if not (isinstance(missing, str) and missing in ("error", "ignore")):
        number("missing", missing, math.isfinite, "'error', 'ignore' or a finite fill value")
    if level is not None:
        number("level", level, math.isfinite, "a number, or None")
    if grid is not None:
        number("grid", grid, lambda x: x > 0, "a positive number of degrees, or None")
    instance("storage_options", storage_options, (Mapping, type(None)), "a mapping for fsspec, or None")
    instance("group", group, (str, type(None)), "the name of a group, or None")
    files = open_datasets(path_or_url, storage_options, group)
    opened = not isinstance(path_or_url, require("xarray", "data").Dataset)
    lazy = False
    try:
        out = read_fields(files, names, level, grid=grid, missing=missing)
        lazy = any(field.chunks for field in out.data_vars.values())
    finally:
        if opened and not lazy:
            close(files)
    if opened and lazy:
        out.set_close(partial(close, files))  # no function of this place, which would not pickle
    return out


def read_fields(
    files: Sequence[Sequence[xr.Dataset]],
    names: Sequence[str],
    level: float | None = None,
    *,
    grid: float | None = None,
    missing: str | float = "error",
    keep: Keep | None = None,
) -> xr.Dataset:
    """Do what :func:`open_fields` says with the datasets of each file, which are open and stay so."""
    xarray = require("xarray", "data")
    readable = [[part for d in datasets for part in unpack(d)] for datasets in files]
    fields: dict[str, xr.DataArray] = {}
    derived: dict[float | None, xr.DataArray] = {}
    for name in names:
        source = find_parts(readable, name, level)
        wanted = quantity_of(source[0], name) if source else quantity(name)
        if source:
            field = checked(regular_series(source, name, level, grid, keep), missing)
        elif wanted is not None and wanted.units == "s-1":
            at = level_of(wanted, level)
            if at not in derived:
                derived[at] = derive(readable, name, at, missing, keep)
            field = checked(derived[at].isel(channel=int("vorticity" in wanted.names)), missing)
        else:
            raise DataError(f"variables: got {name!r}, {present_names(readable)}")
        if wanted is not None:
            field.attrs |= {"standard_name": wanted.standard_names[0], "units": wanted.units}
        fields[name] = field.rename(name)
    for start in ("init_time", "lead_time"):  # a variable may come from a forecast, another from an analysis
        if len({f[start].values.tobytes() if start in f.coords else b"" for f in fields.values()}) > 1:
            fields = {name: field.drop_vars(start, errors="ignore") for name, field in fields.items()}
    try:
        out: xr.Dataset = xarray.merge(fields.values(), join="exact", compat="equals", combine_attrs="override")
    except (ValueError, xarray.MergeError) as error:
        raise DataError(f"variables: {names} do not share times and grid ({error})") from error
    out.attrs = dict(files[0][0].attrs)
    return out
