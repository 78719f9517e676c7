"""What a loss pays for detail: the construction of the detail, and the break-even."""

import numpy as np
import pytest
import torch

from .loading import load


@pytest.fixture(scope="module")
def sharpness():
    return load("superres", "sharpness")


@pytest.fixture
def fields():
    return torch.randn(8, 2, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def signs(fields):
    return torch.randint(0, 2, fields.shape, generator=torch.Generator().manual_seed(1)) * 2.0 - 1


def test_detail_has_the_power_of_the_truth_in_every_ring(sharpness, fields, signs):
    measures = sharpness.measures
    expected = measures.ring_power(measures.cosine_transform(fields))
    for coherence in (0.0, 0.5, 1.0):
        made = sharpness.with_detail(fields, coherence, signs)
        found = measures.ring_power(measures.cosine_transform(made))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(sharpness.with_detail(fields, 1.0, signs), fields, rtol=1e-4, atol=1e-4)


def test_without_detail_nothing_unresolved_is_left(sharpness, fields, signs):
    measures = sharpness.measures
    power = measures.ring_power(measures.cosine_transform(sharpness.with_detail(fields, -1.0, signs)))
    assert power[..., 8:].max() < 1e-6
    assert power[..., :8].min() > 1e-6


def test_squared_error_breaks_even_at_half(sharpness, fields, signs):
    ratios = sharpness.ratios_of(sharpness.measures.mse, fields, signs)
    assert sharpness.break_even(ratios) == pytest.approx(0.5, abs=0.05)  # signs correlate a little by chance
    assert ratios[0] == pytest.approx(2.0, abs=0.1)


def test_break_even_of_losses_that_always_or_never_want_detail(sharpness):
    n = len(sharpness.COHERENCES)
    assert sharpness.break_even(np.linspace(0.9, 0.0, n)) == 0.0
    assert sharpness.break_even(np.full(n, 1.5)) == 1.0
