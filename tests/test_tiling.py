"""Bands of rows and parts of batches: the features and gradients of one pass, within the memory asked for."""

import dataclasses
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from atmoloss import AtmoDistLoss, load_extractor, tiling
from atmoloss.errors import InputError
from atmoloss.extractor import Extractor
from atmoloss.folding import fold_batch_norm
from atmoloss.networks import Encoder, build_encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.tolerances import TOLERANCES, assert_close

ENCODERS = {
    "resnet_small": {},
    "resnet_aa": {"blocks_per_stage": 1},
    "resnet_aa, no stride in an even stem": {"blocks_per_stage": 1, "stem_stride": 1, "stem_kernel": 4},
    "resnet_small, low-pass": {"blocks_per_stage": 1, "low_pass": 16},
    "resnet_attn": {"stage_channels": (4, 6, 8), "attention": {"stage2": {"blocks": 2, "heads": 2, "radius": 2}}},
}


@pytest.fixture(scope="module", params=ENCODERS.items(), ids=ENCODERS.keys())
def network(request, randomise) -> Encoder:
    name, options = request.param
    narrow = {"stage_channels": (4, 6, 8, 8)}
    encoder = fold_batch_norm(randomise(build_encoder(name.partition(",")[0], **{**narrow, **options})))
    return encoder.requires_grad_(False).double()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("size", [(140, 20), (141, 23), (142, 20), (143, 22)])  # "same" padding depends on remainders
def test_bands_of_any_height_give_one_pass(network, periodic, size) -> None:
    network.set_periodic(periodic)
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    for step in tiling.steps(network):
        whole = network.step(step.name, x)
        for rows in (step.stride, 3 * step.stride, 40 * step.stride):
            assert_close(tiling._in_bands(network, step, x, rows), whole, torch.float64)
        x = whole


