"""The normalisation: its inverse, its gradient, and its constants against direct formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from atmoloss.errors import InputError
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.tolerances import DTYPES, TOLERANCES, assert_close

ORIGINAL = LogNormalization(**ORIGINAL_NORMALIZATION)
STD = torch.tensor(ORIGINAL_NORMALIZATION["std"], dtype=torch.float64).reshape(2, 1, 1)


def direct(x: np.ndarray, constants: dict) -> np.ndarray:
    out = np.empty_like(x, dtype=np.float64)
    for c in range(x.shape[1]):
        z = (x[:, c].astype(np.float64) - constants["mean"][c]) / constants["std"][c]
        y = np.sign(z) * np.log(1 + constants["alpha"] * np.abs(z))
        out[:, c] = (y - constants["log_mean"][c]) / constants["log_std"][c]
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_against_the_formula(dtype, draw) -> None:
    x = draw(dtype=dtype)
    got = ORIGINAL(x)
    assert got.dtype == dtype
    assert_close(got, direct(x.double().numpy(), ORIGINAL_NORMALIZATION), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(z=hnp.arrays(np.float64, (1, 2, 3, 3), elements=st.floats(-60, 60)))
def test_inverse(dtype, z) -> None:
    x = (torch.from_numpy(z) * STD).to(dtype)
    back = ORIGINAL.inverse(ORIGINAL(x))
    assert back.dtype == dtype
    # exp amplifies the rounding of y by log_std·|y|, below 3 here; float16 also counts in steps of 6e-8 s⁻¹.
    bound = 8 * TOLERANCES[dtype].exact * (STD + x.double().abs()) + 6e-8 * (dtype == torch.float16)
    assert ((back.double() - x.double()).abs() <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_is_the_analytic_one_also_where_z_is_zero(dtype) -> None:
    constants = {**ORIGINAL_NORMALIZATION, "mean": [0.0, 0.0]}
    z = torch.tensor([-3.0, -1e-3, 0.0, 1e-3, 40.0], dtype=torch.float64).reshape(1, 1, 1, 5)
    x = (z * STD).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(LogNormalization(**constants)(x).sum(), x)
    log_std = torch.tensor(constants["log_std"], dtype=torch.float64).reshape(2, 1, 1)
    expected = 0.2 / (1 + 0.2 * (x.detach().double() / STD).abs()) / STD / log_std
    assert_close(gradient, expected, dtype)


def test_gradcheck(draw) -> None:
    x = ORIGINAL.inverse(torch.randn(1, 2, 3, 4, dtype=torch.float64))
    # In units of one standard deviation, else the finite difference of gradcheck spans the whole field.
    assert torch.autograd.gradcheck(lambda z: ORIGINAL(z * STD), ((x / STD).requires_grad_(),))


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double", "float"])
def test_casts_keep_the_constants(cast, draw) -> None:
    x = draw()
    module = torch.nn.Sequential(LogNormalization(**ORIGINAL_NORMALIZATION))
    before = module(x)
    getattr(module, cast)()
    assert module[0].constants() == ORIGINAL_NORMALIZATION
    assert torch.equal(module[0].std.flatten(), torch.tensor(ORIGINAL_NORMALIZATION["std"], dtype=torch.float32))
    assert torch.equal(module(x), before)
    assert not module.state_dict()
    assert not list(module.parameters())


def fitted_directly(sample: np.ndarray, alpha: float) -> dict:
    mean, std = np.nanmean(sample, (0, 2, 3)), np.nanstd(sample, (0, 2, 3))
    z = (sample - mean[:, None, None]) / std[:, None, None]
    y = np.where(z < 0, -1, 1) * np.log(1 + alpha * np.abs(z))
    return {
        "mean": mean,
        "std": std,
        "log_mean": np.nanmean(y, (0, 2, 3)),
        "log_std": np.nanstd(y, (0, 2, 3)),
        "alpha": alpha,
    }


def sample(n: int = 41) -> np.ndarray:
    rng = np.random.default_rng(3)
    scale, offset = np.array([3e-5, 12.0, 250.0]), np.array([1e-6, -3.0, 9000.0])
    return rng.standard_t(4, (n, 3, 9, 11)) * scale[:, None, None] + offset[:, None, None]


def with_missing() -> np.ndarray:
    x = sample()
    x[:20, 0, 3:, :4] = np.nan
    x[16:32, 2] = np.nan  # a whole chunk of one channel
    return x


def as_xarray(x: np.ndarray, dataset: bool):
    xarray = pytest.importorskip("xarray")
    if not dataset:
        return xarray.DataArray(x, dims=("time", "channel", "latitude", "longitude"))
    dims = ("time", "latitude", "longitude")
    return xarray.Dataset({f"v{c}": (dims, x[:, c]) for c in range(x.shape[1])})


FORMS = {
    "numpy": lambda x: x,
    "torch": torch.from_numpy,
    "chunks": lambda x: lambda: iter([x[:1], torch.from_numpy(x[1:18]), x[18:]]),
    "DataArray": lambda x: as_xarray(x, dataset=False),
    "Dataset": lambda x: as_xarray(x, dataset=True),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [sample, with_missing])
@pytest.mark.parametrize("alpha", [0.2, 1.5])
def test_fit_against_the_formula(form, make, alpha) -> None:
    x = make()
    constants = LogNormalization.fit(FORMS[form](x), alpha).constants()
    for name, expected in fitted_directly(x, alpha).items():
        assert_close(constants[name], expected, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fit_of_other_dtypes(dtype) -> None:
    x = torch.from_numpy(sample()).to(dtype)
    constants = LogNormalization.fit(x).constants()
    for name, expected in fitted_directly(x.double().numpy(), 0.2).items():
        assert_close(constants[name], expected, 1e-6)


def test_fitted_fields_have_mean_zero_and_spread_one() -> None:
    x = torch.from_numpy(sample())
    y = LogNormalization.fit(x)(x)
    assert_close(y.mean((0, 2, 3)), torch.zeros(3), 1e-9, scale=1.0)
    assert_close(y.std((0, 2, 3), unbiased=False), torch.ones(3), 1e-9)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 2, 4)),
        np.zeros((3, 2, 4, 4)),
        np.full((3, 2, 4, 4), np.nan),
        np.zeros((0, 2, 4, 4)),
        np.where(np.arange(96).reshape(3, 2, 4, 4) == 5, np.inf, np.arange(96.0).reshape(3, 2, 4, 4)),
    ],
    ids=["rank", "constant", "missing", "empty", "infinite"],
)
def test_fit_refuses(bad, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        LogNormalization.fit(bad)
    one_sentence(error.value, "sample", "expected")


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.0]},
        {"std": [1.0, 0.0]},
        {"log_std": [1.0, -1.0]},
        {"log_mean": [math.nan, 0.0]},
        {"alpha": 0.0},
        {"alpha": math.nan},
        {"mean": [], "std": [], "log_mean": [], "log_std": []},
    ],
    ids=str,
)
def test_bad_constants(change, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        LogNormalization(**{**ORIGINAL_NORMALIZATION, **change})
    one_sentence(error.value, "normalization", "expected")
