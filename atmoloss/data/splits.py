"""Splits by date: sources divided into training, validation and test at the same days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError

Period = tuple[np.datetime64, np.datetime64]


def parse_periods(periods: Iterable[str]) -> list[Period]:
    """Read periods like ``"2026-04-30/2026-05-06"`` (both days included), in order of time.

    Raises:
        DataError: not of that form, or the end before the start.
    """
    out = []
    for text in periods:
        try:
            first, last = (np.datetime64(part.strip(), "D") for part in text.split("/"))
        except ValueError as error:
            raise DataError(f"period: got {text!r}, expected 'YYYY-MM-DD/YYYY-MM-DD' (both days included)") from error
        if last < first:
            raise DataError(f"period: got {text!r}, whose end lies before its start")
        out.append((first, last + np.timedelta64(1, "D")))
    return sorted(out)


def in_periods(times: np.ndarray, periods: Sequence[Period]) -> np.ndarray:
    """Say for each time (of a source, its ``dates``) whether it lies in one of the periods, (T,) bool."""
    inside = np.zeros(len(times), bool)
    for start, end in periods:
        inside |= (times >= start) & (times < end)
    return inside


def split_by_date(
    sources: Sequence[FieldSource], validation: Iterable[str], test: Iterable[str]
) -> dict[str, list[FieldSource]]:
    """Divide all sources at the same dates into ``"train"``, ``"validation"`` and ``"test"``.

    The periods hold over all sources together, so that no day that one source trains on is held out
    of another. A source without times in a split is left out of it.

    Raises:
        DataError: validation and test periods overlap, or nothing is left to train on.
    """
    held = {"validation": parse_periods(validation), "test": parse_periods(test)}
    for a in held["validation"]:
        for b in held["test"]:
            if a[0] < b[1] and b[0] < a[1]:
                raise DataError(
                    f"validation period {a[0]}/{a[1]} overlaps test period {b[0]}/{b[1]} (ends excluded); "
                    "expected disjoint dates"
                )
    out: dict[str, list[FieldSource]] = {"train": [], "validation": [], "test": []}
    for source in sources:
        masks = {split: in_periods(source.dates, periods) for split, periods in held.items()}
        masks["train"] = ~(masks["validation"] | masks["test"])
        for split, mask in masks.items():
            if mask.any():
                out[split].append(source.select(mask))
    if not out["train"]:
        raise DataError("splits: every time is held out for validation or test, expected some to train on")
    return out
