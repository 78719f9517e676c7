"""What a parent model does to its children changes no number of a loss: initialisers, pruning, devices, modes, dtypes.

Every test compares with the value and the gradient of a loss that nobody touched, for every weights folder that ships.
"""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.errors import InputError, WeightsError
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.tolerances import TOLERANCES, assert_close


class Parent(nn.Module):
    def __init__(self, weights: str) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))
        self.loss = AtmoDistLoss(weights)


@pytest.fixture
def parent(every_weights) -> Parent:
    return Parent(every_weights)


@pytest.fixture(scope="module")
def fields(every_extractor, draw_for):
    return draw_for(every_extractor, seed=1), draw_for(every_extractor, seed=2)


def value_and_gradient(loss, fields):
    x = fields[0].clone().requires_grad_()
    value = loss(x, fields[1])
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.fixture(scope="module")
def untouched(every_weights, fields):
    return value_and_gradient(AtmoDistLoss(every_weights), fields)


def assert_untouched(loss, fields, untouched) -> None:
    assert all(map(torch.equal, value_and_gradient(loss, fields), untouched))


# --- initialisers and the like -------------------------------------------------------------------------------------


def by_type(module: nn.Module) -> None:
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._BatchNorm)):
        nn.init.normal_(module.weight, 0.0, 0.02)


def by_class_name(module: nn.Module) -> None:
    """As DCGAN and pix2pix do."""
    name = type(module).__name__
    if any(word in name for word in ("Conv", "Linear", "BatchNorm")):
        module.weight.data.normal_(0.0, 0.02)
        module.bias.data.zero_()


def by_attribute(module: nn.Module) -> None:
    for name in ("weight", "bias"):
        if isinstance(getattr(module, name, None), torch.Tensor):
            getattr(module, name).data.normal_(0.0, 0.02)


def by_method(module: nn.Module) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


def everywhere(change):
    """Apply a change to what is a convolution or a linear layer."""

    def act(parent: nn.Module) -> None:
        for module in list(parent.modules()):
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) or "Conv" in type(module).__name__:
                change(module)

    return act


def prune_globally(parent: nn.Module) -> None:
    pairs = [(m, "weight") for m in parent.modules() if hasattr(m, "weight") and not isinstance(m, nn.BatchNorm2d)]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.5)


def zero_every_parameter(parent: nn.Module) -> None:
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter.zero_()


DEEDS = {
    "initialise by type": lambda parent: parent.apply(by_type),
    "initialise by class name": lambda parent: parent.apply(by_class_name),
    "initialise by attribute": lambda parent: parent.apply(by_attribute),
    "reset_parameters": lambda parent: parent.apply(by_method),
    "zero every parameter": zero_every_parameter,
    "prune": everywhere(lambda m: prune.random_unstructured(m, "weight", amount=0.5)),
    "prune globally": prune_globally,
    "spectral_norm": everywhere(parametrizations.spectral_norm),
    "weight_norm": everywhere(parametrizations.weight_norm),
    "sync batch norm": nn.SyncBatchNorm.convert_sync_batchnorm,
    "train": lambda parent: parent.train(),
    "train every module": lambda parent: [m.train() for m in list(parent.modules())],
    "half": lambda parent: parent.half(),
    "bfloat16": lambda parent: parent.bfloat16(),
    "double": lambda parent: parent.double(),
    "half and back": lambda parent: parent.to(torch.float16).to("cpu", torch.float32),
    "channels_last": lambda parent: parent.to(memory_format=torch.channels_last),
    "share_memory": lambda parent: parent.share_memory(),
    "requires_grad_": lambda parent: parent.requires_grad_(True),
    "to_empty": lambda parent: parent.to_empty(device="cpu"),
    "meta and back": lambda parent: parent.to("meta").to_empty(device="cpu"),
    "meta, copied, and back": lambda parent: copy.deepcopy(parent.to("meta")).to_empty(device="cpu"),
    "load_state_dict": lambda parent: parent.load_state_dict(Parent("default").state_dict(), strict=True),
    "load_state_dict, assigned": lambda parent: parent.load_state_dict(Parent("default").state_dict(), assign=True),
}


@pytest.mark.filterwarnings("ignore:.*quantiz")
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS.keys())
def test_no_deed_of_a_parent_changes_a_number(deed, parent, fields, untouched) -> None:
    before = [p.detach().clone() for p in parent.body.parameters()]
    result = deed(parent)
    loss = result.loss if isinstance(result, nn.Module) else parent.loss
    assert_untouched(loss, fields, untouched)
    if "init" in str(deed):  # the deed itself did something
        assert any(not torch.equal(p, q) for p, q in zip(before, parent.body.parameters(), strict=True))


# --- devices without numbers ---------------------------------------------------------------------------------------


def test_made_under_the_meta_device(every_weights, fields, untouched) -> None:
    with torch.device("meta"):
        parent = Parent(every_weights)
    assert parent.body[0].weight.is_meta
    assert_untouched(parent.loss, fields, untouched)
    assert_untouched(parent.to_empty(device="cpu").loss, fields, untouched)


def test_normalization_made_under_the_meta_device(draw) -> None:
    with torch.device("meta"):
        normalization = LogNormalization(**ORIGINAL_NORMALIZATION)
    expected = LogNormalization(**ORIGINAL_NORMALIZATION)(draw())
    for module in (normalization, normalization.to("meta").to_empty(device="cpu")):
        assert torch.equal(module(draw()), expected)


