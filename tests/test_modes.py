"""The same answers in every mode: each row of one table against the readable definition in float64.

``pytest -s tests/test_modes.py`` prints the errors.
"""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from atmoloss import AtmoDistLoss, atmodist_distance, distance_matrix, tiling
from atmoloss.extractor import Extractor
from atmoloss.networks import Encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.test_loss import NoReading
from tests.tolerances import TOLERANCES

MSE_WEIGHT = 0.1
LAYERS = {"low_pass": 0.2, "stage1": 0.5, "stage4": 0.3}
SCALES = {"low_pass": 3.0, "stage1": 0.5, "stage4": 2.5}
FACTORS = {name: weight * SCALES[name] for name, weight in LAYERS.items()}
OPTIONS = {"layers": LAYERS, "mse_weight": MSE_WEIGHT, "reduction": "none"}
SIZE = (90, 40)


def definition(encoder, gains, a, b, periodic) -> torch.Tensor:
    """What all modes compute, as it is written down: batch norm not folded, one plain pass, float64."""
    features = []
    encoder.set_periodic(periodic)
    for fields in (a, b):
        x = LogNormalization(**ORIGINAL_NORMALIZATION)(fields)
        stages = encoder(x)
        for name, gain in gains.items():
            stages[name] = stages[name] * gain.reshape(-1, 1, 1)
        features.append({**stages, "normalised": x})
    encoder.set_periodic(False)
    first, second = features
    content = sum(f * (first[n] - second[n]).square().mean((1, 2, 3)) for n, f in FACTORS.items())
    return (1 - MSE_WEIGHT) * content + MSE_WEIGHT * (first["normalised"] - second["normalised"]).square().mean(
        (1, 2, 3)
    )


@pytest.fixture(scope="session")
def encoder(encoder) -> Encoder:
    """The encoder of all tests with every kind of layer."""
    complete = Encoder(**{**encoder.architecture, "low_pass": 8}).eval()
    complete.load_state_dict(encoder.state_dict())
    return complete


@pytest.fixture(scope="session")
def gains(gains) -> dict[str, torch.Tensor]:
    return {"low_pass": torch.tensor([1.5, 0.5]), **gains}


@pytest.fixture(scope="session")
def extractor(encoder, info, gains) -> Extractor:
    info = dataclasses.replace(info, encoder=encoder.architecture, layer_scales={**info.layer_scales, **SCALES})
    return Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info, gains)


@pytest.fixture(scope="module")
def fields(draw):
    return draw(5, *SIZE, seed=1), draw(5, *SIZE, seed=2)


@pytest.fixture(scope="module")
def exact(encoder, gains, fields):
    """Value and gradient of the definition, by whether columns wrap."""
    plain = copy.deepcopy(encoder).double().requires_grad_(False)
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    wide = {name: gain.double() for name, gain in gains.items()}
    result = {}
    for periodic in (False, True):
        a, b = (x.double() for x in fields)
        value = definition(plain, wide, a.requires_grad_(), b, periodic)
        result[periodic] = value.detach(), torch.autograd.grad(value.sum(), a)[0]
    return result


def bands(extractor: Extractor, itemsize: int = 4) -> float:
    """A bound under which the first stage of one field needs several bands."""
    step = tiling.steps(extractor.encoder)[0]
    return tiling._ALIVE * itemsize * step.outputs * SIZE[1] * (2 * step.halo + 20)


def parts(extractor: Extractor) -> float:
    """A bound that holds two pairs."""
    return 4.5 * tiling.working_memory(extractor.encoder, *SIZE, 4, tuple(FACTORS))


def loss(**more):
    return lambda e, a, b: AtmoDistLoss(e, **OPTIONS, **more)(a, b)


def cached(e, a, b):
    loss = AtmoDistLoss(e, **OPTIONS)
    with torch.no_grad():
        target = loss.features(b)
    return loss(a, target)


def autocast(e, a, b):
    with torch.autocast("cpu", torch.bfloat16):
        return AtmoDistLoss(e, **OPTIONS)(a, b)


def compiled(e, a, b, backend="eager", **more):
    torch._dynamo.reset()
    inner = AtmoDistLoss(e, **OPTIONS, **more)
    return torch.compile(lambda x, y: inner(x, y), fullgraph=True, backend=backend, dynamic=False)(a, b)


