"""Distances of pairs and of all pairs."""

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, atmodist_distance, distance, distance_matrix
from atmoloss.errors import InputError
from tests.tolerances import assert_close

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
    x, y = draw(6, seed=1), draw(4, seed=2)
    plain, square = distance_matrix(x, y, weights=extractor), distance_matrix(x, weights=extractor)
    maps = []
    original = np.memmap
    monkeypatch.setattr(np, "memmap", lambda *a, **k: maps.append(a) or original(*a, **k))
    for max_memory in (1.0, 1e4, 6e4):  # the first two in files; one, one and two rows a block
        assert_close(distance_matrix(x, y, weights=extractor, max_memory=max_memory), plain, 1e-6)
        assert_close(distance_matrix(x, weights=extractor, max_memory=max_memory), square, 1e-6)
    assert len(maps) == 6


@pytest.mark.parametrize("mse_weight", [0.0, 0.5])
def test_near_identical_pairs_keep_their_digits(mse_weight, extractor, draw) -> None:
    """Fields 10⁻⁴ apart among others of full size: where |Φ|² + |Φ'|² − 2ΦΦ' in float32 gives noise."""
    x = draw(4, seed=1)
    x = torch.cat((x, x + 1e-4 * draw(4, seed=2)))
    got = distance_matrix(x, weights=extractor, mse_weight=mse_weight)[range(4), range(4, 8)]
    exact = atmodist_distance(x[:4].double(), x[4:].double(), weights=extractor, mse_weight=mse_weight)
    assert ((got / exact - 1).abs() < 0.05).all()


def test_matrix_keeps_no_graph(extractor, draw) -> None:
    assert not distance_matrix(draw(3).requires_grad_(), weights=extractor).requires_grad


def test_progress(extractor, draw, capsys) -> None:
    pytest.importorskip("tqdm")
    distance_matrix(draw(3), weights=extractor, progress=True)
    assert "encode fields" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, e: distance_matrix(f.numpy(), weights=e), ("fields", "ndarray")),
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
