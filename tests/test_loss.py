"""What the loss computes: values, options, masks, symmetries, gradients; copied, compiled, on two processes."""

import copy
import dataclasses
import io
import math
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from atmoloss import AtmoDistLoss, functional
from atmoloss.adjusted import AdjustedDifference
from atmoloss.errors import InputError
from atmoloss.extractor import Extractor
from atmoloss.folding import fold_batch_norm
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.winds import WindToVorticityDivergence
from tests.test_functional import window_means
from tests.tolerances import DTYPES, TOLERANCES, assert_close

STAGES = ("stage1", "stage2", "stage3", "stage4")


@pytest.fixture(scope="module")
def loss(extractor) -> AtmoDistLoss:
    return AtmoDistLoss(extractor, reduction="none")


@pytest.fixture(scope="module")
def winds() -> WindToVorticityDivergence:
    return WindToVorticityDivergence(np.linspace(60, 29, 32), np.arange(32.0))


@pytest.fixture(scope="module")
def pair(every_extractor, draw_for) -> tuple[torch.Tensor, torch.Tensor]:
    """Two fields in the units of each of the weights that ship."""
    return draw_for(every_extractor, seed=1), draw_for(every_extractor, seed=2)


def by_hand(extractor, a, b, factors, mse_weight, weight=None) -> np.ndarray:
    """The formula of the class's docstring in numpy, from features of the extractor."""

    def mean(x, y) -> np.ndarray:
        squares = ((x.double().numpy() - y.double().numpy()) ** 2).mean(1)
        if weight is None:
            return squares.mean((1, 2))
        stride = math.ceil(a.shape[-1] / x.shape[-1])
        return np.stack([np.average(s, weights=window_means(w, stride)) for s, w in zip(squares, weight, strict=True)])

    with torch.no_grad():
        first, second = extractor(a), extractor(b)
        content = sum(f * mean(first[n], second[n]) for n, f in factors.items())
        pixel = mean(extractor.normalization(a), extractor.normalization(b))
    return (1 - mse_weight) * content + mse_weight * pixel


# --- values and options ------------------------------------------------------------------------------------


def test_defaults_are_what_the_weights_recommend(loss, extractor, draw) -> None:
    a, b = draw(3, 40, 48, seed=1), draw(3, 40, 48, seed=2)
    assert_close(
        loss(a, b), by_hand(extractor, a, b, {"stage2": 0.25 * 0.7, "stage4": 0.75 * 2.5}, 0.05), torch.float32
    )


@pytest.mark.parametrize(
    ("options", "factors", "mse_weight"),
    [
        ({"layers": ("stage1",)}, {"stage1": 0.5}, 0.05),
        ({"layers": ["stage1", "stage3"]}, {"stage1": 0.25, "stage3": 0.75}, 0.05),
        ({"layers": {"stage1": 2.0, "stage3": 0.0, "stage4": 1.0}}, {"stage1": 1.0, "stage4": 2.5}, 0.05),
        ({"scale": "none"}, {"stage2": 0.25, "stage4": 0.75}, 0.05),
        ({"scale": 3.0}, {"stage2": 0.75, "stage4": 2.25}, 0.05),
        ({"scale": 2, "layers": ("stage4",)}, {"stage4": 2.0}, 0.05),
        ({"mse_weight": 0}, {"stage2": 0.175, "stage4": 1.875}, 0.0),
        ({"mse_weight": 0.4}, {"stage2": 0.175, "stage4": 1.875}, 0.4),
        ({"mse_weight": 1.0}, {}, 1.0),
    ],
    ids=str,
)
def test_layers_scale_and_mse_weight(options, factors, mse_weight, extractor, draw) -> None:
    a, b = draw(seed=1), draw(seed=2)
    value = AtmoDistLoss(extractor, reduction="none", **options)(a, b)
    assert_close(value, by_hand(extractor, a, b, factors, mse_weight), torch.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions_have_the_shapes_of_torch_losses(reduction, dtype, extractor, draw) -> None:
    a, b = draw(3, seed=1, dtype=dtype), draw(3, seed=2, dtype=dtype)
    value = AtmoDistLoss(extractor, reduction=reduction)(a, b)
    each = AtmoDistLoss(extractor, reduction="none")(a, b)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    like_torch = nn.MSELoss(reduction=reduction)(each, torch.zeros(3))
    assert value.shape == like_torch.shape
    assert_close(value, {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction], value.dtype)
    exact = AtmoDistLoss(extractor, reduction=reduction)(a.double(), b.double())
    assert_close(value, exact, torch.float64 if dtype == torch.float64 else torch.float32)


def test_compute_dtype(loss, extractor, draw) -> None:
    a, b = draw(3, seed=1), draw(3, seed=2)
    exact = loss(a.double(), b.double())
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32), ("float64", torch.float64)):
        value = AtmoDistLoss(extractor, reduction="none", compute_dtype=name)(a, b)
        assert_close(value, exact, max(TOLERANCES[dtype].rounding, 1e-6))  # the normalisation stays in float32
        assert value.dtype == (torch.float64 if name == "float64" else torch.float32)


