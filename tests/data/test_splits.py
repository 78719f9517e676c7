"""Splits by date hold over all sources."""

import numpy as np
import pytest

from atmoloss.data.splits import parse_periods, split_by_date
from atmoloss.errors import DataError
from tests.data.conftest import make_source


def test_splits_hold_over_all_sources():
    a = make_source(np.arange(0, 240, 6), name="a")
    b = make_source(np.arange(0, 240, 3), name="b", start="2026-01-05")
    splits = split_by_date([a, b], ["2026-01-03/2026-01-03"], ["2026-01-06/2026-01-07"])
    days = {k: {d for s in v for d in s.times.astype("datetime64[D]").tolist()} for k, v in splits.items()}
    assert not days["train"] & (days["validation"] | days["test"])
    assert len(splits["validation"]) == 1
    assert len(splits["test"]) == 2
    assert sum(len(s.times) for v in splits.values() for s in v) == len(a.times) + len(b.times)
    test_a = next(s for s in splits["test"] if s.name == "a")
    assert np.array_equal(test_a.values[0], a.values[20])


@pytest.mark.parametrize("text", ["2026-01-01", "2026-01-02/2026-01-01", "x/y", "2026-01-01/2026-01-02/2026-01-03"])
def test_bad_periods(text):
    with pytest.raises(DataError, match="period"):
        parse_periods([text])


def test_overlapping_periods_and_empty_training():
    a = make_source(np.arange(0, 48, 6))
    with pytest.raises(DataError, match="overlaps"):
        split_by_date([a], ["2026-01-01/2026-01-02"], ["2026-01-02/2026-01-03"])
    with pytest.raises(DataError, match="expected some to train on"):
        split_by_date([a], ["2026-01-01/2026-01-02"], [])
