"""Distances in hours: curves against known answers, and all weights that ship."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

from atmoloss import distance_matrix, hours, load_extractor
from atmoloss.data.sample import open_sample
from atmoloss.errors import InputError
from atmoloss.hours import LagCurve, atmodist_hours, curve_for, fit_hours, fit_lag_curve
from atmoloss.weights import bundled

CURVE = LagCurve((6, 12, 24, 48, 96), (0.5, 1, 2, 3, 3.5), (1, 2, 3, 4, 5), (2, 3, 4, 5, 6), (64, 64), 1.0, "10 m")


def noisy(rng, n=4000):
    """Return distances whose median grows as the root of the lag, and lags."""
    lags = rng.choice(np.arange(6, 97, 6), n)
    return np.sqrt(lags) * np.exp(0.3 * rng.standard_normal(n)), lags


def test_the_median_distance_of_a_lag_is_read_as_that_lag():
    read = CURVE.equivalent_lag(torch.tensor(CURVE.median[:3], dtype=torch.float64))
    assert read.hours.tolist() == [6, 12, 24]
    assert read.low.tolist() == [3, 6, 12]  # where these are the 90th percentile
    assert read.high.tolist() == [12, 24, 48]  # and the 10th
    assert CURVE.equivalent_lag(torch.zeros(1)).hours.item() == 0


def test_beyond_the_largest_lag_that_can_be_told_it_says_so():
    assert CURVE.limit == 24  # the last median below (3 + 3.5) / 2
    read = CURVE.equivalent_lag(torch.tensor([2.9, 3.1, 100.0]))
    assert read.beyond.tolist() == [False, True, True]
    assert read.hours[1:].tolist() == [24, 24]
    assert read.high[2].isinf()


@given(st.lists(st.floats(0, 10), min_size=2, max_size=20))
def test_a_larger_distance_is_never_fewer_hours(distances):
    read = CURVE.equivalent_lag(torch.tensor(sorted(distances)))
    for column in (read.hours, read.low, read.high):
        assert (column[1:] >= column[:-1]).all()
    assert (read.low <= read.hours).all()
    assert (read.hours <= read.high).all()


def test_a_fitted_curve_covers_four_pairs_in_five_of_other_data():
    rng = np.random.default_rng(0)
    curve = fit_lag_curve(*noisy(rng), (64, 64))
    distances, lags = noisy(rng)
    read = curve.equivalent_lag(torch.from_numpy(distances))
    covered = (read.low.numpy() <= lags) & (lags <= read.high.numpy())
    # 1,000 pairs to 24 h: a standard deviation of 0.013, and as much again from the fit. Longer lags have open ranges.
    assert covered[lags <= 24].mean() == pytest.approx(0.8, abs=0.05)
    at_24 = lags == 24
    assert np.median(read.hours.numpy()[at_24]) == pytest.approx(24, abs=3)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 9)), min_size=1, max_size=30))
def test_not_decreasing_agrees_with_scipy(points):
    values, weights = (np.array(column, float) for column in zip(*points, strict=True))
    expected = scipy.optimize.isotonic_regression(values, weights=weights).x
    np.testing.assert_allclose(hours._not_decreasing(values, weights), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("distances", "lags", "message"),
    [
        (np.ones(40), np.repeat([6, 12], 20), "2 lags with 8 or more pairs"),
        (np.ones(60), np.repeat([6, 12, 18], 20), "do not grow with the lag"),
        (np.tile(np.arange(20.0), 3), np.repeat([18, 12, 6], 20), "do not grow"),
    ],
)
def test_data_that_make_no_curve_are_refused(distances, lags, message):
    with pytest.raises(InputError, match=message):
        fit_lag_curve(distances, lags, (64, 64))


@pytest.fixture(scope="module")
def sample():
    """A week of winds, as fields (T, 2, H, W) and times."""
    data = open_sample(("u", "v"))
    fields = torch.from_numpy(np.stack([data[name].values for name in ("u", "v")], 1))
    return fields, data["time"].values


def test_a_curve_of_ones_own_analyses_reads_their_lags(sample):
    fields, times = sample
    curve = fit_hours(fields, times, weights="winds")
    matrix = distance_matrix(fields, weights="winds")
    lag = torch.from_numpy((times[None] - times[:, None]) / np.timedelta64(1, "h"))
    pairs = (lag > 0) & (lag <= curve.limit)
    read = curve.equivalent_lag(matrix[pairs])
    # The very pairs of the fit, but for what is made not to decrease and lies between lags.
    assert ((read.low <= lag[pairs]) & (lag[pairs] <= read.high)).float().mean() == pytest.approx(0.8, abs=0.07)
    assert (read.hours - lag[pairs]).abs().median() < 8
    first = atmodist_hours(fields[:1], fields[1:2], curve=curve, weights="winds", uncertainty=True)
    torch.testing.assert_close(first.hours, curve.equivalent_lag(matrix[0, 1:2]).hours, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", bundled())
def test_all_bundled_weights_say_hours(name):
    extractor = load_extractor(name)
    assert {c["grid_spacing"] for c in extractor.info.lag_curves} == {0.1068, 0.25, 1.0}
    for values in extractor.info.lag_curves:
        curve = LagCurve(**values)
        assert curve.limit >= (12 if curve.grid_spacing > 0.2 else 3)  # at 12 km nothing is told apart beyond hours
        assert curve_for(extractor, curve.size, curve.grid_spacing, curve.level) == curve
    fields = extractor.normalization.inverse(2 * torch.randn(2, 2, 64, 64))
    with pytest.warns(UserWarning, match="2 of 2 distances are beyond"):
        assert (atmodist_hours(fields, -fields, grid_spacing=0.25, weights=name) > 12).all()
    assert atmodist_hours(fields, fields, grid_spacing=0.25, weights=name).tolist() == [0, 0]


def test_the_curve_is_that_of_the_nearest_size():
    extractor = load_extractor("default")
    whole = dataclasses.replace(CURVE, size=(181, 360))
    info = dataclasses.replace(extractor.info, lag_curves=tuple(dataclasses.asdict(c) for c in (CURVE, whole)))
    extractor.info = info
    assert curve_for(extractor, (64, 64), 1.05).size == (64, 64)
    assert curve_for(extractor, (150, 360)).size == (181, 360)


@pytest.mark.parametrize("spacing", [None, 0.7, 1.0])
def test_fields_without_a_curve_are_told_which_there_are(spacing):
    fields = torch.zeros(1, 2, 64, 64)
    with pytest.raises(InputError, match=r"grid_spacing, level: got .* 1 degrees, 850 hPa.*fit_hours"):
        atmodist_hours(fields, fields, grid_spacing=spacing)


@pytest.mark.parametrize("option", ["layers", "scale", "mse_weight", "normalization", "sharp"])
def test_options_that_change_the_distance_are_refused(option):
    fields = torch.zeros(1, 2, 64, 64)
    with pytest.raises(InputError, match=f"{option}: got 1, expected none"):
        atmodist_hours(fields, fields, curve=CURVE, **{option: 1})
    with pytest.raises(InputError, match=f"{option}: got 1, expected none"):
        fit_hours(fields, [0], **{option: 1})


def test_times_must_fit_the_fields():
    with pytest.raises(InputError, match=r"times: got shape \(3,\), expected \(2,\)"):
        fit_hours(torch.zeros(2, 2, 64, 64), np.arange(3))


def test_a_curve_belongs_to_its_weights_and_nearly_to_its_size(sample):
    fields, times = sample
    curve = fit_hours(fields[:16], times[:16], weights="winds")
    assert curve.weights == load_extractor("winds").info.id
    with pytest.raises(InputError, match=f"curve: got one of weights {curve.weights}, expected one of default@"):
        atmodist_hours(fields[:1], fields[1:2], curve=curve)
    small = fields[..., :32, :96]
    with pytest.warns(UserWarning, match="curve: got one of fields of 64x192 points for fields of 32x96"):
        atmodist_hours(small[:1], small[1:2], curve=curve, weights="winds")


@pytest.mark.parametrize("level", ["10 m", "10m", "10 M"])
def test_levels_are_read_without_regard_to_spaces_and_case(level):
    extractor = load_extractor("winds")
    assert curve_for(extractor, (64, 64), 1.0, level).level == "10 m"
