"""The amplitude-adjusted difference against its formula, written window by window with FFTs; and what it is for."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atmoloss import adjusted
from atmoloss.adjusted import AdjustedDifference
from atmoloss.errors import InputError
from atmoloss.functional import mean_squared_difference
from tests.tolerances import DTYPES, TOLERANCES, assert_close

# --- the readable definition, in torch and float64, so that it has a gradient -----------------------------------------


def tapered(size: int, window: int, periodic: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The places in the window, cells of one dimension and taper of each window, which overlap by a quarter."""
    overlap, step = window // 4, window - window // 4
    rise = torch.sin(math.pi / 2 * (torch.arange(overlap, dtype=torch.float64) + 0.5) / overlap)
    taper = torch.cat((rise, torch.ones(window - 2 * overlap, dtype=torch.float64), rise.flip(0)))
    place = torch.arange(window)
    if periodic:
        count = math.ceil(size / step)
        covered = torch.zeros(size, dtype=torch.float64)
        for i, p in itertools.product(range(count), range(window)):
            covered[(i * step + p) % size] += taper[p] ** 2
        for i in range(count):
            cells = (i * step + place) % size
            yield place, cells, taper / covered[cells].sqrt()
    else:
        for i in range(math.ceil((size + overlap) / step)):
            cells = i * step - overlap + place
            inside = (cells >= 0) & (cells < size)
            yield place[inside], cells[inside], taper[inside]


def by_windows(x: Tensor, window: int, periodic: bool) -> Iterator[Tensor]:
    """Fourier coefficients, (N, C, window, window), of every window, such that all powers sum to that of the field."""
    for row, column in itertools.product(tapered(x.shape[-2], window, False), tapered(x.shape[-1], window, periodic)):
        (i, rows, down), (j, columns, across) = row, column
        patch = x.new_zeros(*x.shape[:2], window, window)
        patch[..., i[:, None], j] = x[..., rows[:, None], columns] * down[:, None] * across
        yield torch.fft.fft2(patch, norm="ortho")


def group_sums(window: int, product: Tensor) -> Tensor:
    """Sums of (N, C, window, window) over wavenumbers 0 to 5 and, of each later one, six directions: (N, C, groups)."""
    k = np.abs(np.fft.fftfreq(window) * window)
    ring = np.rint(np.hypot(k[:, None], k))
    degrees = np.rad2deg(np.arctan2(*np.broadcast_arrays(k[:, None], k)))
    nearest = np.abs(degrees[..., None] - 1e-6 - [0, 18, 36, 54, 72, 90]).argmin(-1)  # 45° to 36°
    groups: dict[tuple[int, int], list[int]] = {}
    for cell, (r, direction) in enumerate(zip(ring.flat, nearest.flat, strict=True)):
        groups.setdefault((int(r), int(direction) if r > 5 else 0), []).append(cell)
    return torch.stack([product.flatten(-2)[..., groups[key]].sum(-1) for key in sorted(groups)], -1)


