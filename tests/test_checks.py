"""Fields that are refused, in one sentence; units that are warned of, by the weights that ship; area weights."""

import math
import warnings

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss
from atmoloss.errors import AtmolossError, InputError, UnitsWarning
from atmoloss.winds import WindToVorticityDivergence
from tests.tolerances import assert_close

pytest.importorskip("xarray", reason="the extra 'data' is not installed")
import xarray as xr

from atmoloss.data.sample import open_sample


@pytest.fixture(scope="module")
def loss(extractor) -> AtmoDistLoss:
    return AtmoDistLoss(extractor)


# --- shapes, types and missing values ------------------------------------------------------------------------------


def spoiled(fields: torch.Tensor, value: float) -> torch.Tensor:
    fields = fields.clone()
    fields[1, 0, 3, 4] = value
    return fields


TAKEN_BY = ("atmodist_distance takes arrays and xarray objects", "atmoloss.score")
CALLS = {
    "3 channels": (lambda f, g: (f[:, [0, 1, 1]],) * 2, "prediction", "(2, 3, 32, 32)", "(N, 2, H, W)", "vorticity"),
    "1 channel": (lambda f, g: (f[:, :1],) * 2, "prediction", "(2, 1, 32, 32)", "divergence, vorticity"),
    "no batch": (lambda f, g: (f[0], g[0]), "prediction", "(2, 32, 32)", "expected (N, 2, H, W)"),
    "5-D": (lambda f, g: (f[None], g[None]), "prediction", "(1, 2, 2, 32, 32)", "expected (N, 2, H, W)"),
    "empty": (lambda f, g: (f[:0], g[:0]), "prediction", "(0, 2, 32, 32)", "at least one"),
    "other batch": (lambda f, g: (f, g[:1]), "target", "(1, 2, 32, 32)", "(2, 2, 32, 32)"),
    "other size": (lambda f, g: (f, g[..., :16]), "target", "(2, 2, 32, 16)", "(2, 2, 32, 32)"),
    "too small": (lambda f, g: (f[..., :7], g[..., :7]), "prediction", "32x7", "at least 8x8", "stage4"),
    "integers": (lambda f, g: (f.long(), g), "prediction", "torch.int64", "floating"),
    "complex": (lambda f, g: (f.to(torch.complex64), g), "prediction", "complex64", "floating"),
    "integer target": (lambda f, g: (f, g.long()), "target", "torch.int64", "floating"),
    "numpy": (lambda f, g: (f.numpy(), g), "prediction", "ndarray", "tensor", *TAKEN_BY),
    "numpy target": (lambda f, g: (f, g.numpy()), "target", "ndarray", "tensor", "features()", *TAKEN_BY),
    "DataArray": (lambda f, g: (xr.DataArray(f.numpy()), g), "prediction", "DataArray", "tensor", *TAKEN_BY),
    "DataArray target": (lambda f, g: (f, xr.DataArray(g.numpy())), "target", "DataArray", "tensor", *TAKEN_BY),
    "Dataset target": (lambda f, g: (f, xr.Dataset({"u": 1.0})), "target", "Dataset", "tensor", *TAKEN_BY),
    "no target": (lambda f, g: (f, None), "target", "NoneType", "tensor"),
    "NaN": (lambda f, g: (spoiled(f, math.nan), g), "prediction", "1 missing", "finite"),
    "infinite target": (lambda f, g: (f, spoiled(g, -math.inf)), "target", "1 missing or infinite", "weight=0"),
    "NaN beside the mask": (
        lambda f, g: (spoiled(f, math.nan), g, (torch.arange(32) != 4).float()),
        "prediction",
        "1 missing",
        "finite",
    ),
    "weight shape": (lambda f, g: (f, g, torch.ones(2, 2, 32, 32)), "weight", "(2, 2, 32, 32)", "(32,), (32, 32)"),
    "weight of numpy": (lambda f, g: (f, g, np.ones(32)), "weight", "ndarray", "tensor"),
    "weight length": (lambda f, g: (f, g, torch.ones(31)), "weight", "(31,)", "(32,), (32, 32)"),
    "negative weight": (lambda f, g: (f, g, torch.linspace(-0.5, 1, 32)), "weight", "-0.5", "not negative"),
    "NaN weight": (lambda f, g: (f, g, torch.full((32,), math.nan)), "weight", "nan", "not negative"),
    "infinite weight": (lambda f, g: (f, g, torch.full((32,), math.inf)), "weight", "inf", "finite"),
    "zero weight": (lambda f, g: (f, g, torch.zeros(32, 32)), "weight", "0", "not all zero"),
    "zero weight of one": (
        lambda f, g: (f, g, torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1).expand(2, 1, 32, 32)),
        "weight",
        "0",
        "not all zero",
    ),
    "other features": (lambda f, g: (f, {"stage1": g}), "target", "stage2", "features()"),
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_fields(name, loss, draw, one_sentence) -> None:
    make, *words = CALLS[name]
    arguments = make(draw(seed=1), draw(seed=2))
    with pytest.raises(InputError) as error:
        loss(*arguments)
    one_sentence(error.value, *words, "expected")
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, AtmolossError)


