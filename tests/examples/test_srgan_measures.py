"""Content measures on fields with known answers."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from srgan import measures
from srgan.content import Facl

from tests.tolerances import assert_close

MEASURES = [
    measures.mse,
    measures.l1,
    measures.gradient,
    measures.log_spectral,
    measures.amse,
    measures.fourier_amplitude,
    measures.fourier_correlation,
]


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def from_cosines(coefficients: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(scipy.fft.idctn(coefficients.numpy(), axes=(-2, -1), norm="ortho"))


@pytest.mark.parametrize("measure", MEASURES)
def test_zero_at_equality_symmetric_and_finite_gradients(measure):
    x, y = noise(3, 2, 16, 20, dtype=torch.float32), noise(3, 2, 16, 20, seed=1, dtype=torch.float32)
    assert torch.equal(measure(x, x.clone()), torch.zeros(3))
    assert_close(measure(x, y), measure(y, x), torch.float32)
    for prediction in (x.clone(), y.clone(), torch.zeros_like(x), torch.ones_like(x)):
        prediction.requires_grad_()
        value = measure(prediction, x)
        assert value.shape == (3,)
        (slope,) = torch.autograd.grad(value.sum(), prediction)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_gradient_is_that_of_the_value(measure):
    x, y = noise(1, 2, 6, 5).requires_grad_(), noise(1, 2, 6, 5, seed=1)
    assert torch.autograd.gradcheck(lambda p: measure(p, y), (x,))


def test_gradient_sees_slopes_and_not_constants():
    y = noise(1, 1, 8, 8)
    assert measures.gradient(y + 3, y).item() == pytest.approx(0, abs=1e-20)
    ramp = 0.5 * torch.arange(8.0, dtype=torch.float64)
    assert measures.gradient(y + ramp, y).item() == pytest.approx(0.5**2 / 2)


def test_cosine_transform_is_scipys():
    x = noise(2, 3, 12, 10)
    assert_close(measures.cosine_transform(x), scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho"), torch.float64)


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (9, 5)])
def test_every_coefficient_is_in_one_ring(size):
    member = measures.rings(*size, torch.float64, torch.device("cpu"))
    assert torch.equal(member.sum(1), torch.ones(size[0] * size[1], dtype=torch.float64))
    assert (member.sum(0) > 0).all()
    ring = member.argmax(1).reshape(size)
    assert ring[0, 0] == 0
    assert (ring == 0).sum() == 1  # the mean alone
    power = measures.ring_power(noise(1, 1, *size))
    assert power.sum().item() == pytest.approx(noise(1, 1, *size).square().sum().item())


def test_log_spectrum_of_a_scaled_field():
    y = noise(2, 2, 32, 32)
    for a in (0.5, 3.0):
        assert_close(measures.log_spectral(a * y, y), np.full(2, (2 * math.log(a)) ** 2), 1e-4)  # the floor
    assert measures.log_spectral(-y, y).max() == 0  # blind to phases
    # One ring alone, at a hundredth of its power: of 31 rings.
    coefficients = noise(1, 1, 32, 32, seed=3)
    ring = measures.rings(32, 32, torch.float64, torch.device("cpu")).argmax(1).reshape(32, 32)
    weaker = torch.where(ring == 7, 0.1 * coefficients, coefficients)
    value = measures.log_spectral(from_cosines(weaker), from_cosines(coefficients)).item()
    assert value == pytest.approx(math.log(100) ** 2 / 31, rel=1e-3)


def amse_by_rings(x: np.ndarray, y: np.ndarray) -> float:
    """Subich et al. (2025), as printed, ring by ring, of one field."""
    a, b = (scipy.fft.dctn(f, norm="ortho") for f in (x, y))
    n, m = x.shape
    k = np.rint(np.hypot(np.arange(n)[:, None] / n, np.arange(m) / m) * min(n, m))
    total = (a[0, 0] - b[0, 0]) ** 2
    for ring in np.unique(k[k > 0]):
        p, q, cross = ((f * g)[k == ring].sum() for f, g in ((a, a), (b, b), (a, b)))
        coherence = cross / np.sqrt(p * q)
        total += (np.sqrt(p) - np.sqrt(q)) ** 2 + 2 * max(p, q) * (1 - coherence)
    return total / x.size


def test_amse_is_the_printed_formula():
    x, y = 0.3 + 0.7 * noise(2, 2, 12, 18), noise(2, 2, 12, 18, seed=1)
    expected = [np.mean([amse_by_rings(x[i, c].numpy(), y[i, c].numpy()) for c in range(2)]) for i in range(2)]
    assert_close(measures.amse(x, y), expected, torch.float64)


@pytest.mark.parametrize(("amplitude", "angle"), [(1.0, 0.7), (0.4, 0.7), (2.0, 0.7), (0.3, 0.0), (1.0, math.pi)])
def test_amse_of_one_wave_with_another_amplitude_and_phase(amplitude, angle):
    """Two cosines of one ring are the two phases of a wave."""
    a, b = torch.zeros(1, 1, 32, 32, dtype=torch.float64), torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    a[..., 3, 4], b[..., 3, 4], b[..., 4, 3] = 1.0, amplitude * math.cos(angle), amplitude * math.sin(angle)
    value = measures.amse(from_cosines(b), from_cosines(a)).item() * 32 * 32
    expected = (amplitude - 1) ** 2 + 2 * max(amplitude, 1) ** 2 * (1 - math.cos(angle))
    assert value == pytest.approx(expected, rel=1e-6)


def test_amse_is_the_mse_of_equal_spectra_and_does_not_favour_weak_fields():
    coefficients = noise(1, 1, 32, 32)
    signs = torch.sign(noise(1, 1, 32, 32, seed=2))
    x, y = from_cosines(coefficients * signs), from_cosines(coefficients)
    assert_close(measures.amse(x, y), measures.mse(x, y), torch.float64)
    # Wrong phases: half the amplitude is cheaper by the MSE, dearer here.
    assert measures.mse(0.5 * x, y) < measures.mse(x, y)
    assert measures.amse(0.5 * x, y) > measures.amse(x, y)


def test_fourier_correlation_is_the_printed_formula():
    x, y = noise(2, 2, 12, 16), noise(2, 2, 12, 16, seed=1)
    a, b = (np.fft.fft2(f.numpy()) for f in (x, y))
    cross = (np.conj(a) * b + a * np.conj(b)).sum((-2, -1)).real / 2
    size = np.sqrt((np.abs(a) ** 2).sum((-2, -1)) * (np.abs(b) ** 2).sum((-2, -1)))
    assert_close(measures.fourier_correlation(x, y), (1 - cross / size).mean(1), torch.float64)
    assert_close(measures.fourier_correlation(2 * y, y), np.zeros(2), torch.float64, scale=1.0)
    assert_close(measures.fourier_correlation(-y, y), np.full(2, 2.0), torch.float64)


def test_fourier_amplitudes_do_not_see_where_a_field_is():
    i = torch.arange(96.0, dtype=torch.float64)
    long = torch.stack([sum(torch.cos(2 * math.pi * k / 32 * (i + p)) for k, p in ((3.3, 0), (7.1, 5), (11.6, 9)))])
    field = long[:, None, :, None] * long[:, None, None, :]
    here, there = field[..., 10:74, 10:74], field[..., 15:79, 12:76]
    moved = measures.fourier_amplitude(here, there)
    assert moved < 0.03 * measures.mse(here, there)
    # Without the window the edges of patches that do not close would count.
    plain = (torch.fft.fft2(here, norm="ortho").abs() - torch.fft.fft2(there, norm="ortho").abs()).square().mean()
    assert moved < 0.5 * plain
    window = np.hanning(65)[:-1]
    window = window[:, None] * window
    power = (window**2 * here.numpy()[0, 0] ** 2).mean() / (window**2).mean()
    assert measures.fourier_amplitude(0.5 * here, here).item() == pytest.approx(0.25 * power, rel=1e-5)


def test_facl_draws_correlations_first_and_amplitudes_at_the_end():
    facl = Facl(steps=1000, seed=3)
    drawn = np.array([facl.correlation_drawn(step) for step in range(1, 1001)])
    assert drawn[0]
    assert not drawn[900:].any()
    assert 350 < drawn.sum() < 550  # 450 expected, standard deviation 12
    assert drawn[:300].sum() > 1.5 * drawn[450:750].sum()
    assert [Facl(1000, 3).correlation_drawn(s) for s in range(1, 1001)] == drawn.tolist()
    x, y = noise(1, 1, 16, 16), noise(1, 1, 16, 16, seed=1)
    step = 1 + int(np.flatnonzero(~drawn)[0])
    assert facl(x, y, 1) == measures.fourier_correlation(x, y)
    assert facl(x, y, step) == measures.fourier_amplitude(x, y)
    assert facl(x, y) == (facl(x, y, 1) + facl(x, y, step)) / 2
