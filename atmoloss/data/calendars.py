"""Times of any calendar as ``datetime64``, such that differences are exact, and the calendar's own dates.

Times of the real calendar (standard, gregorian, proleptic_gregorian), decoded to ``datetime64`` or to cftime,
keep their dates. Those of a model's calendar (noleap, 360_day, julian …) become what CF says they are: the time
elapsed since 1970-01-01T00 of that calendar, counted from 1970-01-01T00. So lags are exact in hours, times of day
are right, and files of one calendar fit together. Dates drift, a day in four years for noleap; what the calendar
itself writes is the coordinate ``date``, by which data are divided into splits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import DataError, require

if TYPE_CHECKING:
    import xarray as xr

STANDARD = "proleptic_gregorian"
_REAL = ("standard", "gregorian", STANDARD)
_UNITS = "microseconds since 1970-01-01T00:00:00"


def exact_times(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Return ``datetime64`` or cftime objects as :func:`finest` makes them, and their calendar."""
    if values.dtype.kind == "M":
        return finest(values), STANDARD
    calendars = {getattr(v, "calendar", "") for v in values.ravel()} if values.dtype.kind == "O" else set()
    if not calendars or "" in calendars:
        raise DataError(f"{name}: got {values.dtype}, expected datetime64 or cftime (decoded times)")
    if len(calendars) > 1:
        raise DataError(f"{name}: got the calendars {', '.join(sorted(calendars))}, expected one")
    (calendar,) = calendars
    since = np.asarray(require("cftime", "data").date2num(values, _UNITS, calendar=calendar))
    times = np.datetime64(0, "us") + since.astype(np.int64)
    return finest(times), STANDARD if calendar in _REAL else calendar


def finest(times: np.ndarray) -> np.ndarray:
    """Return ``datetime64`` in ns where these can hold it (1678–2261), else in µs."""
    present = times[~np.isnat(times)]
    years = present.astype("datetime64[Y]").astype(np.int64) + 1970
    fits = not present.size or (years.min() > 1677 and years.max() < 2262)
    return times.astype("datetime64[ns]" if fits else "datetime64[us]")


def date_texts(times: np.ndarray, calendar: str) -> np.ndarray:
    """Return what a calendar writes for exact times, (T,) text ``YYYY-MM-DDTHH:MM:SS``."""
    if calendar == STANDARD:
        return np.datetime_as_string(times, unit="s")
    since = times.astype("datetime64[us]").astype(np.int64)
    dates = require("cftime", "data").num2date(since, _UNITS, calendar=calendar)
    return np.array([d.isoformat(timespec="seconds") for d in np.ravel(dates)], dtype="U19")


def dates(times: np.ndarray, calendar: str) -> np.ndarray:
    """Return a calendar's own dates for exact times as ``datetime64``, for comparison with days that a user names.

    A day that the real calendar lacks (30 February) counts as the last day of its month.
    """
    if calendar == STANDARD:
        return times
    texts = date_texts(times, calendar)
    months = np.array([text[:7] for text in texts], "datetime64[M]")
    days = months.astype("datetime64[D]") + np.array([int(text[8:10]) - 1 for text in texts])
    days = np.minimum(days, (months + 1).astype("datetime64[D]") - 1)
    return np.asarray(days + (times - times.astype("datetime64[D]")).astype("timedelta64[s]"))


def calendar_of(data: xr.Dataset | xr.DataArray) -> str:
    """Return the calendar of what ``open_fields`` has returned, or of a variable of it."""
    return str(data["time"].attrs.get("source_calendar", STANDARD))