def test_half_the_halo_is_not_enough(network) -> None:
    network.set_periodic(False)
    x = torch.randn(1, 2, 300, 20, dtype=torch.float64)
    for step in tiling.steps(network):
        whole = network.step(step.name, x)
        short = step._replace(halo=max(step.halo // 2 // step.stride * step.stride, 0))
        assert (tiling._in_bands(network, short, x, 8 * step.stride) - whole).abs().max() > 1e-9 * whole.abs().max()
        x = whole


@pytest.mark.parametrize("weights", ["default", "winds"])
@pytest.mark.parametrize(("size", "periodic"), [((181, 360), True), ((181, 359), False), ((182, 361), True)])
def test_features_of_a_globe_from_bands(weights, size, periodic, monkeypatch) -> None:
    extractor = load_extractor(weights).with_periodic(periodic)
    scale = torch.tensor(extractor.normalization.constants()["std"]).reshape(2, 1, 1)
    fields = scale.float() * torch.randn(1, 2, *size)
    heights = count_bands(monkeypatch)
    with torch.no_grad():
        got, whole = extractor(fields, max_memory=5e6), extractor(fields)
    assert heights["stage1"] > 2
    assert heights["stage2"] > 1
    for stage, features in whole.items():
        assert_close(got[stage], features, torch.float32)


def count_bands(monkeypatch) -> dict[str, int]:
    """Count how often each step is taken by bands; recomputation for gradients counts, too."""
    counts: dict[str, int] = {}
    step = Encoder.step

    def counting(self, name, x):
        counts[name] = counts.get(name, 0) + 1
        return step(self, name, x)

    monkeypatch.setattr(Encoder, "step", counting)
    return counts


@pytest.fixture(scope="module")
def published(randomise, info) -> Extractor:
    """The published architecture, whose deepest receptive field is 1396 cells."""
    encoder = randomise(build_encoder("resnet_small"))
    assert encoder.receptive_fields["stage4"] == 1396
    return Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info)


@pytest.mark.parametrize("max_memory", [1.7e6, 6e6])
def test_gradients_through_bands(published, draw, max_memory, monkeypatch) -> None:
    fields = draw(2, 301, 40).requires_grad_()
    counts = count_bands(monkeypatch)

    def gradient(bound):
        features = published(fields, max_memory=bound)
        return features, torch.autograd.grad(sum(f.square().mean() for f in features.values()), fields)[0]

    got, slope = gradient(max_memory)
    assert counts["stage1"] >= 2 * 2 * (2 if max_memory < 2e6 else 1)  # fields, and once more for the gradient
    whole, expected = gradient(None)
    for stage, features in whole.items():
        assert_close(got[stage], features, torch.float32)
    assert_close(slope, expected, TOLERANCES[torch.float32].gradient)


def test_without_a_gradient_nothing_is_computed_twice(extractor, draw, monkeypatch) -> None:
    counts = count_bands(monkeypatch)
    with torch.no_grad():
        extractor(draw(6), max_memory=2e5, layers=("stage1", "stage2"))
    size = tiling.working_memory(extractor.encoder, 32, 32, 4, ("stage1", "stage2"))
    assert counts == dict.fromkeys(("stage1", "stage2"), -(-6 // int(2e5 / size)))


# --- the loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, "rows", "samples"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_batch_in_parts(reduction, weight, cached, extractor, draw, monkeypatch) -> None:
    a, b = draw(5, seed=1).requires_grad_(), draw(5, seed=2)
    weight = {None: None, "rows": torch.rand(32).round(), "samples": torch.rand(5, 1, 32, 32).round()}[weight]
    options = {"reduction": reduction, "mse_weight": 0.3}
    plain = AtmoDistLoss(extractor, **options)
    size = tiling.working_memory(extractor.encoder, 32, 32, 4, tuple(plain.factors))
    bounded = AtmoDistLoss(extractor, max_memory=4.5 * size, **options)  # two pairs
    target = plain.features(b, weight) if cached else b
    counts = count_bands(monkeypatch)
    value = bounded(a, target, weight)
    assert counts["stage2"] == 3 * (1 if cached else 2)
    expected = plain(a, target, weight)
    assert_close(value, expected, torch.float32)
    gradient, whole = (torch.autograd.grad(v.sum(), a)[0] for v in (value, expected))
    assert_close(gradient, whole, TOLERANCES[torch.float32].gradient)


class Alive(TorchDispatchMode):
    """Count the bytes of the tensors that are made inside and still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def _free(self, key: int) -> None:
        self.now -= self._seen.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._seen:
                storage = tensor.untyped_storage()
                self._seen[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out


def peak(loss: AtmoDistLoss, a: torch.Tensor, b: torch.Tensor) -> float:
    """Bytes alive at most in forward and backward, without the fields and the gradient that is asked for."""
    with Alive() as alive:
        loss(a.clone().requires_grad_(), b).backward()
    return alive.peak - 2 * a.nbytes


def test_memory_of_a_batch_stays_under_the_bound(draw) -> None:
    extractor = load_extractor()
    a, b = draw(12, 64, 64, seed=1), draw(12, 64, 64, seed=2)
    pair = 2 * tiling.working_memory(extractor.encoder, 64, 64, 4, None)
    plain = peak(AtmoDistLoss(extractor), a, b)
    for pairs in (1, 3):
        bounded = peak(AtmoDistLoss(extractor, max_memory=1.01 * pairs * pair), a, b)
        assert bounded < pairs * pair
        assert bounded < 1.7 * pairs / 12 * plain


def test_memory_of_attention_stays_under_the_bound(randomise, info, draw) -> None:
    encoder = randomise(build_encoder("resnet_attn"))
    layers = {"layers": {"stage2": 1.0}, "layer_scales": {"stage1": 1.0, "stage2": 1.0}}
    described = dataclasses.replace(info, encoder=encoder.architecture, **layers)
    extractor = Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), described)
    a, b = draw(6, 64, 64, seed=1), draw(6, 64, 64, seed=2)
    pair = 2 * tiling.working_memory(extractor.encoder, 64, 64, 4, ("stage2",))
    bounded = peak(AtmoDistLoss(extractor, max_memory=1.01 * pair), a, b)
    assert bounded < pair
    assert bounded < 0.3 * peak(AtmoDistLoss(extractor), a, b)
    a, b = draw(1, 600, 64, seed=1), draw(1, 600, 64, seed=2)
    assert_bounded(extractor, a, b, 15e6, 0.75)


def assert_bounded(extractor, a, b, max_memory, share) -> None:
    loss, plain = AtmoDistLoss(extractor, max_memory=max_memory), AtmoDistLoss(extractor)
    with torch.no_grad():
        features = sum(f.nbytes for f in extractor(a).values())
    bounded = peak(loss, a, b)
    assert bounded < max_memory + 5 * features
    assert bounded < share * peak(plain, a, b)


def test_memory_of_a_large_field_is_that_of_its_features(published, draw) -> None:
    a, b = draw(1, 512, 256, seed=1), draw(1, 512, 256, seed=2)
    assert_bounded(published, a, b, 13e6, 0.65)


@pytest.mark.slow
@pytest.mark.parametrize("periodic", [False, True])
def test_quarter_degree_globe(periodic, draw) -> None:
    a, b = draw(1, 721, 1440, seed=1), draw(1, 721, 1440, seed=2)
    area = torch.cos(torch.deg2rad(torch.linspace(90, -90, 721))).clamp_min(0)
    extractor = load_extractor()
    assert_bounded(extractor, a, b, 60e6, 0.6)
    values, gradients = [], []
    for bound in (60e6, None):
        loss = AtmoDistLoss(extractor, periodic=periodic, max_memory=bound)
        x = a.clone().requires_grad_()
        values.append(loss(x, b, area))
        gradients.append(torch.autograd.grad(values[-1], x)[0])
    assert_close(*values, torch.float32)
    assert_close(*gradients, TOLERANCES[torch.float32].gradient)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda e, f: AtmoDistLoss(e, max_memory=0), ("max_memory", "got 0")),
        (lambda e, f: AtmoDistLoss(e, max_memory=-1e9), ("max_memory", "-1000000000.0")),
        (lambda e, f: AtmoDistLoss(e, max_memory=float("nan")), ("max_memory", "nan")),
        (lambda e, f: AtmoDistLoss(e, max_memory=1e4)(f, f), ("max_memory", "1e+04 bytes", "64x64", "stage1")),
        (lambda e, f: e(f, max_memory=1e4), ("max_memory", "1e+04 bytes", "10 rows")),
    ],
)
def test_wrong_bounds(call, words, extractor, draw, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        call(extractor, draw(1, 64, 64))
    one_sentence(error.value, *words, "expected")


def test_the_bound_that_the_error_names_is_enough(extractor, draw) -> None:
    fields = draw(1, 64, 64)
    with pytest.raises(InputError) as error:
        extractor(fields, max_memory=1e4)
    least = float(str(error.value).partition("at least ")[2].split()[0])
    assert 1e4 < least < tiling.working_memory(extractor.encoder, 64, 64, 4, None)
    extractor(fields, max_memory=1.01 * least)