def test_autocast(loss, extractor, draw) -> None:
    a, b = draw(3, seed=1).requires_grad_(), draw(3, seed=2)
    plain = loss(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(a, b)
        said = AtmoDistLoss(extractor, reduction="none", compute_dtype="float32")(a, b)
        equal = loss(a, a)
    assert value.dtype == torch.float32
    assert_close(value, plain, torch.bfloat16)
    assert not torch.equal(value, plain)
    assert torch.equal(said, plain)  # what the user says of the encoder holds under autocast, too
    assert equal.tolist() == [0, 0, 0]
    expected, got = (torch.autograd.grad(v.sum(), a)[0] for v in (plain, value))
    cosine = nn.functional.cosine_similarity(got.flatten(), expected.flatten(), 0)
    assert cosine > 0.99


def test_normalization_none_and_refitted(extractor, draw) -> None:
    a, b = draw(seed=1), draw(seed=2)
    plain = AtmoDistLoss(extractor)(a, b)
    normalise = extractor.normalization
    assert_close(AtmoDistLoss(extractor, normalization=None)(normalise(a), normalise(b)), plain, torch.float32)
    other = [9.0, 4.0]  # the same fields in other units, refitted
    units = torch.tensor(other).reshape(2, 1, 1)
    constants = {k: [u * v for u, v in zip(other, ORIGINAL_NORMALIZATION[k], strict=True)] for k in ("mean", "std")}
    refitted = AtmoDistLoss(extractor, normalization=LogNormalization(**{**ORIGINAL_NORMALIZATION, **constants}))
    assert_close(refitted(units * a, units * b), plain, torch.float32)


def test_transform(extractor, winds) -> None:
    a, b = 8 * torch.randn(2, 2, 2, 32, 32)
    got = AtmoDistLoss(extractor, transform=winds)(a.requires_grad_(), b)
    assert_close(got, AtmoDistLoss(extractor)(winds(a), winds(b)), torch.float32)
    assert torch.autograd.grad(got, a)[0].abs().max() > 0


SHARES = [{"mse_weight": share} for share in (0.0, 0.05, 1.0)] + [{"mse_weight": s, "sharp": True} for s in (0.05, 1.0)]


@pytest.mark.parametrize("options", SHARES, ids=str)
def test_cached_targets(options, extractor, draw) -> None:
    loss = AtmoDistLoss(extractor, reduction="none", **options)
    a, b = draw(3, seed=1).requires_grad_(), draw(3, seed=2)
    weight = torch.rand(32).round()
    with torch.no_grad():
        cached, masked = loss.features(b), loss.features(b, weight)
    for value, plain in ((loss(a, cached), loss(a, b)), (loss(a, masked, weight), loss(a, b, weight))):
        assert torch.equal(value, plain)
        assert torch.equal(*(torch.autograd.grad(v.sum(), a)[0] for v in (value, plain)))
    assert loss.features(a)["normalised"].requires_grad
    assert not cached["normalised"].requires_grad


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("sharp", [False, True])
def test_spatial_mean_is_close_to_the_loss(sharp, periodic, extractor, draw) -> None:
    loss = AtmoDistLoss(extractor, sharp=sharp, periodic=periodic, reduction="none")
    a, b = draw(3, 64, 96, seed=1), draw(3, 64, 96, seed=2)
    for size in (None, (16, 24)):
        where = loss.spatial(a, b, size)
        assert where.shape == (3, 1, *(size or (64, 96)))
        assert where.min() >= (-0.1 * where.mean() if sharp else 0)
        assert_close(where.mean((1, 2, 3)), loss(a, b), 0.05)
    assert loss.spatial(a, a).abs().max() == 0


@pytest.mark.parametrize(("row", "column"), [(24, 30), (70, 100)])
@pytest.mark.parametrize("sharp", [False, True])
def test_spatial_points_at_what_was_changed(sharp, extractor, draw, row, column) -> None:
    loss = AtmoDistLoss(extractor, sharp=sharp)
    a = draw(1, 96, 128, seed=1)
    b = a.clone()
    b[..., row - 2 : row + 3, column - 2 : column + 3] += 2e-4
    where = loss.spatial(a, b)[0, 0]
    peak = np.unravel_index(int(where.argmax()), where.shape)
    assert math.dist(peak, (row, column)) < 8
    near = where[max(row - 24, 0) : row + 24, column - 24 : column + 24].sum() / where.sum()
    assert near > 0.9


# --- weights and masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (29, 45)])
def test_weights_against_the_formula(size, extractor, draw) -> None:
    """Area weights; each stage averages them over the cells it stands for."""
    a, b = draw(2, *size, seed=1), draw(2, *size, seed=2)
    area = np.broadcast_to(np.cos(np.deg2rad(np.linspace(80, 10, size[0])))[:, None], size)
    loss = AtmoDistLoss(extractor, reduction="none", layers=STAGES, mse_weight=0.3)
    expected = by_hand(extractor, a, b, loss.factors, 0.3, weight=[area, area])
    assert_close(loss(a, b, torch.from_numpy(area.copy())), expected, torch.float32)
    assert_close(loss(a, b, torch.from_numpy(area[:, 0].copy()).float()), expected, torch.float32)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.bool], ids=str)
