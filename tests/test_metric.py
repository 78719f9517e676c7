"""The torchmetrics wrapper: the mean of distances, two numbers of state, no history."""

import pickle

import pytest
import torch

from atmoloss import atmodist_distance
from tests.tolerances import assert_close

pytest.importorskip("torchmetrics", reason="the extra 'metrics' is not installed")
from atmoloss.errors import InputError
from atmoloss.hours import LagCurve, atmodist_hours
from atmoloss.metric import _TORCHMETRICS_OPTIONS, AtmoDistMetric


@pytest.fixture
def metric(extractor) -> AtmoDistMetric:
    return AtmoDistMetric(extractor)


def test_mean_of_distances_over_batches_of_different_sizes(metric, extractor, draw) -> None:
    a, b = draw(7, seed=1), draw(7, seed=2)
    for part in (slice(0, 1), slice(1, 5), slice(5, 7)):
        metric.update(a[part], b[part])
    expected = atmodist_distance(a, b, weights=extractor).double().mean()
    got = metric.compute()
    assert got.dtype == torch.float64
    assert got.shape == ()
    assert_close(got, expected, torch.float32)


def test_options_and_weights_reach_the_loss(extractor, draw) -> None:
    metric = AtmoDistMetric(extractor, layers=("stage1",), mse_weight=0.5)
    a, b = draw(3, seed=1), draw(3, seed=2)
    weight = torch.rand(32)
    metric.update(a, b, weight)
    options = {"weights": extractor, "layers": ("stage1",), "mse_weight": 0.5}
    assert_close(metric.compute(), atmodist_distance(a, b, weight=weight, **options).mean(), torch.float32)


def test_reset(metric, draw) -> None:
    metric.update(draw(2, seed=1), draw(2, seed=2))
    first = metric.compute()
    metric.reset()
    metric.update(draw(2, seed=3), draw(2, seed=3))
    assert metric.compute() == 0 < first


def test_nothing_grows_and_no_graph_is_kept(metric, draw) -> None:
    prediction = draw(2, seed=1).requires_grad_()
    sizes = set()
    for _ in range(3):
        value = metric(prediction, draw(2, seed=2))
        sizes.add(len(pickle.dumps(dict(metric.metric_state))))
        assert all(not t.requires_grad and t.numel() == 1 for t in metric.metric_state.values())
    assert len(sizes) == 1
    assert value.requires_grad == metric.is_differentiable  # what the class says of itself holds


def test_two_processes_merge_by_summing_their_states(extractor, draw) -> None:
    """What torchmetrics does at compute(): states are summed over ranks, not averages averaged."""
    parts = [AtmoDistMetric(extractor) for _ in range(2)]
    a, b = draw(5, seed=1), draw(5, seed=2)
    parts[0].update(a[:1], b[:1])
    parts[1].update(a[1:], b[1:])
    total = AtmoDistMetric(extractor)
    for name, reduce in total._reductions.items():
        setattr(total, name, reduce(torch.stack([getattr(p, name) for p in parts])))
    assert_close(total.total / total.count, atmodist_distance(a, b, weights=extractor).mean(), torch.float32)


def test_frozen_and_light(metric, draw) -> None:
    metric.train()
    assert not any(m.training for m in metric.loss.modules())
    assert not list(metric.parameters())
    assert not metric.state_dict()
    metric.update(draw(seed=1), draw(seed=2))
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute() == metric.compute()


# --- what torchmetrics takes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"sync_on_compute": False},
        {"compute_on_cpu": True},
        {"dist_sync_on_step": True},
        {"compute_with_cache": False},
        {"distributed_available_fn": lambda: False, "process_group": None, "dist_sync_fn": None},
    ],
    ids=", ".join,
)
def test_options_of_torchmetrics(options, extractor, draw) -> None:
    metric = AtmoDistMetric(extractor, layers=("stage1",), **options)
    a, b = draw(3, seed=1), draw(3, seed=2)
    value = metric(a, b)
    for name, given in options.items():
        assert getattr(metric, name) == given
    assert_close(value, atmodist_distance(a, b, weights=extractor, layers=("stage1",)).mean(), torch.float32)
    assert metric.compute() == value


def test_every_option_of_torchmetrics_is_known() -> None:
    """Those that its own constructor takes out of its keyword arguments."""
    import inspect
    import re

    import torchmetrics

    source = inspect.getsource(torchmetrics.Metric.__init__)
    assert set(re.findall(r'kwargs\.pop\("(\w+)"', source)) <= _TORCHMETRICS_OPTIONS


@pytest.mark.parametrize("option", ["reduction", "sync_on_computer"])
def test_unknown_options_are_refused(option, extractor, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AtmoDistMetric(extractor, **{option: "mean"})
    one_sentence(error.value, option, "unknown", "mse_weight", "sync_on_compute")


def test_plot(metric, draw) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'eval' is not installed").use("Agg")
    values = [metric(draw(seed=1), draw(seed=i)) for i in (2, 3, 4)]
    _, axes = metric.plot(values)
    (line,) = axes.lines[:1]
    assert line.get_ydata().tolist() == pytest.approx([v.item() for v in values])
    figure, axes = metric.plot()
    assert figure is axes.figure


def test_in_a_collection(extractor, draw) -> None:
    from torchmetrics import MeanSquaredError, MetricCollection

    metrics = MetricCollection({"mse": MeanSquaredError(), "atmodist": AtmoDistMetric(extractor)})
    a, b = draw(3, seed=1), draw(3, seed=2)
    metrics.update(a, b)
    expected = atmodist_distance(a, b, weights=extractor).mean()
    assert_close(metrics.clone().compute()["atmodist"], expected, torch.float32)


def test_hours_are_the_mean_of_equivalent_lags(extractor, draw) -> None:
    a, b = draw(6, seed=1), draw(6, seed=2)
    typical = float(atmodist_distance(a, b, weights=extractor).mean())
    points = tuple(typical * x for x in (0.2, 0.5, 1.0, 2.0, 4.0))
    curve = LagCurve((6, 12, 24, 48, 96), points, points, points, (64, 64))
    metric = AtmoDistMetric(extractor, units="hours", curve=curve)
    metric.update(a[:2], b[:2])
    metric.update(a[2:], b[2:])
    expected = atmodist_hours(a, b, weights=extractor, curve=curve).mean()
    assert 12 < expected < 48
    assert_close(metric.compute(), expected, torch.float32)


def test_hours_of_another_distance_are_refused(extractor) -> None:
    with pytest.raises(InputError, match=r"mse_weight: got 0\.5, expected none"):
        AtmoDistMetric(extractor, units="hours", mse_weight=0.5)
    with pytest.raises(InputError, match="units: got 'h', expected"):
        AtmoDistMetric(extractor, units="h")
    with pytest.raises(InputError, match="grid_spacing: got one with units='distance'"):
        AtmoDistMetric(extractor, grid_spacing=1.0)
