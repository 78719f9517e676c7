"""Distances of pairs and of all pairs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from atmoloss import AtmoDistLoss, atmodist_distance, distance, distance_matrix, load_extractor
from atmoloss.errors import InputError
from tests.tolerances import DTYPES, assert_close

SHAPES = [(32, 32), (24, 41)]


@pytest.mark.parametrize("shape", SHAPES)
def test_distance_is_the_content_term_of_the_loss(shape, extractor, draw) -> None:
    a, b = draw(3, *shape, seed=1), draw(3, *shape, seed=2)
    got = atmodist_distance(a, b, weights=extractor)
    assert got.shape == (3,)
    assert torch.equal(got, AtmoDistLoss(extractor, mse_weight=0, reduction="none")(a, b))
    assert torch.equal(got, atmodist_distance(b, a, weights=extractor))
    assert atmodist_distance(a, a, weights=extractor).tolist() == [0, 0, 0]


def test_distance_follows_options_and_gives_gradients(extractor, draw) -> None:
    a, b = draw(seed=1).requires_grad_(), draw(seed=2)
    options = {"layers": {"stage1": 2.0}, "scale": "none", "mse_weight": 0.2}
    weight = torch.rand(32, 32)
    got = atmodist_distance(a, b, weights=extractor, weight=weight, **options)
    assert torch.equal(got, AtmoDistLoss(extractor, reduction="none", **options)(a, b, weight))
    assert torch.autograd.grad(got.sum(), a)[0].abs().max() > 0


def test_named_weights_are_read_once(folder, draw, monkeypatch) -> None:
    distance._cached.cache_clear()
    reads = []
    original = AtmoDistLoss.__init__
    monkeypatch.setattr(AtmoDistLoss, "__init__", lambda self, *a, **k: (reads.append(a), original(self, *a, **k))[1])
    for layers in (None, ["stage2"], ("stage2",), None):
        atmodist_distance(draw(seed=1), draw(seed=2), weights=folder, layers=layers)
    assert len(reads) == 2


@pytest.mark.parametrize("options", [{}, {"mse_weight": 0.3}, {"mse_weight": 1.0}, {"layers": ("stage1", "stage3")}])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_is_every_pair(options, shape, extractor, draw) -> None:
    x, y = draw(5, *shape, seed=1), draw(3, *shape, seed=2)
    expected = torch.stack(
        [atmodist_distance(x[i, None].expand_as(y), y, weights=extractor, **options) for i in range(5)]
    )
    got = distance_matrix(x, y, weights=extractor, batch_size=2, **options)
    assert got.shape == (5, 3)
    assert got.dtype == torch.float32
    assert_close(got, expected, torch.float32)
    square = distance_matrix(x, weights=extractor, batch_size=3, **options)
    assert torch.equal(square, square.T)
    assert square.diagonal().tolist() == [0.0] * 5
    assert_close(
        square[0, 1:], atmodist_distance(x[:1].expand(4, -1, -1, -1), x[1:], weights=extractor, **options), 2e-5
    )


def test_matrix_from_memory_maps_and_small_blocks_is_the_same(extractor, draw, monkeypatch) -> None:
    x, y = draw(6, seed=1), draw(3, seed=2)
    plain, square = distance_matrix(x, y, weights=extractor), distance_matrix(x, weights=extractor)
    maps = []
    original = np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: maps.append(a) or original(*a, **k))
    for max_memory in (3.5e4, 7e4, 1.4e5):  # in files, in files if there are others, in memory; blocks of 1, 1, 2
        assert_close(distance_matrix(x, y, weights=extractor, max_memory=max_memory), plain, torch.float32)
        assert_close(distance_matrix(x, weights=extractor, max_memory=max_memory), square, torch.float32)
    assert len(maps) == 3 + 2 + 0


def test_roots_obey_the_triangle_inequality(extractor, draw) -> None:
    x, y = draw(6), draw(3, seed=2)
    root = distance_matrix(x, weights=extractor, squared=False)
    assert torch.equal(root.square(), distance_matrix(x, weights=extractor).sqrt().square())
    assert (root[:, None] <= root[:, :, None] + root[None] + 1e-6).all()
    squared = distance_matrix(x, y, weights=extractor)
    assert torch.equal(distance_matrix(x, y, weights=extractor, squared=False), squared.sqrt())


class Products(TorchDispatchMode):
    """Count the multiplications of matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.addmm_.default:
            self.count += args[1].shape[0] * args[2].numel()
        return func(*args, **(kwargs or {}))


