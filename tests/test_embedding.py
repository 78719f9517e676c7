"""Vectors of fields: their Euclidean distances, short ones, and the nearest of an archive."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atmoloss import atmodist_distance, embed, embedding, nearest
from atmoloss.errors import InputError
from tests.tolerances import assert_close


def between(vectors):
    """Squared Euclidean distance of the first two halves, in float64."""
    first, second = torch.as_tensor(np.asarray(vectors)).double().chunk(2)
    return (first - second).square().sum(-1)


@pytest.mark.parametrize("shape", [(32, 32), (24, 41)])
@pytest.mark.parametrize("options", [{}, {"mse_weight": 0.3}, {"layers": ("stage1", "stage3"), "periodic": True}])
def test_squared_distances_are_the_distance(shape, options, every_extractor, draw_for):
    x = draw_for(every_extractor, 4, *shape)
    masked = torch.rand(4, 1, *shape)[:1]
    masked[..., :5] = 0
    for weight in (None, torch.linspace(0.1, 1, shape[0]), masked):
        got = embed(x, weights=every_extractor, weight=weight, **options)
        expected = atmodist_distance(x[:2], x[2:], weights=every_extractor, weight=weight, **options)
        assert_close(between(got), expected, torch.float32)


def test_form_and_dtype_are_kept(extractor, draw):
    x = draw(6, dtype=torch.float64)
    got = embed(x, weights=extractor)
    assert got.dtype == torch.float64
    assert_close(between(got), atmodist_distance(x[:3], x[3:], weights=extractor), torch.float64)
    array = embed(x.reshape(2, 3, 2, 32, 32).numpy(), weights=extractor, dtype="float32")
    assert array.shape == (2, 3, got.shape[1])
    np.testing.assert_array_equal(array.reshape(6, -1), got.float().numpy())


@pytest.mark.parametrize("shape", [(64, 64), (181, 360)])
def test_half_precision_keeps_three_digits(shape, draw_for):
    from atmoloss import load_extractor

    extractor = load_extractor("winds")
    x = draw_for(extractor, 2, *shape)
    got = embed(x, weights=extractor, dtype="float16")
    assert got.dtype == torch.float16
    assert_close(between(got), atmodist_distance(x[:1], x[1:], weights=extractor), 2e-3)


@given(seed=st.integers(0, 10**6), pooling=st.integers(1, 40), weighted=st.booleans())
def test_pooled_distances_are_lower_bounds(extractor, draw, seed, pooling, weighted):
    x = draw(4, 24, 41, seed=seed)
    weight = torch.rand(24, 41) + 0.01 if weighted else None
    whole = between(embed(x, weights=extractor, weight=weight))
    pooled = between(embed(x, weights=extractor, weight=weight, pooling=pooling))
    assert (pooled <= whole * (1 + 1e-5)).all()
    if pooling >= 21:  # more windows than positions of any stage
        assert_close(pooled, whole, torch.float32)


def test_one_window_holds_the_means(extractor, draw):
    x = draw(2)
    got = embed(x, weights=extractor, pooling=1, layers=("stage2",), scale="none")
    features = extractor(x)["stage2"].mean((2, 3))
    assert_close(got, features / features.shape[1] ** 0.5, torch.float32)
    assert embed(draw(2, 48, 80), weights=extractor, pooling=1, layers=("stage2",)).shape == got.shape


def test_labelled_fields(extractor):
    pytest.importorskip("xarray")
    from tests.labelled import fields

    data = fields(member=[1, 2], step=[0, 6, 12])
    got = embed(data, weights=extractor, weight="area")
    assert got.dims == ("member", "step", "feature")
    pair = [data.isel(member=i) for i in (0, 1)]
    expected = atmodist_distance(*pair, weights=extractor, weight="area")
    np.testing.assert_allclose(between(got.values)[0], expected, rtol=2e-5)


@pytest.mark.parametrize("block_bytes", [1, 2**12, 2**26])
def test_the_nearest_are_those_of_a_full_search(block_bytes, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    archive, query = rng.standard_normal((50, 7)).astype(np.float16), rng.standard_normal((2, 3, 7)).astype(np.float32)
    distances = ((query[..., None, :].astype(float) - archive.astype(float)) ** 2).sum(-1)
    expected = np.argsort(distances, -1)[..., :4]
    np.save(tmp_path / "archive.npy", archive)
    for source in (archive, np.load(tmp_path / "archive.npy", mmap_mode="r"), torch.from_numpy(archive)):
        got = nearest(query, source, k=4)
        np.testing.assert_array_equal(got.indices, expected)
        np.testing.assert_allclose(got.distances, np.take_along_axis(distances, expected, -1), rtol=1e-9)
    assert isinstance(nearest(torch.from_numpy(query), archive).indices, torch.Tensor)


def test_a_field_finds_itself(extractor, draw):
    vectors = embed(draw(5), weights=extractor)
    found = nearest(vectors[3], vectors, k=2)
    assert found.indices[0] == 3
    assert found.distances[0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f, e: embed(f, weights=e, pooling=0), ("pooling", "0")),
        (lambda f, e: embed(f, weights=e, dtype="int8"), ("dtype", "'int8'")),
        (lambda f, e: embed(f, weights=e, sharp=True), ("sharp",)),
        (lambda f, e: embed(f, weights=e, weight=torch.rand(3, 1, 8, 8)), ("weight",)),
        (lambda f, e: nearest(np.zeros(4), np.zeros((3, 5))), ("archive", "length 5", "4")),
        (lambda f, e: nearest(np.zeros(4), np.zeros(4)), ("archive", "(4,)")),
        (lambda f, e: nearest(3.0, np.zeros((3, 4))), ("query", "float")),
        (lambda f, e: nearest(np.zeros(4), np.zeros((3, 4)), k=4), ("k", "1 to 3")),
    ],
)
def test_wrong_inputs(call, words, extractor, draw, one_sentence):
    with pytest.raises(InputError) as error:
        call(draw(3), extractor)
    one_sentence(error.value, *words, "expected")
