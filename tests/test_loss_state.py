"""A frozen network inside somebody's model: modes, parameters, checkpoints, copies, casts, compile, DDP."""

import copy
import io
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from atmoloss import AtmoDistLoss
from atmoloss.extractor import load_extractor
from tests.tolerances import TOLERANCES, assert_close


@pytest.fixture(scope="module")
def extractor(every_extractor):
    """Every test of this file runs over all weights that ship."""
    return every_extractor


@pytest.fixture(scope="module")
def draw(extractor, draw_for):
    return lambda *size, **options: draw_for(extractor, *size, **options)


class UserModel(nn.Module):
    """A generator that holds its loss, as people write them."""

    def __init__(self, loss: nn.Module | None) -> None:
        super().__init__()
        self.scale = 3e-5 if loss is None else loss.extractor.normalization.constants()["std"][0]
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        if loss is not None:
            self.loss = loss

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.scale * self.norm(self.conv(x / self.scale)), y)


@pytest.fixture
def loss(extractor) -> AtmoDistLoss:
    return AtmoDistLoss(extractor)  # shares the session's tensors; what moves or casts it must not move those


@pytest.fixture
def model(loss) -> UserModel:
    return UserModel(loss)


def buffers(module: nn.Module) -> dict[str, torch.Tensor]:
    return {n: b.clone() for n, b in module.named_buffers()}


def assert_same_buffers(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = dict(module.named_buffers())
    assert after.keys() == before.keys()
    for name, b in after.items():
        assert b.dtype == before[name].dtype, name
        assert torch.equal(b, before[name]), name


def test_stays_in_evaluation_mode(model) -> None:
    for act in (lambda: None, model.train, model.eval, model.train, lambda: model.loss.train(True)):
        act()
        assert not any(m.training for m in model.loss.modules())
    assert model.norm.training


def test_training_the_parent_trains_nothing_in_the_loss(model, draw) -> None:
    before = buffers(model.loss)
    own = {id(p) for m in (model.conv, model.norm) for p in m.parameters()}
    assert {id(p) for p in model.parameters()} == own
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.1)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        value = model(draw(seed=1), draw(seed=2))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]
    assert not any(b.requires_grad for b in model.loss.buffers())
    assert_same_buffers(model.loss, before)


def test_stays_out_of_checkpoints(loss) -> None:
    assert not loss.state_dict()
    assert not list(loss.parameters())
    with_loss, without = UserModel(loss), UserModel(None)
    assert with_loss.state_dict().keys() == without.state_dict().keys()
    before = buffers(loss)
    with_loss.load_state_dict(without.state_dict(), strict=True)
    without.load_state_dict(with_loss.state_dict(), strict=True)
    assert_same_buffers(loss, before)


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
def test_copies(duplicate, compile, extractor, draw) -> None:
    options = {"layers": {"stage1": 0.5, "stage3": 2.0}, "periodic": True, "mse_weight": 0.2, "compile": compile}
    model = UserModel(AtmoDistLoss(extractor, **options))
    if compile:
        model.loss._compiled = torch.compile(model.loss._in_parts, backend="eager")  # what the first call makes
    other = duplicate(model)
    assert_same_buffers(other.loss, buffers(model.loss))
    assert repr(other) == repr(model)
    model.loss._compile = other.loss._compile = False
    assert torch.equal(other.loss(draw(seed=1), draw(seed=2)), model.loss(draw(seed=1), draw(seed=2)))
    other.train()
    assert not any(m.training for m in other.loss.modules())
    assert not other.loss.state_dict()
    shared = {b.data_ptr() for b in model.loss.buffers()} & {b.data_ptr() for b in other.loss.buffers()}
    assert not shared


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float"])
def test_casts_of_the_parent_change_no_value(cast, model, draw) -> None:
    before, value = buffers(model.loss), model.loss(draw(seed=1), draw(seed=2))
    getattr(model, cast)()
    assert_same_buffers(model.loss, before)
    assert torch.equal(model.loss(draw(seed=1), draw(seed=2)), value)
    model.to(torch.float16).to("cpu", torch.float32)
    assert_same_buffers(model.loss, before)


def test_refitted_normalization_survives_casts(extractor, draw) -> None:
    refitted = type(extractor.normalization).fit(draw(8))
    loss = AtmoDistLoss(extractor, normalization=refitted)
    value = loss(draw(seed=1), draw(seed=2))
    assert torch.equal(loss.half().float()(draw(seed=1), draw(seed=2)), value)


