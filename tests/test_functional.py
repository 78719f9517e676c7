"""The pure functions against numpy formulas written differently."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atmoloss import functional
from atmoloss.errors import InputError
from tests.tolerances import DTYPES, TOLERANCES, assert_close


def window_means(weight: np.ndarray, stride: int) -> np.ndarray:
    """Mean over each stride × stride window of (H, W); the last ones over what there is."""
    rows, columns = (np.arange(0, size, stride) for size in weight.shape)
    sums = np.add.reduceat(np.add.reduceat(weight, rows, 0), columns, 1)
    ones = np.ones_like(weight)
    return sums / np.add.reduceat(np.add.reduceat(ones, rows, 0), columns, 1)


@given(height=st.integers(1, 140), width=st.integers(1, 140), stride=st.integers(1, 60), seed=st.integers(0, 99))
def test_pool_weight_of_any_stride(height, width, stride, seed) -> None:
    size = math.ceil(height / stride), math.ceil(width / stride)
    weight = np.random.default_rng(seed).random((height, width))
    tensor = torch.from_numpy(weight)[None, None]
    assert_close(functional.pool_weight(tensor, size, stride)[0, 0], window_means(weight, stride), 1e-12)


@pytest.mark.parametrize(("size", "stride"), [((4, 5), 2), ((4, 4), 4), ((9, 9), 1), ((3, 3), 0)])
def test_pool_weight_refuses_a_size_of_no_stride(size, stride, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        functional.pool_weight(torch.ones(1, 1, 8, 8), size, stride)
    one_sentence(error.value, "weight", "points for a stage of")


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("low_pass", [2, 6, 10, 12, 24])
def test_a_weight_on_low_passed_fields_of_any_stride(low_pass, periodic, draw) -> None:
    from atmoloss import AtmoDistLoss
    from atmoloss.extractor import Extractor
    from atmoloss.networks import Encoder
    from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
    from atmoloss.weights import WeightsInfo

    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, low_pass=low_pass).eval()
    channels = ({"name": "divergence", "units": "s-1"}, {"name": "vorticity", "units": "s-1"})
    info = WeightsInfo("any", channels, encoder.architecture, ORIGINAL_NORMALIZATION)
    extractor = Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info)
    layers = {"low_pass": 0.5, "stage2": 0.5}
    loss = AtmoDistLoss(extractor, layers=layers, scale="none", periodic=periodic, mse_weight=0.0, reduction="none")
    a, b = draw(2, 37, 50, seed=1), draw(2, 37, 50, seed=2)
    weight = torch.rand(37, 50) + 0.1
    weight[:, 20:] = 0.0
    got = loss(a, b, weight=weight)
    features = [loss.features(x, weight) for x in (a, b)]
    for n in range(2):
        expected = 0.0
        for name, factor in layers.items():
            w = window_means(weight.double().numpy(), encoder.strides[name])
            d = (features[0][name][n] - features[1][name][n]).double().square().mean(0).numpy()
            assert d.shape == w.shape
            expected += factor * np.average(d, weights=w)
        assert got[n].item() == pytest.approx(expected, rel=1e-5)
    assert_close(loss(a, b, weight=torch.ones(37)), loss(a, b), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_mean_squared_difference(dtype, weighted) -> None:
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.normal(size=(3, 5, 70, 90))).to(dtype) for _ in range(2))
    weight = torch.from_numpy(rng.random((3, 1, 70, 90))).to(torch.float32) if weighted else None
    x, y = a.double().numpy(), b.double().numpy()
    w = weight.double().numpy() if weighted else np.ones((3, 1, 1, 1))
    expected = [np.average(((x[n] - y[n]) ** 2).mean(0), weights=np.broadcast_to(w[n, 0], (70, 90))) for n in range(3)]
    got = functional.mean_squared_difference(a, b, weight)
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # In at least float32 whatever came in: the tolerance is float32's even for half.
    assert_close(got, expected, TOLERANCES[got.dtype].exact)


def test_reductions_ignore_autocast() -> None:
    a, b = torch.randn(2, 3, 4, 128, 128).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        got = functional.content_distance({"s": a}, {"s": b}, {"s": 1.0}, torch.ones(1, 1, 256, 256), strides={"s": 2})
    assert got.dtype == torch.float32
    assert_close(got, (a.double() - b.double()).square().mean((1, 2, 3)), torch.float32)


def test_a_sample_without_weight_gives_zero() -> None:
    a = torch.randn(2, 3, 4, 4, requires_grad=True)
    value = functional.mean_squared_difference(a, torch.zeros(2, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    assert value.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(value.sum(), a)[0].abs().max() == 0


@pytest.mark.parametrize("shape", [(6,), (6, 8), (2, 1, 6, 8), (1, 1, 6, 8)])
def test_expand_weight(shape) -> None:
    weight = torch.rand(shape)
    got = functional.expand_weight(weight, torch.zeros(2, 3, 6, 8)).expand(2, 1, 6, 8)
    rows = weight[:, None] if len(shape) == 1 else weight
    np.testing.assert_array_equal(got, np.broadcast_to(rows, (2, 1, 6, 8)))


@pytest.mark.parametrize("shape", [(8,), (8, 6), (2, 6, 8), (2, 3, 6, 8), (3, 1, 6, 8), ()])
def test_expand_weight_refuses_other_shapes(shape, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        functional.expand_weight(torch.ones(shape), torch.zeros(2, 3, 6, 8))
    one_sentence(error.value, "weight", str(shape), "expected (6,), (6, 8) or (2, 1, 6, 8)")


def test_content_map_of_one_pixel_stage_is_the_squared_difference() -> None:
    a, b = torch.randn(2, 2, 3, 5, 7)
    got = functional.content_map({"x": a}, {"x": b}, {"x": 2.0}, (5, 7))
    assert_close(got[:, 0], 2 * (a - b).square().mean(1), torch.float32)


def test_reduce() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert functional.reduce(values, "mean") == 3
    assert functional.reduce(values, "sum") == 9
    assert functional.reduce(values, "none").tolist() == [1, 2, 6]


@given(height=st.integers(2, 30), width=st.integers(2, 30), windows=st.integers(1, 9), seed=st.integers(0, 99))
def test_vectors_are_features_times_the_root_of_their_mass(height, width, windows, seed) -> None:
    """Means over windows against numpy's sums, and lengths against the formula of the distance."""
    rng = np.random.default_rng(seed)
    feature, weight = rng.standard_normal((1, 3, height, width)), rng.random((height, width)) + 0.1
    features, parts = {"f": torch.from_numpy(feature)}, ((0.5, {"f": 4.0}),)
    w = torch.from_numpy(weight)[None, None]
    (whole,) = functional.vectors(features, parts, w, {"f": 1})
    expected = 0.5 * 4 * (weight * feature[0] ** 2).mean(0).sum() / weight.sum()
    assert float(whole.square().sum()) == pytest.approx(expected, rel=1e-12)
    (pooled,) = functional.vectors(features, parts, w, {"f": 1}, windows)
    edges = [np.arange(0, n, math.ceil(n / windows)) for n in (height, width)]
    sums = [np.add.reduceat(np.add.reduceat(x, edges[0], -2), edges[1], -1) for x in (weight * feature[0], weight)]
    means = sums[0] / sums[1] * np.sqrt(2 / 3 * sums[1] / weight.sum())
    assert_close(pooled[0], means.transpose(1, 2, 0).ravel(), 1e-12)
