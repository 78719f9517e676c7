"""Open netCDF, Zarr, GRIB and spherical-harmonic data in one layout."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from atmoloss.data import spectral, variables
from atmoloss.data.alignment import on_grid_of
from atmoloss.data.opening import close, open_datasets
from atmoloss.data.parts import Layout, as_slice, find_parts, find_winds, layout_of, lazily, level_of
from atmoloss.data.quantities import VARIABLES, quantity
from atmoloss.data.timeline import Timeline, join_times
from atmoloss.errors import DataError, InputError, require

if TYPE_CHECKING:
    import xarray as xr

# Up to here a variable is read into memory (float32), beyond it stays lazy where dask is installed.
_EAGER_BYTES = 2**30
# Work on time blocks of about this size: bounds the memory of float64 decoding and of derivatives.
_BLOCK_BYTES = 2**26

Keep = Callable[["xr.DataArray"], np.ndarray]
"""From the coordinate ``time`` of a source, with those along it, to the indices of those to read, ascending."""


def open_fields(
    path_or_url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    variables: str | Sequence[str] = ("divergence", "vorticity"),
    level: float | None = None,
    *,
    grid: float | None = None,
    missing: Literal["error", "ignore"] | float = "error",
    storage_options: dict[str, Any] | None = None,
    engine: str | None = None,
    group: str | None = None,
) -> xr.Dataset:
    """Open fields of any common file in the layout that the rest of the package reads.

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

    Up to 1 GiB a variable is read into memory; larger ones, or data already in dask chunks, stay lazy.
    Counting missing values reads lazy data once, ``missing="ignore"`` avoids it.

    Args:
        path_or_url: netCDF, Zarr (v2, v3; folder or fsspec URL such as ``s3://``) or GRIB (extra
            ``grib``), told by content, whatever the name; a list, glob, folder or zip archive of such
            files; or an opened dataset, e.g. after a selection.
        variables: names asked for, and the names returned; any usual name, or one of the file's own.
        level: hPa for pressure (whatever the file's unit), else the level's number, σ or metres.
            ``None`` takes the only level.
        grid: spacing in degrees for spherical harmonics; ``None``: the finest that they support.
        missing: ``"error"``, ``"ignore"``, or a value to fill in; see attribute ``missing_count``.
        storage_options: passed to fsspec.
        engine: of xarray; ``None`` decides by the file.
        group: of netCDF files or Zarr stores that hold their variables in groups.

    Returns:
        Dataset of float32 variables (time, latitude, longitude) in the quantity's SI units (s-1, m s-1, K,
        Pa, …; converted where that is linear), others in those of the file: ``time``
        datetime64[ns] (µs for years before 1678 or after 2261), ``run`` int64 (time), latitude descending,
        longitude ascending in degrees (on past 360 where a regional grid crosses the date line); where known,
        ``init_time`` datetime64 (time) and ``lead_time`` timedelta64 (time).

    Raises:
        DataError: nothing to open, a file that is none of these, a variable, level, unit or coordinate that
            is absent, ambiguous or unknown, files that do not fit together, an ensemble, or missing values.
        MissingDependencyError: a library of the extra ``data`` or ``grib`` is not installed.
    """
    names = (variables,) if isinstance(variables, str) else tuple(variables)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"variables: got {variables!r}, expected at least one name")
    number = isinstance(missing, (int, float)) and not isinstance(missing, bool) and np.isfinite(missing)
    if not number and missing not in ("error", "ignore"):
        raise DataError(f"missing: got {missing!r}, expected 'error', 'ignore' or a finite fill value")
    files = open_datasets(path_or_url, storage_options, engine, group)
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
    """Do what :func:`open_fields` says with datasets that are open and stay so.

    Args:
        files: the datasets of each file, that read lazily.
        names, level, grid, missing: see :func:`open_fields`.
        keep: chooses the times; nothing of the others is read, counted or derived.

    Raises:
        DataError: see :func:`open_fields`.
    """
    xarray = require("xarray", "data")
    readable = [
        [part for d in datasets for part in (spectral.unpack(d) if spectral.is_packed(d) else [d])]
        for datasets in files
    ]
    fields: dict[str, xr.DataArray] = {}
    derived: dict[float | None, xr.DataArray] = {}
    for name in names:
        source = find_parts(readable, name, level)
        wanted = variables.quantity_of(source[0], name) if source else quantity(name)
        if source:
            field = _checked(_regular(source, name, level, grid, keep), missing)
        elif wanted is not None and wanted.units == "s-1":
            at = level_of(wanted, level)
            if at not in derived:
                derived[at] = _derive(readable, name, at, missing, keep)
            channel = int(wanted.names == VARIABLES["vorticity"].names)
            field = _checked(derived[at].isel(channel=channel), missing)
            field.attrs |= {"units": "s-1", "derived_from": derived[at].attrs["derived_from"]}
        else:
            raise DataError(f"variables: got {name!r}, {_present(readable)}")
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


def _present(files: Sequence[Sequence[xr.Dataset]]) -> str:
    """Return what the data hold, for an error message."""
    names = {str(v) for datasets in files for d in datasets for v in d.data_vars}
    return "expected one of those present: " + ", ".join(sorted(names))


def _regular(
    source: Sequence[xr.DataArray], name: str, level: float | None, grid: float | None, keep: Keep | None = None
) -> xr.DataArray:
    """Bring a variable, as each of the files has it, to float32 (time, latitude, longitude) with exactly those axes."""
    layouts = [layout_of(part, name, level, grid, _BLOCK_BYTES, _EAGER_BYTES // len(source)) for part in source]
    timeline = join_times([layout.folded for layout in layouts])
    chosen = np.arange(timeline.time.size) if keep is None else keep(timeline.time)
    _check_repeats(source, layouts, timeline, chosen)
    files: np.ndarray = timeline.file[chosen]
    # In the order of time, so that no more than a concatenation remains where files follow each other.
    numbers = files[np.sort(np.unique(files, return_index=True)[1])] if files.size else np.zeros(1, np.int64)
    cells = sum(layouts[i].latitude.size * layouts[i].longitude.size * int((files == i).sum()) for i in numbers)
    parts: list[xr.DataArray] = []
    for i in numbers:
        part = _read(layouts[i], timeline.index[chosen[files == i]], lazy=4 * cells > _EAGER_BYTES)
        if parts:
            part = on_grid_of(parts[0], part, (f"{source[0].name} in one file", "in another"))
        parts.append(part)
    out: xr.DataArray = parts[0]
    if len(parts) > 1:
        out = require("xarray", "data").concat(parts, "time", coords="minimal", compat="override", join="override")
        order = np.argsort(np.concatenate([np.flatnonzero(files == i) for i in numbers]))
        out = out if np.array_equal(order, np.arange(order.size)) else out.isel(time=order)
    out = out.assign_coords(timeline.time[chosen].coords)
    out.name = source[0].name
    out.attrs = {k: v for k, v in source[0].attrs.items() if k in ("standard_name", "long_name", "units")}
    for axis, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        out[axis].attrs = {"standard_name": axis, "units": units}
    return out


def _read(layout: Layout, index: np.ndarray, *, lazy: bool) -> xr.DataArray:
    """Return some times of one file, (time, latitude, longitude) with the coordinates of the grid."""
    field = layout.folded.field.isel(time=as_slice(index))
    if lazy:
        field = lazily(field, {"time": layout.block})
    shape = {"latitude": layout.latitude.size, "longitude": layout.longitude.size}
    values = _blockwise(layout.transform, [field], layout.core, shape, layout.block)
    out: xr.DataArray = values.assign_coords(latitude=layout.latitude, longitude=layout.longitude)
    return out


def _check_repeats(
    source: Sequence[xr.DataArray], layouts: Sequence[Layout], timeline: Timeline, chosen: np.ndarray
) -> None:
    """Raise ``DataError`` where a time of those chosen occurs twice with different fields."""
    for place, file, index in timeline.repeats[np.isin(timeline.repeats[:, 0], chosen)]:
        first, again = (
            _read(layouts[f], np.array([i]), lazy=False)
            for f, i in ((timeline.file[place], timeline.index[place]), (file, index))
        )
        if first.shape != again.shape or not np.array_equal(first.values, again.values, equal_nan=True):
            time = timeline.time.values[place]
            paths = [str(source[f].encoding.get("source", "a file")) for f in (timeline.file[place], file)]
            where = f", in {paths[0]} and {paths[1]}" if file != timeline.file[place] else ""
            raise DataError(
                f"time: {time} occurs more than once in {source[0].name!r}{where}, with different fields; expected "
                "distinct times, or a coordinate forecast_reference_time that tells the runs apart"
            )


def _blockwise(
    function: Callable[..., np.ndarray],
    inputs: Sequence[xr.DataArray],
    core: Sequence[str],
    sizes: dict[str, int],
    block: int,
) -> xr.DataArray:
    """Apply a function (T, *core) → float32 (T, *sizes) in blocks of time, lazily where inputs are."""
    xarray = require("xarray", "data")
    if any(array.chunks for array in inputs):
        result: xr.DataArray = xarray.apply_ufunc(
            function,
            *(array.chunk(dict.fromkeys(core, -1)) for array in inputs),
            input_core_dims=[list(core)] * len(inputs),
            output_core_dims=[list(sizes)],
            exclude_dims=set(core),
            dask="parallelized",
            # Not output_dtypes: dask would cast a complex sample and warn.
            dask_gufunc_kwargs={
                "output_sizes": sizes,
                "meta": np.empty((0,) * (1 + len(sizes)), dtype=np.float32),
            },
        )
        return result
    count = inputs[0].sizes["time"]
    out = np.empty((count, *sizes.values()), dtype=np.float32)
    for start in range(0, count, block):
        part = slice(start, start + block)
        # Transposed when read: on a file that reads lazily it would make xarray fetch point by point.
        read = (array.isel(time=part).load().transpose("time", *core).values for array in inputs)
        out[part] = function(*read)
    coords = {name: c for name, c in inputs[0].coords.items() if c.dims == ("time",)}
    result = xarray.DataArray(out, dims=("time", *sizes), coords=coords)
    return result


def _derive(
    files: Sequence[Sequence[xr.Dataset]], name: str, level: float | None, missing: str | float, keep: Keep | None
) -> xr.DataArray:
    """Return divergence and vorticity (time, channel, latitude, longitude) of the one wind that fits."""
    pairs = find_winds(files, level)
    if not pairs:
        raise DataError(f"variables: got {name!r}, neither it nor a wind is there; {_present(files)}")
    if len(pairs) > 1:
        raise DataError(
            f"variables: {name!r} could be derived from {' or '.join(pairs)}; give level, or pass a dataset "
            "with only one of these winds"
        )
    ((label, components),) = pairs.items()
    wind = [_regular(field, name, level, None, keep) for name, field in zip("uv", components, strict=True)]
    if missing == "error":
        wind = [_checked(component, missing) for component in wind]
    first, second = wind
    if not all(first[axis].equals(second[axis]) for axis in ("time", "latitude", "longitude")):
        raise DataError(f"variables: {label} do not share times and grid, expected one grid to derive {name!r}")
    try:
        transform = _differentiation(first["latitude"].values, first["longitude"].values)
    except InputError as error:
        raise DataError(f"variables: {name!r} cannot be derived from {label}: {error}") from error
    space = {axis: first.sizes[axis] for axis in ("latitude", "longitude")}
    block = max(1, _BLOCK_BYTES // (16 * int(np.prod(list(space.values())))))
    fields = _blockwise(transform, wind, list(space), {"channel": 2, **space}, block)
    out: xr.DataArray = fields.assign_coords({axis: first[axis] for axis in space})
    out.attrs = {"derived_from": label}
    return out


def _differentiation(latitude: np.ndarray, longitude: np.ndarray) -> Callable[..., np.ndarray]:
    """Return what derives (T, 2, H, W) divergence and vorticity from both winds (T, H, W).

    Raises:
        InputError: a grid that is neither regular nor a global Gaussian one.
    """
    import torch  # not at the top: whoever reads and compares fields alone need not wait for it

    from atmoloss.winds import WindToVorticityDivergence

    try:
        module = WindToVorticityDivergence(latitude, longitude)
    except InputError as error:
        if latitude.size > 1 and spectral.is_global_gaussian(latitude, longitude):
            return partial(spectral.differentiate_wind, longitude=float(longitude[0]))
        raise InputError(f"{error} or a global Gaussian one; regrid to a regular one first") from error

    def differentiate(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(np.stack((east, north), axis=1))).numpy())

    return differentiate


def _checked(field: xr.DataArray, missing: str | float) -> xr.DataArray:
    """Count missing values and treat them as asked for."""
    if missing == "ignore":
        return field
    valid = np.isfinite(field)
    count = field.size - int(valid.sum())
    if isinstance(missing, str):
        if count:
            raise DataError(
                f"missing: {count} of {field.size} values of {field.name!r} are missing, expected none; "
                "pass missing='ignore' or a value to fill in (a command: --missing; a configuration: missing)"
            )
    elif count:
        field = field.where(valid, np.float32(missing)).assign_attrs(field.attrs)
    out: xr.DataArray = field.assign_attrs(missing_count=count)
    return out
