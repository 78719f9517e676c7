"""Our modules against numbers of the original Keras code: activations, losses, gradients, normalisation, scale."""

import copy
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atmoloss import AtmoDistLoss, functional, layers
from atmoloss.extractor import Extractor
from atmoloss.heads import PretextModel, PublishedHead
from atmoloss.keras_import import CHANNELS
from atmoloss.layers import BATCH_NORM_EPSILON
from atmoloss.networks import Encoder, build_encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.training.layer_scales import fit_layer_scale
from atmoloss.weights import WeightsInfo

from .parity_cases import SHARED, SMALL, TOLERANCE, Case, assert_close_to_max, case_of, each_case

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
CROP = (..., slice(59, 99), slice(59, 99))
LOSS_KEY = re.compile(r"(enc_loss|content_loss|masked_content_loss)\.(layer\d+)(?:\.scale([\d.]+))?")


def taps(encoder: Encoder, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return activations by the fixtures' names."""
    out: dict[str, torch.Tensor] = {}

    def keep(*names: str):
        # Clones: a ReLU in place follows.
        return lambda module, inputs, output: out.update(dict.fromkeys(names, output.clone()))

    hooks = [
        encoder.stem.register_forward_hook(keep("in_conv")),
        encoder.stem_bn.register_forward_hook(keep("in_bn")),
        encoder.pool.register_forward_hook(  # ours pools before the ReLU, which then works in place
            lambda module, inputs, output: out.update(in_act=F.relu(inputs[0]), pool=output)
        ),
    ]
    last = 4
    for name, stage in encoder.stages.items():
        s = name.removeprefix("stage")
        last += 8 * len(stage)
        hooks.append(stage[0].register_forward_hook(keep(f"block{s}_1")))
        hooks.append(stage[-1].register_forward_hook(keep(f"block{s}", f"layer{last}")))
    with torch.no_grad():
        encoder(x)
    for hook in hooks:
        hook.remove()
    return out


def extractor_of(case: Case) -> Extractor:
    encoder = case.encoder()
    info = WeightsInfo(case.name, CHANNELS, encoder.architecture, ORIGINAL_NORMALIZATION)
    return Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info)


def loss_of(case: Case, stage: str, **options) -> AtmoDistLoss:
    return AtmoDistLoss(extractor_of(case), layers=(stage,), normalization=None, **options)


@each_case()
def test_every_array_of_the_fixtures_is_compared(case: Case) -> None:
    compared = re.compile(
        r"x[12](\..+)?|logits|probs|combined[12]|masked_mse|masked_crop\.layer\d+\.x1|grad_x2\.mean_enc_loss\.layer\d+"
    )
    assert not [k for k in case.arrays if not compared.fullmatch(k) and not LOSS_KEY.fullmatch(k)]


@DTYPES
@each_case()
def test_activations(case: Case, dtype: torch.dtype) -> None:
    encoder = copy.deepcopy(case.encoder()).to(dtype)
    for which, x in zip(("x1", "x2"), case.fields(dtype), strict=True):
        got = taps(encoder, x)
        expected = {k.partition(".")[2]: v for k, v in case.arrays.items() if k.startswith(f"{which}.")}
        assert len(expected) >= 3
        for name, array in expected.items():
            assert_close_to_max(got[name], array)


@DTYPES
@each_case()
def test_frozen_extractor_with_folded_batch_norm(case: Case, dtype: torch.dtype) -> None:
    extractor = extractor_of(case)
    for which, x in zip(("x1", "x2"), case.fields(dtype), strict=True):
        features = extractor.encode(x)
        assert features["stage4"].dtype == dtype
        for stage, feature in features.items():
            key = f"{which}.block{stage.removeprefix('stage')}"
            if key in case.arrays:
                assert_close_to_max(feature, case.arrays[key])


@DTYPES
@each_case("160x160", "64x96")
def test_pretext_model(case: Case, dtype: torch.dtype) -> None:
    model = copy.deepcopy(case.pretext()).to(dtype)
    got: dict[str, torch.Tensor] = {}
    for name in ("combined1", "combined2"):
        norm = getattr(model.head, f"{name}_bn")
        norm.register_forward_hook(lambda m, i, output, name=name: got.update({name: F.relu(output)}))
    with torch.no_grad():
        got["logits"] = model(*case.fields(dtype))
    got["probs"] = got["logits"].softmax(1)
    for name, tensor in got.items():
        assert_close_to_max(tensor, case.arrays[name])