def test_symmetric_products_are_halved_and_each_field_is_encoded_once(extractor, draw, monkeypatch) -> None:
    encoded = []
    encode = type(extractor).encode
    monkeypatch.setattr(type(extractor), "encode", lambda self, x, *a: encoded.append(len(x)) or encode(self, x, *a))
    x = draw(512, 16, 16)
    with Products() as square:
        distance_matrix(x, weights=extractor, batch_size=100)
    assert sum(encoded) == 512
    with Products() as full:
        distance_matrix(x, x.clone(), weights=extractor, batch_size=100)
    assert sum(encoded) == 512 + 1024
    assert 0 < square.count <= 0.6 * full.count


def test_a_sharp_loss_has_no_matrix(extractor, draw, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        distance_matrix(draw(), weights=extractor, sharp=True)
    one_sentence(error.value, "sharp", "True", "expected False")


@pytest.mark.parametrize("mse_weight", [0.0, 0.5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_near_identical_pairs_keep_their_digits(mse_weight, dtype, extractor, draw) -> None:
    """Fields 10⁻⁴ apart among others of full size: where |Φ|² + |Φ'|² − 2ΦΦ' in float32 gives noise."""
    x = draw(4, seed=1)
    # In half precision rounding decides how far they are apart; the reference sees the same rounded fields.
    x = torch.cat((x, x + 1e-4 * draw(4, seed=2))).to(dtype)
    got = distance_matrix(x, weights=extractor, mse_weight=mse_weight)[range(4), range(4, 8)]
    exact = atmodist_distance(x[:4].double(), x[4:].double(), weights=extractor, mse_weight=mse_weight)
    assert exact.min() > 0
    assert ((got / exact - 1).abs() < 0.05).all()


@given(seed=st.integers(0, 10**6), apart=st.floats(1e-4, 1.0), offset=st.floats(0.0, 3.0))
def test_pairs_at_any_distance(extractor, draw, seed, apart, offset) -> None:
    """Also where all fields share a large part, as members of an ensemble do."""
    x = (1 - apart) * offset * draw(1, seed=seed) + draw(3, seed=seed + 1)
    x = torch.cat((x, x + apart * draw(3, seed=seed + 2)))
    got = distance_matrix(x, weights=extractor)
    exact = [atmodist_distance(f.expand_as(x).double(), x.double(), weights=extractor) for f in x[:, None]]
    off_diagonal = ~torch.eye(6, dtype=torch.bool)
    assert ((got / torch.stack(exact) - 1)[off_diagonal].abs() < 0.05).all()


MEASURE = """
import sys, torch
from torch.utils._python_dispatch import TorchDispatchMode
from atmoloss import distance_matrix, load_extractor

def anonymous():  # the pages of a memory map are not counted: the kernel may drop them
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))

class Watch(TorchDispatchMode):  # looks after every operation: a thread that looks now and then can miss the peak
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        global peak
        out = func(*args, **(kwargs or {}))
        peak = max(peak, anonymous())
        return out

torch.set_num_threads(1)
extractor = load_extractor(sys.argv[1])
x = 4e-5 * torch.randn(600, 2, 128, 128)
run = lambda fields: distance_matrix(fields, weights=extractor, layers=("stage1",), max_memory=float(sys.argv[2]))
peak = 0
with Watch():
    run(x[:20])  # imports what it needs
    before = peak = anonymous()
    run(x)
print(peak - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
def test_memory_stays_under_the_bound(folder) -> None:
    """600 vectors of 16384 numbers, 39 MB, and their 1.4 MB matrix."""

    def growth(max_memory: float) -> float:
        command = [sys.executable, "-c", MEASURE, str(folder), str(max_memory)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    matrix = 4 * 600**2
    assert growth(8e6) <= 8e6 + matrix + 8e6  # allowed: what malloc holds back, up to 5 MB measured
    assert growth(1e9) > 39e6  # the measurement sees what is kept in memory


def test_matrix_takes_a_hundredth_of_the_work_of_a_loop_over_pairs(draw) -> None:
    """Counted, not timed: floating-point operations of convolutions and of products."""
    extractor, x = load_extractor(), draw(192, 64, 64)

    def work(call) -> int:
        with Products() as products, FlopCounterMode(display=False) as convolutions:
            call()
        return 2 * products.count + convolutions.get_total_flops()

    with torch.no_grad():
        pair = work(lambda: atmodist_distance(x[:1], x[1:2], weights=extractor))
    assert pair > 1e6
    assert 192 * 191 / 2 * pair > 100 * work(lambda: distance_matrix(x, weights=extractor))


def test_matrix_keeps_no_graph(extractor, draw) -> None:
    assert not distance_matrix(draw(3).requires_grad_(), weights=extractor).requires_grad


def test_progress(extractor, draw, capsys) -> None:
    pytest.importorskip("tqdm")
    distance_matrix(draw(3), weights=extractor, progress=True)
    assert "encode fields" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, e: distance_matrix(f[0], weights=e), ("fields", "(2, 32, 32)")),
        (lambda f, e: distance_matrix(f[:0], weights=e), ("fields", "(0, 2, 32, 32)")),
        (lambda f, e: distance_matrix(f[:, :1], weights=e), ("fields", "(3, 1, 32, 32)")),
        (lambda f, e: distance_matrix(f, f[0], weights=e), ("others", "(2, 32, 32)")),
        (lambda f, e: distance_matrix(f, f.numpy(), weights=e), ("others", "ndarray")),
        (lambda f, e: distance_matrix(f, f[..., :16], weights=e), ("others", "(3, 2, 32, 16)")),
        (lambda f, e: distance_matrix(f, f[:0], weights=e), ("others", "(0, 2, 32, 32)")),
        (lambda f, e: distance_matrix(f / 0, weights=e), ("fields", "finite")),
        (lambda f, e: distance_matrix(f, f / 0, weights=e), ("others", "finite")),
        (lambda f, e: distance_matrix(f, weights=e, batch_size=0), ("batch_size", "0")),
        (lambda f, e: distance_matrix(f, weights=e, max_memory=0), ("max_memory", "0")),
        (lambda f, e: distance_matrix(f, weights=e, max_memory=1e3), ("max_memory", "1e+03 bytes", "stage1")),
        (lambda f, e: distance_matrix(f, weights=e, reduction="mean"), ("reduction",)),
        (lambda f, e: atmodist_distance(f.numpy(), f, weights=e), ("a", "ndarray")),
        (lambda f, e: atmodist_distance(f, f.numpy(), weights=e), ("b", "ndarray")),
        (lambda f, e: atmodist_distance(f, f[..., :16], weights=e), ("b", "(3, 2, 32, 16)")),
        (lambda f, e: atmodist_distance(f, f, weights=e, reduction="sum"), ("reduction",)),
    ],
)
def test_wrong_inputs(call, words, extractor, draw, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        call(draw(3), extractor)
    one_sentence(error.value, *words, "expected")


def test_distances_of_all_pairs_and_weights_are_those_of_the_distance(draw) -> None:
    fields, weight = draw(4), torch.linspace(0.1, 1, 32)
    matrix = distance.pair_distances(distance.distance_of("default", fields.device, {}), fields, weight)
    for i, j in ((0, 1), (1, 3)):
        expected = atmodist_distance(fields[i : i + 1], fields[j : j + 1], weight=weight)
        torch.testing.assert_close(matrix[i, j], expected[0])
    assert not matrix.tril().any()