def test_shapes_and_types_of_one_weight_are_equivalent(dtype, loss, draw) -> None:
    a, b = draw(3, seed=1), draw(3, seed=2)
    rows = (torch.arange(32) % 3 != 0).to(dtype)
    values = [
        loss(a, b, rows),
        loss(a, b, rows[:, None].expand(32, 32)),
        loss(a, b, rows[:, None].expand(3, 1, 32, 32)),
        loss(a, b, rows[:, None].expand(1, 1, 32, 32)),
    ]
    expected = loss(a, b, rows.float())
    for value in values:
        assert_close(value, expected, torch.float32)
    assert (expected - loss(a, b)).abs().min() > 1e-4


@pytest.mark.parametrize("size", [(32, 32), (29, 45)])
@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_equal_weights_are_none(loss, draw, size, factor) -> None:
    a, b = draw(3, *size, seed=1), draw(3, *size, seed=2)
    assert_close(loss(a, b, torch.full(size, factor)), loss(a, b), torch.float32)


def test_each_sample_has_its_own_weight(loss, draw) -> None:
    a, b = draw(3, seed=1), draw(3, seed=2)
    weight = torch.rand(3, 1, 32, 32).round()
    expected = torch.cat([loss(a[i : i + 1], b[i : i + 1], weight[i, 0]) for i in range(3)])
    assert_close(loss(a, b, weight), expected, torch.float32)