@DTYPES
@each_case()
def test_content_losses(case: Case, dtype: torch.dtype) -> None:
    x1, x2 = case.fields(dtype)
    keys = [k for k in case.arrays if LOSS_KEY.fullmatch(k)]
    assert len(keys) >= 6
    for key in keys:
        kind, layer, scale = LOSS_KEY.fullmatch(key).groups()
        loss = loss_of(
            case,
            case.stage(layer),
            scale=float(scale or 1.0),
            mse_weight=0.0 if kind == "enc_loss" else 0.1,
            reduction="none",
        )
        # The original's masked loss sees the box alone: its encoder gets a field of 40x40.
        a, b = (x[CROP] for x in (x1, x2)) if kind.startswith("masked") else (x1, x2)
        value = loss(a, b)
        assert value.dtype == dtype
        assert_close_to_max(value, case.arrays[key])


@each_case("160x160")
def test_masked_losses(case: Case) -> None:
    x1, x2 = (x[CROP] for x in case.fields())
    assert_close_to_max(functional.mean_squared_difference(x1, x2), case.arrays["masked_mse"])
    got = taps(case.encoder(), x1)
    for layer in ("layer148", "layer196"):
        assert_close_to_max(got[layer], case.arrays[f"masked_crop.{layer}.x1"])


@DTYPES
@each_case("37x46", "33x50", "31x32")
def test_gradient_of_the_loss(case: Case, dtype: torch.dtype) -> None:
    for layer in case.layers:
        x1, x2 = case.fields(dtype)
        loss_of(case, case.stage(layer), scale=1.0, mse_weight=0.0)(x1, x2.requires_grad_()).backward()
        assert_close_to_max(x2.grad, case.arrays[f"grad_x2.mean_enc_loss.{layer}"])


def test_original_layer_numbers_are_the_ends_of_stages() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: the large fixtures are not committed")
    listed = json.loads((SHARED / "resnet_small_31c_layers.json").read_text())
    encoder = case_of("160x160").encoder()
    got = taps(encoder, torch.zeros(1, 2, 160, 160))
    rows = {f"layer{row['index']}": row for row in listed}
    for name in ("layer52", "layer100", "layer148", "layer196"):
        assert rows[name]["name"].endswith("_6_act2")
        shape = tuple(rows[name]["out"])
        assert tuple(got[name].shape[1:]) == (shape[2], *shape[:2])


# Normalisation, coarse fields, scale


@DTYPES
def test_normalisation_and_its_inverse(dtype: torch.dtype) -> None:
    with np.load(SMALL / "misc.npz") as file:
        arrays = {k: np.moveaxis(file[k], -1, 0)[None] for k in ("raw", "normalised", "denormalised")}
    normalization = LogNormalization(**ORIGINAL_NORMALIZATION)
    normalised = normalization(torch.from_numpy(arrays["raw"].copy()).to(dtype))
    inverse = normalization.inverse(torch.from_numpy(arrays["normalised"].copy()).to(dtype))
    for c in range(2):  # each by its own maximum: divergence is the smaller one
        assert_close_to_max(normalised[:, c], arrays["normalised"][:, c])
        assert_close_to_max(inverse[:, c], arrays["denormalised"][:, c])


def test_coarse_fields_are_4x4_averages() -> None:
    with np.load(SMALL / "misc.npz") as file:
        fine, coarse = (torch.from_numpy(np.moveaxis(file[k], -1, 0).copy()) for k in ("HR", "LR"))
    assert_close_to_max(F.avg_pool2d(fine, 4), coarse)
    assert_close_to_max(functional.pool_weight(fine, coarse.shape[-2:], 4), coarse)


@pytest.mark.parametrize(("layer", "stage"), [("layer28", "stage3"), ("layer36", "stage4")])
def test_scale_calibration(layer: str, stage: str) -> None:
    draw = np.random.RandomState(99)  # the recipe of the fixture: a stream that stays
    base, noise = draw.standard_normal((42, 64, 96, 2)), draw.standard_normal((42, 64, 96, 2))
    labels = np.tile(np.arange(7), 6)
    rho = np.exp(-(labels + 1) / 4)[:, None, None, None]
    pair = (base, rho * base + np.sqrt(1 - rho**2) * noise)
    x1, x2 = (torch.from_numpy(np.moveaxis(x.astype(np.float32), -1, 1).copy()) for x in pair)
    case = case_of("64x96")
    content = loss_of(case, stage, scale=1.0, mse_weight=0.0, reduction="none")(x1, x2).double().numpy()
    normalization = LogNormalization(**ORIGINAL_NORMALIZATION)
    # The original's last version measured the error on standardised fields, without the logarithm.
    z1, z2 = ((normalization.inverse(x.double()) - normalization.mean) / normalization.std for x in (x1, x2))
    mse = functional.mean_squared_difference(z1, z2).numpy()
    with np.load(SMALL / "scale_calibration.npz") as file:
        stored = {k: file[k] for k in file}
    assert (stored["labels"] == labels).all()
    content_curve, mse_curve = (np.array([v[labels == k].mean() for k in range(7)]) for v in (content, mse))
    assert_close_to_max(content_curve, stored[f"content_loss_mean.{layer}"])
    assert_close_to_max(mse_curve, stored[f"l2.{layer}.metric_mean"])
    assert_close_to_max(np.float64(fit_layer_scale(content_curve, mse_curve)), stored[f"scale.{layer}"])