def channels_last(e, a, b):
    return loss()(e, *(x.to(memory_format=torch.channels_last) for x in (a, b)))


def strided(e, a, b):
    """Fields as views: every second column, rows before samples in memory."""
    return loss()(e, *(x.repeat_interleave(2, -1).movedim(2, 0).contiguous().movedim(0, 2)[..., ::2] for x in (a, b)))


def one_by_one(e, a, b):
    return torch.cat([loss()(e, x[None], y[None]) for x, y in zip(a, b, strict=True)])


def matrix(e, a, b):
    options = {k: v for k, v in OPTIONS.items() if k != "reduction"}
    return distance_matrix(a, b, weights=e, **options).diagonal()


def function(e, a, b):
    options = {k: v for k, v in OPTIONS.items() if k != "reduction"}
    return atmodist_distance(a, b, weights=e, **options)


F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
# In float64, too, batch norm is folded into weights that are stored in float32: an error of 2⁻²⁴ in each of them.
FOLDED = TOLERANCES[F64]._replace(rounding=1e-7, gradient=1e-6)
BOUNDS = {**TOLERANCES, F64: FOLDED}
# name: (dtype of the fields, dtype that sets the tolerance, periodic, mode)
MODES = {
    "float32": (F32, F32, False, loss()),
    "float32, periodic": (F32, F32, True, loss(periodic=True)),
    "float64": (F64, F64, False, loss()),
    "float32 fields in float64": (F32, F32, False, loss(compute_dtype="float64")),
    "float64 fields in float32": (F64, F32, False, loss(compute_dtype="float32")),
    "bfloat16": (F32, BF16, False, loss(compute_dtype="bfloat16")),
    "bfloat16, autocast": (F32, BF16, False, autocast),
    "channels_last fields": (F32, F32, False, channels_last),
    "strided fields": (F32, F32, False, strided),
    "one by one": (F32, F32, False, one_by_one),
    "cached targets": (F32, F32, False, cached),
    "function": (F32, F32, False, function),
    "matrix": (F32, F32, False, matrix),
    "matrix of float64 fields": (F64, F32, False, matrix),
    "parts": (F32, F32, False, lambda e, a, b: loss(max_memory=parts(e))(e, a, b)),
    "bands": (F32, F32, False, lambda e, a, b: loss(max_memory=bands(e))(e, a, b)),
    "bands, periodic": (F32, F32, True, lambda e, a, b: loss(max_memory=bands(e), periodic=True)(e, a, b)),
    "bands, float64": (F64, F64, False, lambda e, a, b: loss(max_memory=bands(e, 8))(e, a, b)),
    "bands, bfloat16": (
        F32, BF16, False, lambda e, a, b: loss(max_memory=bands(e, 2), compute_dtype="bfloat16")(e, a, b)
    ),
    "compiled": (F32, F32, False, compiled),
    "compiled, bands": (F32, F32, False, lambda e, a, b: compiled(e, a[:1], b[:1], max_memory=bands(e))),
}  # fmt: skip
SLOW = {
    "compiled by inductor": (F32, F32, False, loss(compile=True)),
    "compiled by inductor, bfloat16": (F32, BF16, False, loss(compile=True, compute_dtype="bfloat16")),
}
ROWS = [pytest.param(name, *row, id=name) for name, row in MODES.items()]
ROWS += [pytest.param(name, *row, id=name, marks=pytest.mark.slow) for name, row in SLOW.items()]


@pytest.mark.parametrize(("name", "dtype", "tolerance", "periodic", "mode"), ROWS)
def test_error_against_float64(name, dtype, tolerance, periodic, mode, extractor, fields, exact) -> None:
    a, b = (x.to(dtype) for x in fields)
    value = mode(extractor, a.requires_grad_(), b)
    expected, slope = (x[: len(value)] for x in exact[periodic])
    bound = BOUNDS[tolerance]
    error = ((value.double() - expected).abs() / expected).max().item()
    text = f"{name}: value {error:.1e} of {bound.rounding:g}"
    assert error <= bound.rounding, text
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), a)
        assert gradient.dtype == dtype
        error = ((gradient[: len(value)].double() - slope).norm() / slope.norm()).item()
        text += f", gradient {error:.1e} of {bound.gradient:g}"
        assert error <= bound.gradient, text
    else:
        assert mode is matrix
    print(f"\n{text}")


