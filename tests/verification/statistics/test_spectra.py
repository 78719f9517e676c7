"""Spectra of fields whose spectra are known."""

import numpy as np
import pytest
from scipy.special import sph_harm_y

from atmoloss.errors import InputError
from atmoloss.sphere import EARTH_RADIUS
from atmoloss.verification import kinetic_energy_spectrum, power_spectrum
from tests.verification.conftest import GRIDS, axes, band_limited, field, grid_at


def mesh(latitude, longitude):
    return np.meshgrid(np.deg2rad(latitude), np.deg2rad(longitude), indexing="ij")


@pytest.mark.parametrize("rows", GRIDS)
@pytest.mark.parametrize(("degree", "order"), [(0, 0), (1, 0), (5, 3), (17, 17), (40, 2)])
def test_one_harmonic_has_all_power_in_its_degree(rows, degree, order):
    latitude, longitude = axes(rows)
    phi, lam = mesh(latitude, longitude)
    # The real part of an orthonormal harmonic: power |f|²/4π is 1/4π for m = 0, half of it otherwise.
    values = sph_harm_y(degree, order, np.pi / 2 - phi, lam).real
    spectrum = power_spectrum(field(values, latitude, longitude))
    expected = 1 / (4 * np.pi) / (1 if order == 0 else 2)
    # Pole rows that are filled in are right to fourth order in l × step.
    tolerance = 1e-12 if rows in ("both poles", "half a step", "Gaussian") else 1e-5
    assert spectrum.values[0, degree] == pytest.approx(expected, rel=tolerance)
    rest = np.delete(spectrum.values[0], degree)
    assert rest.sum() <= tolerance * expected
    assert spectrum.attrs["units"] == "(s-1)2"


@pytest.mark.parametrize("rows", GRIDS)
def test_parseval(rows):
    latitude, longitude = axes(rows, 180)
    power = 1 / (1 + np.arange(40.0)) ** 2
    f = field(band_limited(power, latitude, longitude), latitude, longitude)
    spectrum = power_spectrum(f)
    np.testing.assert_allclose(spectrum.values[0, :40], power, rtol=1e-4)
    # The sum over degrees is the mean square with quadrature weights, which exact areas approach.
    assert grid_at(latitude, longitude).means(f.values**2) == pytest.approx(power.sum(), rel=2e-3)
    assert float(spectrum.sum()) == pytest.approx(power.sum(), rel=1e-4)