@pytest.mark.parametrize("name", ["3 channels", "no batch", "too small", "integers", "numpy", "other size", "NaN"])
def test_bad_fields_elsewhere(name, loss, extractor, draw, one_sentence) -> None:
    make, *words = CALLS[name]
    f, g = make(draw(seed=1), draw(seed=2))
    with pytest.raises(InputError) as error:
        loss.spatial(f, g)
    one_sentence(error.value, *words, "expected")
    if name == "other size":
        return
    for call in (loss.features, *([] if name == "NaN" else [extractor])):
        with pytest.raises(InputError) as error:
            call(f)
        one_sentence(error.value, "fields", *words[1:], "expected")


def test_features_check_the_mask(loss, draw, one_sentence) -> None:
    for weight, word in ((torch.ones(5), "(5,)"), (-torch.ones(32), "-1")):
        with pytest.raises(InputError) as error:
            loss.features(draw(), weight)
        one_sentence(error.value, "weight", word, "expected")


def test_features_of_other_fields(loss, draw, one_sentence) -> None:
    for other in (draw(3), draw(2, 32, 40)):
        with pytest.raises(InputError) as error:
            loss(draw(2), loss.features(other))
        one_sentence(error.value, "target", str(tuple(other.shape)), "expected")


class Stack(torch.nn.Module):
    """A transform that changes shape."""

    def __init__(self, channels: int, size: int = 32) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1, : self.size, : self.size].expand(-1, self.channels, -1, -1)


@pytest.mark.parametrize(("transform", "word"), [(Stack(3), "(2, 3, 32, 32)"), (Stack(2, 6), "6x6")])
def test_what_a_transform_returns_is_checked(transform, word, extractor, draw, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor, transform=transform)(draw(), draw())
    one_sentence(error.value, "transform", word, "expected")


def test_winds_of_the_wrong_shape(extractor, draw, one_sentence) -> None:
    loss = AtmoDistLoss(extractor, transform=WindToVorticityDivergence(np.arange(32.0), np.arange(32.0)))
    for fields, words in ((draw(2, 31, 32), ("latitude", "31")), (draw()[:, :1], ("wind", "(2, 1, 32, 32)"))):
        with pytest.raises(InputError) as error:
            loss(fields, fields)
        one_sentence(error.value, *words, "expected")