@pytest.mark.parametrize("fill", [math.nan, math.inf, -1e30, 0.0])
@pytest.mark.parametrize("transformed", [False, True])
def test_values_under_a_zero_mask_never_matter(fill, transformed, extractor, winds, draw) -> None:
    loss = AtmoDistLoss(extractor, transform=winds if transformed else None)
    a, b = draw(seed=1), draw(seed=2)
    if transformed:
        a, b = 2e5 * a, 2e5 * b
    mask = torch.ones(2, 1, 32, 32)
    mask[0, :, 5:14, 20:] = 0
    mask[1, :, -3:] = 0

    def run(x, y):
        x = x.clone().requires_grad_()
        value = loss(x, y, mask)
        return value, torch.autograd.grad(value, x)[0]

    value, gradient = run(a, b)
    hidden = (mask == 0).expand_as(a)
    for x, y in ((a.masked_fill(hidden, fill), b), (a, b.masked_fill(hidden, fill))):
        other, other_gradient = run(x, y)
        assert torch.equal(other, value)
        assert torch.equal(other_gradient, gradient)
    assert gradient[hidden].abs().max() == 0
    assert gradient[~hidden].abs().max() > 0


# --- what a distance owes ------------------------------------------------------------------------------------

amplitudes = st.floats(0.0, 5.0)


@given(seed=st.integers(0, 10**6), p=amplitudes, q=amplitudes, mse_weight=st.sampled_from([0.0, 0.05, 1.0]))
def test_a_semimetric_whose_root_obeys_the_triangle_inequality(extractor, draw, seed, p, q, mse_weight) -> None:
    loss = AtmoDistLoss(extractor, mse_weight=mse_weight, reduction="none")
    a, b, c = (f.double() for f in draw(3, 24, 24, seed=seed).split(1))
    b, c = a + p * b, a + q * c
    ab, ac, bc = loss(a, b), loss(a, c), loss(b, c)
    assert torch.equal(ab, loss(b, a))
    assert min(ab, ac, bc) >= 0
    assert (ab == 0) == (p == 0 or torch.equal(a, b))
    assert ab.sqrt() <= (ac.sqrt() + bc.sqrt()) * (1 + 1e-12)
    assert torch.equal(loss(a, a), torch.zeros_like(ab))


def test_zero_for_different_fields_with_equal_features(encoder, info, draw) -> None:
    blind = fold_batch_norm(encoder)
    blind.stem.weight.data[:, 1] = 0  # sees divergence only
    loss = AtmoDistLoss(Extractor(blind, LogNormalization(**ORIGINAL_NORMALIZATION), info), mse_weight=0)
    a = draw()
    assert loss(a, a + torch.tensor([0.0, 4e-5]).reshape(2, 1, 1)) == 0
    assert loss(a, a + torch.tensor([4e-5, 0.0]).reshape(2, 1, 1)) > 0


