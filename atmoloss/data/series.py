"""One variable from all files of a source, as one series on one grid; divergence and vorticity derived from winds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.alignment import on_grid_of
from atmoloss.data.parts import BLOCK_BYTES, Layout, as_slice, find_winds, layout_of, lazily, present_names
from atmoloss.data.spectral import differentiate_wind, is_global_gaussian
from atmoloss.data.times import Timeline, join_times
from atmoloss.errors import DataError, InputError, require

if TYPE_CHECKING:
    import xarray as xr

# Up to here a variable is read into memory (float32), beyond it stays lazy where dask is installed.
_EAGER_BYTES = 2**30
Keep = Callable[["xr.DataArray"], np.ndarray]
"""From the coordinate ``time`` of a source, with those along it, to the ascending indices of those to read, count and
derive from."""


def regular_series(
    source: Sequence[xr.DataArray], name: str, level: float | None, grid: float | None, keep: Keep | None = None
) -> xr.DataArray:
    """Bring a variable, as each of the files has it, to float32 (time, latitude, longitude) with exactly those axes."""
    layouts = [layout_of(part, name, level, grid, _EAGER_BYTES // len(source)) for part in source]
    timeline = join_times([layout.folded for layout in layouts])
    chosen = np.arange(timeline.time.size) if keep is None else keep(timeline.time)
    _check_repeats(source, layouts, timeline, chosen)
    files: np.ndarray = timeline.file[chosen]
    # In the order of time, so that no more than a concatenation remains where files follow each other.
    numbers = files[np.sort(np.unique(files, return_index=True)[1])] if files.size else np.zeros(1, np.int64)
    spaces = [layout.space for layout in layouts]
    cells = sum(spaces[i].latitude.size * spaces[i].longitude.size * int((files == i).sum()) for i in numbers)
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
    out = out.assign_coords(timeline.time[chosen].coords).rename(source[0].name)
    out.attrs = {k: v for k, v in source[0].attrs.items() if k in ("standard_name", "long_name", "units")}
    for axis, units in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        out[axis].attrs = {"standard_name": axis, "units": units}
    return out


def checked(field: xr.DataArray, missing: str | float) -> xr.DataArray:
    """Count missing values; refuse, keep or fill them as asked for."""
    if missing == "ignore":
        return field
    valid = np.isfinite(field)
    count = field.size - int(valid.sum())
    if count and isinstance(missing, str):
        raise DataError(
            f"missing: {count} of {field.size} values of {field.name!r} are missing, expected none; "
            "pass missing='ignore' or a value to fill in (a command: --missing; a configuration: missing)"
        )
    filled = field.where(valid, np.float32(missing)) if count else field
    return filled.assign_attrs({**field.attrs, "missing_count": count})


def _read(layout: Layout, index: np.ndarray, *, lazy: bool) -> xr.DataArray:
    """Return some times of one file, (time, latitude, longitude) with the coordinates of the grid."""
    field = layout.folded.field.isel(time=as_slice(index))
    if lazy:
        field = lazily(field, {"time": layout.block})
    space = layout.space
    shape = {"latitude": space.latitude.size, "longitude": space.longitude.size}
    values = blockwise(space.transform, [field], space.core, shape, layout.block)
    return values.assign_coords(latitude=space.latitude, longitude=space.longitude)


def _check_repeats(
    source: Sequence[xr.DataArray], layouts: Sequence[Layout], timeline: Timeline, chosen: np.ndarray
) -> None:
    """Raise ``DataError`` where a time of those chosen occurs twice with different fields."""
    for place, file, index in timeline.repeats[np.isin(timeline.repeats[:, 0], chosen)]:
        twice = ((timeline.file[place], timeline.index[place]), (file, index))
        first, again = (_read(layouts[f], np.array([i]), lazy=False).values for f, i in twice)
        if not np.array_equal(first, again, equal_nan=True):
            paths = [str(source[f].encoding.get("source", "a file")) for f, _ in twice]
            where = f", in {paths[0]} and {paths[1]}" if file != timeline.file[place] else ""
            raise DataError(
                f"time: {timeline.time.values[place]} occurs more than once in {source[0].name!r}{where}, with "
                "different fields; expected distinct times, or a coordinate forecast_reference_time of each run"
            )


def blockwise(
    function: Callable[..., np.ndarray],
    inputs: Sequence[xr.DataArray],
    core: Sequence[str],
    sizes: dict[str, int],
    block: int,
) -> xr.DataArray:
    """Apply a function (T, *core) → float32 (T, *sizes) in blocks of time, lazily where inputs are."""
    import xarray

    if any(array.chunks for array in inputs):
        result: xr.DataArray = xarray.apply_ufunc(
            function,
            *(array.chunk(dict.fromkeys(core, -1)) for array in inputs),
            input_core_dims=[list(core)] * len(inputs),
            output_core_dims=[list(sizes)],
            exclude_dims=set(core),
            dask="parallelized",
            # Not output_dtypes: dask would cast a complex sample and warn.
            dask_gufunc_kwargs={"output_sizes": sizes, "meta": np.empty((0,) * (1 + len(sizes)), np.float32)},
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
    return xarray.DataArray(out, dims=("time", *sizes), coords=coords)


def only_wind(
    files: Sequence[Sequence[xr.Dataset]], name: str, level: float | None
) -> tuple[str, tuple[list[xr.DataArray], list[xr.DataArray]]]:
    """Return the one pair of winds that ``name`` can be derived from, in each of the files, after its names."""
    pairs = find_winds(files, level)
    if not pairs:
        raise DataError(f"variables: got {name!r}, neither it nor a wind is there; {present_names(files)}")
    if len(pairs) > 1:
        winds = " or ".join(pairs)
        raise DataError(f"variables: {name!r} could be derived from {winds}; give level, or pass one of these alone")
    ((label, components),) = pairs.items()
    return label, components


def derive(
    files: Sequence[Sequence[xr.Dataset]], name: str, level: float | None, missing: str | float, keep: Keep | None
) -> xr.DataArray:
    """Return divergence and vorticity (time, channel, latitude, longitude) of the one wind that fits."""
    label, components = only_wind(files, name, level)
    wind = [regular_series(field, name, level, None, keep) for name, field in zip("uv", components, strict=True)]
    first, second = wind if missing != "error" else [checked(component, missing) for component in wind]
    if not all(first[axis].equals(second[axis]) for axis in ("time", "latitude", "longitude")):
        raise DataError(f"variables: {label} do not share times and grid, expected one grid to derive {name!r}")
    try:
        transform = differentiation(first["latitude"].values, first["longitude"].values)
    except InputError as error:
        raise DataError(f"variables: {name!r} cannot be derived from {label}: {error}") from error
    space = {axis: first.sizes[axis] for axis in ("latitude", "longitude")}
    block = max(1, BLOCK_BYTES // (16 * space["latitude"] * space["longitude"]))
    fields = blockwise(transform, [first, second], list(space), {"channel": 2, **space}, block)
    return fields.assign_coords({axis: first[axis] for axis in space}).assign_attrs(derived_from=label)


def differentiation(latitude: np.ndarray, longitude: np.ndarray) -> Callable[..., np.ndarray]:
    """Return what derives (T, 2, H, W) divergence and vorticity from both winds (T, H, W)."""
    import torch  # here: fields without derivatives are read without it

    from atmoloss.winds import WindToVorticityDivergence

    try:
        module = WindToVorticityDivergence(latitude, longitude)
    except InputError as error:
        if latitude.size > 1 and is_global_gaussian(latitude, longitude):
            return partial(differentiate_wind, longitude=float(longitude[0]))
        raise InputError(f"{error} or a global Gaussian one; regrid to a regular one first") from error

    def differentiate(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(np.stack((east, north), axis=1))).numpy())

    return differentiate
