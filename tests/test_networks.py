"""Encoders: geometry, cost, anti-aliasing, periodic columns."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from atmoloss.attention import AttentionBlock
from atmoloss.errors import InputError
from atmoloss.folding import fold_batch_norm
from atmoloss.layers import Blur, BlurredConv, Conv, LowPass, MaxPool, pad_same, same_padding
from atmoloss.networks import ENCODERS, LOW_PASS, Encoder, build_encoder
from tests.conftest import TINY
from tests.tolerances import assert_close

STRIDED = {"stage_channels": (3, 4, 5), "blocks_per_stage": (1, 2, 1), "stem_kernel": 8}
ATTENTION = {"stage2": {"blocks": 2, "heads": 2, "radius": 1}}
CONFIGURATIONS = {
    "tiny": TINY,
    "strided": STRIDED,
    "unpooled": {**STRIDED, "stem_stride": 1, "stem_pool": False, "in_channels": 3},
    "blurred_pooled": {**TINY, "stem_pool": True},
    "blurred_stem1": {**TINY, "stem_stride": 1},
    "low_pass": {**TINY, "low_pass": 4},
    "attention": {**TINY, "attention": ATTENTION},
    "attention_first": {"stage_channels": (4, 4), "blocks_per_stage": 1, "attention": {"stage1": ATTENTION["stage2"]}},
}
configurations = pytest.mark.parametrize("arguments", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet_small", (4, 8, 16, 32), (16, 32, 64, 128)),
        ("resnet18", (4, 8, 16, 32), (64, 128, 256, 512)),
        ("resnet_aa", (2, 4, 8, 16), (16, 32, 64, 128)),
        ("resnet_attn", (2, 4), (16, 64)),
    ],
)
def test_presets(name, strides, channels) -> None:
    assert set(ENCODERS) == {"resnet_small", "resnet18", "resnet_aa", "resnet_attn"}
    encoder = build_encoder(name)
    assert tuple(encoder.strides.values()) == strides
    assert tuple(encoder.channels.values()) == channels
    convolutions = sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in encoder.modules())
    blocks = ENCODERS[name]["blocks_per_stage"]
    assert convolutions == 1 + 2 * (len(strides) * blocks if isinstance(blocks, int) else sum(blocks))
    pools = any(type(m).__name__ == "MaxPool" for m in encoder.modules())
    assert pools == (name not in ("resnet_aa", "resnet_attn"))
    rebuilt = Encoder(**encoder.architecture)
    rebuilt.load_state_dict(encoder.state_dict())


@configurations
@pytest.mark.parametrize("size", [(48, 64), (37, 51), (33, 32)])
def test_shapes_and_strides(arguments, size, randomise) -> None:
    encoder = randomise(Encoder(**arguments))
    features = encoder(torch.randn(2, encoder.in_channels, *size))
    assert list(features) == list(encoder.strides)
    for name, f in features.items():
        stride = encoder.strides[name]
        assert f.shape == (2, encoder.channels[name], *(math.ceil(s / stride) for s in size))
        assert f.min() == 0 or name == LOW_PASS  # after the ReLU
    for name, f in features.items():  # only what is needed, and nothing else
        alone = encoder(torch.zeros(1, encoder.in_channels, *size), (name,))
        assert list(alone) == [name]
        assert alone[name].shape[1:] == f.shape[1:]


def positive(arguments) -> Encoder:
    """A network whose cells respond wherever they look."""
    encoder = fold_batch_norm(Encoder(**arguments).eval())
    for module in encoder.modules():
        if isinstance(module, Conv):
            module.weight.data.fill_(0.01)
    return encoder


@pytest.mark.parametrize("name", ["tiny", "unpooled", "blurred_stem1"])
def test_receptive_field_by_gradient(name) -> None:
    encoder = positive(CONFIGURATIONS[name])
    width = 2 * max(encoder.receptive_fields.values())
    x = torch.ones(1, encoder.in_channels, 4, width, requires_grad=True)
    for stage, f in encoder(x).items():
        (gradient,) = torch.autograd.grad(f[..., f.shape[-1] // 2].sum(), x, retain_graph=True)
        assert int((gradient.abs().sum((0, 1, 2)) > 0).sum()) == encoder.receptive_fields[stage], stage


@pytest.mark.parametrize("name", ["strided", "blurred_pooled"])
def test_receptive_field_by_perturbing(name) -> None:
    """A maximum hides columns from the gradient."""
    encoder = positive(CONFIGURATIONS[name])
    width = 2 * max(encoder.receptive_fields.values())
    x = torch.zeros(width, 2, 4, width)
    x[torch.arange(width), :, :, torch.arange(width)] = 1e3  # one column at a time
    for stage, f in encoder(x).items():
        seen = int((f[..., f.shape[-1] // 2].amax((1, 2)) > 0).sum())
        assert seen == encoder.receptive_fields[stage], stage


@pytest.mark.parametrize("name", ["attention", "attention_first"])
def test_receptive_field_with_attention(name, randomise) -> None:
    """Of random weights: equal ones would be normalised away. Beyond the field the gradient is exactly zero."""
    encoder = fold_batch_norm(randomise(Encoder(**CONFIGURATIONS[name])).double())
    width = 2 * max(encoder.receptive_fields.values())
    x = torch.randn(1, 2, 64, width, dtype=torch.float64, requires_grad=True)
    for stage, f in encoder(x).items():
        (gradient,) = torch.autograd.grad(f[..., f.shape[-1] // 2].sum(), x, retain_graph=True)
        assert int((gradient.abs().sum((0, 1, 2)) > 0).sum()) == encoder.receptive_fields[stage], stage


@pytest.mark.parametrize("periodic", [False, True])
def test_attention_maps_are_those_of_the_blocks(periodic, randomise) -> None:
    encoder = randomise(Encoder(**CONFIGURATIONS["attention"]))
    encoder.set_periodic(periodic)
    blocks = [m for m in encoder.modules() if isinstance(m, AttentionBlock)]
    assert all(block.attention.periodic == periodic for block in blocks)
    x = torch.randn(2, 2, 24, 32)
    seen: list[torch.Tensor] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(x)
    maps = encoder.attention(x)
    assert list(maps) == ["stage2.0", "stage2.1"]
    for block, inputs, weights in zip(blocks, seen, maps.values(), strict=False):
        assert weights.shape == (2, 2, 6, 8, 9)
        assert torch.equal(weights, block.with_map(inputs)[1][..., 0, :])
    assert Encoder(**TINY).eval().attention(x) == {}


def products_over_windows(encoder: Encoder, stage: str, height: int, width: int) -> int:
    """What torch does not count: a query times the keys of its window, and weights times values, each multiply-add."""
    total = 0
    for name, options in (encoder.architecture.get("attention") or {}).items():
        if list(encoder.stages).index(name) <= list(encoder.strides).index(stage) - (LOW_PASS in encoder.strides):
            positions = math.ceil(height / encoder.strides[name]) * math.ceil(width / encoder.strides[name])
            window = (2 * options["radius"] + 1) ** 2
            total += options["blocks"] * 2 * (2 * window * encoder.channels[name] * positions)
    return total


@pytest.mark.parametrize("arguments", [*CONFIGURATIONS.values(), *ENCODERS.values()])
def test_flops_are_what_torch_counts(arguments) -> None:
    encoder = Encoder(**arguments)
    folded = fold_batch_norm(encoder.eval())
    stages = list(encoder.strides)
    claimed = encoder.flops(45, 64)
    assert folded.flops(45, 64) == claimed
    for name in (stages[0], stages[-1]):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            folded(torch.zeros(1, encoder.in_channels, 45, 64), (name,))
        assert counter.get_total_flops() + products_over_windows(encoder, name, 45, 64) == claimed[name], name


@configurations
@pytest.mark.parametrize("periodic", [False, True])
def test_smallest_input_works(arguments, periodic, randomise) -> None:
    encoder = fold_batch_norm(randomise(Encoder(**arguments)))
    encoder.set_periodic(periodic)
    for name, stride in encoder.strides.items():
        size = encoder.smallest_input(name)
        assert size == stride // 2 or size == stride == 1
        f = encoder(torch.randn(1, encoder.in_channels, size, size), (name,))[name]
        assert f.shape[-2:] == (1, 1)
        assert torch.isfinite(f).all()


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [(24, 32), (23, 30)])
def test_blurred_convolution_is_a_convolution_then_a_blur(kernel, periodic, size) -> None:
    one = BlurredConv(2, 3, kernel, bias=False).double()
    conv, blur = Conv(2, 3, kernel).double(), Blur(3).double()
    conv.weight = one.weight
    for module in (one, conv, blur):
        module.periodic = periodic
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    got, expected = one(x), blur(conv(x))
    assert got.shape == expected.shape
    columns = slice(None) if periodic else slice(2, -2)  # zeros outside differ: padded once instead of twice
    assert_close(got[..., 2:-2, columns], expected[..., 2:-2, columns], torch.float64)


def test_blur_removes_what_stride_two_would_alias() -> None:
    checkers = torch.ones(1, 1, 16, 16)
    checkers[..., ::2] = -1
    assert Blur(1)(checkers)[..., 2:-2, 2:-2].abs().max() < 1e-6
    assert_close(Blur(1)(torch.ones(1, 1, 16, 16))[..., 1:-1, 1:-1], torch.ones(1, 1, 6, 6), torch.float32)
    assert BlurredConv(2, 3, 3).kernel_weight().shape == (3, 2, 6, 6)


@configurations
def test_periodic_columns_shift_with_the_field(arguments, randomise) -> None:
    encoder = fold_batch_norm(randomise(Encoder(**arguments)))
    stride = max(encoder.strides.values())
    x = torch.randn(1, encoder.in_channels, 32, 3 * stride, dtype=torch.float64)
    encoder.set_periodic(True)
    plain, rolled = encoder(x), encoder(x.roll(stride, -1))
    for name, f in plain.items():
        assert_close(rolled[name], f.roll(stride // encoder.strides[name], -1), torch.float64)
    encoder.set_periodic(False)
    other = encoder(x.roll(stride, -1))["stage1"] - encoder(x)["stage1"].roll(stride // encoder.strides["stage1"], -1)
    assert other.abs().max() > 1e-3


@pytest.mark.parametrize("size", range(1, 40))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (8, 2), (4, 2), (1, 2)])
def test_same_padding_as_tensorflow_pads(size, kernel, stride) -> None:
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == math.ceil(size / stride)
    assert after - before in (0, 1)


def test_even_stem_starts_where_tensorflow_starts() -> None:
    """8×8/2 on an even axis: three zeros before, three after."""
    conv = Conv(1, 1, 8, 2)
    x = torch.randn(1, 1, 16, 16)
    assert_close(conv(x), F.conv2d(F.pad(x, (3, 3, 3, 3)), conv.weight, stride=2), torch.float32)


def test_initial_weights_are_he_normal_cut_at_two_deviations() -> None:
    weight = Encoder(stage_channels=(256,), blocks_per_stage=1).stages["stage1"][0].conv1.weight
    std = math.sqrt(2 / (9 * 256))
    assert abs(float(weight.detach().std()) / std - 1) < 0.02
    assert float(weight.detach().abs().max()) <= 2 * std / 0.8796 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"blocks_per_stage": 0}, "blocks_per_stage"),
        ({"blocks_per_stage": (1, 2)}, "blocks_per_stage"),
        ({"stage_channels": ()}, "blocks_per_stage"),
        ({"downsample": "bilinear"}, "downsample"),
        ({"stem_stride": 3}, "stem_stride"),
        ({"low_pass": 3}, "low_pass"),
        ({"low_pass": -2}, "low_pass"),
        ({"attention": {"stage5": {"blocks": 1}}}, "attention"),
        ({"attention": {"stage2": {"blocks": 0}}}, "attention"),
        ({"attention": {"stage2": {"heads": 3}}}, "attention"),
    ],
)
def test_bad_architectures(arguments, word, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        Encoder(**arguments)
    one_sentence(error.value, word, "got", "expected")


def test_unknown_preset(one_sentence) -> None:
    with pytest.raises(InputError) as error:
        build_encoder("resnet34")
    one_sentence(error.value, "encoder", "'resnet34'", "resnet_aa")


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [(32, 48), (29, 43), (5, 6)])
def test_low_pass_is_block_means_then_binomial_weights(size, periodic) -> None:
    torch.manual_seed(0)
    layer = LowPass(2, 8).double()
    layer.periodic = layer.blur.periodic = periodic
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    rows, columns = (math.ceil(n / 4) for n in size)
    whole = torch.zeros(2, 4 * rows, 4 * columns, dtype=torch.float64)
    for j in range(4 * columns):
        if j < size[1] or periodic:
            whole[:, : size[0], j] = x[0, :, :, j % size[1]]
    means = [[whole[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((1, 2)) for j in range(columns)] for i in range(rows)]
    out = layer(x)
    assert out.shape[-2:] == (math.ceil(size[0] / 8), math.ceil(size[1] / 8))
    binomial = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    before = [same_padding(n, 4, 2)[0] for n in (rows, columns)]
    for i in range(out.shape[-2]):
        for j in range(out.shape[-1]):
            value = torch.zeros(2, dtype=torch.float64)
            for k, of_row in enumerate(binomial):
                for m, of_column in enumerate(binomial):
                    row, column = 2 * i + k - before[0], 2 * j + m - before[1]
                    column = column % columns if periodic else column
                    if 0 <= row < rows and 0 <= column < columns:
                        value += of_row * of_column * means[row][column]
            assert_close(out[0, :, i, j], value, torch.float64)


def test_low_pass_keeps_what_is_large_and_drops_what_is_small() -> None:
    cells = torch.arange(256.0)
    wave = {length: torch.cos(2 * math.pi * cells / length).expand(1, 1, 256, 256) for length in (8, 16, 128)}
    layer = LowPass(1, 16)
    layer.blur.periodic = True
    kept = {length: layer(w)[..., 2:-2, :].std() / w.std() for length, w in wave.items()}
    assert kept[128] > 0.9
    assert max(kept[8], kept[16]) < 0.01


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (17, 24), (15, 13), (9, 8)])
@pytest.mark.parametrize("kernel", [2, 4, 8])
def test_strided_convolution_of_few_channels_is_the_plain_one(size, kernel, periodic, frozen) -> None:
    torch.manual_seed(0)
    conv = Conv(2, 5, kernel, 2, bias=True).double().requires_grad_(not frozen)
    conv.periodic = periodic
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    got = conv(x)
    assert ("StridedFromFew" in type(got.grad_fn).__name__) == frozen
    assert torch.equal(got, conv(x.detach()))  # a loss of equal fields is exactly zero
    expected = F.conv2d(pad_same(x, kernel, 2, periodic=periodic), conv.weight, conv.bias, stride=2)
    assert_close(got, expected, torch.float64)
    weights = torch.randn_like(got)
    inputs = (x,) if frozen else (x, conv.weight, conv.bias)
    for one, other in zip(
        torch.autograd.grad((got * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        assert_close(one, other, torch.float64)


def test_strided_convolution_of_few_channels_differentiates_twice_and_maps() -> None:
    conv = Conv(2, 3, 4, 2, bias=True).double().requires_grad_(False)
    x = torch.randn(2, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, x)
    assert torch.autograd.gradgradcheck(conv, x)

    def energy(field: torch.Tensor) -> torch.Tensor:
        return conv(field[None]).square().sum()

    (together,) = torch.autograd.grad(conv(x).square().sum(), x)
    assert_close(torch.func.vmap(torch.func.grad(energy))(x.detach()), together, torch.float64)


@pytest.mark.parametrize("size", [(16, 24), (17, 25), (16, 25), (1, 2), (3, 3)])
def test_max_pool_is_that_of_a_field_padded_with_minus_infinity(size) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(MaxPool()(x), F.max_pool2d(pad_same(x, 3, 2, -math.inf), 3, 2))