def test_numbers_that_are_gone_are_said_to_be(parent, fields, one_sentence) -> None:
    loss = parent.loss.to("meta")
    for call in (lambda: loss(*fields), lambda: loss.extractor(fields[0]), lambda: loss.features(fields[0])):
        with pytest.raises(WeightsError) as error:
            call()
        one_sentence(error.value, "weights", "meta", "to_empty")


def test_fields_on_another_device(parent, fields, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        parent.loss(fields[0].to("meta"), fields[1].to("meta"))
    one_sentence(error.value, "fields", "meta", "expected cpu")


@pytest.fixture
def all_tensors_on_meta(monkeypatch) -> None:
    """What accelerate's init_empty_weights(include_buffers=True) does while a model is made."""
    register_parameter, register_buffer = nn.Module.register_parameter, nn.Module.register_buffer

    def parameter(module, name, value):
        register_parameter(module, name, None if value is None else nn.Parameter(value.to("meta")))

    def buffer(module, name, value, persistent=True):
        register_buffer(module, name, None if value is None else value.to("meta"), persistent)

    monkeypatch.setattr(nn.Module, "register_parameter", parameter)
    monkeypatch.setattr(nn.Module, "register_buffer", buffer)


def test_made_without_numbers(all_tensors_on_meta, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        AtmoDistLoss()
    one_sentence(error.value, "weights", "meta", "init_empty_weights")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_default_dtype_rounds_nothing(dtype, every_weights, fields, untouched) -> None:
    torch.set_default_dtype(dtype)
    try:
        loss = AtmoDistLoss(every_weights)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_untouched(loss, fields, untouched)


# --- inference mode ------------------------------------------------------------------------------------------------


def unpickled(loss):
    return pickle.loads(pickle.dumps(loss))


def reloaded(loss):
    file = io.BytesIO()
    torch.save(loss, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


BEFORE_TRAINING = {
    "called": lambda loss: loss,
    "moved": lambda loss: loss.to("meta").to_empty(device="cpu"),
    "copied": copy.deepcopy,
    "pickled": unpickled,
    "saved": reloaded,
}
OPTIONS = [{}, {"compute_dtype": "float64"}, {"max_memory": 4e5}, {"periodic": True}]


@pytest.mark.parametrize("act", BEFORE_TRAINING.values(), ids=BEFORE_TRAINING.keys())
@pytest.mark.parametrize("made_inside", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_training_after_inference_mode(options, made_inside, act, every_weights, fields) -> None:
    """Lightning validates under torch.inference_mode before it trains."""
    plain = value_and_gradient(AtmoDistLoss(every_weights, **options), fields)
    loss = None if made_inside else AtmoDistLoss(every_weights, **options)
    with torch.inference_mode():
        loss = act(loss or AtmoDistLoss(every_weights, **options))
        value = loss(*fields)
        cached = loss.features(fields[1])
    for target in (fields[1], cached):  # a bound may put other samples together for cached targets
        for got, expected in zip(value_and_gradient(loss, (fields[0], target)), plain, strict=True):
            assert_close(got, expected, TOLERANCES[torch.float32].gradient)
    assert torch.equal(value, plain[0])


def test_extractor_after_inference_mode(every_weights, fields) -> None:
    with torch.inference_mode():
        extractor = load_extractor(every_weights)
        extractor(fields[0])
    x = fields[0].clone().requires_grad_()
    sum(f.sum() for f in extractor(x).values()).backward()
    assert x.grad.isfinite().all()


def test_distances_kept_for_a_process_survive_inference_mode(every_weights, fields) -> None:
    from atmoloss import atmodist_distance
    from atmoloss.distance import _cached

    _cached.cache_clear()
    with torch.inference_mode():
        atmodist_distance(*fields, weights=every_weights)
    x = fields[0].clone().requires_grad_()
    atmodist_distance(x, fields[1], weights=every_weights).sum().backward()
    assert x.grad.abs().max() > 0


# --- modes, parameters, checkpoints ---------------------------------------------------------------------------------


def test_stays_in_evaluation_mode(parent) -> None:
    for act in (lambda: None, parent.train, parent.eval, parent.train, lambda: parent.loss.train(True)):
        act()
        assert not any(m.training for m in parent.loss.modules())
    assert parent.body.training


def test_training_the_parent_trains_nothing_in_the_loss(parent, fields, untouched) -> None:
    assert list(map(id, parent.parameters())) == list(map(id, parent.body.parameters()))
    parent.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(parent.parameters(), 0.1, weight_decay=0.1)
    before = parent.body[2].weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        parent.loss(fields[0] * parent.body[2].weight.mean(), fields[1]).backward()
        optimizer.step()
    assert not torch.equal(parent.body[2].weight, before)
    assert not any(b.requires_grad for b in parent.loss.buffers())
    assert_untouched(parent.loss, fields, untouched)


def test_stays_out_of_checkpoints(parent) -> None:
    assert not parent.loss.state_dict()
    assert parent.state_dict().keys() == {f"body.{name}" for name in parent.body.state_dict()}


def test_moves_to_another_device_without_the_shared_extractor(every_extractor) -> None:
    loss = AtmoDistLoss(every_extractor).to("meta")
    assert {b.device.type for b in loss.buffers()} == {"meta"}
    assert {b.device.type for b in every_extractor.buffers()} == {"cpu"}


def test_refitted_normalization_survives_casts(every_extractor, draw_for, fields) -> None:
    refitted = type(every_extractor.normalization).fit(draw_for(every_extractor, 8))
    loss = AtmoDistLoss(every_extractor, normalization=refitted)
    value = loss(*fields)
    assert torch.equal(loss.half().float()(*fields), value)