def test_batch_size_and_order_do_not_matter(loss, draw) -> None:
    a, b = draw(5, dtype=torch.float64, seed=1), draw(5, dtype=torch.float64, seed=2)
    together = loss(a, b)
    assert_close(torch.cat([loss(a[i : i + 1], b[i : i + 1]) for i in range(5)]), together, torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert_close(loss(a[order], b[order]), together[order], torch.float64)


@pytest.mark.parametrize("shift", [16, 48, 80])
def test_longitude_roll_of_a_periodic_field(shift, extractor, draw) -> None:
    a, b = draw(2, 32, 96, dtype=torch.float64, seed=1), draw(2, 32, 96, dtype=torch.float64, seed=2)
    weight = torch.rand(2, 1, 32, 96, dtype=torch.float64)
    loss = AtmoDistLoss(extractor, reduction="none", periodic=True)
    rolled = [x.roll(shift, -1) for x in (a, b, weight)]
    assert_close(loss(*rolled), loss(a, b, weight), torch.float64)
    where, rolled_where = loss.spatial(a, b), loss.spatial(*rolled[:2])
    seam = torch.ones(96, dtype=torch.bool)
    for edge in (0, shift):  # bilinear maps do not wrap
        seam[torch.arange(edge - 8, edge + 8) % 96] = False
    assert_close(rolled_where[..., seam], where.roll(shift, -1)[..., seam], torch.float64)
    plain = AtmoDistLoss(extractor, reduction="none")
    assert (plain(*rolled) / plain(a, b, weight) - 1).abs().max() > 1e-6


def test_periodic_is_of_the_loss_not_of_the_shared_extractor(extractor, draw) -> None:
    a, b = draw(seed=1), draw(seed=2)
    plain = AtmoDistLoss(extractor)
    before, features = plain(a, b), extractor(a)["stage4"]
    periodic = AtmoDistLoss(extractor, periodic=True)
    assert not torch.equal(periodic(a, b), before)
    assert torch.equal(plain(a, b), before)
    assert torch.equal(extractor(a)["stage4"], features)
    ours, theirs = (dict(x.named_buffers()) for x in (periodic.extractor, extractor))
    assert all(t.data_ptr() == theirs[n].data_ptr() for n, t in ours.items())  # four losses, one copy of the weights


# --- gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("options", [{}, {"layers": STAGES}, *SHARES], ids=str)
def test_gradient_is_finite_at_equal_zero_and_constant_fields(dtype, autocast, options, extractor, draw) -> None:
    loss = AtmoDistLoss(extractor, **options)
    x, zero = draw(dtype=dtype), torch.zeros(2, 2, 32, 32, dtype=dtype)
    constant = torch.full_like(zero, 4e-5)
    for a, b in [(x, x), (zero, zero), (constant, constant), (zero, x), (x, zero), (constant, zero), (zero, constant)]:
        a = a.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(a, b)
        (gradient,) = torch.autograd.grad(value, a)
        assert torch.isfinite(gradient).all()
        assert gradient.dtype == dtype
        assert (value == 0) == torch.equal(a, b)
        assert (gradient.abs().max() == 0) == torch.equal(a, b)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sharp", [False, True])
def test_gradcheck(masked, sharp, extractor) -> None:
    loss = AtmoDistLoss(extractor, layers=STAGES, mse_weight=0.1, sharp=sharp, validate=False)
    # In units of one standard deviation, so that gradcheck's step is small against the field.
    units = torch.tensor(ORIGINAL_NORMALIZATION["std"], dtype=torch.float64).reshape(2, 1, 1)
    a, b = torch.randn(2, 1, 2, 8, 9, dtype=torch.float64)
    weight = torch.rand(8, 9, dtype=torch.float64).mul(1.5).clamp(0.5).sub(0.5) if masked else None
    assert torch.autograd.gradcheck(lambda x: loss(x * units, b * units, weight), (a.requires_grad_(),))


def test_descending_the_loss_finds_the_target(extractor, draw) -> None:
    loss, target = AtmoDistLoss(extractor), draw(1, seed=2)
    z = torch.randn(1, 2, 32, 32, requires_grad=True)
    units = torch.tensor(ORIGINAL_NORMALIZATION["std"]).reshape(2, 1, 1)
    optimizer = torch.optim.Adam([z], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(z * units, target).backward()
        optimizer.step()
    found = (z * units).detach().flatten()
    assert torch.corrcoef(torch.stack((found, target.flatten())))[0, 1] > 0.99  # 0.0 at the start, 0.9985 here


# --- synchronisation -------------------------------------------------------------------------------------------


class NoReading(TorchDispatchMode):
    """Raise where a tensor's value is read: on an accelerator the program would wait there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value was read")
        return func(*args, **(kwargs or {}))


CALLS = {
    "forward": lambda loss, a, b: loss(a, b).backward(),
    "weighted": lambda loss, a, b: loss(a, b, torch.ones(32)).backward(),
    "cached": lambda loss, a, b: loss(a, loss.features(b)),
    "spatial": lambda loss, a, b: loss.spatial(a, b),
}


@pytest.mark.parametrize("validate", [False, True, "auto"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("transformed", [False, True])
def test_only_validation_reads_values(validate, call, transformed, extractor, winds, draw) -> None:
    loss = AtmoDistLoss(extractor, transform=winds if transformed else None, validate=validate)
    a, b = draw(seed=1).requires_grad_(), draw(seed=2)
    with NoReading():
        if validate is False:
            call(loss, a, b)
        else:  # "auto" validates on the CPU, every time
            with pytest.raises(RuntimeError, match="a value was read"):
                call(loss, a, b)


def test_without_validation_missing_values_pass(extractor, draw) -> None:
    bad = draw()
    bad[0, 0, 3, 3] = math.nan
    assert torch.isnan(AtmoDistLoss(extractor, validate=False)(bad, draw()))
    for validate in (True, "auto"):
        with pytest.raises(InputError, match="prediction"):
            AtmoDistLoss(extractor, validate=validate)(bad, draw())


def test_functional_arithmetic_is_all_there_is(loss, extractor, draw) -> None:
    """The class adds nothing to the pure functions."""
    a, b = draw(seed=1), draw(seed=2)
    content = functional.content_distance(extractor(a), extractor(b), loss.factors)
    pixel = functional.mean_squared_difference(extractor.normalization(a), extractor.normalization(b))
    assert torch.equal(loss(a, b), 0.95 * content + 0.05 * pixel)


def test_sharp_is_the_adjusted_difference_of_the_fields(loss, extractor, draw) -> None:
    """Beside the features' squared difference, with area weights."""
    a, b, weight = draw(seed=1), 0.5 * draw(seed=2), torch.rand(32)
    area = weight.reshape(1, 1, 32, 1).expand(1, 1, 32, 32)
    fields = AdjustedDifference()(extractor.normalization(a), extractor.normalization(b), area)
    content = AtmoDistLoss(extractor, mse_weight=0.0, reduction="none")(a, b, weight)
    value = AtmoDistLoss(extractor, sharp=True, reduction="none")(a, b, weight)
    assert_close(value, 0.95 * content + 0.05 * fields, torch.float32)
    assert (value != loss(a, b, weight)).all()


def test_sharp_and_plain_losses_take_the_same_cached_features(loss, extractor, draw) -> None:
    a, b = draw(seed=1), draw(seed=2)
    sharp = AtmoDistLoss(extractor, sharp=True, reduction="none")
    assert torch.equal(sharp(a, loss.features(b)), sharp(a, b))
    assert torch.equal(loss(a, sharp.features(b)), loss(a, b))


# --- options that are refused ---------------------------------------------------------------------------------------


def test_sharp_without_a_share_of_the_fields(extractor, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor, mse_weight=0.0, sharp=True)
    one_sentence(error.value, "sharp", "mse_weight is 0", "expected")


OPTIONS = [
    ({"layers": ("stage9",)}, "layers", "stage9", "stage1, stage2, stage3, stage4"),
    ({"layers": {"conv1": 1.0}}, "layers", "conv1", "stage1"),
    ({"layers": "stage1"}, "layers", "'stage1'", "sequence"),
    ({"layers": ()}, "layers", "[]", "stage1"),
    ({"layers": ("stage1", "stage1")}, "layers", "stage1", "once"),
    ({"layers": {"stage1": -1.0, "stage2": 3.0}}, "layers", "-1.0", "negative"),
    ({"layers": {"stage1": 0.0}}, "layers", "0.0", "positive"),
    ({"layers": {"stage1": math.nan}}, "layers", "nan", "finite"),
    ({"layers": {"stage1": "1"}}, "layers", "'1'", "finite"),
    ({"reduction": "avg"}, "reduction", "'avg'", "'mean', 'sum', 'none'"),
    ({"scale": "max"}, "scale", "'max'", "'mse', 'none'"),
    ({"scale": -1.0}, "scale", "-1.0", "positive"),
    ({"scale": math.nan}, "scale", "nan", "positive"),
    ({"mse_weight": 1.5}, "mse_weight", "1.5", "between 0 and 1"),
    ({"mse_weight": math.nan}, "mse_weight", "nan", "between 0 and 1"),
    ({"compute_dtype": "float16"}, "compute_dtype", "'float16'", "'bfloat16'"),
    ({"compute_dtype": torch.float32}, "compute_dtype", "torch.float32", "'float32'"),
    ({"scale": (1, 2)}, "scale", "(1, 2)", "positive number"),
    ({"mse_weight": "half"}, "mse_weight", "'half'", "between 0 and 1"),
    ({"max_memory": "500MB"}, "max_memory", "'500MB'", "number of bytes"),
    ({"max_memory": 0}, "max_memory", "0", "positive"),
    ({"sharp": "false"}, "sharp", "'false'", "True, False"),
    ({"compile": "max-autotune"}, "compile", "'max-autotune'", "True, False"),
    ({"periodic": "no"}, "periodic", "'no'", "True, False"),
    ({"validate": "never"}, "validate", "'never'", "'auto', True, False"),
    ({"normalization": "fit"}, "normalization", "'fit'", "'bundled'"),
    ({"normalization": LogNormalization([0.0], [1.0], [0.0], [1.0])}, "normalization", "1 channel", "2"),
]


@pytest.mark.parametrize(("options", "words"), [(o, w) for o, *w in OPTIONS], ids=[str(o)[:60] for o, *_ in OPTIONS])
def test_bad_options(options, words, extractor, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor, **options)
    one_sentence(error.value, *words, "expected")


def test_no_stored_scale(encoder, info, extractor, one_sentence) -> None:
    bare = Extractor(encoder, extractor.normalization, dataclasses.replace(info, layer_scales={}, layers={}))
    with pytest.raises(InputError) as error:
        AtmoDistLoss(bare)
    one_sentence(error.value, "scale", "tiny@01234567", "stage4", "expected 'none' or a number")
    assert AtmoDistLoss(bare, scale="none").factors == {"stage4": 1.0}  # the deepest, where nothing is recommended


# --- copies ---------------------------------------------------------------------------------------------------------


def saved_and_loaded(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved_and_loaded],
    ids=["deepcopy", "pickle", "save"],
)
@pytest.mark.parametrize("compile", [False, True])
def test_copies(duplicate, compile, every_extractor, pair) -> None:
    options = {
        "layers": {"stage1": 0.5, "stage3": 2.0},
        "periodic": True,
        "mse_weight": 0.2,
        "compile": compile,
        "sharp": True,
    }
    model = nn.Sequential(nn.Conv2d(2, 2, 3), AtmoDistLoss(every_extractor, **options))
    if compile:
        model[1]._compiled = torch.compile(model[1]._in_parts, backend="eager")  # what the first call makes
    other = duplicate(model)
    assert repr(other) == repr(model)
    mine, theirs = (dict(m[1].named_buffers()) for m in (model, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(b, theirs[n]) and b.dtype == theirs[n].dtype for n, b in mine.items())
    assert not {b.data_ptr() for b in mine.values()} & {b.data_ptr() for b in theirs.values()}
    model[1]._compile = other[1]._compile = False
    assert torch.equal(other[1](*pair), model[1](*pair))
    assert not any(m.training for m in other.train()[1].modules())
    assert not other[1].state_dict()


def test_repr_tells_weights_layers_and_precision(folder) -> None:
    loss = AtmoDistLoss(folder, compute_dtype="bfloat16", layers=("stage3",))
    assert loss.extractor.info.id.startswith("tiny@")
    for word in (loss.extractor.info.id, "stage3: 1.5", "mse_weight=0.05", "'bfloat16'", "'mean'", "sharp=False"):
        assert word in repr(loss)


def test_repeated_calls_keep_nothing(every_extractor, pair) -> None:
    """A loss object holds no history: the second call gives what the first gave, and nothing grows."""
    loss, first = AtmoDistLoss(every_extractor), None
    for _ in range(4):
        value, size = loss(*pair), len(pickle.dumps(loss))
        first = first or (value, size)
        assert torch.equal(value, first[0])
        assert size == first[1]


# --- torch.compile --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"compute_dtype": "bfloat16"}, {"periodic": True, "normalization": None}, {"sharp": True, "periodic": True}],
    ids=str,
)
def test_traced_without_a_break(options, every_extractor, pair) -> None:
    loss = AtmoDistLoss(every_extractor, **options)
    torch._dynamo.reset()
    traced = torch.compile(lambda a, b, w: loss(a, b, w), fullgraph=True, backend="eager", dynamic=False)
    for weight in (None, torch.rand(32).round()):
        assert_close(traced(*pair, weight), loss(*pair, weight), torch.float32)


def test_compiled_gradient_with_winds_and_cached_targets(every_extractor, winds, pair) -> None:
    torch._dynamo.reset()
    loss = AtmoDistLoss(every_extractor, transform=winds)
    units = 2e5 * 4e-5 / torch.tensor(every_extractor.normalization.constants()["std"]).reshape(2, 1, 1)
    traced = torch.compile(lambda a, b: loss(a, b), fullgraph=True, backend="aot_eager", dynamic=False)
    a, b = (units * pair[0]).requires_grad_(), units * pair[1]
    for target in (b, loss.features(b)):
        expected, got = (torch.autograd.grad(f(a, target), a)[0] for f in (loss, traced))
        assert_close(got, expected, torch.float32)


@pytest.mark.slow
def test_compile_option(every_extractor, pair) -> None:
    torch._dynamo.reset()
    loss, plain = AtmoDistLoss(every_extractor, compile=True), AtmoDistLoss(every_extractor)
    a, b, weight = pair[0].clone().requires_grad_(), pair[1], torch.rand(32).round()
    value, expected = loss(a, b, weight), plain(a, b, weight)
    assert_close(value, expected, torch.float32)
    assert_close(*(torch.autograd.grad(v, a)[0] for v in (value, expected)), 1e-4)
    assert loss._compiled is not None
    with pytest.raises(ValueError, match="prediction"):
        loss(a[:, :1], b[:, :1])


# --- two processes --------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """A model that holds its loss, as people write them."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.loss = AtmoDistLoss(weights)
        self.scale = self.loss.extractor.normalization.constants()["std"][0]
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.scale * self.conv(x / self.scale), y)