def test_moves_to_another_device_without_the_shared_extractor(model, extractor) -> None:
    model.to("meta")
    assert {b.device.type for b in model.loss.buffers()} == {"meta"}
    assert {b.device.type for b in extractor.buffers()} == {"cpu"}


def test_repr_tells_weights_layers_and_precision(folder) -> None:
    loss = AtmoDistLoss(folder, compute_dtype="bfloat16", layers=("stage3",))
    text = repr(loss)
    for word in (load_extractor(folder).info.id, "stage3: 1.5", "mse_weight=0.05", "'bfloat16'", "'mean'"):
        assert word in text
    assert "tiny@" in text


def test_repeated_calls_keep_nothing(loss, draw) -> None:
    """A loss object holds no history: the second call gives what the first gave, and nothing grows."""
    a, b = draw(seed=1).requires_grad_(), draw(seed=2)
    first = loss(a, b)
    size = len(pickle.dumps(loss))
    for _ in range(3):
        assert torch.equal(loss(a, b), first)
    assert len(pickle.dumps(loss)) == size


# --- torch.compile ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"compute_dtype": "bfloat16"}, {"periodic": True, "normalization": None}], ids=str
)
def test_traced_without_a_break(options, extractor, draw) -> None:
    loss = AtmoDistLoss(extractor, **options)
    torch._dynamo.reset()
    traced = torch.compile(lambda a, b, w: loss(a, b, w), fullgraph=True, backend="eager", dynamic=False)
    a, b = draw(seed=1), draw(seed=2)
    for weight in (None, torch.rand(32).round()):
        assert_close(traced(a, b, weight), loss(a, b, weight), torch.float32)


def test_compiled_gradient_with_winds_and_cached_targets(extractor, draw) -> None:
    from atmoloss.winds import WindToVorticityDivergence

    torch._dynamo.reset()
    loss = AtmoDistLoss(extractor, transform=WindToVorticityDivergence(torch.arange(32.0), torch.arange(32.0)))
    units = 2e5 * 4e-5 / torch.tensor(extractor.normalization.constants()["std"]).reshape(2, 1, 1)
    traced = torch.compile(lambda a, b: loss(a, b), fullgraph=True, backend="aot_eager", dynamic=False)
    a, b = (units * draw(seed=1)).requires_grad_(), units * draw(seed=2)
    for target in (b, loss.features(b)):
        expected, got = (torch.autograd.grad(f(a, target), a)[0] for f in (loss, traced))
        assert_close(got, expected, torch.float32)


@pytest.mark.slow
def test_compile_option(extractor, draw) -> None:
    torch._dynamo.reset()
    loss, plain = AtmoDistLoss(extractor, compile=True), AtmoDistLoss(extractor)
    a, b, weight = draw(seed=1).requires_grad_(), draw(seed=2), torch.rand(32).round()
    value, expected = loss(a, b, weight), plain(a, b, weight)
    assert_close(value, expected, torch.float32)
    assert_close(*(torch.autograd.grad(v, a)[0] for v in (value, expected)), 1e-4)
    assert loss._compiled is not None
    with pytest.raises(ValueError, match="prediction"):
        loss(a[:, :1], b[:, :1])


# --- two processes ----------------------------------------------------------------------------------------------


def seeded_model(weights: str) -> UserModel:
    torch.manual_seed(7)
    model = UserModel(AtmoDistLoss(weights))
    model.norm = nn.Identity()  # batch statistics would differ between half batches
    return model


def run_rank(rank: int, weights: str, half: torch.dtype | None, store: str, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}/store", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(seeded_model(weights))
    part = slice(4 * rank, 4 * rank + 4)
    for _ in range(2):  # the second pass meets DDP's broadcast of buffers
        model.zero_grad()
        with torch.autocast("cpu", half, enabled=half is not None):
            value = model(x[part], y[part])
        value.backward()
    torch.save([p.grad for p in model.parameters()], f"{store}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("half", [None, torch.bfloat16], ids=["float32", "bfloat16 autocast"])
def test_two_ranks_give_the_gradient_of_one(half, every_weights, draw) -> None:
    x, y = draw(8, seed=1), draw(8, seed=2)
    model = seeded_model(every_weights)
    model(x, y).backward()
    with tempfile.TemporaryDirectory() as store:
        torch.multiprocessing.spawn(run_rank, (every_weights, half, store, x, y), nprocs=2)
        ranks = [torch.load(Path(store) / f"{rank}.pt") for rank in range(2)]
    for p, first, second in zip(model.parameters(), *ranks, strict=True):
        assert torch.equal(first, second)
        assert_close(first, p.grad, 1e-4 if half is None else TOLERANCES[half].gradient)
