"""Sequences: only pairs that exist, the same for any number of workers and processes."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import PartnerIndex, SequenceDataset, mirror_sign, read_patch
from atmoloss.data.sources import open_source
from atmoloss.errors import DataError
from tests.data.conftest import make_source

SPEC = SequenceSpec(n_times=3, n_classes=8, base_step=3, patch_sizes=(16,), batch_size=5, mirror=False)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(5, 60), index=st.integers(0, 3), n_runs=st.integers(1, 3))
def test_only_pairs_that_exist(seed, count, index, n_runs):
    # Gaps, odd hours and several runs: every pair must lie in one run at a lag class within the window.
    hours = np.sort(np.random.default_rng(seed).choice(200, count, replace=False))
    run = np.arange(len(hours)) % n_runs
    source = make_source(hours, run=run)
    if not len(PartnerIndex(source, SPEC).anchors):
        with pytest.raises(DataError, match="none has 3 times"):
            SequenceDataset([source], SPEC, seed=0, length=4)
        return
    batch = SequenceDataset([source], SPEC, seed=0, length=4)[index]
    lags = batch.hours[:, :, None] - batch.hours[:, None, :]
    first, second = torch.triu_indices(3, 3, 1)
    upper = lags.transpose(1, 2)[:, first, second]
    assert ((upper > 0) & (upper <= 24) & (upper % 3 == 0)).all()
    times = (batch.fields[:, :, 0, 0, 0] / 1e5).floor().long().numpy()
    assert (run[times] == run[times[:, :1]]).all()
    assert (source.hours[times] == batch.hours.numpy()).all()


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    n_runs=st.integers(1, 4),
    n_times=st.integers(2, 5),
    n_classes=st.integers(2, 12),
    base_step=st.sampled_from([1, 3, 5]),
)
def test_partners_and_anchors_are_those_of_the_definition(seed, count, n_runs, n_times, n_classes, base_step):
    rng = np.random.default_rng(seed)
    run = np.sort(rng.integers(0, n_runs, count))
    hours = np.concatenate(
        [np.sort(rng.choice(range(-50, 120), (run == r).sum(), replace=False)) for r in range(n_runs)]
    )
    source = make_source(hours, run=run, shape=(5, 6))
    spec = SequenceSpec(n_times=n_times, n_classes=n_classes, base_step=base_step)
    lags = PartnerIndex(source, spec)
    enough = []
    for anchor in range(count):
        lag = source.hours - source.hours[anchor]
        fits = (lag > 0) & (lag <= n_classes * base_step) & (lag % base_step == 0) & (run == run[anchor])
        np.testing.assert_array_equal(lags.after(anchor), np.flatnonzero(fits))
        if fits.sum() >= n_times - 1:
            enough.append(anchor)
    np.testing.assert_array_equal(lags.anchors, enough)


def test_forty_years_are_searched_at_once():
    n = 40 * 1461
    source = dataclasses.replace(
        make_source(np.arange(8)),
        values=np.broadcast_to(np.float32(0), (n, 2, 40, 60)),
        times=np.datetime64("1980-01-01", "ns") + 6 * np.timedelta64(1, "h") * np.arange(n),
        run=np.zeros(n, int),
    )
    start = time.process_time()
    lags = PartnerIndex(source, SequenceSpec())
    for anchor in range(0, n - 100, 97):
        assert len(lags.after(anchor)) == 16
    assert len(lags.anchors) == n - 3
    # 0.05 s on a quiet core; comparing all times with all takes a minute.
    assert time.process_time() - start < 5


def test_same_place_and_no_wrap_on_a_regional_grid():
    batch = SequenceDataset([make_source(np.arange(0, 100, 3))], SPEC, seed=1, length=1)[0]
    place = batch.fields[:, :, 0].remainder(1e5)
    assert (place == place[:, :1]).all()
    assert (place.diff(dim=-1) == 1).all()
    assert (place.diff(dim=-2) == 1000).all()


def test_a_global_grid_wraps():
    source = make_source(np.arange(0, 100, 3), shape=(40, 90), spacing=4.0 / 1.0)
    source = dataclasses.replace(source, latitude=80.0 - 4 * np.arange(40))
    assert source.periodic
    patch = read_patch(source, np.array([0]), 0, 80, 16)
    assert patch[0, 0, 0].tolist() == [*range(80, 90), *range(6)]
    starts = {
        int(b.fields[i, 0, 0, 0, 0].remainder(1e3))
        for k in range(60)
        for b in [SequenceDataset([source], SPEC, seed=1, length=60)[k]]
        for i in range(5)
    }
    assert max(starts) > 90 - 16


def test_reproducible_whatever_the_workers():
    data = SequenceDataset([make_source(np.arange(0, 300, 3))], SPEC, seed=7, length=6)
    alone = [data[i] for i in range(6)]
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2)
    for a, b in zip(alone, loader, strict=True):
        assert torch.equal(a.fields, b.fields)
        assert torch.equal(a.hours, b.hours)
    other = SequenceDataset([make_source(np.arange(0, 300, 3))], SPEC, seed=8, length=6)[0]
    assert not torch.equal(other.fields, alone[0].fields)


def test_ranks_share_one_batch():
    source = make_source(np.arange(0, 300, 3))
    whole = SequenceDataset([source], SPEC, seed=7, length=2)[1]
    halves = [SequenceDataset([source], SPEC, seed=7, length=2, rank=r, world_size=2)[1] for r in (0, 1)]
    for r in (0, 1):
        assert torch.equal(whole.fields[r::2], halves[r].fields)


def test_mirror_flips_rows_and_the_sign_of_vorticity():
    spec = dataclasses.replace(SPEC, mirror=True)
    batch = SequenceDataset([make_source(np.arange(0, 300, 3))], spec, seed=3, length=1)[0]
    mirrored = batch.fields[:, 0, 0, 0, 0] > batch.fields[:, 0, 0, -1, 0]
    assert mirrored.any()
    assert not mirrored.all()
    for flipped, fields in zip(mirrored, batch.fields, strict=True):
        assert torch.equal(fields[:, 1], fields[:, 0] if flipped else -fields[:, 0])


@pytest.mark.parametrize(
    ("name", "sign"), [("vorticity", -1), ("v10", -1), ("v", -1), ("u10", 1), ("divergence", 1), ("t2m", 1), ("vis", 1)]
)
def test_mirror_sign(name, sign):
    assert mirror_sign(name) == sign


def test_sources_by_weight_and_different_steps():
    a = make_source(np.arange(0, 300, 3), name="a", weight=3.0)
    b = make_source(np.arange(0, 300, 6), name="b", weight=1.0, start="2020-01-01", shape=(30, 40))
    data = SequenceDataset([a, b], SPEC, seed=0, length=80)
    hours = torch.cat([data[i].hours for i in range(80)])
    from_b = hours[:, 0] < a.hours[0]
    assert 0.18 < from_b.float().mean() < 0.32
    assert (hours[from_b].diff(dim=1) % 6 == 0).all()


def test_latitude_band_holds_whole_patches():
    source = make_source(np.arange(0, 100, 3), shape=(40, 60))
    spec = dataclasses.replace(SPEC, latitude_band=(30.0, 50.0))
    data = SequenceDataset([source], spec, seed=0, length=20)
    rows = torch.cat([(data[i].fields[:, 0, 0, :, 0].remainder(1e5) / 1e3).floor() for i in range(20)])
    assert rows.min() >= 10
    assert rows.max() <= 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_sizes": (64,)}, "patch_sizes: 64 does not fit into a"),
        ({"latitude_band": (50.0, 55.0)}, "latitude_band"),
        ({"n_times": 30}, "none has 30 times"),
    ],
)
def test_impossible_specs(change, message):
    with pytest.raises(DataError, match=message):
        SequenceDataset([make_source(np.arange(0, 100, 3))], dataclasses.replace(SPEC, **change), seed=0, length=1)


def test_channels_must_agree():
    a = make_source([0, 3, 6])
    b = dataclasses.replace(a, channels=("u", "v"))
    with pytest.raises(DataError, match="expected the same in each"):
        SequenceDataset([a, b], SPEC, seed=0, length=1)


def test_no_patch_has_missing_values(holes):
    spec = dataclasses.replace(SPEC, n_times=2, base_step=6, batch_size=32)
    source = open_source(str(holes / "holes.nc"), "holes", ("u10", "v10"), missing="ignore")
    assert torch.isfinite(SequenceDataset([source], spec, seed=0, length=4)[0].fields).all()
    source.values[:] = np.nan
    with pytest.raises(DataError, match="missing: 200 patches of 16 cells in a row"):
        SequenceDataset([source], spec, seed=0, length=1)[0]