def moments(x: Tensor, y: Tensor, window: int, periodic: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The powers of both and their cross-power in each window and group, (N, C, groups)."""
    pairs = zip(by_windows(x, window, periodic), by_windows(y, window, periodic), strict=True)
    for p, q in pairs:
        products = p.abs().square(), q.abs().square(), (p * q.conj()).real
        yield tuple(group_sums(window, product) for product in products)


def definition(a: Tensor, b: Tensor, *, window: int = 32, periodic: bool = False, weight=None) -> Tensor:
    """The mean squared difference and, of each window and group, what the adjusted formula has more, (N,)."""
    area = torch.ones_like(a[:, :1]) if weight is None else weight.expand(len(a), 1, *a.shape[-2:])
    cells = (area.sum((1, 2, 3)) * a.shape[1]).clamp_min(1e-300)
    value = (area * (a - b).square()).sum((1, 2, 3)) / cells
    for own, target, cross in moments(a * area.sqrt(), b * area.sqrt(), window, periodic):
        shared = adjusted._SHARED_POWER * (own + target) + 1e-20
        of_a, of_b, cov = (own + shared)[..., 1:], (target + shared)[..., 1:], (cross + shared)[..., 1:]
        distrust = 1 - cov / (of_a * of_b).sqrt()  # one minus the coherence
        more = 2 * (of_b - (of_a * of_b).sqrt()) * distrust
        value = value + more.sum((1, 2)) / cells
    return value


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


SHAPES = [(24, 32), (21, 19), (3, 5), (1, 1), (8, 2)]


# --- arithmetic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("window", [8, 16])
def test_against_the_definition(shape, periodic, window) -> None:
    a, b = noise(2, 3, *shape, seed=1).requires_grad_(), 0.3 + 2 * noise(2, 3, *shape, seed=2)
    got = AdjustedDifference(window, periodic)(a, b)
    expected = definition(a, b, window=window, periodic=periodic)
    assert_close(got, expected, torch.float64)
    slopes = [torch.autograd.grad(value.sum(), a)[0] for value in (got, expected)]
    assert_close(*slopes, TOLERANCES[torch.float64].gradient)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
def test_weighted_against_the_definition(shape, periodic) -> None:
    """Area weights with a hole; whole windows without weight."""
    a, b, weight = noise(2, 3, *shape, seed=1), noise(2, 3, *shape, seed=2), noise(2, 1, *shape, seed=3).abs()
    weight[..., 4:17, 7:] = 0.0
    expected = definition(a, b, window=8, periodic=periodic, weight=weight)
    assert_close(AdjustedDifference(8, periodic)(a, b, weight), expected, torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("periodic", [False, True])
def test_with_the_product_of_amplitudes_the_formula_is_the_squared_difference(shape, periodic) -> None:
    """And with the target's power it is the adjusted difference, where no power is shared."""
    a, b = 1 + noise(2, 3, *shape, seed=1), noise(2, 3, *shape, seed=2)
    plain, sharp = torch.zeros(2, 3).double(), torch.zeros(2, 3).double()
    for own, target, cross in moments(a, b, 8, periodic):
        mean = (own + target - 2 * cross)[..., 0]
        own, target, cross = (x[..., 1:] for x in (own, target, cross))
        amplitude = (own.sqrt() - target.sqrt()).square()
        product = (own * target).sqrt()
        distrust = 1 - torch.where(product > 0, cross / product, 0.0)
        plain += mean + (amplitude + 2 * product * distrust).sum(-1)
        sharp += mean + (amplitude + 2 * target * distrust).sum(-1)
    cells = a[0].numel()
    assert_close(plain.sum(1) / cells, mean_squared_difference(a, b), torch.float64)
    assert_close(sharp.sum(1) / cells, AdjustedDifference(8, periodic)(a, b), 5 * adjusted._SHARED_POWER)


@given(height=st.integers(1, 30), width=st.integers(1, 30), periodic=st.booleans(), seed=st.integers(0, 99))
def test_not_negative_and_in_any_units(height, width, periodic, seed) -> None:
    difference = AdjustedDifference(8, periodic)
    a, b = noise(2, 2, height, width, seed=seed), noise(2, 2, height, width, seed=seed + 100)
    value = difference(a, b)
    assert (value > 0).all()
    assert_close(difference(0.01 * a, 0.01 * b), 1e-4 * value, 1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("periodic", [False, True])
def test_zero_for_equal_fields_and_finite_gradients(dtype, periodic) -> None:
    x, zero = noise(2, 3, 20, 28, dtype=dtype), torch.zeros(2, 3, 20, 28, dtype=dtype)
    weight = torch.rand(1, 1, 20, 28).round()
    for a, b in [(x, x), (zero, zero), (zero + 3, zero + 3), (zero, x), (x, zero), (zero + 3, x), (x, 1e-3 * x)]:
        for w in (None, weight):
            a = a.clone().requires_grad_()
            value = AdjustedDifference(8, periodic)(a, b, w)
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            (gradient,) = torch.autograd.grad(value.sum(), a)
            assert gradient.isfinite().all()
            assert (value == 0).all() == torch.equal(a, b)
            assert (gradient == 0).all() == torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_computed_in_float32_whatever_autocast_says(dtype) -> None:
    a, b = noise(2, 3, 40, 40, seed=1, dtype=dtype), noise(2, 3, 40, 40, seed=2, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        got = AdjustedDifference(16)(a, b)
    assert_close(got, definition(a.double(), b.double(), window=16), TOLERANCES[got.dtype].rounding)


@pytest.mark.parametrize("periodic", [False, True])
def test_gradcheck(periodic) -> None:
    """Of both fields; a weight is a constant."""
    a, b, weight = (noise(1, 2, 6, 7, seed=s) for s in (1, 2, 3))
    difference = AdjustedDifference(8, periodic)
    for w in (None, weight[:, :1].abs()):
        assert torch.autograd.gradcheck(difference, (a.requires_grad_(), b.requires_grad_(), w))


def test_the_gradient_has_a_gradient() -> None:
    arguments = [noise(1, 1, 4, 5, seed=s).requires_grad_() for s in (1, 2)]
    assert torch.autograd.gradgradcheck(AdjustedDifference(8), arguments, atol=1e-4)


def test_a_flat_field_has_a_bounded_gradient() -> None:
    """Where the coherence is not defined; the bound is that of the comment at the shared power."""
    flat, detail = torch.zeros(1, 1, 32, 32, dtype=torch.float64, requires_grad=True), noise(1, 1, 32, 32)
    sharp, plain = (
        torch.autograd.grad(f(flat, detail).sum(), flat)[0].norm()
        for f in (AdjustedDifference(), mean_squared_difference)
    )
    assert 10 < sharp / plain < 1.5 / math.sqrt(adjusted._SHARED_POWER)


def test_a_roll_by_the_step_of_the_windows_on_a_periodic_field() -> None:
    difference = AdjustedDifference(8, periodic=True)
    a, b = noise(2, 2, 24, 48, seed=1), noise(2, 2, 24, 48, seed=2)
    assert_close(difference(a.roll(6, -1), b.roll(6, -1)), difference(a, b), torch.float64)


def test_a_mask_is_a_crop() -> None:
    """Of whole steps of the windows; both continue with zeros."""
    a, b, weight = noise(2, 2, 36, 42, seed=1), noise(2, 2, 36, 42, seed=2), torch.zeros(1, 1, 36, 42)
    weight[..., 6:30, 12:36] = 0.7
    crop = (slice(None), slice(None), slice(6, 30), slice(12, 36))
    assert_close(AdjustedDifference(8)(a, b, weight), AdjustedDifference(8)(a[crop], b[crop]), torch.float64)


def test_no_weight_gives_zero() -> None:
    a = noise(2, 3, 20, 20).requires_grad_()
    value = AdjustedDifference(8)(a, torch.zeros_like(a), torch.zeros(1, 1, 20, 20))
    assert value.tolist() == [0.0, 0.0]
    assert torch.autograd.grad(value.sum(), a)[0].abs().max() == 0


@pytest.mark.parametrize("shape", [(32, 48), (45, 50)])
@pytest.mark.parametrize("periodic", [False, True])
def test_the_map_has_the_difference_as_its_mean(shape, periodic) -> None:
    difference = AdjustedDifference(8, periodic)
    a, b = 0.5 * noise(2, 2, *shape, seed=1), noise(2, 2, *shape, seed=2)
    where = difference.map(a, b)
    assert where.shape == (2, 1, *shape)
    assert_close(where.mean((1, 2, 3)), difference(a, b), 0.05)
    assert difference.map(a, a).abs().max() == 0


@pytest.mark.parametrize("window", [6, 4, 0, -8])
def test_bad_windows(window, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        AdjustedDifference(window)
    one_sentence(error.value, "window", str(window), "expected")


# --- what it is for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coherence", [0.0, 0.2, 0.45])
def test_the_right_strength_is_best_whatever_the_coherence(coherence) -> None:
    """A squared difference is least at the strength ``coherence``: it rewards blur, and below ½ no detail at all."""
    target = noise(8, 1, 64, 64, seed=1)
    detail = coherence * target + math.sqrt(1 - coherence**2) * noise(8, 1, 64, 64, seed=2)
    strengths = (0.0, coherence, 0.6, 0.8, 1.0, 1.2)
    sharp = {s: float(AdjustedDifference()(s * detail, target).mean()) for s in strengths}
    plain = {s: float(mean_squared_difference(s * detail, target).mean()) for s in strengths}
    assert min(sharp, key=sharp.get) == 1.0
    assert sharp[1.0] < 0.9 * sharp[0.0]
    assert plain[0.0] < plain[1.0]
    assert min(plain, key=plain.get) == coherence


def test_the_best_guess_of_an_uncertain_strength_is_its_mean() -> None:
    """As the reason for the target's power says: one field stands for targets of several strengths."""
    strengths = torch.linspace(0.4, 1.6, 9, dtype=torch.float64)[:, None, None, None]
    targets, guess = strengths * noise(9, 1, 64, 64, seed=1), noise(1, 1, 64, 64, seed=2)
    values = {
        g: float(AdjustedDifference()(g * guess.expand_as(targets), targets).mean()) for g in (0.6, 0.8, 1.0, 1.2)
    }
    assert min(values, key=values.get) == 1.0


def test_streaks_cost_more_than_detail_in_all_directions() -> None:
    """Of equal power in each ring of wavenumber, and as little coherent with the target."""
    target, detail = noise(8, 1, 64, 64, seed=1), torch.fft.fft2(noise(8, 1, 64, 64, seed=2))
    k = torch.fft.fftfreq(64, dtype=torch.float64)
    ring = torch.hypot(k[:, None], k).mul(64).round()
    along = k.abs()[:, None] < 0.3 * k.abs()
    streaks = torch.zeros_like(detail)
    for r in ring.unique():
        inside, of_all = (ring == r) & along, ring == r
        if inside.any():
            share = detail[..., of_all].abs().square().sum(-1) / detail[..., inside].abs().square().sum(-1)
            streaks[..., inside] = detail[..., inside] * share.sqrt()[..., None]
        else:
            streaks[..., of_all] = detail[..., of_all]
    isotropic, streaky = (AdjustedDifference()(torch.fft.ifft2(x).real, target).mean() for x in (detail, streaks))
    assert streaky > 1.2 * isotropic


def test_blur_costs_more_than_detail_at_the_wrong_place() -> None:
    large = torch.nn.functional.interpolate(noise(8, 1, 16, 16, seed=1), (64, 64), mode="bicubic")
    target, misplaced = (large + 0.5 * noise(8, 1, 64, 64, seed=s) for s in (2, 3))
    difference = AdjustedDifference()
    assert (mean_squared_difference(large, target) < mean_squared_difference(misplaced, target)).all()
    assert (difference(large, target) > difference(misplaced, target)).all()


def test_strength_is_compared_where_it_belongs() -> None:
    """Detail of the same total strength in the wrong half costs more: the windows are local."""
    calm = torch.ones(64, dtype=torch.float64)
    calm[:32] = 0.1
    target, other = noise(4, 1, 64, 64, seed=1) * calm, noise(4, 1, 64, 64, seed=2)
    here, there = other * calm, other * calm.flip(0)
    plain = mean_squared_difference(there, target) / mean_squared_difference(here, target)
    assert ((plain - 1).abs() < 0.1).all()
    assert (AdjustedDifference(16)(there, target) > 1.3 * AdjustedDifference(16)(here, target)).all()
