"""Times: the time and forecast dimensions of one file as one ``time``, and those of all files in one order.

Forecast runs are told apart, and times that occur twice are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.calendars import STANDARD, date_texts, exact_times
from atmoloss.data.conventions import coordinate
from atmoloss.errors import DataError, require

if TYPE_CHECKING:
    import xarray as xr

# Seconds; plurals lose their s before the look-up.
_UNITS = {"d": 86400, "day": 86400, "h": 3600, "hr": 3600, "hour": 3600}
_UNITS |= {"m": 60, "min": 60, "minute": 60, "s": 1, "sec": 1, "second": 1}


@dataclasses.dataclass(frozen=True)
class Folded:
    """A variable of one file with one dimension of time, in the order of the file."""

    field: xr.DataArray  # ``time`` and the dimensions of space, in any order, lazy, without coordinates
    valid: np.ndarray  # (T,) valid times, ``datetime64``
    reference: np.ndarray | None  # (T,) when each forecast started, ``None`` where nothing says so
    version: np.ndarray  # (T,) number of the experiment (``expver``), 0 where there is none
    calendar: str
    nested: bool  # whether it has two forecast dimensions: each run is then a series of its own


def fold_time(field: xr.DataArray, outer: Sequence[str], space: Sequence[str]) -> Folded:
    """Stack all dimensions but those of space into ``time``; one of time alone stays lazy, and where it stood."""
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
    valid, reference, calendar = _times(field, kinds, keep)
    version = np.zeros(valid.size, np.int64)
    if "expver" in field.coords and set(field.coords["expver"].dims) <= set(keep):
        version = experiments(_flat(field, "expver", keep))
    field = field.drop_vars(list(field.coords))
    if not keep:
        field = field.expand_dims("time")
    elif len(keep) == 1:
        field = field.rename({keep[0]: "time"})
    else:
        # A dimension may be called time already, and xarray refuses to stack it into its own name.
        stacked = field.transpose(*keep, *space).stack(_stacked=keep, create_index=False)
        field = stacked.rename(_stacked="time").transpose("time", *space)
    return Folded(field, valid, reference, version, calendar, nested=len(keep) > 1)


def valid_times(field: xr.DataArray) -> tuple[xr.DataArray, str]:
    """Return the valid times (``datetime64``) along those dimensions of a field that say them, and the calendar."""
    outer = list(map(str, field.dims))
    kinds = _kinds(field, outer)
    used = {d for name in kinds.values() for d in map(str, field.coords[name].dims)}
    dims = [d for d in outer if d in used]
    valid, _, calendar = _times(field, kinds, dims)
    shaped = valid.reshape([field.sizes[d] for d in dims])
    return require("xarray", "data").DataArray(shaped, dims=dims, name="valid_time"), calendar


def with_time_deltas(field: xr.DataArray) -> xr.DataArray:
    """Return a field whose forecast steps, numbers with a unit in many files, are ``timedelta64``."""
    name = coordinate(field, "step")
    if name is None or name not in field.coords or field[name].dtype.kind == "m":
        return field
    step = field[name]
    attrs = {key: value for key, value in step.attrs.items() if key != "units"}  # which xarray writes by itself
    return field.assign_coords({name: (step.dims, _timedelta(step.values, step), attrs)})


def experiments(values: np.ndarray) -> np.ndarray:
    """Return ECMWF's ``expver``, numbers or text such as ``"0001"``, as numbers; 0 for an experiment with a name.

    1 is ERA5; 5 is ERA5T, preliminary and replaced by 1 some months later.
    """
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(values)]
    return np.array([int(float(t)) if t.replace(".", "").isdigit() else 0 for t in texts], np.int64)


def _kinds(field: xr.DataArray, outer: Sequence[str]) -> dict[str, str]:
    """Return the coordinates of the kinds valid, reference and step."""
    kinds = {kind: coordinate(field, kind, outer) for kind in ("valid", "reference", "step")}
    present = {k: c for k, c in kinds.items() if c is not None and c in field.coords}
    valid, step = present.get("valid"), present.get("step")
    if "valid_time" in field.coords and valid not in (None, "valid_time"):
        present["valid"] = "valid_time"
        present.setdefault("reference", str(valid))
    elif (
        step is not None
        and valid is not None
        and not set(field.coords[step].dims) & set(field.coords[valid].dims)
        and (step in outer or "reference" not in present)
    ):
        # WeatherBench and others: (time, prediction_timedelta) with time = start of the forecast. A lead time that was
        # selected stays as a scalar; beside a reference time of its own, as in CF, the other one is valid.
        present.setdefault("reference", valid)
        del present["valid"]
    if "valid" not in present and "reference" not in present:
        raise DataError(f"{field.name}: found no time coordinate among {list(field.coords)}, expected one")
    return present


def _times(
    field: xr.DataArray, kinds: dict[str, str], dims: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Return valid and reference times (datetime64) and the calendar, flat in the order of ``dims``."""
    exact = {kind: exact_times(_flat(field, name, dims), name) for kind, name in kinds.items() if kind != "step"}
    # What open_fields has returned says itself which calendar its times are counted in.
    calendars = {kinds[k]: str(field.coords[kinds[k]].attrs.get("source_calendar", c)) for k, (_, c) in exact.items()}
    if len(set(calendars.values())) > 1:
        listed = ", ".join(f"{name}: {calendar}" for name, calendar in calendars.items())
        raise DataError(f"{field.name}: has times of several calendars ({listed}), expected one")
    valid, reference = (exact[kind][0] if kind in exact else None for kind in ("valid", "reference"))
    start = reference if valid is None else valid
    assert start is not None  # _kinds found one of the two
    if "step" in kinds:
        step = _timedelta(_flat(field, kinds["step"], dims), field.coords[kinds["step"]])
        step = step.astype(f"timedelta64[{np.datetime_data(start.dtype)[0]}]")
        reference = start - step if reference is None else reference
        start = start + step if valid is None else start
    valid = start
    if np.isnat(valid).any():
        raise DataError(f"time: {int(np.isnat(valid).sum())} times of {field.name!r} are missing (NaT)")
    return valid, reference, next(iter(calendars.values()))


