"""Forecasts with several initial times, as ``open_fields`` returns them: selection, and what belongs together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.calendars import calendar_of, date_texts
from atmoloss.errors import DataError, InputError, require

if TYPE_CHECKING:
    import xarray as xr

_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?")


def has_runs(data: xr.Dataset) -> bool:
    """Say whether fields are of several forecast runs, in which valid times repeat."""
    return "run" in data.coords and np.unique(data["run"].values).size > 1


def valid_texts(data: xr.Dataset) -> list[str]:
    """Return the valid times as text to the minute, in the calendar of the data."""
    return [str(text)[:16] for text in date_texts(data["time"].values, calendar_of(data))]


def init_texts(data: xr.Dataset) -> list[str]:
    """Return the initial times as text to the minute, in the calendar of the data."""
    return [str(text)[:16] for text in date_texts(data["init_time"].values, calendar_of(data))]


def lead_hours(data: xr.Dataset) -> np.ndarray:
    """Return the lead times in hours, (T,) float64."""
    return data["lead_time"].values / np.timedelta64(1, "h")


def choose(data: xr.Dataset, run: str | None, lead: float | None, name: str) -> xr.Dataset:
    """Return the fields of one run, of one lead time (hours), or of both.

    A run is the date and hour of its start, ``"2026-07-10T00"``; a date alone takes all runs of the day.
    """
    if run is None and lead is None:
        return data
    if "init_time" not in data.coords:
        raise DataError(f"{name}: does not say when its forecasts started, expected forecasts for --run and --lead")
    keep = np.ones(data.sizes["time"], bool)
    if run is not None:
        if not _DATE.fullmatch(run):
            raise InputError(f"--run: got {run!r}, expected a date and hour such as 2026-07-10T00")
        starts = init_texts(data)
        keep &= np.char.startswith(np.array(starts), run[:16])
        if not keep.any():
            raise DataError(f"--run: got {run}, but the runs of {name} start from {min(starts)} to {max(starts)}")
    if lead is not None:
        present = ", ".join(f"{h:g}" for h in np.unique(lead_hours(data)[keep])[:30])
        keep &= np.isclose(lead_hours(data), lead)
        if not keep.any():
            raise DataError(f"--lead: got {lead:g} h, but {name} has the lead times {present} h")
    return data.isel(time=np.flatnonzero(keep))


def choose_in(data: dict[str, xr.Dataset], run: str | None, lead: float | None, default: str) -> dict[str, xr.Dataset]:
    """Apply :func:`choose` to those that hold several runs, or, where none does, to ``default``."""
    several = {name for name, fields in data.items() if has_runs(fields)} or {default}
    return {name: choose(f, run, lead, name) if name in several else f for name, f in data.items()}


def matching(a: xr.Dataset, b: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the fields of ``a`` and ``b`` that belong together.

    Fields of the same valid time; of two data sets of several runs, of the same initial time too. Where one of
    them has several runs, each of its fields goes with the field of the other at its valid time.
    """
    names = ["time", "init_time"] if has_runs(a) and has_runs(b) else ["time"]
    columns = [{name: d[name].values.astype("datetime64[us]").astype(np.int64) for name in names} for d in (a, b)]
    tables = [require("pandas", "data").DataFrame(column).reset_index() for column in columns]
    both = tables[0].merge(tables[1], on=names, suffixes=("_a", "_b"))
    both = both.sort_values("index_b" if has_runs(b) else "index_a")
    return both["index_a"].to_numpy(), both["index_b"].to_numpy()
