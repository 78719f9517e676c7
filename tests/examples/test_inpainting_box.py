"""The box: where it is, what is hidden, and its harmonic filling."""

import pytest
import torch
from inpainting import box

from tests.tolerances import assert_close


@pytest.mark.parametrize(("height", "width", "size", "first"), [(160, 160, 40, (60, 60)), (9, 12, 4, (2, 4))])
def test_cells_of_the_box(height, width, size, first):
    fields = torch.arange(1.0, 1 + height * width).reshape(1, 1, height, width)
    inside = (..., slice(first[0], first[0] + size), slice(first[1], first[1] + size))
    assert torch.equal(box.cut(fields, size), fields[inside])
    hidden = box.hide(fields, size)
    assert (hidden == 0).sum() == size * size
    assert (hidden[inside] == 0).all()
    assert (fields > 0).all()  # the argument is left alone
    assert torch.equal(box.paste(box.cut(fields, size), hidden), fields)


def test_pasting_carries_the_gradient_to_the_filling_alone():
    filling, fields = torch.randn(2, 1, 4, 4, requires_grad=True), torch.randn(2, 1, 8, 8, requires_grad=True)
    weight = torch.randn(2, 1, 8, 8)
    inner, around = torch.autograd.grad((weight * box.paste(filling, fields)).sum(), (filling, fields))
    assert torch.equal(inner, box.cut(weight, 4))
    assert torch.equal(around, box.hide(weight, 4))


def test_laplace_reproduces_discrete_harmonic_fields_without_looking_at_the_box():
    y, x = torch.meshgrid(*(torch.arange(12, dtype=torch.float64),) * 2, indexing="ij")
    # The five-point Laplacian of each is exactly zero.
    fields = torch.stack((x - 2 * y + 3, x * y, x**2 - y**2, x**3 - 3 * x * y**2))[None]
    assert_close(box.laplace(box.hide(fields, 6), 6), box.cut(fields, 6), torch.float64)


def test_laplace_is_the_mean_of_neighbours_and_between_the_extremes_around(draw):
    fields = 1e5 * draw(2, 11, 11, dtype=torch.float64)
    filled = box.paste(box.laplace(fields, 5), fields)
    neighbours = sum(filled.roll(step, axis) for step in (1, -1) for axis in (-1, -2)) / 4
    assert_close(box.cut(neighbours, 5), box.cut(filled, 5), torch.float64)
    ring = box.cut(box.paste(torch.full((2, 2, 5, 5), torch.nan), fields), 7)
    assert box.cut(filled, 5).amax() <= ring.nan_to_num(-torch.inf).amax()
    assert box.cut(filled, 5).amin() >= ring.nan_to_num(torch.inf).amin()
