"""The advection score on maps that are known to follow the flow, or not to."""

from __future__ import annotations

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification.statistics.advection import advection_score, displacement, interior, motion

SIDE = 5


def looking(where: np.ndarray, spread: float = 0.8) -> np.ndarray:
    """Maps (…, S, S) around a point (…, 2) relative to the query."""
    offset = np.arange(SIDE) - SIDE // 2
    south, east = (np.exp(-((offset - where[..., axis, None]) ** 2) / (2 * spread**2)) for axis in (0, 1))
    maps = south[..., :, None] * east[..., None, :]
    return maps / maps.sum((-2, -1), keepdims=True)


@pytest.fixture
def air() -> np.ndarray:
    """Motion that differs from day to day, and within a day, (40, 9, 12, 2)."""
    rng = np.random.default_rng(0)
    return 0.5 * (rng.standard_normal((40, 1, 1, 2)) + rng.standard_normal((40, 9, 12, 2)))


TIMES = np.datetime64("2026-01-01") + np.arange(40) * np.timedelta64(1, "D")


@pytest.mark.parametrize("field_means", ["kept", "only", "removed"])
@pytest.mark.parametrize("remove_latitude_means", [False, True])
def test_queries_of_no_weight_do_not_count_and_others_by_it(air, remove_latitude_means, field_means):
    options = {"remove_latitude_means": remove_latitude_means, "field_means": field_means}
    weight = np.random.default_rng(1).integers(0, 3, air.shape[:3])
    maps = looking(-0.6 * air)
    score = advection_score(maps, air, TIMES, weight=weight, **options)
    spoilt = np.where((weight == 0)[..., None], 5.0, air)
    assert np.allclose(advection_score(maps, spoilt, TIMES, weight=weight, **options), score)
    assert not np.allclose(advection_score(maps, spoilt, TIMES, **options), score)
    assert np.allclose(advection_score(maps, air, TIMES, weight=0.5 * weight, **options), score)
    if field_means == "kept" and not remove_latitude_means:  # numpy's own, of a list in which each stands by its weight
        inner = interior(*air.shape[1:3], SIDE)
        looks, moves = (
            np.repeat(x[:, inner].reshape(-1, 2), weight[:, inner].ravel(), 0) for x in (displacement(maps), air)
        )
        assert np.isclose(score.east, np.corrcoef(looks[:, 1], moves[:, 1])[0, 1])


def test_displacement_is_the_centroid():
    maps = np.random.default_rng(0).random((2, SIDE, SIDE))
    for weights, got in zip(maps, displacement(maps), strict=True):
        south, east = np.mgrid[-2:3, -2:3]
        expected = [np.average(offset, weights=weights) for offset in (south, east)]
        assert np.allclose(got, expected)
    single = np.zeros((SIDE, SIDE))
    single[0, 3] = 0.2  # two positions to the north, one to the east; the sum need not be 1
    assert displacement(single).tolist() == [-2.0, 1.0]
    assert np.isnan(displacement(np.zeros((SIDE, SIDE)))).all()


def test_motion_of_a_degree_an_hour():
    metre_per_second = np.radians(1.0) * 6.371e6 / 3600  # a degree of latitude in an hour
    u = v = np.full((2, 3), metre_per_second)
    moved = motion(u, v, np.array([60.0, 0.0]), 0.5, 2.0)
    assert np.allclose(moved[..., 0], -4.0)  # northward is against the rows
    assert np.allclose(moved[0, :, 1], 8.0)  # a degree of longitude is half as long there
    assert np.allclose(moved[1, :, 1], 4.0)


def test_attention_that_looks_upstream_scores_minus_one(air):
    score = advection_score(looking(-0.6 * air), air, TIMES, block_days=1)
    assert score.value < -0.95
    assert max(score.south, score.east) < -0.95
    assert score.low <= score.value <= score.high < -0.9
    assert advection_score(looking(0.6 * air), air, TIMES, block_days=1).value > 0.95


def test_it_is_the_correlation_of_both_components_pooled(air):
    maps = looking(np.random.default_rng(1).standard_normal(air.shape) - 0.5 * air)
    inner = (slice(None), slice(2, -2), slice(2, -2))
    a, b = displacement(maps)[inner].reshape(-1, 2), air[inner].reshape(-1, 2)
    a, b = a - a.mean(0), b - b.mean(0)
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    score = advection_score(maps, air, TIMES)
    assert abs(score.value - expected) < 1e-12
    for axis, value in ((0, score.south), (1, score.east)):
        assert abs(value - np.corrcoef(a[:, axis], b[:, axis])[0, 1]) < 1e-12


