"""A test of the whole package: each row of one table, a mode, against the readable definition in float64.

``pytest -s tests/test_modes.py`` prints the errors.
"""

import copy
import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from atmoloss import AtmoDistLoss, atmodist_distance, distance_matrix, tiling
from atmoloss import weights as weights_folder
from atmoloss.extractor import Extractor, load_strictly
from atmoloss.networks import Encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.conftest import ATTENTION_WEIGHTS, EVERY_WEIGHTS, TINY_WEIGHTS
from tests.test_adjusted import definition as adjusted_definition
from tests.test_loss import NoReading
from tests.tolerances import TOLERANCES

MSE_WEIGHT = 0.1
SIZE = (90, 40)


def definition(encoder, gains, normalization, factors, a, b, periodic, sharp) -> torch.Tensor:
    """What all modes compute, as it is written down: batch norm not folded, one plain pass, float64."""
    features = []
    encoder.set_periodic(periodic)
    for fields in (a, b):
        x = normalization(fields)
        stages = encoder(x)
        for name, gain in gains.items():
            stages[name] = stages[name] * gain.reshape(-1, 1, 1)
        features.append({**stages, "normalised": x})
    encoder.set_periodic(False)
    first, second = features

    content = sum(f * (first[n] - second[n]).square().mean((1, 2, 3)) for n, f in factors.items())
    x, y = first["normalised"], second["normalised"]
    fields = adjusted_definition(x, y, periodic=periodic) if sharp else (x - y).square().mean((1, 2, 3))
    return (1 - MSE_WEIGHT) * content + MSE_WEIGHT * fields


@dataclasses.dataclass
class Case:
    """A set of weights: the extractor that ships, and the encoder and gains that it was made of."""

    extractor: Extractor
    encoder: Encoder
    gains: dict[str, torch.Tensor]
    options: dict


def tiny_case(encoder, info, gains) -> Case:
    """The encoder of all tests with every kind of layer."""
    complete = Encoder(**{**encoder.architecture, "low_pass": 8}).eval()
    complete.load_state_dict(encoder.state_dict())
    gains = {"low_pass": torch.tensor([1.5, 0.5]), **gains}
    scales = {"low_pass": 3.0, "stage1": 0.5, "stage4": 2.5}
    info = dataclasses.replace(info, encoder=complete.architecture, layer_scales={**info.layer_scales, **scales})
    extractor = Extractor(complete, LogNormalization(**ORIGINAL_NORMALIZATION), info, gains)
    return Case(extractor, complete, gains, {"layers": {"low_pass": 0.2, "stage1": 0.5, "stage4": 0.3}})


def folder_case(name: str | Path) -> Case:
    info, tensors = weights_folder.load(weights_folder.resolve(name))
    encoder = Encoder(**info.encoder).eval()
    load_strictly(encoder, tensors, "encoder.", info.id)
    gains = {n.removeprefix("gain."): t for n, t in tensors.items() if n.startswith("gain.")}
    return Case(Extractor(encoder, LogNormalization(**info.normalization), info, gains), encoder, gains, {})


@pytest.fixture(scope="module", params=EVERY_WEIGHTS)
def case(request, encoder, info, gains, attention_folder) -> Case:
    if request.param == TINY_WEIGHTS:
        case = tiny_case(encoder, info, gains)
    else:
        case = folder_case(attention_folder if request.param == ATTENTION_WEIGHTS else request.param)
    case.options |= {"mse_weight": MSE_WEIGHT, "reduction": "none"}
    return case


@pytest.fixture(scope="module")
def extractor(case) -> Extractor:
    return case.extractor


@pytest.fixture(scope="module")
def fields(extractor, draw_for):
    return draw_for(extractor, 5, *SIZE, seed=1), draw_for(extractor, 5, *SIZE, seed=2)


