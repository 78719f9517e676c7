from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from atmoloss import distance_matrix
from atmoloss.lag_2afc.baselines import (
    absolute_distances,
    pixel_measures,
    squared_distances,
    ssim_measure,
    stage_measures,
)
from atmoloss.lag_2afc.triples import Tally, bootstrap, later_pairs, measure_source, tally_anchors, tiles
from atmoloss.verification.statistics.bootstrap import bootstrap_mean
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


def test_bootstrap_is_that_of_the_evaluation_package():
    xr = pytest.importorskip("xarray")
    rng = np.random.default_rng(2)
    times = np.datetime64("2026-01-01", "ns") + np.arange(120) * np.timedelta64(6, "h")
    right = rng.random(120)
    ((low, high),), gaps = bootstrap([Tally(right, np.ones(120), times)])
    series = xr.DataArray(right, dims="time", coords={"time": times})
    assert gaps == []
    np.testing.assert_allclose([right.mean(), low, high], bootstrap_mean(series).values)


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


def test_pairwise_norms_against_loops():
    x = torch.randn(5, 12)
    for i in range(5):
        for j in range(5):
            assert squared_distances(x)[i, j] == pytest.approx(float((x[i] - x[j]).square().sum()), abs=1e-5)
            assert absolute_distances(x)[i, j] == pytest.approx(float((x[i] - x[j]).abs().mean()), abs=1e-6)


def test_baselines_order_a_steady_drift():
    # A field that changes by the same increment every step: every norm gets every triple right.
    source = make_source(HOURS, shape=(20, 20))
    measures = pixel_measures(lambda x: x / 1e7)
    tallies = measure_source(source, measures, winds=source, size=16, limit=1)
    assert len(tallies) == 20
    assert {name: t.share for name, t in tallies.items()} == dict.fromkeys(tallies, 1.0)
    assert not [n for n in measure_source(source, measures, size=16, limit=1) if "winds" in n]


def test_ssim_matches_torchmetrics_and_ranks_noise():
    ssim = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    x = torch.randn(1, 2, 32, 32)
    fields = torch.cat([x, x + 0.1 * torch.randn_like(x), x + torch.randn_like(x)])
    d = ssim_measure(lambda f: f)({"fields": fields})
    assert 0 < d[0, 1] < d[0, 2] < 2
    span = float(fields.max() - fields.min())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = 1 - ssim(fields[j : j + 1], fields[i : i + 1], data_range=span)
        assert float(d[i, j]) == pytest.approx(float(expected), abs=2e-5)


def test_every_baseline_answers_all_pairs_beyond_96_later_times():
    # Hourly fields and lags of more than four days; every norm must put a steady drift in order, pair by pair.
    pytest.importorskip("scipy")
    torch.manual_seed(1)
    texture = 3e-5 * torch.randn(1, 2, 12, 12)
    fields = texture + 1e-6 * torch.arange(110.0)[:, None, None, None] * torch.randn(1, 2, 12, 12)
    source = dataclasses.replace(make_source(np.arange(110), shape=(12, 12)), values=fields.numpy())
    measures = {**pixel_measures(lambda x: x * 3e4), "SSIM of fields": ssim_measure(lambda x: x * 3e4)}
    tallies = measure_source(source, measures, winds=source, size=12, max_lag=109)
    triples = sum(k * (k - 1) / 2 for k in range(110))
    for name, tally in tallies.items():
        assert tally.total.sum() == triples, name
        assert tally.right[0] > 0.99 * tally.total[0], name
    # And no more pairs than those asked for.
    patch = {"fields": fields, "pairs": torch.eye(110, dtype=torch.bool).roll(1, 1)}
    d = ssim_measure(lambda x: x * 3e4)(patch)
    assert (d != 0).sum() == 110


@pytest.mark.parametrize("scaled", [True, False])
def test_stage_measures_are_the_shipped_distances(extractor, scaled):
    layers = {name: 0.1 * (i + 1) for i, name in enumerate(extractor.stages)} if scaled else {}
    scales = {name: 2.0 + i for i, name in enumerate(extractor.stages)} if scaled else {}
    extractor = extractor.with_periodic(False)  # the fixture is shared
    extractor.info = dataclasses.replace(extractor.info, layers=layers, layer_scales=scales)
    fields = 3e-5 * torch.randn(5, 2, 40, 40)
    measures = stage_measures(extractor)
    for patch in ({"fields": fields}, {"fields": 2 * fields}):  # another patch is not mistaken for the last
        options = {} if scaled else {"layers": dict.fromkeys(extractor.stages, 1.0), "scale": "none"}
        expected = {"distance": distance_matrix(patch["fields"], weights=extractor, validate=False, **options)}
        for name in extractor.stages:
            options = {"layers": (name,), "scale": "none", "validate": False}
            expected[f"{name} alone"] = distance_matrix(patch["fields"], weights=extractor, **options)
        assert list(measures) == list(expected)
        for name, matrix in expected.items():
            torch.testing.assert_close(
                measures[name](patch).float(), matrix, rtol=1e-4, atol=1e-6 * float(matrix.max())
            )