def test_means_of_fields_leave_what_carries_all_of_it(air):
    """Within a day the maps look anywhere, but on the mean they look upstream."""
    common = air.mean((1, 2), keepdims=True)
    maps = looking(-0.6 * common + 0.5 * np.random.default_rng(4).standard_normal(air.shape))
    a, b = displacement(maps)[:, 2:-2, 2:-2].mean((1, 2)), air[:, 2:-2, 2:-2].mean((1, 2))
    a, b = a - a.mean(0), b - b.mean(0)
    score = advection_score(maps, air, TIMES, field_means="only")
    assert abs(score.value - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())) < 1e-12
    assert score.value < -0.9 < advection_score(maps, air, TIMES).value


def test_without_the_means_of_fields_what_carries_all_of_it_counts_for_nothing(air):
    common = air.mean((1, 2), keepdims=True)
    within = air - common
    noise = np.random.default_rng(5).standard_normal(air.shape)
    for maps, low, high in (
        (looking(-0.6 * common + 0.3 * noise), -0.1, 0.1),
        (looking(common - 0.6 * within), -1, -0.9),
    ):
        a, b = displacement(maps)[:, 2:-2, 2:-2], air[:, 2:-2, 2:-2]
        a, b = a - a.mean((1, 2), keepdims=True), b - b.mean((1, 2), keepdims=True)
        value = advection_score(maps, air, TIMES, field_means="removed").value
        assert abs(value - (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())) < 1e-12
        assert low < value < high
    with pytest.raises(InputError, match="field_means: got True, expected one of 'kept'"):
        advection_score(maps, air, TIMES, field_means=True)


def test_attention_that_ignores_the_flow_has_an_interval_around_zero(air):
    rng = np.random.default_rng(2)
    score = advection_score(looking(rng.standard_normal((40, 1, 1, 2)) + 0 * air), air, TIMES, block_days=1)
    assert score.low < 0 < score.high
    tokens = 40 * 5 * 8 * 2
    assert score.high - score.low > 3 * 4 / np.sqrt(tokens)  # days are the sample, not tokens


def test_westerlies_count_only_with_the_means_of_latitudes(air):
    rows = np.linspace(-1.5, 1.5, 9)[None, :, None]
    jet = np.stack((0 * rows, rows), -1)
    maps = looking(np.broadcast_to(-0.5 * jet, air.shape))
    moved = 0.3 * air + jet
    score = advection_score(maps, moved, TIMES)
    assert score.value < -0.5
    assert np.isnan(score.south)  # they never look but east or west
    maps = looking(-0.5 * jet + 0.2 * np.random.default_rng(3).standard_normal(air.shape))
    assert abs(advection_score(maps, moved, TIMES, remove_latitude_means=True).value) < 0.1
    upstream = looking(-0.5 * moved)
    assert advection_score(upstream, moved, TIMES, remove_latitude_means=True).value < -0.9


def test_only_queries_with_whole_windows_count(air):
    assert interior(9, 12, SIDE).sum() == 5 * 8
    assert interior(9, 12, SIDE, periodic=True).sum() == 5 * 12
    maps, moved = looking(-0.6 * air), air.copy()
    edge = ~interior(9, 12, SIDE)
    expected = advection_score(maps, moved, TIMES)
    moved[:, edge] = 1e6
    maps[:, edge] = 0.0
    assert advection_score(maps, moved, TIMES) == expected
    moved[3, 4, 5] = np.nan  # a missing wind is left out
    assert np.isfinite(advection_score(maps, moved, TIMES).value)


def test_wide_windows_are_cut_to_a_radius(air):
    maps = looking(-0.6 * air)
    wide = np.zeros((*maps.shape[:3], 11, 11))
    wide[..., 3:8, 3:8] = maps
    wide[..., 0, :] = 0.3  # far away
    assert advection_score(wide, air, TIMES, radius=2) == advection_score(maps, air, TIMES)
    with pytest.raises(InputError, match="smaller radius"):
        advection_score(wide, air, TIMES)


def test_wrong_input(air, one_sentence):
    maps = looking(air)
    for call, words in (
        (lambda: displacement(np.zeros((4, 4))), ("maps", "odd")),
        (lambda: advection_score(maps, air[:, :-1], TIMES), ("moved", "(T, h, w, 2)")),
        (lambda: advection_score(maps, air, TIMES, weight=air), ("weight", "(T, h, w)")),
        (lambda: advection_score(maps[:, :4], air[:, :4], TIMES), ("maps", "4x12", "smaller radius")),
    ):
        with pytest.raises(InputError) as error:
            call()
        one_sentence(error.value, *words, "expected")