def test_modes_are_what_they_say(extractor, fields, monkeypatch) -> None:
    """Bounds that are never reached would test nothing."""
    heights = []
    original = type(extractor.encoder).step
    monkeypatch.setattr(
        type(extractor.encoder),
        "step",
        lambda self, name, x: (heights.append(tuple(x.shape)) if name == "stage1" else None, original(self, name, x))[
            1
        ],
    )
    with torch.no_grad():
        loss(max_memory=parts(extractor))(extractor, *fields)
        assert [shape[0] for shape in heights] == [2, 2, 2, 2, 1, 1]
        heights.clear()
        loss(max_memory=bands(extractor))(extractor, *(x[:1] for x in fields))
        assert len(heights) == 2 * 5
        assert max(shape[2] for shape in heights) < SIZE[0] / 2


# --- synchronisation and graphs ------------------------------------------------------------------------------------

MEMORY = {"one pass": lambda e: None, "parts": parts, "bands": bands}


@pytest.mark.parametrize("bound", MEMORY.values(), ids=MEMORY.keys())
def test_no_value_is_read_without_validation(bound, extractor, fields) -> None:
    inner = AtmoDistLoss(extractor, **OPTIONS, validate=False, max_memory=bound(extractor))
    a, b = fields
    with NoReading():
        inner(a.requires_grad_(), b).sum().backward()
    a.requires_grad_(False)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; not run where this was written")


@cuda
@pytest.mark.parametrize("bound", MEMORY.values(), ids=MEMORY.keys())
def test_no_synchronisation_on_cuda(bound, extractor, fields) -> None:
    inner = AtmoDistLoss(extractor, **OPTIONS, max_memory=bound(extractor)).cuda()
    a, b = (x.cuda() for x in fields)
    inner(a.requires_grad_(), b).sum().backward()  # "auto" validates the first call; kernels are chosen
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        inner(a, b).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@cuda
def test_graphed_loss_may_be_called_twice_before_backward(extractor, fields) -> None:
    a, b = (x.cuda() for x in fields)
    plain = AtmoDistLoss(extractor, validate=False).cuda()
    sample = (torch.zeros_like(a).requires_grad_(), torch.zeros_like(b))
    graphed = [torch.cuda.make_graphed_callables(AtmoDistLoss(extractor, validate=False).cuda(), sample) for _ in "12"]
    x = a.clone().requires_grad_()
    first, second = graphed[0](x, b), graphed[1](x, 2 * b)  # one graph each: a graph has one set of activations
    (gradient,) = torch.autograd.grad(first + second, x)
    (expected,) = torch.autograd.grad(plain(x, b) + plain(x, 2 * b), x)
    assert (gradient - expected).norm() <= TOLERANCES[torch.float32].gradient * expected.norm()


@cuda
def test_values_on_cuda(extractor, fields, exact) -> None:
    a, b = (x.cuda() for x in fields)
    inner = AtmoDistLoss(extractor, **OPTIONS).cuda()
    with torch.backends.cudnn.flags(allow_tf32=False):
        value = inner(a, b).cpu().double()
    assert ((value - exact[False][0]).abs() / exact[False][0]).max() <= TOLERANCES[torch.float32].rounding


# --- devices -------------------------------------------------------------------------------------------------------


def test_everything_moves_with_the_module(extractor) -> None:
    """Every tensor that the loss holds is a buffer, so that .to() finds it."""
    inner = AtmoDistLoss(extractor, transform=nn.Identity())
    for module in inner.modules():
        held = {n: v for n, v in vars(module).items() if isinstance(v, torch.Tensor)}
        assert not held, f"{type(module).__name__} holds {', '.join(held)} outside its buffers"
    assert {b.device.type for b in inner.to("meta").buffers()} == {"meta"}
    fields = torch.empty(2, 2, *SIZE, device="meta")
    for mode in (inner, AtmoDistLoss(extractor, max_memory=bands(extractor))):
        mode = mode.to("meta")
        mode.validate = False
        assert mode(fields, fields).device.type == "meta"