def _flat(field: xr.DataArray, name: str, dims: Sequence[str]) -> np.ndarray:
    """Return a coordinate's values repeated over all of ``dims``, flat in C order."""
    return np.ravel(field.coords[name].variable.set_dims({d: field.sizes[d] for d in dims}).values)


def _timedelta(step: np.ndarray, of: xr.DataArray) -> np.ndarray:
    """Return forecast steps, the values of a coordinate, as timedelta64[ns]; numbers need a unit."""
    if step.dtype.kind == "m":
        return step.astype("timedelta64[ns]")
    units = str(of.attrs.get("units", ""))
    short = units.strip().lower()
    unit = _UNITS.get(short.removesuffix("s") if len(short) > 2 else short)  # not milliseconds
    if unit is None or step.dtype.kind not in "iuf":
        raise DataError(f"{of.name}: got units {units!r}, expected time deltas or days, hours, minutes, seconds")
    return (step.astype(np.float64) * unit * 10**9).round().astype("timedelta64[ns]")


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Where the field of each time lies."""

    # With all coordinates along it: ``run``; ``init_time`` and ``lead_time`` where the data say when a forecast
    # started; ``date`` where the calendar is not the real one.
    time: xr.DataArray
    file: np.ndarray  # (T,) number of the file
    index: np.ndarray  # (T,) of the time in it
    repeats: np.ndarray  # (R, 3) place in the timeline, file and index of fields that a file gives once more


def join_times(parts: Sequence[Folded]) -> Timeline:
    """Order the times of a variable's files, which share a calendar, by run, then valid time.

    Where a time occurs twice in a run the lower experiment version counts (ERA5 before ERA5T), or else the field
    that comes first; the caller sees to it that ``repeats`` are equal to it.
    """
    calendars = {part.calendar for part in parts}
    if len(calendars) > 1:
        raise DataError(f"path_or_url: the files have the calendars {', '.join(sorted(calendars))}, expected one")
    sizes = [part.valid.size for part in parts]
    file = np.repeat(np.arange(len(parts)), sizes)
    index = np.concatenate([np.arange(n) for n in sizes])
    valid = _joined([part.valid for part in parts])
    known = [part.reference for part in parts if part.reference is not None]
    reference = _joined(known) if len(known) == len(parts) else None
    version = np.concatenate([part.version for part in parts])
    runs = _runs(valid, reference, nested=any(part.nested for part in parts))
    order = np.lexsort((np.arange(valid.size), version, valid, runs))
    again = np.zeros(order.size, bool)
    again[1:] = (np.diff(runs[order]) == 0) & (valid[order][1:] == valid[order][:-1])
    kept = order[~again]
    place = np.cumsum(~again) - 1
    # A preliminary field beside the final one is not compared with it: it is what the final one replaces.
    same = again & (version[order] == version[kept][place])
    repeats = np.stack((place[same], file[order[same]], index[order[same]]), 1)
    time = _coordinate(valid[kept], runs[kept], None if reference is None else reference[kept], calendars.pop())
    return Timeline(time, file[kept], index[kept], repeats)


def _joined(times: Sequence[np.ndarray]) -> np.ndarray:
    # Never from µs to ns, which would overflow.
    coarse = any(np.datetime_data(t.dtype)[0] != "ns" for t in times)
    return np.concatenate([t.astype("datetime64[us]") if coarse else t for t in times])


def _coordinate(valid: np.ndarray, runs: np.ndarray, reference: np.ndarray | None, calendar: str) -> xr.DataArray:
    coords = {
        "time": ("time", valid, {"standard_name": "time"}),
        "run": ("time", runs, {"long_name": "forecast run that the time belongs to"}),
    }
    if reference is not None:
        coords["init_time"] = ("time", reference, {"standard_name": "forecast_reference_time"})
        coords["lead_time"] = ("time", valid - reference, {"standard_name": "forecast_period"})
    if calendar != STANDARD:
        for name in {"time", "init_time"} & set(coords):
            coords[name][2]["source_calendar"] = calendar
        coords["date"] = ("time", date_texts(valid, calendar), {"long_name": f"date in the {calendar} calendar"})
    out: xr.DataArray = require("xarray", "data").Dataset(coords=coords)["time"]
    return out


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
    # Of one reference time, a repeated valid time is the same forecast once more, and no second run.
    twice = np.unique(valid).size < len(np.unique(np.stack((index, valid.astype(np.int64)), 1), axis=0))
    in_order = index[np.argsort(valid, kind="stable")]
    interleaved = nested and bool((np.diff(in_order) < 0).any())
    return index if twice or interleaved else none
