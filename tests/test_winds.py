"""Winds to divergence and vorticity: analytic flows, order of convergence, edges, poles, a spectral reference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss.errors import InputError
from atmoloss.sphere import EARTH_RADIUS, is_periodic
from atmoloss.winds import WindToVorticityDivergence
from tests.tolerances import DTYPES, TOLERANCES, assert_close

SPECTRAL = Path(__file__).resolve().parents[2] / "shared/data/reference_spectral_025_t159.nc"
R, K, OMEGA = 4, 7.848e-6, 7.848e-6  # Rossby–Haurwitz wave 4 of Williamson et al. (1992), case 6


def axes(step: float, south: float = -90.0, north: float = 90.0, west: float = 0.0, east: float = 360.0):
    """Latitudes from north to south, both ends in; longitudes eastward, the last end out."""
    return np.linspace(north, south, round((north - south) / step) + 1), np.arange(west, east, step)


def grid(latitude, longitude):
    return np.meshgrid(np.deg2rad(latitude), np.deg2rad(longitude), indexing="ij")


def solid_body(latitude, longitude):
    phi, _ = grid(latitude, longitude)
    wind = np.stack([OMEGA * EARTH_RADIUS * np.cos(phi), 0 * phi])
    return wind, np.stack([0 * phi, 2 * OMEGA * np.sin(phi)])


def rossby_haurwitz(latitude, longitude):
    phi, lam = grid(latitude, longitude)
    c, s = np.cos(phi), np.sin(phi)
    u = c + c ** (R - 1) * (R * s**2 - c**2) * np.cos(R * lam)
    v = -R * c ** (R - 1) * s * np.sin(R * lam)
    vorticity = 2 * s - (R + 1) * (R + 2) * s * c**R * np.cos(R * lam)
    return EARTH_RADIUS * K * np.stack([u, v]), K * np.stack([0 * phi, vorticity])


def divergent(latitude, longitude):
    """The gradient of the potential χ = a²K cosᴿφ sinφ cos Rλ, a spherical harmonic of degree R + 1."""
    phi, lam = grid(latitude, longitude)
    c, s = np.cos(phi), np.sin(phi)
    u = -R * c ** (R - 1) * s * np.sin(R * lam)
    v = c ** (R - 1) * (c**2 - R * s**2) * np.cos(R * lam)
    divergence = -(R + 1) * (R + 2) * s * c**R * np.cos(R * lam)
    return EARTH_RADIUS * K * np.stack([u, v]), K * np.stack([divergence, 0 * phi])


FLOWS = [solid_body, rossby_haurwitz, divergent]
flows = pytest.mark.parametrize("flow", FLOWS, ids=lambda f: f.__name__)


def run(latitude, longitude, wind, dtype=torch.float64, **options) -> np.ndarray:
    operator = WindToVorticityDivergence(latitude, longitude, **options)
    return operator(torch.from_numpy(wind)[None].to(dtype))[0].double().numpy()


@flows
def test_analytic_flows(flow) -> None:
    latitude, longitude = axes(1.0)
    wind, expected = flow(latitude, longitude)
    inside = slice(1, -1)  # the pole rows are means of their neighbours
    assert_close(run(latitude, longitude, wind)[:, inside], expected[:, inside], 2e-5)


@flows
def test_fourth_order_inside(flow) -> None:
    errors = []
    for step in (3.0, 1.5):
        latitude, longitude = axes(step)
        wind, expected = flow(latitude, longitude)
        inside = np.abs(latitude) <= 75
        errors.append(np.abs(run(latitude, longitude, wind) - expected)[:, inside].max())
    assert np.log2(errors[0] / errors[1]) >= 3.7, errors


@flows
def test_one_sided_edges_are_fourth_order_too(flow) -> None:
    errors = []
    for step in (2.0, 1.0):
        latitude, longitude = axes(step, south=18, north=58, west=-40, east=22)
        wind, expected = flow(latitude, longitude)
        error = np.abs(run(latitude, longitude, wind) - expected)
        errors.append(max(error[:, [0, 1, -2, -1]].max(), error[:, :, [0, 1, -2, -1]].max()))
        assert_close(run(latitude, longitude, wind), expected, 1e-2)
    assert np.log2(errors[0] / errors[1]) >= 3.5, errors


def test_regional_inside_is_the_global_inside() -> None:
    latitude, longitude = axes(1.0)
    wind = np.random.default_rng(0).normal(size=(2, 181, 360))
    whole = run(latitude, longitude, wind)
    part = run(latitude[20:60], longitude[100:150], wind[:, 20:60, 100:150])
    assert_close(part[:, 2:-2, 2:-2], whole[:, 22:58, 102:148], 1e-12)
    assert np.abs(part[:, 0] - whole[:, 20, 100:150]).max() > 1e-7  # noise: the stencils do differ


@pytest.mark.parametrize("south", [-90.0, -60.0])
def test_results_do_not_depend_on_how_the_grid_is_written(south) -> None:
    latitude, longitude = axes(2.0, south=south)
    wind = np.random.default_rng(1).normal(size=(2, len(latitude), len(longitude)))
    expected = run(latitude, longitude, wind)
    assert_close(run(latitude[::-1].copy(), longitude, wind[:, ::-1].copy())[:, ::-1], expected, 1e-12)
    assert_close(run(latitude, longitude[::-1].copy(), wind[..., ::-1].copy())[..., ::-1], expected, 1e-12)
    for west in (np.arange(-180, 180, 2.0), (longitude + 180) % 360):  # the second jumps from 358 to 0
        assert_close(run(latitude, west, np.roll(wind, 90, -1)), np.roll(expected, 90, -1), 1e-12)
    assert_close(run(latitude, longitude, wind, radius=2 * EARTH_RADIUS), expected / 2, 1e-12)


@pytest.mark.parametrize(
    "longitude", [np.arange(170.0, 190.0), np.r_[170.0:180.0, -180.0:-170.0], np.r_[350.0:360.0, 0.0:10.0]]
)
def test_a_region_may_cross_the_date_line(longitude) -> None:
    latitude = np.linspace(50, 30, 21)
    wind, expected = rossby_haurwitz(latitude, longitude)
    assert_close(run(latitude, longitude, wind), expected, 2e-3)


def test_periodic_is_detected_or_said() -> None:
    latitude, longitude = axes(2.0)
    assert is_periodic(longitude)
    assert is_periodic(longitude - 180)
    assert is_periodic(longitude.astype(np.float32))
    assert not is_periodic(longitude[:-1])
    assert not is_periodic(np.arange(0, 361, 2.0))  # the first meridian twice
    wind, _ = rossby_haurwitz(latitude, longitude)
    detected = run(latitude, longitude, wind)
    np.testing.assert_array_equal(detected, run(latitude, longitude, wind, periodic=True))
    said = run(latitude, longitude, wind, periodic=False)
    np.testing.assert_array_equal(said[:, 1:-1, 2:-2], detected[:, 1:-1, 2:-2])
    assert np.abs(said - detected)[:, 1:-1, :2].max() > 1e-9


def test_periodic_columns_shift_with_the_wind() -> None:
    latitude, longitude = axes(3.0)
    wind = np.random.default_rng(2).normal(size=(2, len(latitude), len(longitude)))
    shifted = run(latitude, longitude, np.roll(wind, 7, -1))
    assert_close(shifted, np.roll(run(latitude, longitude, wind), 7, -1), 1e-13)


@pytest.mark.parametrize("per_sample", [False, True])
def test_latitude_per_call(per_sample) -> None:
    latitude, longitude = axes(1.0, west=10, east=50)
    crops = [latitude[10:40], latitude[90:120]] if per_sample else [latitude[33:63]] * 2
    cases = [rossby_haurwitz(crop, longitude) for crop in crops]
    operator = WindToVorticityDivergence(latitude[:20], longitude)  # another number of rows
    wind = torch.from_numpy(np.stack([w for w, _ in cases]))
    given = torch.tensor(np.stack(crops) if per_sample else crops[0], dtype=torch.float32)
    got = operator(wind, given)
    for g, crop, w in zip(got, crops, wind, strict=True):
        assert_close(g, run(crop, longitude, w.numpy()), 1e-6)
    assert_close(got, np.stack([e for _, e in cases]), 1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("flow", [rossby_haurwitz, divergent])
def test_poles_are_finite_and_the_same_at_all_longitudes(dtype, flow) -> None:
    latitude, longitude = axes(2.0)
    wind, _ = flow(latitude, longitude)
    wind += np.random.default_rng(0).normal(size=wind.shape)
    got = run(latitude, longitude, wind, dtype)
    assert np.isfinite(got).all()
    for row, neighbour in ((0, 1), (-1, -2)):
        assert np.ptp(got[:, row], axis=-1).max() == 0
        assert_close(got[:, row, 0], got[:, neighbour].mean(-1), dtype, scale=np.abs(got[:, neighbour]).max())


def test_solid_body_rotation_reaches_the_pole() -> None:
    latitude, longitude = axes(1.0)
    wind, expected = solid_body(latitude, longitude)
    assert_close(run(latitude, longitude, wind)[:, 0], expected[:, 0], 1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype) -> None:
    latitude, longitude = axes(2.5)
    wind, _ = rossby_haurwitz(latitude, longitude)
    wind = torch.from_numpy(wind)[None].to(dtype)
    operator = WindToVorticityDivergence(latitude, longitude)
    got, expected = operator(wind), operator(wind.double())  # of the same rounded wind
    assert got.dtype == dtype
    # Differences of neighbouring winds lose digits to cancellation: float32 ones a factor of ten.
    tolerance = max(TOLERANCES[dtype].rounding, 10 * TOLERANCES[torch.float32].rounding * (dtype != torch.float64))
    band = slice(4, -4)  # 80S to 80N: 1/cos φ amplifies rounding beyond
    assert_close(got[:, :, band], expected[:, :, band], tolerance)
    cast = getattr(WindToVorticityDivergence(latitude, longitude), {torch.float16: "half"}.get(dtype, "double"))()
    assert torch.equal(cast(wind), got)


@pytest.mark.parametrize("periodic", [False, True])
def test_gradcheck(periodic) -> None:
    latitude = np.linspace(-90, -34, 8)
    operator = WindToVorticityDivergence(latitude, np.arange(9) * 40.0, radius=1.0, periodic=periodic)
    wind = torch.randn(2, 2, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator, (wind,))


GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))


@pytest.mark.parametrize(
    ("latitude", "longitude", "word"),
    [
        (GAUSSIAN, np.arange(64) * 5.625, "latitude"),
        (np.arange(4), np.arange(8), "latitude"),
        (np.zeros(8), np.arange(8), "latitude"),
        (np.linspace(91, 85, 7), np.arange(8), "latitude"),
        (np.full(8, np.nan), np.arange(8), "latitude"),
        (np.r_[np.arange(7), np.nan], np.arange(8), "latitude"),
        (np.arange(8).reshape(2, 4), np.arange(8), "latitude"),
        (np.arange(8), np.arange(3), "longitude"),
        (np.arange(8), np.arange(8) ** 2, "longitude"),
        (np.arange(8), np.r_[np.arange(7), np.nan], "longitude"),
    ],
)
def test_bad_axes(latitude, longitude, word, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        WindToVorticityDivergence(latitude, longitude)
    one_sentence(error.value, word, "expected")


def test_gaussian_grids_of_any_size_are_refused() -> None:
    for n in (64, 160, 640):
        latitude = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(n)[0]))
        with pytest.raises(InputError, match="latitude"):
            WindToVorticityDivergence(latitude, np.arange(8))


def test_float32_coordinates_of_a_fine_grid_are_regular() -> None:
    latitude = np.linspace(52, 42, 1001).astype(np.float32)
    WindToVorticityDivergence(latitude, np.linspace(0, 8, 801).astype(np.float32))
    WindToVorticityDivergence(np.linspace(52, 42, 94).round(3), np.linspace(-100, -60, 275).round(3))


@pytest.mark.parametrize(
    ("shape", "latitude", "word"),
    [
        ((2, 8, 36), None, "wind"),
        ((1, 3, 8, 36), None, "wind"),
        ((1, 2, 7, 36), None, "latitude"),
        ((1, 2, 8, 30), None, "wind"),  # a crop of a periodic grid does not close
        ((1, 2, 8, 36), torch.arange(7.0), "latitude"),
        ((1, 2, 8, 36), torch.zeros(2, 8), "latitude"),
        ((1, 2, 4, 36), torch.arange(4.0), "wind"),
        ((1, 2, 8, 36), 5 * torch.arange(8.0), "latitude"),  # another step
        ((1, 2, 8, 36), -torch.arange(8.0), "latitude"),  # another direction
        ((1, 2, 8, 36), torch.arange(8.0) + 88, "latitude"),
        ((1, 2, 8, 36), torch.full((8,), float("nan")), "latitude"),
    ],
)
def test_bad_winds(shape, latitude, word, one_sentence) -> None:
    operator = WindToVorticityDivergence(np.arange(8.0), np.arange(0, 360, 10.0))
    with pytest.raises(InputError) as error:
        operator(torch.zeros(shape), latitude)
    one_sentence(error.value, word, "got", "expected")


def test_repr_tells_the_grid() -> None:
    assert "latitude=0…7, periodic=True" in repr(WindToVorticityDivergence(np.arange(8.0), np.arange(0, 360, 10.0)))


@pytest.mark.skipif(not SPECTRAL.is_file(), reason=f"the spectral reference {SPECTRAL} is not on this machine")
def test_spectral_reference() -> None:
    """Area-weighted relative RMSE within 80° of the equator at most 0.003, for both (fourth order reaches 0.0017)."""
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(SPECTRAL) as data:
        wind = np.stack([data["u10"].values[0], data["v10"].values[0]])
        expected = np.stack([data["d"].values[0], data["vo"].values[0]]).astype(np.float64)
        latitude, longitude = data["latitude"].values, data["longitude"].values
    got = run(latitude, longitude, wind, torch.float32, radius=6371229.0)
    weight = (np.cos(np.deg2rad(latitude)) * (np.abs(latitude) <= 80))[:, None]
    error = np.sqrt(((got - expected) ** 2 * weight).sum((1, 2)) / (expected**2 * weight).sum((1, 2)))
    assert (error <= 0.003).all(), error
