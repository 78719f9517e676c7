"""Open netCDF, Zarr, GRIB and spherical-harmonic data in one layout."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from atmoloss.data import conventions, spectral, variables
from atmoloss.data.opening import open_datasets
from atmoloss.data.quantities import VARIABLES, Quantity, conversion, quantity
from atmoloss.data.times import fold_time
from atmoloss.errors import DataError, InputError, require
from atmoloss.winds import WindToVorticityDivergence

if TYPE_CHECKING:
    import xarray as xr

# Up to here a variable is read into memory (float32), beyond it stays lazy where dask is installed.
_EAGER_BYTES = 2**30
# Work on time blocks of about this size: bounds the memory of float64 decoding and of derivatives.
_BLOCK_BYTES = 2**26

Keep = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the times (datetime64) and runs of a source to the indices of those to read, ascending."""


def open_fields(
    path_or_url: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | xr.Dataset,
    variables: str | Sequence[str] = ("divergence", "vorticity"),
    level: float | None = None,
    *,
    grid: float | None = None,
    missing: Literal["error", "ignore"] | float = "error",
    storage_options: dict[str, Any] | None = None,
    engine: str | None = None,
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
    is a plain series with ``run`` 0. Times are sorted by run, then time.

    Up to 1 GiB a variable is read into memory; larger ones, or data already in dask chunks, stay lazy.
    Counting missing values reads lazy data once, ``missing="ignore"`` avoids it.

    Args:
        path_or_url: netCDF, Zarr (v2, v3; folder or fsspec URL such as ``s3://``) or GRIB (extra
            ``grib``); a list or glob of netCDF files; or an opened dataset, e.g. after a selection.
        variables: names asked for, and the names returned; any usual name, or one of the file's own.
        level: hPa for pressure (whatever the file's unit), else the level's number, σ or metres.
            ``None`` takes the only level.
        grid: spacing in degrees for spherical harmonics; ``None``: the finest that they support.
        missing: ``"error"``, ``"ignore"``, or a value to fill in; see attribute ``missing_count``.
        storage_options: passed to fsspec.
        engine: of xarray; ``None`` decides by the file.

    Returns:
        Dataset of float32 variables (time, latitude, longitude) in the quantity's SI units (s-1, m s-1, K,
        Pa, …; converted where that is linear), others in those of the file: ``time``
        datetime64[ns], ``run`` int64 (time), latitude descending, longitude ascending in degrees
        (on past 360 where a regional grid crosses the date line).

    Raises:
        DataError: nothing to open, a variable, level, unit or coordinate that is absent, ambiguous or
            unknown, an ensemble, or missing values.
        MissingDependencyError: a library of the extra ``data`` or ``grib`` is not installed.
    """
    names = (variables,) if isinstance(variables, str) else tuple(variables)
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"variables: got {variables!r}, expected at least one name")
    number = isinstance(missing, (int, float)) and not isinstance(missing, bool) and np.isfinite(missing)
    if not number and missing not in ("error", "ignore"):
        raise DataError(f"missing: got {missing!r}, expected 'error', 'ignore' or a finite fill value")
    datasets = open_datasets(path_or_url, storage_options, engine)
    out = read_fields(datasets, names, level, grid=grid, missing=missing)
    if not isinstance(path_or_url, require("xarray", "data").Dataset):
        if any(field.chunks for field in out.data_vars.values()):
            out.set_close(lambda: _close(datasets))
        else:
            _close(datasets)
    return out


def read_fields(
    datasets: Sequence[xr.Dataset],
    names: Sequence[str],
    level: float | None = None,
    *,
    grid: float | None = None,
    missing: str | float = "error",
    keep: Keep | None = None,
) -> xr.Dataset:
    """Do what :func:`open_fields` says with datasets that are open and stay so.

    Args:
        datasets: that read lazily.
        names, level, grid, missing: see :func:`open_fields`.
        keep: chooses the times; nothing of the others is read, counted or derived.

    Raises:
        DataError: see :func:`open_fields`.
    """
    xarray = require("xarray", "data")
    readable = [part for d in datasets for part in (spectral.unpack(d) if spectral.is_packed(d) else [d])]
    fields: dict[str, xr.DataArray] = {}
    derived: dict[float | None, xr.DataArray] = {}
    for name in names:
        source = variables.find_variable(readable, name, level)
        wanted = quantity(name) if source is None else variables.quantity_of(source, name)
        if source is not None:
            field = _checked(_regular(source, name, level, grid, keep), missing)
        elif wanted is not None and wanted.units == "s-1":
            at = _level(wanted, level)
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
    try:
        out: xr.Dataset = xarray.merge(fields.values(), join="exact", compat="equals", combine_attrs="override")
    except (ValueError, xarray.MergeError) as error:
        raise DataError(f"variables: {names} do not share times and grid ({error})") from error
    out.attrs = dict(datasets[0].attrs)
    return out


def _level(wanted: Quantity | None, level: float | None) -> float | None:
    """Return the level or height that a name says, or else the one asked for."""
    return level if wanted is None or wanted.place is None else wanted.place


def _close(datasets: Sequence[xr.Dataset]) -> None:
    for dataset in datasets:
        dataset.close()


def _present(datasets: Sequence[xr.Dataset]) -> str:
    """Return what the data hold, for an error message."""
    return "expected one of those present: " + ", ".join(sorted({str(v) for d in datasets for v in d.data_vars}))


def _regular(
    source: xr.DataArray, name: str, level: float | None, grid: float | None, keep: Keep | None = None
) -> xr.DataArray:
    """Bring one variable to float32 (time, latitude, longitude) with exactly the promised axes."""
    wanted = variables.quantity_of(source, name)
    factor, offset = (1.0, 0.0) if wanted is None else conversion(source, wanted)
    lmax = spectral.truncation(source)
    if lmax is not None and (factor, offset) != (1.0, 0.0):
        raise DataError(f"{source.name}: got coefficients in {source.attrs['units']!r}, expected SI units")
    field = conventions.select(source, _level(wanted, level))
    if lmax is None and grid is not None:
        raise DataError(f"grid: got {grid:g}, expected None: {source.name!r} is no spherical harmonics")
    if lmax is not None:
        space, (latitude, longitude) = [spectral.COEFFICIENT], spectral.grid_axes(lmax, grid)
    else:
        space, (latitude, longitude) = conventions.horizontal_axes(field)
    outer = [str(d) for d in field.dims if d not in space]
    cells = latitude.size * longitude.size
    stored = field.encoding.get("preferred_chunks", {})
    # Whole chunks of the file: a chunk that holds many times must not be decoded once for each block.
    block = max(1, _BLOCK_BYTES // (8 * cells), *(int(stored.get(d, 1)) for d in outer))
    if len(outer) > 1:  # stacking two dimensions reads them, unless dask holds them
        field = _lazy(field, {outer[0]: block, **dict.fromkeys(outer[1:], 1)}, cells)
    field = fold_time(field, outer, space)
    if keep is not None:
        index = keep(field["time"].values, field["run"].values)
        field = field.isel(time=_as_slice(index))
    field = _lazy(field, {"time": block}, cells)
    shape = {"latitude": latitude.size, "longitude": longitude.size}
    if lmax is not None:
        transform: Callable[[np.ndarray], np.ndarray] = partial(
            spectral.to_grid, lmax=lmax, nlat=latitude.size, nlon=longitude.size
        )
    else:
        rows = conventions.latitude_order(latitude)
        columns, longitude = conventions.longitude_order(longitude)
        latitude = latitude[rows]
        shape["longitude"] = longitude.size
        transform = partial(_ordered, rows=_as_slice(rows), columns=_as_slice(columns), factor=factor, offset=offset)
    field = _blockwise(transform, [field], space, shape, block)
    out: xr.DataArray = field.rename(source.name).assign_coords(latitude=latitude, longitude=longitude)
    out.attrs = {k: v for k, v in source.attrs.items() if k in ("standard_name", "long_name", "units")}
    for axis, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        out[axis].attrs = {"standard_name": axis, "units": units}
    out["time"].attrs = {"standard_name": "time"}
    out["run"].attrs = {"long_name": "forecast run that the time belongs to"}
    return out


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
    coords = {name: inputs[0].coords[name] for name in ("time", "run")}
    result = xarray.DataArray(out, dims=("time", *sizes), coords=coords)
    return result


def _ordered(block: np.ndarray, rows: Any, columns: Any, factor: float, offset: float) -> np.ndarray:
    """Turn (T, H, W) as stored into float32 in SI units with latitude descending and longitude ascending."""
    block = block[:, rows][:, :, columns]
    if (factor, offset) != (1.0, 0.0):
        block = block.astype(np.float64) * factor + offset
    return np.ascontiguousarray(block, dtype=np.float32)


def _as_slice(index: np.ndarray) -> Any:
    """Return evenly spaced indices as a slice, which every file format reads fast; others as they are."""
    if not index.size:
        return slice(0, 0)
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step == 0 or not np.array_equal(index, index[0] + step * np.arange(index.size)):
        return index
    end = int(index[-1]) + (1 if step > 0 else -1)
    return slice(int(index[0]), end if end >= 0 else None, step)


def _lazy(field: xr.DataArray, chunks: dict[str, int], cells: int) -> xr.DataArray:
    """Put a large variable into dask chunks where dask is installed, any other stays as it is."""
    count = int(np.prod([field.sizes[d] for d in chunks]))
    if field.chunks is None and chunks and 4 * cells * count > _EAGER_BYTES and importlib.util.find_spec("dask"):
        chunked: xr.DataArray = field.chunk(chunks)
        return chunked
    return field


def _derive(
    datasets: Sequence[xr.Dataset], name: str, level: float | None, missing: str | float, keep: Keep | None
) -> xr.DataArray:
    """Return divergence and vorticity (time, channel, latitude, longitude) of the one wind that fits."""
    pairs = variables.find_winds(datasets, level)
    if not pairs:
        raise DataError(f"variables: got {name!r}, neither it nor a wind is there; {_present(datasets)}")
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
                "pass 'ignore' or a value to fill in"
            )
    elif count:
        field = field.where(valid, np.float32(missing)).assign_attrs(field.attrs)
    out: xr.DataArray = field.assign_attrs(missing_count=count)
    return out