def test_no_dependence_on_the_order_of_axes():
    latitude, longitude = axes("both poles", 45)
    f = field(band_limited(np.ones(20), latitude, longitude), latitude, longitude)
    turned = f.isel(latitude=slice(None, None, -1)).assign_coords(longitude=(f.longitude + 180) % 360 - 180)
    turned = turned.sortby("longitude").transpose("longitude", "time", "latitude")
    np.testing.assert_allclose(power_spectrum(turned), power_spectrum(f), rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("rows", GRIDS)
def test_energy_of_solid_body_rotation(rows):
    latitude, longitude = axes(rows, 90)
    phi, _ = mesh(latitude, longitude)
    u0 = 30.0
    u = field(u0 * np.cos(phi), latitude, longitude, "m s-1", "u")
    v = field(0 * phi, latitude, longitude, "m s-1", "v")
    mean = u0**2 / 3  # ½ u₀² ⟨cos²⟩ = ½ u₀² · 2/3
    from_winds = kinetic_energy_spectrum(u=u, v=v)
    tolerance = 1e-11 if rows in ("both poles", "half a step", "Gaussian") else 1e-6
    assert from_winds.values[0, 1] == pytest.approx(mean, rel=tolerance)
    assert from_winds.values[0, 2:].sum() + from_winds.values[0, 0] < tolerance * mean
    vorticity = field(2 * u0 / EARTH_RADIUS * np.sin(phi), latitude, longitude)
    from_vorticity = kinetic_energy_spectrum(vorticity=vorticity, divergence=0 * vorticity)
    assert from_vorticity.values[0, 1] == pytest.approx(mean, rel=tolerance)
    assert from_vorticity.attrs["units"] == from_winds.attrs["units"] == "m2 s-2"


@pytest.mark.parametrize("rows", ["both poles", "no south pole", "no poles"])
def test_energy_of_flow_over_the_poles(rows):
    """Rotation about an axis in the equator: the wind at the poles is not zero there, and has no zonal mean."""
    latitude, longitude = axes(rows, 90)
    phi, lam = mesh(latitude, longitude)
    u = field(-20 * np.sin(phi) * np.cos(lam), latitude, longitude, "m s-1", "u")
    v = field(20 * np.sin(lam) + 0 * phi, latitude, longitude, "m s-1", "v")
    energy = kinetic_energy_spectrum(u=u, v=v).values[0]
    assert energy[1] == pytest.approx(20**2 / 3, rel=1e-6)
    assert energy[2:].sum() < 1e-6 * energy[1]


def test_energy_of_winds_and_of_their_derivatives_agree():
    """A random flow from a stream function and a potential; vorticity and divergence are their Laplacians."""
    import ducc0

    lmax, rows, columns = 30, 91, 180
    latitude, longitude = axes("both poles", 90)
    degree = np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
    draw = np.random.default_rng(0)
    alm = draw.normal(size=(2, degree.size)) + 1j * draw.normal(size=(2, degree.size))
    alm[:, : lmax + 1] = alm[:, : lmax + 1].real
    alm[:, 0] = 0
    options = {"lmax": lmax, "mmax": lmax, "ntheta": rows, "nphi": columns, "geometry": "CC"}
    chi, psi = (
        ducc0.sht.synthesis_2d(alm=part[None], spin=1, mode="DERIV1", **options) / EARTH_RADIUS * 1e7 for part in alm
    )  # southward and eastward gradients
    u, v = chi[1] + psi[0], -chi[0] + psi[1]
    divergence, vorticity = (
        ducc0.sht.synthesis_2d(alm=(part * -degree * (degree + 1.0))[None], spin=0, **options)[0]
        * (1e7 / EARTH_RADIUS**2)
        for part in alm
    )
    wind = {n: field(x, latitude, longitude, "m s-1", n) for n, x in (("u", u), ("v", v))}
    derivatives = {
        "vorticity": field(vorticity, latitude, longitude),
        "divergence": field(divergence, latitude, longitude),
    }
    a, b = kinetic_energy_spectrum(**wind), kinetic_energy_spectrum(**derivatives)
    np.testing.assert_allclose(a.values[0, : lmax + 1], b.values[0, : lmax + 1], rtol=1e-9, atol=1e-9)
    mean = grid_at(latitude, longitude).means((u**2 + v**2)[None] / 2)
    assert float(a.sum()) == pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize(("grid", "rows"), [("GLQ", "Gaussian"), ("DH", "no south pole")])
def test_against_pyshtools(grid, rows):
    """Another library's harmonics of the same fields, on its two kinds of grid."""
    pyshtools = pytest.importorskip("pyshtools", reason="pyshtools, the reference, is not installed (extra dev)")
    latitude, longitude = axes(rows, 40)
    if grid == "GLQ":  # one column fewer than twice the rows
        longitude = np.arange(79) * 360 / 79
    lmax = 39 if grid == "GLQ" else 19
    values = band_limited(1 / (1 + np.arange(lmax + 1.0)), latitude, longitude)
    expected = pyshtools.SHGrid.from_array(values[0], grid=grid).expand(normalization="4pi").spectrum()
    result = power_spectrum(field(values, latitude, longitude)).values[0]
    # A south pole that is filled in is right to fourth order in l × step.
    np.testing.assert_allclose(result[: lmax + 1], expected[: lmax + 1], rtol=1e-10 if grid == "GLQ" else 2e-3)


def region(n=64):
    return np.linspace(50, 40, n), np.linspace(350, 365, n) % 360


def test_region_has_a_wave_at_its_wavelength():
    latitude, longitude = region()
    phi = np.deg2rad(latitude)
    # 8 waves from south to north: wavelength 8 times in 10 degrees and a step.
    wave = np.cos(2 * np.pi * 8 * np.arange(64) / 64)[:, None] * np.ones(64)
    spectrum = power_spectrum(field(wave, latitude, longitude))
    length = np.ptp(phi) * 64 / 63 / 8
    peak = float(spectrum.degree[int(spectrum.values[0].argmax())])
    assert peak == pytest.approx(2 * np.pi / length, abs=float(np.diff(spectrum.degree)[0]) / 2)
    near = spectrum.where(abs(spectrum.degree - peak) < 3 * np.diff(spectrum.degree)[0], drop=True)
    assert float(near.sum()) == pytest.approx(float(spectrum.sum()), rel=1e-3)
    assert float(spectrum.sum()) == pytest.approx(0.5, rel=0.01)


def test_region_ignores_a_plane_and_knows_white_noise():
    latitude, longitude = region()
    noise = np.random.default_rng(1).normal(size=(20, 64, 64))
    plane = 50 * np.linspace(0, 1, 64)[:, None] - 30 * np.linspace(0, 1, 64)
    a, b = (power_spectrum(field(x, latitude, longitude)).mean("time") for x in (noise, noise + plane))
    np.testing.assert_allclose(a, b, rtol=1e-9)
    # Power in rings grows with their circumference for white noise.
    slope = np.polyfit(np.log(a.degree[5:]), np.log(a[5:]), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)


def test_refusals(one_sentence):
    latitude, longitude = axes("both poles", 45)
    f = field(np.ones((46, 90)), latitude, longitude)
    with pytest.raises(InputError) as error:
        power_spectrum(f.isel(latitude=slice(4, -4)))
    one_sentence(error.value, "latitude", "globe", "region")
    with pytest.raises(InputError) as error:
        power_spectrum(f.where(f.latitude < 80))
    one_sentence(error.value, "field", "missing")
    with pytest.raises(InputError) as error:
        kinetic_energy_spectrum(u=f, vorticity=f)
    one_sentence(error.value, "u, v, vorticity, divergence")
    with pytest.raises(InputError) as error:
        kinetic_energy_spectrum(u=f, v=f.isel(longitude=slice(0, 80)))
    one_sentence(error.value, "u and v", "one grid")
    with pytest.raises(InputError) as error:
        power_spectrum(f.rename(latitude="y"))
    one_sentence(error.value, "field", "(time, latitude, longitude)")
