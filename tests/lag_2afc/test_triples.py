from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from atmoloss.lag_2afc.triples import (
    Tally,
    bootstrap,
    iterate_patches,
    later_pairs,
    measure_source,
    patch_size,
    tally_anchors,
    tiles,
)
from atmoloss.verification.statistics.bootstrap import BlockBootstrap
from tests.data.test_sequences import make_source

HOURS = np.arange(0, 72, 6)
NO_RUN = np.zeros(len(HOURS), int)


def brute_force(d, hours, run, max_lag):
    right = total = 0.0
    for t in range(len(hours)):
        for a in range(len(hours)):
            for b in range(len(hours)):
                lag_a, lag_b = hours[a] - hours[t], hours[b] - hours[t]
                if 0 < lag_a < lag_b <= max_lag and run[a] == run[b] == run[t]:
                    right += 1.0 if d[t, a] < d[t, b] else 0.5 if d[t, a] == d[t, b] else 0.0
                    total += 1
    return right, total


@pytest.mark.parametrize("max_lag", [24, 48, 96])
def test_against_a_triple_loop(max_lag):
    rng = np.random.default_rng(0)
    d = rng.integers(0, 6, (len(HOURS), len(HOURS))).astype(float)  # with ties
    run = rng.integers(0, 2, len(HOURS))
    right, total = tally_anchors(d, HOURS, run, max_lag)
    assert (right.sum(), total.sum()) == brute_force(d, HOURS, run, max_lag)


def test_perfect_reversed_and_constant_distances():
    lag = np.abs(HOURS[:, None] - HOURS[None, :]).astype(float)
    for d, expected in ((lag, 1.0), (-lag, 0.0), (0 * lag, 0.5)):
        right, total = tally_anchors(d, HOURS, NO_RUN)
        assert right.sum() / total.sum() == expected


def test_bootstrap_is_paired_and_covers():
    rng = np.random.default_rng(1)
    times = np.datetime64("2026-01-01", "ns") + np.arange(160) * np.timedelta64(6, "h")
    total = np.full(len(times), 100.0)
    good = rng.binomial(100, 0.8, len(times)).astype(float)
    a, b = Tally(good, total, times), Tally(good - 5, total, times)
    (share_a, share_b), (gap,) = bootstrap([a, b])
    assert share_a[0] < 0.8 < share_a[1]
    assert share_b[1] < a.share
    assert gap == pytest.approx((0.05, 0.05))  # the same days: the gap has no spread


def test_bootstrap_is_that_of_reports():
    rng = np.random.default_rng(2)
    times = np.datetime64("2026-01-01", "ns") + np.arange(120) * np.timedelta64(6, "h")
    right = rng.random(120)
    ((low, high),), gaps = bootstrap([Tally(right, np.ones(120), times)])
    draws = BlockBootstrap(times)
    assert gaps == []
    np.testing.assert_allclose([right.mean(), low, high], draws.bounds(draws.means(draws.block_sums(right))))


@given(seed=st.integers(0, 10**6), days=st.integers(1, 40), gap=st.integers(0, 60), step=st.sampled_from([3, 6, 24]))
def test_an_interval_holds_its_value_or_is_not_given(seed, days, gap, step):
    # As held-out periods are: few triples and easy ones at their end, and gaps between them.
    rng = np.random.default_rng(seed)
    hours = np.arange(0, 24 * days, step)
    hours = np.concatenate((hours, hours + 24 * (days + gap)))[: rng.integers(2, 2 * len(hours) + 1)]
    times = np.datetime64("2026-04-30", "ns") + hours * np.timedelta64(1, "h")
    pairs = later_pairs(hours, np.zeros(len(hours), int)).sum(1)
    total = pairs * (pairs - 1) / 2.0
    assume(total.any())
    tallies = [Tally(total * (1 - rng.random(len(hours)) * 4 / (pairs + 4)), total, times) for _ in range(3)]
    intervals, gaps = bootstrap(tallies)
    shares = [t.share for t in tallies]
    values = [*shares, *(shares[0] - s for s in shares[1:])]
    span = np.ptp(times[total > 0]) / np.timedelta64(1, "D")
    for value, interval in zip(values, [*intervals, *gaps], strict=True):
        if span < 5:
            assert interval is None  # one block
        if interval is not None:
            assert interval[0] - 1e-12 <= value <= interval[1] + 1e-12


def test_tiles_cover_the_band():
    source = make_source([0], shape=(40, 60))
    corners = tiles(source, 16, (-90, 90))
    covered = np.zeros((40, 60), bool)
    for r, c in corners:
        covered[r : r + 16, c : c + 16] = True
    assert covered.all()
    assert len(corners) == 3 * 4
    assert tiles(source, 40)[0] == (0, 0)


def test_only_the_triples_that_are_kept_count():
    lag = np.abs(HOURS[:, None] - HOURS[None, :]).astype(float)
    _, every = tally_anchors(lag, HOURS, NO_RUN, 24)
    _, some = tally_anchors(lag, HOURS, NO_RUN, 24, kept=lambda a, b: (a < b) & (a == 6))
    assert (every[0], some[0]) == (6, 3)  # of the lags 6, 12, 18 and 24 all pairs, and those with the first


def test_patches_are_limited_shared_out_and_whole():
    source = make_source(HOURS, shape=(40, 60))
    every = list(iterate_patches(source, None, 16))
    assert len(every) == 3 * 4
    assert every[0].keys() == {"fields"}
    assert every[0]["fields"].shape == (12, 2, 16, 16)
    parts = [list(iterate_patches(source, source, 16, part=(i, 2))) for i in range(2)]
    for mine, expected in zip([p for pair in zip(*parts, strict=True) for p in pair], every, strict=True):
        torch.testing.assert_close(mine["fields"], expected["fields"])
        torch.testing.assert_close(mine["winds"], expected["fields"])
    few = list(iterate_patches(source, None, 16, limit=3))
    torch.testing.assert_close(few[0]["fields"], every[0]["fields"])
    torch.testing.assert_close(few[-1]["fields"], every[-1]["fields"])
    assert len(few) == 3
    source.values[5, 0, 0, 0] = np.nan
    assert len(list(iterate_patches(source, None, 16))) == 11


def test_tallies_are_summed_over_patches():
    source = make_source(HOURS, shape=(20, 40))
    lines = []
    # A distance that is the lag, and one that lacks its input.
    lag = torch.from_numpy(np.abs(HOURS[:, None] - HOURS[None, :]).astype(np.float32))
    tallies = measure_source(source, {"lag": lambda _: lag, "none": lambda _: None}, size=20, progress=lines.append)
    assert list(tallies) == ["lag"]
    _, total = tally_anchors(lag.numpy(), HOURS, NO_RUN)
    np.testing.assert_array_equal(tallies["lag"].total, 2 * total)
    assert tallies["lag"].share == 1
    assert [line.partition(": ")[2] for line in lines] == ["patch 1", "patch 2"]
    assert patch_size(source) == 20