# --- units ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "channel"),
    [
        ((1e5, 1e5), "divergence"),  # "per day" or normalised already
        ((1.0, 3e4), "vorticity"),
        ((1e-3, 1.0), "divergence"),
    ],
)
def test_other_units_warn_once(factor, channel, extractor, draw, one_sentence) -> None:
    loss = AtmoDistLoss(extractor)
    fields = draw() * torch.tensor(factor).reshape(2, 1, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loss(fields, fields)
            loss.features(fields)
    assert [w.category for w in caught] == [UnitsWarning]
    one_sentence(caught[0].message, "prediction", channel, "expected about", "s-1")
    assert caught[0].filename == __file__  # points at the user's line


def test_units_that_are_mended_the_wrong_way_warn_again(extractor, draw) -> None:
    loss, fields = AtmoDistLoss(extractor), draw()
    counts = []
    for factor in (1.0, 1e5, 1.1e5, 1e-5, 1e5, 1e35):  # the square of the last is infinite
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss.features(factor * fields)
        counts.append(len(caught))
    assert counts == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("call", ["forward", "features", "spatial"])
def test_the_warning_points_at_the_users_line(call, extractor, draw) -> None:
    loss, fields = AtmoDistLoss(extractor), draw() * 1e4
    with pytest.warns(UnitsWarning) as caught:
        getattr(loss, call)(*(fields,) * (1 if call == "features" else 2))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("factor", [0.05, 1.0, 20.0, 0.0])
def test_drawn_fields_do_not_warn(factor, extractor, draw) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AtmoDistLoss(extractor)(factor * draw(seed=1), factor * draw(seed=2))
        AtmoDistLoss(extractor, validate=False)(1e6 * draw(), draw())


def test_a_target_in_other_units_warns(extractor, draw) -> None:
    with pytest.warns(UnitsWarning, match="target"):
        AtmoDistLoss(extractor)(draw(), 1e6 * draw())


@pytest.fixture(scope="module")
def derivatives() -> torch.Tensor:
    """Real divergence and vorticity, s-1."""
    return torch.from_numpy(np.stack([v.values for v in open_sample().data_vars.values()], 1))


@pytest.fixture(scope="module")
def winds() -> torch.Tensor:
    """The real winds of the same times, m s-1."""
    return torch.from_numpy(np.stack([v.values for v in open_sample(("u", "v")).data_vars.values()], 1))


def warned(weights, fields, weight=None) -> list[warnings.WarningMessage]:
    loss = AtmoDistLoss(weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loss(fields, fields, weight)
            loss.features(fields, weight)
    return [w for w in caught if w.category is UnitsWarning]


def z_scored(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


OTHER_UNITS = {
    "z-scored": z_scored,
    "scaled to 0 and 1": lambda x: (x - x.amin()) / (x.amax() - x.amin()),
    "offset": lambda x: x + 0.1,
    "constant": lambda x: torch.full_like(x, 5.0),
    "per day": lambda x: x * 86400,
    "1e-5 s-1": lambda x: x * 1e5,
}
OTHER_WINDS = {
    "z-scored": z_scored,
    "scaled to 0 and 1": OTHER_UNITS["scaled to 0 and 1"],
    "0.1 m s-1": lambda x: 10 * x,
    "km s-1": lambda x: x / 1000,
    "offset": lambda x: x + 100,
    "constant": OTHER_UNITS["constant"],
}


@pytest.mark.parametrize("change", OTHER_UNITS.values(), ids=OTHER_UNITS.keys())
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_in_other_units_warn_once(change, masked, derivatives, one_sentence) -> None:
    weight = None if not masked else (torch.arange(64) % 4 != 0).float()
    (warning,) = warned("default", change(derivatives[:4]), weight)
    one_sentence(warning.message, "prediction", "mean", "standard deviation", "expected about", "s-1")


@pytest.mark.parametrize("change", OTHER_WINDS.values(), ids=OTHER_WINDS.keys())
def test_winds_in_other_units_warn_once(change, winds, one_sentence) -> None:
    (warning,) = warned("winds", change(winds[:4]))
    one_sentence(warning.message, "prediction", "mean", "standard deviation", "expected about", "m s-1")


PLAUSIBLE = {
    "as it is": lambda x: x,
    "half": lambda x: 0.5 * x,  # a coarse model
    "three times": lambda x: 3 * x,  # jets; fine grids
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("change", PLAUSIBLE.values(), ids=PLAUSIBLE.keys())
def test_plausible_fields_do_not_warn(change, derivatives, winds) -> None:
    assert not warned("default", change(derivatives[:4]))
    assert not warned("winds", change(winds[:4]))


def test_no_patch_of_the_sample_warns(derivatives, winds) -> None:
    """Calm patches are weather."""
    for weights, fields in (("default", derivatives), ("winds", winds)):
        for row in (0, 32):
            for column in range(0, 192, 32):
                patch = fields[::9, :, row : row + 32, column : column + 32]
                assert not warned(weights, patch), (weights, row, column)


# --- area weights ------------------------------------------------------------------------------------------------


def test_the_cosine_of_the_poles_is_not_negative(extractor, draw) -> None:
    a, b = draw(2, 33, 64, seed=1), draw(2, 33, 64, seed=2)
    latitude = torch.linspace(90, -90, 33)
    weight = torch.cos(torch.deg2rad(latitude))
    assert weight.min() < 0  # in float32, -4e-8
    loss = AtmoDistLoss(extractor, reduction="none")
    exact = weight.clamp_min(0)
    assert torch.equal(loss(a, b, weight), loss(a, b, exact))
    assert torch.equal(loss(a, loss.features(b, weight), weight), loss(a, b, exact))
    assert_close(loss(a, b, weight), loss(a, b, weight.abs()), 5e-2)  # zero is a mask: the two pole rows are replaced


def test_missing_values_at_the_poles_are_covered_by_their_cosine(extractor, draw) -> None:
    """In either field: what is negative by rounding is a mask for both."""
    a, b = draw(2, 33, 64, seed=1), draw(2, 33, 64, seed=2)
    weight = torch.cos(torch.deg2rad(torch.linspace(90, -90, 33)))
    loss = AtmoDistLoss(extractor)
    expected = loss(a, b, weight)
    for fields in (a, b):
        fields[..., weight <= 0, :] = math.nan
        assert torch.equal(loss(a, b, weight), expected)


@pytest.mark.parametrize("low", [-1e-3, -1.0, math.nan, -math.inf])
def test_negative_weights_are_refused(low, extractor, draw, one_sentence) -> None:
    weight = torch.ones(32)
    weight[3] = low
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor)(draw(), draw(), weight)
    one_sentence(error.value, "weight", "not negative")
