"""The amplitude-adjusted difference against its formula, written window by window; and what it is for."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atmoloss import adjusted
from atmoloss.adjusted import AdjustedDifference, octave_bands
from atmoloss.errors import InputError
from atmoloss.functional import mean_squared_difference
from tests.tolerances import DTYPES, TOLERANCES, assert_close

# --- the readable definition, in torch and float64, so that it has a gradient -----------------------------------------


def windows(size: int, window: int, periodic: bool) -> list[Tensor]:
    """The cells of one dimension that each window holds: of every block and the one before it."""
    half = window // 2
    count = math.ceil(size / half)
    block = torch.arange(size) // half
    if periodic:
        return [((block == i) | (block == (i - 1) % count)).nonzero().flatten() for i in range(count)]
    return [((block == i) | (block == i - 1)).nonzero().flatten() for i in range(count + 1)]


def by_windows(x: Tensor, y: Tensor, weight: Tensor, window: int, periodic: bool) -> Iterator[tuple[Tensor, ...]]:
    """The weight and the moments μx, μy, σx², σy² and cov of each window, (N, C)."""
    rows, columns = windows(x.shape[-2], window, False), windows(x.shape[-1], window, periodic)
    for i, j in itertools.product(rows, columns):
        a, b, w = (t[..., i, :][..., j].flatten(2) for t in (x, y, weight))
        total = w.sum(-1)
        w = w / total.clamp_min(1e-300)[..., None]
        mean_a, mean_b = (w * a).sum(-1), (w * b).sum(-1)
        da, db = a - mean_a[..., None], b - mean_b[..., None]
        yield total, mean_a, mean_b, (w * da**2).sum(-1), (w * db**2).sum(-1), (w * da * db).sum(-1)


def band_definition(x: Tensor, y: Tensor, weight: Tensor, window: int, periodic: bool, amplitude: str) -> Tensor:
    """Mean over windows of (μx−μy)² + (σx−σy)² + 2 A (1−ρ), A the larger variance or the product of the spreads."""
    sums, total = 0.0, 0.0
    for area, mean_x, mean_y, var_x, var_y, cov in by_windows(x, y, weight, window, periodic):
        shared = adjusted._SHARED_POWER * (var_x + var_y) + 1e-20
        var_x, var_y, cov = var_x + shared, var_y + shared, cov + shared
        spread_x, spread_y = var_x.sqrt(), var_y.sqrt()
        factor = torch.maximum(var_x, var_y) if amplitude == "max" else spread_x * spread_y
        value = (mean_x - mean_y) ** 2 + (spread_x - spread_y) ** 2 + 2 * factor * (1 - cov / (spread_x * spread_y))
        sums, total = sums + area * value, total + area
    return (sums / total.clamp_min(1e-300)).mean(1)


def matrices(size: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """Low-pass of every second cell, and interpolation back, as matrices: Burt & Adelson (1983), a = 0.6."""
    half = math.ceil(size / 2)
    kernel = {-2: -0.05, -1: 0.25, 0: 0.6, 1: 0.25, 2: -0.05}
    low, up = torch.zeros(half, size, dtype=torch.float64), torch.zeros(size, half, dtype=torch.float64)
    for i in range(half):
        for k, value in kernel.items():
            j = 2 * i + k
            low[i, j % size if periodic else min(max(j, 0), size - 1)] += value
    for j in range(size):
        for k, value in kernel.items():
            if (j - k) % 2 == 0:
                i = (j - k) // 2
                up[j, i % half if periodic else min(max(i, 0), half - 1)] += 2 * value
    return low, up


def bands_definition(x: Tensor, count: int, periodic: bool) -> list[Tensor]:
    out = []
    for _ in range(count):
        (low, up), (low_columns, up_columns) = matrices(x.shape[-2], False), matrices(x.shape[-1], periodic)
        smooth = low @ x @ low_columns.T
        out.append(x - up @ smooth @ up_columns.T)
        x = smooth
    return [*out, x]


def definition(
    a: Tensor, b: Tensor, *, window: int = 8, bands: int = 0, periodic: bool = False, share: float = 1.0
) -> Tensor:
    """The adjusted difference without weights, (N,)."""
    value = (a - b).square().mean((1, 2, 3))
    pairs = zip(*(bands_definition(x, bands, periodic)[: bands or 1] for x in (a, b)), strict=True)
    for x, y in pairs:
        ones = torch.ones_like(x[:, :1])
        more = band_definition(x, y, ones, window, periodic, "max") - (x - y).square().mean((1, 2, 3))
        value = value + share * more
    return value


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


SHAPES = [(24, 32), (21, 19), (3, 5), (1, 1), (8, 2)]


# --- arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("bands", [0, 3])
def test_against_the_definition(shape, periodic, bands) -> None:
    a, b = noise(2, 3, *shape, seed=1).requires_grad_(), 0.3 + 2 * noise(2, 3, *shape, seed=2)
    got = AdjustedDifference(4, bands, periodic)(a, b)
    expected = definition(a, b, window=4, bands=bands, periodic=periodic)
    assert_close(got, expected, torch.float64)
    slopes = [torch.autograd.grad(value.sum(), a)[0] for value in (got, expected)]
    assert_close(*slopes, TOLERANCES[torch.float64].gradient)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
def test_weighted_against_the_definition(shape, periodic) -> None:
    """Area weights with a hole; whole windows without weight."""
    a, b, weight = noise(2, 3, *shape, seed=1), noise(2, 3, *shape, seed=2), noise(2, 1, *shape, seed=3).abs()
    weight[..., 4:17, 7:] = 0.0
    expected = band_definition(a, b, weight, 4, periodic, "max")
    assert_close(AdjustedDifference(4, 0, periodic)(a, b, weight), expected, torch.float64)
    plain = mean_squared_difference(a, b, weight)
    assert_close(band_definition(a, b, weight, 4, periodic, "product"), plain, torch.float64)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_windows_hold_the_mean_squared_difference(shape, periodic) -> None:
    """With σx σy for the larger variance the moments of the windows are the squared difference, borders included."""
    a, b, weight = noise(2, 3, *shape, seed=1), 1 + noise(2, 3, *shape, seed=2), noise(2, 1, *shape, seed=3).abs()
    area, mean_a, mean_b, square_a, square_b, product = adjusted._window_moments(a, b, weight, 4, periodic)
    variances = square_a - mean_a**2 + square_b - mean_b**2
    parts = (mean_a - mean_b) ** 2 + variances - 2 * (product - mean_a * mean_b)
    mean = (parts.mean(1, keepdim=True) * area).sum((1, 2, 3)) / area.sum((1, 2, 3))
    assert_close(mean, mean_squared_difference(a, b, weight), torch.float64)


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    bands=st.integers(0, 4),
    periodic=st.booleans(),
    seed=st.integers(0, 99),
)
def test_never_below_the_squared_difference_and_symmetric(height, width, bands, periodic, seed) -> None:
    difference = AdjustedDifference(4, bands, periodic)
    a, b = noise(2, 2, height, width, seed=seed), noise(2, 2, height, width, seed=seed + 100)
    value = difference(a, b)
    assert (value >= mean_squared_difference(a, b)).all()
    assert_close(value, difference(b, a), torch.float64)
    assert_close(difference(3e-5 * a, 3e-5 * b), 9e-10 * value, 1e-9)  # in any units


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bands", [0, 3])
def test_zero_for_equal_fields_and_finite_gradients(dtype, bands) -> None:
    x, zero = noise(2, 3, 20, 28, dtype=dtype), torch.zeros(2, 3, 20, 28, dtype=dtype)
    weight = torch.rand(1, 1, 20, 28).round()
    for a, b in [(x, x), (zero, zero), (zero + 3, zero + 3), (zero, x), (x, zero), (zero + 3, x), (x, 1e-3 * x)]:
        for w in (None, weight):
            a = a.clone().requires_grad_()
            value = AdjustedDifference(8, bands)(a, b, w)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            (gradient,) = torch.autograd.grad(value.sum(), a)
            assert gradient.isfinite().all()
            assert (value == 0).all() == torch.equal(a, b)
            assert (gradient == 0).all() == torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reduced_in_float32_whatever_autocast_says(dtype) -> None:
    a, b = noise(2, 3, 40, 40, seed=1, dtype=dtype), noise(2, 3, 40, 40, seed=2, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = AdjustedDifference(8, 2)(a, b)
    assert_close(got, definition(a.double(), b.double(), bands=2), TOLERANCES[got.dtype].rounding)


@pytest.mark.parametrize("options", [{}, {"bands": 2}, {"periodic": True, "bands": 1}, {"share": 0.3}], ids=str)
def test_gradcheck(options) -> None:
    """Of both fields; a weight is a constant."""
    a, b, weight = (noise(1, 2, 6, 7, seed=s) for s in (1, 2, 3))
    difference = AdjustedDifference(4, **options)
    for w in (None, weight[:, :1].abs()):
        assert torch.autograd.gradcheck(difference, (a.requires_grad_(), b.requires_grad_(), w))


def test_the_gradient_has_a_gradient() -> None:
    arguments = [noise(1, 1, 4, 5, seed=s).requires_grad_() for s in (1, 2)]
    assert torch.autograd.gradgradcheck(AdjustedDifference(4, 1), arguments, atol=1e-4)


def test_a_flat_field_has_a_bounded_gradient() -> None:
    """Where the correlation is not defined; the bound is that of the comment at the shared power."""
    flat, detail = torch.zeros(1, 1, 32, 32, dtype=torch.float64, requires_grad=True), noise(1, 1, 32, 32)
    sharp, plain = (
        torch.autograd.grad(f(flat, detail).sum(), flat)[0].norm()
        for f in (AdjustedDifference(), mean_squared_difference)
    )
    assert 10 < sharp / plain < 1.5 / math.sqrt(adjusted._SHARED_POWER)


@pytest.mark.parametrize("bands", [0, 2])
def test_a_roll_by_the_windows_stride_on_a_periodic_field(bands) -> None:
    difference = AdjustedDifference(8, bands, periodic=True)
    a, b = noise(2, 2, 24, 48, seed=1), noise(2, 2, 24, 48, seed=2)
    shift = 4 * 2 ** max(bands - 1, 0)
    assert_close(difference(a.roll(shift, -1), b.roll(shift, -1)), difference(a, b), torch.float64)


def test_a_mask_is_a_crop() -> None:
    a, b, weight = noise(2, 2, 32, 40, seed=1), noise(2, 2, 32, 40, seed=2), torch.zeros(1, 1, 32, 40)
    weight[..., 8:28, 4:24] = 0.7
    crop = (slice(None), slice(None), slice(8, 28), slice(4, 24))
    assert_close(AdjustedDifference(8)(a, b, weight), AdjustedDifference(8)(a[crop], b[crop]), torch.float64)


def test_no_weight_gives_zero() -> None:
    a = noise(2, 3, 20, 20).requires_grad_()
    value = AdjustedDifference(8, 2)(a, torch.zeros_like(a), torch.zeros(1, 1, 20, 20))
    assert value.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(value.sum(), a)[0].abs().max() == 0


@pytest.mark.parametrize("shape", [(32, 48), (45, 50)])
@pytest.mark.parametrize("periodic", [False, True])
def test_the_map_has_the_difference_as_its_mean(shape, periodic) -> None:
    difference = AdjustedDifference(8, 2, periodic)
    a, b = noise(2, 2, *shape, seed=1), 0.5 * noise(2, 2, *shape, seed=2)
    where = difference.map(a, b)
    assert where.shape == (2, 1, *shape)
    assert_close(where.mean((1, 2, 3)), difference(a, b), 0.05)
    assert difference.map(a, a).abs().max() == 0


@pytest.mark.parametrize(("options", "words"), [({"window": 7}, "7"), ({"window": 0}, "0"), ({"bands": -1}, "-1")])
def test_bad_options(options, words, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AdjustedDifference(**options)
    one_sentence(error.value, *options, words, "expected")


# --- bands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
def test_bands_against_matrices_and_sum_to_the_field(shape, periodic) -> None:
    x = noise(2, 3, *shape)
    bands = octave_bands(x, 3, periodic)
    for got, expected in zip(bands, bands_definition(x, 3, periodic), strict=True):
        assert_close(got, expected, torch.float64, scale=1.0)
    total = bands[-1]
    for band in bands[-2::-1]:
        total = band + adjusted.double(total, (band.shape[-2], band.shape[-1]), periodic)
    assert_close(total, x, torch.float64)


def test_the_power_of_the_bands_is_that_of_the_field() -> None:
    """What the docstring says, for noise and for single waves of any direction."""

    def share(x: Tensor) -> float:
        return sum(band.square().mean() for band in octave_bands(x, 3, periodic=True)) / x.square().mean()

    assert share(noise(16, 1, 64, 64)) == pytest.approx(1, abs=0.02)
    cell = 2 * math.pi / 64 * torch.arange(64, dtype=torch.float64)
    phases = cell[::8, None, None, None]
    shares = [
        float(share(torch.cos(k * cell[:, None] + m * cell + phases)))
        for k, m in itertools.product(range(0, 33, 2), repeat=2)
        if k or m
    ]
    assert 0.9 < min(shares) < max(shares) < 1.05


@pytest.mark.parametrize(("wavelength", "band"), [(3, 0), (6, 1), (12, 2), (48, 3)])
def test_a_wave_lies_in_the_band_of_its_length(wavelength, band) -> None:
    wave = torch.sin(2 * math.pi / wavelength * torch.arange(96, dtype=torch.float64)).expand(1, 1, 96, 96)
    powers = [b.square().mean() for b in octave_bands(wave, 3, periodic=True)]
    assert powers[band] > 0.65 * sum(powers)


# --- what it is for -----------------------------------------------------------------------------------------------


def with_coherence(target: Tensor, coherence: float, seed: int) -> Tensor:
    return coherence * target + math.sqrt(1 - coherence**2) * noise(*target.shape, seed=seed)


@pytest.mark.parametrize("bands", [0, 3])
@pytest.mark.parametrize("coherence", [0.0, 0.2, 0.45])
def test_the_right_strength_is_best_whatever_the_coherence(bands, coherence) -> None:
    """A squared difference is least at the strength ``coherence``: it rewards blur, and below ½ no detail at all."""
    target = noise(8, 1, 64, 64, seed=1)
    detail = with_coherence(target, coherence, seed=2)
    strengths = (0.0, coherence, 0.6, 0.8, 1.0, 1.2)
    sharp = {s: float(AdjustedDifference(8, bands)(s * detail, target).mean()) for s in strengths}
    plain = {s: float(mean_squared_difference(s * detail, target).mean()) for s in strengths}
    assert min(sharp, key=sharp.get) in (0.8, 1.0)  # 0.8 where windows agree by chance
    assert sharp[1.0] < 0.8 * sharp[0.0]
    assert plain[0.0] < plain[1.0]
    assert min(plain, key=plain.get) == coherence


def test_blur_costs_more_than_detail_at_the_wrong_place() -> None:
    large = noise(8, 1, 16, 16, seed=1)
    for size in (32, 64):
        large = adjusted.double(large, (size, size), periodic=True)
    target, misplaced = (large + noise(8, 1, 64, 64, seed=s) for s in (2, 3))
    difference = AdjustedDifference(8, 3, periodic=True)
    assert (mean_squared_difference(large, target) < mean_squared_difference(misplaced, target)).all()
    assert (difference(large, target) > 1.1 * difference(misplaced, target)).all()


def test_strength_is_compared_where_it_belongs() -> None:
    """Detail of the same total strength in the wrong half costs more: the windows are local."""
    calm = torch.ones(64, dtype=torch.float64)
    calm[:32] = 0.1
    target, other = noise(4, 1, 64, 64, seed=1) * calm, noise(4, 1, 64, 64, seed=2)
    here, there = other * calm, other * calm.flip(0)
    plain = mean_squared_difference(there, target) / mean_squared_difference(here, target)
    assert ((plain - 1).abs() < 0.1).all()
    assert (AdjustedDifference()(there, target) > 1.5 * AdjustedDifference()(here, target)).all()
