"""What ``atmoloss distance`` compares: fields that belong together, forecasts, and all with all."""

from functools import partial

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, atmodist_distance, distance_matrix
from atmoloss.cli import comparison
from atmoloss.cli.comparison import compare_all, compare_forecasts, compare_pairs, in_hours
from atmoloss.errors import DataError
from atmoloss.hours import LagCurve
from tests.cli.conftest import TIMES

xr = pytest.importorskip("xarray")
HOUR = np.timedelta64(1, "h")


def fields(times=TIMES, seed=0, **coords):
    values = 4e-5 * np.random.default_rng(seed).normal(size=(2, len(times), 32, 40)).astype(np.float32)
    axes = {"time": times, "latitude": 60.0 - np.arange(32), "longitude": np.arange(40.0)}
    data = {n: (tuple(axes), x) for n, x in zip(("divergence", "vorticity"), values, strict=True)}
    return xr.Dataset(data, {**axes, **{n: ("time", x) for n, x in coords.items()}})


def forecasts(seed=1):
    """Two runs, 6 hours apart, to 12 hours."""
    starts, leads = np.repeat(TIMES[:2], 3), np.tile(np.arange(3) * 6, 2) * HOUR
    return fields(starts + leads, seed, run=np.repeat([0, 1], 3), init_time=starts, lead_time=leads)


def tensor(data):
    return torch.from_numpy(data.to_array().values).transpose(0, 1)


@pytest.fixture
def loss(extractor):
    return AtmoDistLoss(extractor, reduction="none", mse_weight=0.0)


@pytest.fixture
def distance(extractor):
    return lambda a, b, **options: atmodist_distance(tensor(a), tensor(b), weights=extractor, **options).tolist()


def test_common_times_are_compared_in_batches(loss, distance, monkeypatch):
    monkeypatch.setattr(comparison, "_BATCH_CELLS", 2 * 32 * 40)
    a, b = fields(), fields(TIMES[1:], seed=1)
    result = compare_pairs(loss, a, b)
    assert result.header == ["time", "distance"]
    assert [row[0] for row in result.rows] == [str(t)[:16] for t in TIMES[1:]]
    assert [row[1] for row in result.rows] == pytest.approx(distance(a.isel(time=slice(1, None)), b))
    assert result.summary is None


def test_one_time_each_is_compared_whatever_the_time(loss, distance):
    a, b = fields(TIMES[:1]), fields(TIMES[3:], seed=1)
    result = compare_pairs(loss, a, b)
    assert result.header == ["time of A", "time of B", "distance"]
    assert result.rows == [("2026-05-01T00:00", "2026-05-01T18:00", pytest.approx(*distance(a, b)))]


def test_what_is_missing_in_one_is_masked_in_both(loss, distance):
    a, b = fields(), fields(seed=1)
    a["vorticity"][1, 3:9, 5:9] = np.nan
    weight = torch.ones(4, 1, 32, 40)
    weight[1, 0, 3:9, 5:9] = 0
    result = compare_pairs(loss, a, b)
    assert [row[1] for row in result.rows] == pytest.approx(distance(a.fillna(0), b, weight=weight))


@pytest.mark.parametrize("forecast", ["A", "B"])
def test_forecasts_are_compared_at_their_valid_times(loss, distance, forecast):
    truth, data = fields(), forecasts()
    a, b = (data, truth) if forecast == "A" else (truth, data)
    result = compare_forecasts(loss, a, b, forecast, by_lead=True)
    assert result.header == ["initial time", "lead [h]", "valid time", "distance"]
    assert [row[:3] for row in result.rows[2:4]] == [
        ("2026-05-01T00:00", "12", "2026-05-01T12:00"),
        ("2026-05-01T06:00", "0", "2026-05-01T06:00"),
    ]
    expected = distance(data, truth.sel(time=data["time"].values))
    assert [row[3] for row in result.rows] == pytest.approx(expected)
    header, rows = result.summary
    assert header == ["lead [h]", "mean distance", "number"]
    means = np.reshape(expected, (2, 3)).mean(0)
    assert rows == [[lead, pytest.approx(mean), "2"] for lead, mean in zip(("0", "6", "12"), means, strict=True)]
    assert compare_forecasts(loss, a, b, forecast, by_lead=False).summary is None


