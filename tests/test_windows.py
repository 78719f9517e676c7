"""The three operations over windows against what autograd makes of slices, in float64."""

import pytest
import torch

from atmoloss.windows import window_products, window_sums
from tests.tolerances import assert_close

SIDE, SIZE = 3, (4, 5)


def slices(extended: torch.Tensor) -> list[torch.Tensor]:
    h, w = SIZE
    return [
        extended[:, f, ..., i : i + h, j : j + w]
        for f in range(extended.shape[1])
        for i in range(SIDE)
        for j in range(SIDE)
    ]


def plain_products(x, extended, side):
    return torch.stack([(x * cut).sum(2) for cut in slices(extended)], 2)


def plain_sums(weights, extended, side):
    return sum(w[:, :, None] * cut for w, cut in zip(weights.unbind(2), slices(extended), strict=True))


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    shapes = {"x": (2, 2, 3, *SIZE), "extended": (2, 2, 2, 3, 6, 7), "weights": (2, 2, 18, *SIZE)}
    return {name: torch.randn(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("operation", "plain", "first"), [(window_products, plain_products, "x"), (window_sums, plain_sums, "weights")]
)
def test_values_and_three_derivatives(operation, plain, first, tensors) -> None:
    inputs = (tensors[first], tensors["extended"])
    results = []
    for function in (operation, plain):
        value = function(*inputs, SIDE)
        orders = [value]
        scalar = value.square().sum()
        for _ in range(3):
            slopes = torch.autograd.grad(scalar, inputs, create_graph=True)
            orders += slopes
            scalar = sum(s.sin().sum() for s in slopes)
        results.append(orders)
    for got, expected in zip(*results, strict=True):
        assert_close(got, expected, torch.float64)


def test_each_sample_on_its_own_under_vmap(tensors) -> None:
    x, extended = tensors["x"].detach(), tensors["extended"].detach()

    def energy(x, extended):
        return window_sums(window_products(x[None], extended[None], SIDE), extended[None], SIDE).square().sum()

    for axes in ((0, 0), (0, None), (None, 0)):
        parts = [t if axis == 0 else t[0] for t, axis in zip((x, extended), axes, strict=True)]
        got = torch.func.vmap(torch.func.grad(energy, argnums=(0, 1)), in_dims=axes)(*parts)
        for sample in range(2):
            one = [t[sample] if axis == 0 else t for t, axis in zip(parts, axes, strict=True)]
            expected = torch.func.grad(energy, argnums=(0, 1))(*one)
            for a, b in zip(got, expected, strict=True):
                assert_close(a[sample], b, torch.float64)