# Architecture


def _count(module: torch.nn.Module) -> tuple[int, int]:
    trainable = sum(p.numel() for p in module.parameters())
    counters = ("num_batches_tracked",)
    return trainable + sum(b.numel() for n, b in module.named_buffers() if not n.endswith(counters)), trainable


@pytest.mark.parametrize(
    ("preset", "n_classes", "total", "trainable"),
    [
        ("resnet_small", None, 2_277_712, 2_271_920),
        ("resnet_small", 15, 2_738_640, 2_732_336),
        ("resnet_small", 16, 2_739_792, 2_733_488),
        ("resnet_small", 23, 2_747_856, 2_741_552),
        ("resnet_small", 31, 2_757_072, 2_750_768),
        ("resnet18", None, 11_181_376, None),
        ("resnet18", 15, 12_545_472 - 16 * 1152, None),  # 1152 = 3 · 3 · 128 features into the dense layer
        ("resnet18", 16, 12_545_472 - 15 * 1152, None),
        ("resnet18", 23, 12_545_472 - 8 * 1152, None),
        ("resnet18", 31, 12_545_472, None),
    ],
)
def test_parameter_counts_of_the_presets(preset, n_classes, total, trainable) -> None:
    model: torch.nn.Module = build_encoder(preset)
    if n_classes:
        model = PretextModel(model, PublishedHead(model.channels, n_classes, (160, 160), model.strides["stage4"]))
    got = _count(model)
    assert got[0] == total
    assert trainable in (None, got[1])


# Mutations: the smallest mistakes must show, or the tolerance has no teeth


def errors(case: Case, encoder: Encoder) -> dict[str, float]:
    """Largest error of each activation, relative to its maximum."""
    got = taps(encoder, case.fields()[0])
    expected = {k[3:]: v for k, v in case.arrays.items() if k.startswith("x1.")}
    return {k: float(np.abs(got[k].numpy() - v).max() / np.abs(v).max()) for k, v in expected.items()}


@each_case()
def test_pytorch_default_epsilon_would_fail(case: Case) -> None:
    encoder = copy.deepcopy(case.encoder())
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.eps == BATCH_NORM_EPSILON
            module.eps = 1e-5
    got = errors(case, encoder)
    got.pop("in_conv", None)  # before any batch norm
    assert min(got.values()) > TOLERANCE, got
    assert min(v for k, v in got.items() if k.startswith("block")) > 2 * TOLERANCE, got


@each_case("160x160", "64x64", "64x96")
def test_symmetric_padding_would_fail(case: Case, monkeypatch) -> None:
    def symmetric(x, kernel, stride, value=0.0, periodic=False):
        side = (kernel - 1) // 2
        return F.pad(x, (side, side, side, side), value=value)

    monkeypatch.setattr(layers, "pad_same", symmetric)
    got = errors(case, case.encoder())  # the pool pads by itself
    assert min(v for k, v in got.items() if k.startswith(("block3", "block4"))) > 0.1, got


@each_case("101x83", "37x46", "33x50", "31x32")
def test_extra_padding_before_would_fail(case: Case, monkeypatch) -> None:
    real = layers.same_padding
    monkeypatch.setattr(layers, "same_padding", lambda *args: real(*args)[::-1])
    assert min(errors(case, case.encoder()).values()) > 0.05


@each_case("160x160", "64x96")
def test_channels_first_flattening_would_fail(case: Case) -> None:
    model = copy.deepcopy(case.pretext())
    weight = model.head.pred.weight
    width = model.head.architecture["width"]
    weight.data = weight.data.unflatten(1, (-1, width)).transpose(1, 2).flatten(1)
    with torch.no_grad(), pytest.raises(AssertionError, match="worst at"):
        assert_close_to_max(model(*case.fields()), case.arrays["logits"])
