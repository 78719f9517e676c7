"""The times of all files of a source in one order, with forecast runs told apart and repeated times found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.calendars import STANDARD, date_texts
from atmoloss.data.times import Folded
from atmoloss.errors import DataError, require

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Where the field of each time lies.

    Attributes:
        time: coordinate ``time`` with all coordinates along it: ``run``; ``init_time`` and ``lead_time`` where
            the data say when a forecast started; ``date`` where the calendar is not the real one.
        file, index: (T,) number of the file, and of the time in it.
        repeats: (R, 3) place in the timeline, file and index of fields that a file gives once more.
    """

    time: xr.DataArray
    file: np.ndarray
    index: np.ndarray
    repeats: np.ndarray


def join_times(parts: Sequence[Folded]) -> Timeline:
    """Order the times of a variable's files by run, then valid time.

    Where a time occurs twice in a run the lower experiment version counts (ERA5 before ERA5T), or else the field
    that comes first; the caller sees to it that ``repeats`` are equal to it.

    Raises:
        DataError: files of several calendars.
    """
    calendars = {part.calendar for part in parts}
    if len(calendars) > 1:
        raise DataError(f"path_or_url: the files have the calendars {', '.join(sorted(calendars))}, expected one")
    sizes = [part.valid.size for part in parts]
    file = np.repeat(np.arange(len(parts)), sizes)
    index = np.concatenate([np.arange(n) for n in sizes])
    valid = _concatenate([part.valid for part in parts])
    known = [part.reference for part in parts if part.reference is not None]
    reference = _concatenate(known) if len(known) == len(parts) else None
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


def _concatenate(times: Sequence[np.ndarray]) -> np.ndarray:
    # Never from µs to ns, which would overflow.
    coarse = any(np.datetime_data(t.dtype)[0] != "ns" for t in times)
    return np.concatenate([t.astype("datetime64[us]" if coarse else "datetime64[ns]") for t in times])


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