@pytest.fixture(scope="module")
def exact(case, fields):
    """Value and gradient of the definition, by whether columns wrap and whether the loss is sharp."""
    plain = copy.deepcopy(case.encoder).double().requires_grad_(False)
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    wide = {name: gain.double() for name, gain in case.gains.items()}
    factors = AtmoDistLoss(case.extractor, **case.options).factors
    result = {}
    for options in itertools.product((False, True), repeat=2):
        a, b = (x.double() for x in fields)
        value = definition(plain, wide, case.extractor.normalization, factors, a.requires_grad_(), b, *options)
        result[options] = value.detach(), torch.autograd.grad(value.sum(), a)[0]
    return result


def bands(extractor: Extractor, itemsize: int = 4) -> float:
    """The least bound for one field: the first stage needs several bands."""
    rows, columns = SIZE
    least = 0.0
    for step in tiling.steps(extractor.encoder):
        row = tiling._PEAK_FACTOR * itemsize * step.outputs * columns
        least = max(least, min(rows, 3 * step.halo + step.stride) * row)
        rows, columns = -(-rows // step.stride), -(-columns // step.stride)
    return 1.01 * least


def parts(extractor: Extractor) -> float:
    """A bound that holds two pairs."""
    layers = tuple(AtmoDistLoss(extractor).factors)
    return 4.5 * tiling.working_memory(extractor.encoder, *SIZE, 4, layers)


# A mode takes the case and two batches of fields, and returns the values of the pairs.


def loss(bound=None, autocast=None, **more):
    """The loss with options; ``bound`` makes its ``max_memory``, ``autocast`` surrounds it, its making included."""

    def mode(case, a, b):
        memory = {} if bound is None else {"max_memory": bound(case.extractor)}
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            return AtmoDistLoss(case.extractor, **case.options, **memory, **more)(a, b)

    return mode


def cached(autocast=None):
    def mode(case, a, b):
        loss = AtmoDistLoss(case.extractor, **case.options)
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            with torch.no_grad():
                target = loss.features(b)
            return loss(a, target)

    return mode


def compiled(bound=None, autocast=None, backend="aot_eager", n=None):
    """Traced, with its gradient, by all that comes before the code generator."""

    def mode(case, a, b):
        torch._dynamo.reset()
        memory = {} if bound is None else {"max_memory": bound(case.extractor)}
        inner = AtmoDistLoss(case.extractor, **case.options, **memory)
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            return torch.compile(lambda x, y: inner(x, y), fullgraph=True, backend=backend, dynamic=False)(a[:n], b[:n])

    return mode


def channels_last(case, a, b):
    return loss()(case, *(x.to(memory_format=torch.channels_last) for x in (a, b)))


def strided(case, a, b):
    """Fields as views: every second column, rows before samples in memory."""
    views = (x.repeat_interleave(2, -1).movedim(2, 0).contiguous().movedim(0, 2)[..., ::2] for x in (a, b))
    return loss()(case, *views)


def one_by_one(case, a, b):
    return torch.cat([loss()(case, x[None], y[None]) for x, y in zip(a, b, strict=True)])


def mapped(case, a, b):
    """Each pair a batch of its own, under torch.func.vmap, with the default validation."""
    inner = AtmoDistLoss(case.extractor, **case.options)
    return torch.func.vmap(inner)(a[:, None], b[:, None]).squeeze(1)


def matrix(case, a, b):
    options = {k: v for k, v in case.options.items() if k != "reduction"}
    return distance_matrix(a, b, weights=case.extractor, **options).diagonal()


def function(case, a, b):
    options = {k: v for k, v in case.options.items() if k != "reduction"}
    return atmodist_distance(a, b, weights=case.extractor, **options)


F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
BOUNDS = {
    **TOLERANCES,
    # Batch norm is folded into weights that are stored in float32: an error of 2⁻²⁴ in each of them.
    F64: TOLERANCES[F64]._replace(rounding=1e-7, gradient=1e-6),
    # What docs/speed.md states. Most of it are ReLUs near zero that open or close.
    BF16: TOLERANCES[BF16]._replace(rounding=8e-3, gradient=8e-2),
    F16: TOLERANCES[F16]._replace(rounding=1e-3, gradient=3e-2),
}
# name: (dtype of the fields, dtype that sets the tolerance, periodic, mode)
MODES = {
    "float32": (F32, F32, False, loss()),
    "float32, periodic": (F32, F32, True, loss(periodic=True)),
    "float64": (F64, F64, False, loss()),
    "float32 fields in float64": (F32, F32, False, loss(compute_dtype="float64")),
    "float64 fields in float32": (F64, F32, False, loss(compute_dtype="float32")),
    "bfloat16": (F32, BF16, False, loss(compute_dtype="bfloat16")),
    "channels_last fields": (F32, F32, False, channels_last),
    "strided fields": (F32, F32, False, strided),
    "one by one": (F32, F32, False, one_by_one),
    "vmap": (F32, F32, False, mapped),
    "cached targets": (F32, F32, False, cached()),
    "function": (F32, F32, False, function),
    "matrix": (F32, F32, False, matrix),
    "matrix of float64 fields": (F64, F32, False, matrix),
    "parts": (F32, F32, False, loss(parts)),
    "bands": (F32, F32, False, loss(bands)),
    "bands, periodic": (F32, F32, True, loss(bands, periodic=True)),
    "bands, float64": (F64, F64, False, loss(lambda e: bands(e, 8))),
    "bands, bfloat16": (F32, BF16, False, loss(lambda e: bands(e, 2), compute_dtype="bfloat16")),
    "compiled": (F32, F32, False, compiled()),
    "compiled, bands": (F32, F32, False, compiled(bands, n=1)),
}
for name, half in {"bfloat16": BF16, "float16": F16}.items():
    MODES |= {
        f"{name} autocast": (F32, half, False, loss(autocast=half)),
        f"{name} autocast, periodic": (F32, half, True, loss(autocast=half, periodic=True)),
        f"{name} autocast, cached targets": (F32, half, False, cached(half)),
        f"{name} autocast, parts": (F32, half, False, loss(parts, half)),
        f"{name} autocast, bands": (F32, half, False, loss(bands, half)),
        f"{name} autocast, compiled": (F32, half, False, compiled(autocast=half)),
    }
SLOW = {
    "compiled by inductor": (F32, F32, False, loss(compile=True)),
    "compiled by inductor, bfloat16": (F32, BF16, False, loss(compile=True, compute_dtype="bfloat16")),
    "compiled by inductor, bfloat16 autocast": (F32, BF16, False, loss(compile=True, autocast=BF16)),
    "compiled by inductor, float16 autocast": (F32, F16, False, loss(compile=True, autocast=F16)),
}
ROWS = [pytest.param(name, *row, id=name) for name, row in MODES.items()]
ROWS += [pytest.param(name, *row, id=name, marks=pytest.mark.slow) for name, row in SLOW.items()]


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize(("name", "dtype", "tolerance", "periodic", "mode"), ROWS)
def test_error_against_float64(name, dtype, tolerance, periodic, mode, case, fields, exact) -> None:
    check_error(name, dtype, tolerance, mode, case, fields, exact[periodic, False])


# A sharp loss encodes as a plain one does, whatever the encoder and the kernels, and has no matrix (test_distance.py).
@pytest.mark.parametrize(("name", "dtype", "tolerance", "periodic", "mode"), ROWS)
@pytest.mark.parametrize("case", [w for w in EVERY_WEIGHTS if w != ATTENTION_WEIGHTS], indirect=True)
def test_error_of_a_sharp_loss_against_float64(name, dtype, tolerance, periodic, mode, case, fields, exact) -> None:
    if mode is not matrix:
        case = dataclasses.replace(case, options={**case.options, "sharp": True})
        check_error(name, dtype, tolerance, mode, case, fields, exact[periodic, True])


def check_error(name, dtype, tolerance, mode, case, fields, exact) -> None:
    """Compare value and gradient of a mode with the exact ones, to the bounds of a dtype."""
    a, b = (x.to(dtype) for x in fields)
    value = mode(case, a.requires_grad_(), b)
    expected, slope = (x[: len(value)] for x in exact)
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


def test_modes_are_what_they_say(case, fields, monkeypatch) -> None:
    """Bounds that are never reached would test nothing."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    original = Encoder.step

    def counting(self, name, x):
        shapes.setdefault(name, []).append(tuple(x.shape))
        return original(self, name, x)

    monkeypatch.setattr(Encoder, "step", counting)
    with torch.no_grad():
        loss(parts)(case, *fields)
        assert [shape[0] for shape in shapes["stage1"]] == [2, 2, 2, 2, 1, 1]
        shapes.clear()
        loss(bands)(case, *(x[:1] for x in fields))
        # In the stage that needs most memory; in others all rows may fit.
        of_most = max(shapes.values(), key=len)
        assert len(of_most) > 2 * 2
        assert len({shape[2] for shape in of_most}) > 1


# --- mixed precision in a training ---------------------------------------------------------------------------------


class Generator(nn.Module):
    """A model to train: what it returns is in the dtype of autocast, in physical units."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        channels = extractor.encoder.in_channels
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.register_buffer("scale", extractor.normalization.std.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x / self.scale) * self.scale


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("half", [BF16, F16], ids=str)
def test_a_generator_under_autocast(half, extractor, fields) -> None:
    """The generator inside the block, too, and GradScaler: gradients are those of float32, to the bound."""
    torch.manual_seed(0)
    generator, inner = Generator(extractor), AtmoDistLoss(extractor)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    x, y = fields
    inner(generator(x), y).backward()
    expected = torch.cat([p.grad.flatten() for p in generator.parameters()])
    optimizer = torch.optim.SGD(generator.parameters(), 0.0)
    for _ in range(3):  # what is summed over all cells in the generator's own gradients may leave float16 at first
        optimizer.zero_grad()
        with torch.autocast("cpu", half):
            prediction = generator(x)
            value = inner(prediction, y)
        prediction.retain_grad()
        scaler.scale(value).backward()
        assert value.dtype == prediction.grad.dtype == F32
        assert prediction.grad.isfinite().all()
        scaler.unscale_(optimizer)
        gradient = torch.cat([p.grad.flatten() for p in generator.parameters()])
        scaler.step(optimizer)
        scaler.update()
        if gradient.isfinite().all():
            break
    assert (gradient - expected).norm() <= BOUNDS[half].gradient * expected.norm()


# --- synchronisation and graphs ------------------------------------------------------------------------------------

MEMORY = {"one pass": lambda e: None, "parts": parts, "bands": bands}


@pytest.mark.parametrize("bound", MEMORY.values(), ids=MEMORY.keys())
def test_no_value_is_read_without_validation(bound, extractor, fields) -> None:
    inner = AtmoDistLoss(extractor, validate=False, max_memory=bound(extractor))
    a, b = fields
    with NoReading():
        inner(a.requires_grad_(), b).sum().backward()
    a.requires_grad_(False)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; not run where this was written")


@cuda
@pytest.mark.parametrize("bound", MEMORY.values(), ids=MEMORY.keys())
def test_no_synchronisation_on_cuda(bound, extractor, fields) -> None:
    inner = AtmoDistLoss(extractor, max_memory=bound(extractor)).cuda()
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
@pytest.mark.parametrize(("half", "tolerance"), [(None, F32), (BF16, BF16), (F16, F16)], ids=str)
def test_values_and_gradients_on_cuda(half, tolerance, case, fields, exact) -> None:
    a, b = (x.cuda() for x in fields)
    inner = AtmoDistLoss(case.extractor, **case.options).cuda()
    with torch.backends.cudnn.flags(allow_tf32=False):
        with torch.autocast("cuda", half, enabled=half is not None):
            value = inner(a.requires_grad_(), b)
        (gradient,) = torch.autograd.grad(value.sum(), a)
    expected, slope = exact[False]
    assert ((value.cpu().double() - expected).abs() / expected).max() <= BOUNDS[tolerance].rounding
    assert (gradient.cpu().double() - slope).norm() <= BOUNDS[tolerance].gradient * slope.norm()


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
        mode.inputs.validate = False
        assert mode(fields, fields).device.type == "meta"
