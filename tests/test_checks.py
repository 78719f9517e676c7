"""What only looks at the fields: units by the weights that ship, weights that are negative by rounding."""

import math
import warnings

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss
from atmoloss.errors import InputError, UnitsWarning
from tests.tolerances import assert_close

pytest.importorskip("xarray", reason="the extra 'data' is not installed")
from atmoloss.data.sample import open_sample


@pytest.fixture(scope="module")
def derivatives() -> torch.Tensor:
    """Real divergence and vorticity, s-1."""
    return torch.from_numpy(np.stack([v.values for v in open_sample().data_vars.values()], 1))


@pytest.fixture(scope="module")
def winds() -> torch.Tensor:
    """The real winds of the same times, m s-1."""
    return torch.from_numpy(np.stack([v.values for v in open_sample(("u", "v")).data_vars.values()], 1))


def warned(weights, fields, weight=None) -> list[warnings.WarningMessage]:
    loss = AtmoDistLoss(weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            loss(fields, fields, weight)
            loss.features(fields, weight)
    return [w for w in caught if w.category is UnitsWarning]


def z_scored(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


OTHER_UNITS = {
    "z-scored": z_scored,
    "scaled to 0 and 1": lambda x: (x - x.amin()) / (x.amax() - x.amin()),
    "offset": lambda x: x + 0.1,
    "constant": lambda x: torch.full_like(x, 5.0),
    "per day": lambda x: x * 86400,
    "1e-5 s-1": lambda x: x * 1e5,
}
OTHER_WINDS = {
    "z-scored": z_scored,
    "scaled to 0 and 1": OTHER_UNITS["scaled to 0 and 1"],
    "0.1 m s-1": lambda x: 10 * x,
    "km s-1": lambda x: x / 1000,
    "offset": lambda x: x + 100,
    "constant": OTHER_UNITS["constant"],
}


@pytest.mark.parametrize("change", OTHER_UNITS.values(), ids=OTHER_UNITS.keys())
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_in_other_units_warn_once(change, masked, derivatives, one_sentence) -> None:
    weight = None if not masked else (torch.arange(64) % 4 != 0).float()
    (warning,) = warned("default", change(derivatives[:4]), weight)
    one_sentence(warning.message, "prediction", "mean", "standard deviation", "expected about", "s-1")


@pytest.mark.parametrize("change", OTHER_WINDS.values(), ids=OTHER_WINDS.keys())
def test_winds_in_other_units_warn_once(change, winds, one_sentence) -> None:
    (warning,) = warned("winds", change(winds[:4]))
    one_sentence(warning.message, "prediction", "mean", "standard deviation", "expected about", "m s-1")


PLAUSIBLE = {
    "as it is": lambda x: x,
    "half": lambda x: 0.5 * x,  # a coarse model
    "three times": lambda x: 3 * x,  # jets; fine grids
    "zero": torch.zeros_like,
}


@pytest.mark.parametrize("change", PLAUSIBLE.values(), ids=PLAUSIBLE.keys())
def test_plausible_fields_do_not_warn(change, derivatives, winds) -> None:
    assert not warned("default", change(derivatives[:4]))
    assert not warned("winds", change(winds[:4]))


def test_no_patch_of_the_sample_warns(derivatives, winds) -> None:
    """Calm patches are weather."""
    for weights, fields in (("default", derivatives), ("winds", winds)):
        for row in (0, 32):
            for column in range(0, 192, 32):
                patch = fields[::9, :, row : row + 32, column : column + 32]
                assert not warned(weights, patch), (weights, row, column)


# --- area weights ------------------------------------------------------------------------------------------------


def test_the_cosine_of_the_poles_is_not_negative(extractor, draw) -> None:
    a, b = draw(2, 33, 64, seed=1), draw(2, 33, 64, seed=2)
    latitude = torch.linspace(90, -90, 33)
    weight = torch.cos(torch.deg2rad(latitude))
    assert weight.min() < 0  # in float32, -4e-8
    loss = AtmoDistLoss(extractor, reduction="none")
    exact = weight.clamp_min(0)
    assert torch.equal(loss(a, b, weight), loss(a, b, exact))
    assert torch.equal(loss(a, loss.features(b, weight), weight), loss(a, b, exact))
    assert_close(loss(a, b, weight), loss(a, b, weight.abs()), 5e-2)  # zero is a mask: the two pole rows are replaced


def test_missing_values_at_the_poles_are_covered_by_their_cosine(extractor, draw) -> None:
    """In either field: what is negative by rounding is a mask for both."""
    a, b = draw(2, 33, 64, seed=1), draw(2, 33, 64, seed=2)
    weight = torch.cos(torch.deg2rad(torch.linspace(90, -90, 33)))
    loss = AtmoDistLoss(extractor)
    expected = loss(a, b, weight)
    for fields in (a, b):
        fields[..., weight <= 0, :] = math.nan
        assert torch.equal(loss(a, b, weight), expected)


@pytest.mark.parametrize("low", [-1e-3, -1.0, math.nan, -math.inf])
def test_negative_weights_are_refused(low, extractor, draw, one_sentence) -> None:
    weight = torch.ones(32)
    weight[3] = low
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor)(draw(), draw(), weight)
    one_sentence(error.value, "weight", "not negative")