def run_rank(rank: int, weights: str, half: torch.dtype | None, store: str, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(Generator(weights))
    part = slice(4 * rank, 4 * rank + 4)
    for _ in range(2):  # the second pass meets DDP's broadcast of buffers
        model.zero_grad()
        with torch.autocast("cpu", half, enabled=half is not None):
            value = model(x[part], y[part])
        value.backward()
    torch.save([p.grad for p in model.parameters()], f"{store}/{rank}.pt")
    torch.distributed.barrier()  # a rank that leaves while the other still works can abort
    del model, value
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("half", [None, torch.bfloat16], ids=["float32", "bfloat16 autocast"])
def test_two_ranks_give_the_gradient_of_one(half, every_weights, every_extractor, draw_for) -> None:
    x, y = (draw_for(every_extractor, 8, seed=seed) for seed in (1, 2))
    model = Generator(every_weights)
    model(x, y).backward()
    with tempfile.TemporaryDirectory() as store:
        torch.multiprocessing.spawn(run_rank, (every_weights, half, store, x, y), nprocs=2)
        ranks = [torch.load(Path(store) / f"{rank}.pt") for rank in range(2)]
    for p, first, second in zip(model.parameters(), *ranks, strict=True):
        assert torch.equal(first, second)
        assert_close(first, p.grad, 1e-4 if half is None else TOLERANCES[half].gradient)
