"""Valid times and forecast runs: any time and forecast dimensions to one ``time`` with a ``run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.conventions import coordinate
from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

# Seconds; plurals lose their s before the look-up.
_UNITS = {
    **dict.fromkeys(("d", "day"), 86400),
    **dict.fromkeys(("h", "hr", "hour"), 3600),
    **dict.fromkeys(("m", "min", "minute"), 60),
    **dict.fromkeys(("s", "sec", "second"), 1),
}


def fold_time(field: xr.DataArray, outer: Sequence[str], space: Sequence[str]) -> xr.DataArray:
    """Stack all dimensions but those of space into ``time``, sorted by run, then valid time.

    One time dimension alone stays lazy, and where it stood.

    Args:
        field: with dimensions ``outer`` and ``space`` in any order.
        outer: time and forecast dimensions, none to two; others must have size 1.
        space: the dimensions to keep.

    Returns:
        time and space, in any order, with no coordinates but ``time`` (valid time, datetime64[ns]) and ``run`` (int64).

    Raises:
        DataError: no time, a dimension that is neither time nor forecast step, times that occur twice
            without reference times, a calendar other than the real one.
    """
    kinds = _kinds(field, outer)
    used = [d for c in kinds.values() for d in map(str, field.coords[c].dims)]
    for dim in outer:
        if dim not in used and field.sizes[dim] > 1:
            raise DataError(
                f"{field.name}: got dimension {dim!r} of size {field.sizes[dim]}, expected only time, "
                "forecast step, level, latitude and longitude; select one element first"
            )
    keep = [d for d in outer if d in used]
    field = field.isel({d: 0 for d in outer if d not in used}, drop=True)
    valid, reference = _times(field, kinds, keep)
    runs = _runs(valid, reference, nested=len(keep) > 1)
    if _first_repeated(np.stack((runs, valid.astype(np.int64)), 1)) is not None:
        index = _first_repeated(valid[:, None].astype(np.int64))
        raise DataError(
            f"time: {valid[index]} occurs more than once in {field.name!r}, expected distinct times or a "
            "coordinate forecast_reference_time that tells the runs apart"
        )
    field = field.drop_vars(list(field.coords))
    if not keep:
        field = field.expand_dims("time")
    elif len(keep) == 1:
        field = field.rename({keep[0]: "time"})
    else:
        # A dimension may be called time already, and xarray refuses to stack it into its own name.
        stacked = field.transpose(*keep, *space).stack(_stacked=keep, create_index=False)
        field = stacked.rename(_stacked="time").transpose("time", *space)
    field = field.assign_coords(time=("time", valid), run=("time", runs))
    order = np.lexsort((valid, runs))
    return field if np.array_equal(order, np.arange(order.size)) else field.isel(time=order)


def _kinds(field: xr.DataArray, outer: Sequence[str]) -> dict[str, str]:
    """Return the coordinates of the kinds valid, reference and step."""
    kinds = {kind: coordinate(field, kind, outer) for kind in ("valid", "reference", "step")}
    found = {k: c for k, c in kinds.items() if c is not None and c in field.coords}
    valid, step = found.get("valid"), found.get("step")
    if "valid_time" in field.coords and valid not in (None, "valid_time"):
        found["valid"] = "valid_time"
        found.setdefault("reference", str(valid))
    elif step in outer and valid is not None and step not in field.coords[valid].dims:
        # WeatherBench and others: (time, prediction_timedelta) with time = start of the forecast.
        found.setdefault("reference", valid)
        del found["valid"]
    if "valid" not in found and "reference" not in found:
        raise DataError(f"{field.name}: found no time coordinate among {list(field.coords)}, expected one")
    return found


def _times(field: xr.DataArray, kinds: dict[str, str], dims: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return valid and reference times (datetime64[ns]), flat in the order of ``dims``."""
    flat = {kind: _flat(field, name, dims) for kind, name in kinds.items()}
    for kind in ("valid", "reference"):
        if kind in flat and flat[kind].dtype.kind != "M":
            raise DataError(f"{kinds[kind]}: got {flat[kind].dtype}, expected datetime64 (a decoded, real calendar)")
        if kind in flat:
            flat[kind] = flat[kind].astype("datetime64[ns]")
    if "step" in flat:
        flat["step"] = _timedelta(flat["step"], str(field.coords[kinds["step"]].attrs.get("units", "")))
    valid, reference, step = (flat.get(k) for k in ("valid", "reference", "step"))
    if valid is None:
        assert reference is not None  # _kinds found one of the two
        valid = reference if step is None else reference + step
    if reference is None and step is not None:
        reference = valid - step
    if np.isnat(valid).any():
        raise DataError(f"time: {int(np.isnat(valid).sum())} times of {field.name!r} are missing (NaT)")
    return valid, reference


def _flat(field: xr.DataArray, name: str, dims: Sequence[str]) -> np.ndarray:
    """Return a coordinate's values repeated over all of ``dims``, flat in C order."""
    axis = field.coords[name].variable
    shape = tuple(field.sizes[d] for d in dims)
    ordered = axis.transpose(*(d for d in dims if d in axis.dims)).values
    ordered = np.asarray(ordered).reshape([field.sizes[d] if d in axis.dims else 1 for d in dims])
    return np.broadcast_to(ordered, shape).reshape(-1)


def _timedelta(step: np.ndarray, units: str) -> np.ndarray:
    """Return forecast steps as timedelta64[ns]; numbers need a unit."""
    if step.dtype.kind == "m":
        return step.astype("timedelta64[ns]")
    short = units.strip().lower()
    unit = _UNITS.get(short if short == "s" else short.removesuffix("s"))
    if unit is None or step.dtype.kind not in "iuf":
        raise DataError(f"step: got units {units!r}, expected time deltas or days, hours, minutes, seconds")
    nanoseconds: np.ndarray = (step.astype(np.float64) * unit * 10**9).round()
    return nanoseconds.astype("timedelta64[ns]")


def _runs(valid: np.ndarray, reference: np.ndarray | None, *, nested: bool) -> np.ndarray:
    """Return the run of each time: by reference time where runs overlap, else 0 for all.

    Runs overlap where a valid time occurs twice; in data with two forecast dimensions (``nested``) also
    where the times of several runs interleave: there each run is a series of its own. With one time
    dimension, interleaving is what "shortest step available" looks like where a cycle was missing.
    """
    none = np.zeros(valid.size, dtype=np.int64)
    if reference is None:
        return none
    index = np.unique(reference, return_inverse=True)[1].reshape(-1).astype(np.int64)
    twice = np.unique(valid).size < valid.size
    in_order = index[np.argsort(valid, kind="stable")]
    interleaved = nested and bool((np.diff(in_order) < 0).any())
    return index if twice or interleaved else none


def _first_repeated(rows: np.ndarray) -> int | None:
    """Return the index of a row that occurs twice, ``None`` where all differ."""
    _, first, counts = np.unique(rows, axis=0, return_index=True, return_counts=True)
    return int(first[counts > 1][0]) if (counts > 1).any() else None