def test_no_time_in_common_is_refused(loss, one_sentence):
    for compare in (compare_pairs, partial(compare_forecasts, forecast="A", by_lead=True)):
        with pytest.raises(DataError) as error:
            compare(loss, fields(), fields(TIMES + 3 * HOUR))
        one_sentence(error.value, "4 from 2026-05-01T00:00 to 2026-05-01T18:00", "--matrix")


def test_all_are_compared_with_all(extractor):
    a, b = forecasts(), fields(seed=2)
    matrix = partial(distance_matrix, weights=extractor)
    result = compare_all(a, b, matrix)
    assert result.header == ["time", *(str(t)[:16] for t in TIMES)]
    assert [row[0] for row in result.rows][2:4] == [
        "2026-05-01T12:00 of 2026-05-01T00:00",
        "2026-05-01T06:00 of 2026-05-01T06:00",
    ]
    expected = distance_matrix(tensor(a), tensor(b), weights=extractor)
    np.testing.assert_allclose([row[1:] for row in result.rows], expected)
    own = compare_all(b, b, matrix)
    assert [own.rows[i][1 + i] for i in range(4)] == [0.0] * 4
    b["vorticity"][0, 0, 0] = np.nan
    with pytest.raises(DataError, match="--missing: got 'ignore' with --matrix"):
        compare_all(b, b, matrix)


def test_distances_are_shown_as_hours(loss, distance):
    a, b = fields(), fields(seed=1)
    expected = np.array(distance(a, b))
    points = tuple(float(expected.mean() * x) for x in (0.5, 0.9, 1.1, 2.0))
    curve = LagCurve((6, 12, 24, 48), points, points, points, (32, 40))
    result = compare_pairs(loss, a, b, in_hours(curve))
    assert result.header == ["time", "hours", "low", "high"]
    hours = curve.equivalent_lag(torch.tensor(expected))
    assert [row[1:] for row in result.rows] == [pytest.approx(x) for x in torch.stack(hours[:3], 1).tolist()]
    assert (
        compare_forecasts(loss, forecasts(), b, "A", by_lead=True, read=in_hours(curve)).summary[0][1] == "mean hours"
    )
    matrix = compare_all(a, b, partial(distance_matrix, weights=loss.extractor), in_hours(curve))
    assert matrix.rows[1][2] == pytest.approx(hours.hours[1].item(), rel=1e-4)


def test_means_by_lead_have_intervals_where_there_are_several_blocks(loss, distance, tmp_path):
    """As wide as the spread of the means of blocks says: two blocks of five days, drawn with replacement."""
    starts = np.repeat(TIMES[0] + np.array([0, 6 * 24]) * HOUR, 2)
    leads = np.tile([6, 12], 2) * HOUR
    data = fields(starts + leads, 1, run=np.repeat([0, 1], 2), init_time=starts, lead_time=leads)
    truth = fields(np.unique(starts + leads))
    result = compare_forecasts(loss, data, truth, "A", by_lead=True)
    header, rows = result.summary
    assert header == ["lead [h]", "mean distance", "95 % from", "to", "number"]
    values = np.reshape(distance(data, truth.sel(time=data["time"].values)), (2, 2))
    for (lead, mean, low, high, number), blocks, hours in zip(rows, values.T, ("6", "12"), strict=True):
        assert (lead, number) == (hours, "2")
        assert [mean, low, high] == pytest.approx([blocks.mean(), blocks.min(), blocks.max()], rel=1e-6)
    result.draw(str(tmp_path / "leads.png"), "title")
    assert (tmp_path / "leads.png").stat().st_size > 1000
