"""Bad input: one sentence that names the argument, what was given, and what is expected."""

import math
import pickle
import warnings

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss
from atmoloss.errors import AtmolossError, InputError, UnitsWarning
from atmoloss.normalization import LogNormalization
from atmoloss.winds import WindToVorticityDivergence


@pytest.fixture(scope="module")
def loss(extractor) -> AtmoDistLoss:
    return AtmoDistLoss(extractor)


def spoiled(fields: torch.Tensor, value: float) -> torch.Tensor:
    fields = fields.clone()
    fields[1, 0, 3, 4] = value
    return fields


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
    "numpy": (lambda f, g: (f.numpy(), g), "prediction", "ndarray", "tensor"),
    "numpy target": (lambda f, g: (f, g.numpy()), "target", "ndarray", "tensor"),
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


OPTIONS = [
    ({"layers": ("stage9",)}, "layers", "stage9", "stage1, stage2, stage3, stage4"),
    ({"layers": {"conv1": 1.0}}, "layers", "conv1", "stage1"),
    ({"layers": "stage1"}, "layers", "'stage1'", "sequence"),
    ({"layers": ()}, "layers", "[]", "stage1"),
    ({"layers": ("stage1", "stage1")}, "layers", "stage1", "once"),
    ({"layers": {"stage1": -1.0, "stage2": 3.0}}, "layers", "-1.0", "negative"),
    ({"layers": {"stage1": 0.0}}, "layers", "0.0", "positive"),
    ({"layers": {"stage1": math.nan}}, "layers", "nan", "finite"),
    ({"reduction": "avg"}, "reduction", "'avg'", "'mean', 'sum', 'none'"),
    ({"scale": "max"}, "scale", "'max'", "'mse', 'none'"),
    ({"scale": -1.0}, "scale", "-1.0", "positive"),
    ({"scale": math.nan}, "scale", "nan", "positive"),
    ({"mse_weight": 1.5}, "mse_weight", "1.5", "between 0 and 1"),
    ({"mse_weight": math.nan}, "mse_weight", "nan", "between 0 and 1"),
    ({"compute_dtype": "float16"}, "compute_dtype", "'float16'", "'bfloat16'"),
    ({"compute_dtype": torch.float32}, "compute_dtype", "torch.float32", "'float32'"),
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
    import dataclasses

    from atmoloss.extractor import Extractor

    bare = Extractor(encoder, extractor.normalization, dataclasses.replace(info, layer_scales={}, layers={}))
    with pytest.raises(InputError) as error:
        AtmoDistLoss(bare)
    one_sentence(error.value, "scale", "tiny@01234567", "stage4", "expected 'none' or a number")
    assert AtmoDistLoss(bare, scale="none").factors == {"stage4": 1.0}  # the deepest, where nothing is recommended


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


# --- units -----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("call", ["forward", "features", "spatial"])
def test_the_warning_points_at_the_users_line(call, extractor, draw) -> None:
    loss, fields = AtmoDistLoss(extractor), draw() * 1e4
    with pytest.warns(UnitsWarning) as caught:
        getattr(loss, call)(*(fields,) * (1 if call == "features" else 2))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("factor", [0.05, 1.0, 20.0, 0.0])
def test_plausible_fields_do_not_warn(factor, extractor, draw) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AtmoDistLoss(extractor)(factor * draw(seed=1), factor * draw(seed=2))
        AtmoDistLoss(extractor, validate=False)(1e6 * draw(), draw())


def test_a_target_in_other_units_warns(extractor, draw) -> None:
    with pytest.warns(UnitsWarning, match="target"):
        AtmoDistLoss(extractor)(draw(), 1e6 * draw())


def test_errors_survive_pickle() -> None:
    """As they must, to cross from a worker process."""
    assert str(pickle.loads(pickle.dumps(InputError("weight: got 1, expected 2")))) == "weight: got 1, expected 2"
