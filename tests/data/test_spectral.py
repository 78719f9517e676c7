"""Synthesis against analytic harmonics, direct sums, check values of a simulation, a real ECMWF field."""

import math
from pathlib import Path

import numpy as np
import pytest

from atmoloss.data import open_fields, spectral, synthesise
from atmoloss.errors import DataError
from atmoloss.sphere import EARTH_RADIUS
from tests.data.conftest import write_grib

pytest.importorskip("ducc0")
xr = pytest.importorskip("xarray")

REFERENCE = Path(__file__).parents[2].parent / "shared" / "data" / "reference_spectral_025_t159.nc"
SPEEDY = Path(__file__).parents[2].parent / "shared" / "data" / "speedy_t85_sigma883.nc"


def count(lmax):
    return (lmax + 1) * (lmax + 2) // 2


def index(lmax, degree, order):
    return order * (2 * lmax + 1 - order) // 2 + degree


def legendre(lmax, mu):
    """P_lm(mu) with ½∫P² = 1 and no Condon–Shortley phase, {(l, m): values}: ECMWF's convention.

    Column-wise recurrence in l (Belousov 1962), written independently of ducc0.
    """
    values = {(0, 0): np.ones_like(mu)}
    for m in range(1, lmax + 1):
        values[m, m] = math.sqrt((2 * m + 1) / (2 * m)) * np.sqrt(1 - mu**2) * values[m - 1, m - 1]
    for m in range(lmax + 1):
        below, current = np.zeros_like(mu), values[m, m]
        for n in range(m + 1, lmax + 1):
            eps = math.sqrt((n * n - m * m) / (4 * n * n - 1))
            eps_below = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1)) if n - 1 > m else 0.0
            below, current = current, (mu * current - eps_below * below) / eps
            values[n, m] = current
    return values


def direct_sum(packed, lmax, latitude, longitude):
    """Sum ECMWF coefficients X_lm term by term, (lat, lon)."""
    polynomials = legendre(lmax, np.sin(np.deg2rad(latitude)))
    out = np.zeros((latitude.size, longitude.size))
    for m in range(lmax + 1):
        wave = np.exp(1j * m * np.deg2rad(longitude))
        for n in range(m, lmax + 1):
            term = (packed[index(lmax, n, m)] * wave).real * (1 if m == 0 else 2)
            out += polynomials[n, m][:, None] * term[None]
    return out


def random_series(lmax, seed):
    generator = np.random.default_rng(seed)
    series = generator.normal(size=(2, count(lmax))) * 1e-5
    packed = series[0] + 1j * series[1]
    packed[: lmax + 1].imag = 0.0
    return packed


def as_ecmwf(packed):
    pairs = np.empty((1, 2 * packed.size))
    pairs[0, ::2], pairs[0, 1::2] = packed.real, packed.imag
    return pairs


@pytest.mark.parametrize(
    ("degree", "order", "expected"),
    [
        (0, 0, lambda lat, lon: math.sqrt(1 / (4 * math.pi)) + 0 * lat * lon),
        (1, 0, lambda lat, lon: math.sqrt(3 / (4 * math.pi)) * np.sin(lat) + 0 * lon),
        # Condon–Shortley: Y_11 = −√(3/8π) cos φ e^{iλ}; the real series holds it twice.
        (1, 1, lambda lat, lon: -2 * math.sqrt(3 / (8 * math.pi)) * np.cos(lat) * np.cos(lon)),
        (2, 2, lambda lat, lon: 2 * math.sqrt(15 / (32 * math.pi)) * np.cos(lat) ** 2 * np.cos(2 * lon)),
    ],
)
def test_single_harmonics(degree, order, expected):
    lmax = 4
    series = np.zeros((1, count(lmax)), complex)
    series[0, index(lmax, degree, order)] = 1.0
    latitude, longitude = np.deg2rad(np.linspace(90, -90, 37)), np.deg2rad(np.arange(72) * 5.0)
    got = synthesise(series, lmax, 37, 72)
    assert got.shape == (1, 37, 72)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], expected(latitude[:, None], longitude[None]), atol=1e-6)


def test_imaginary_part_is_a_quarter_wave_to_the_west():
    # Re(i e^{iλ}) = −sin λ: a wrong sign of the imaginary part would mirror east and west.
    series = np.zeros((1, count(2)), complex)
    series[0, index(2, 1, 1)] = 1j
    got = synthesise(series, 2, 19, 36)[0, 9]
    expected = 2 * math.sqrt(3 / (8 * math.pi)) * np.sin(np.deg2rad(np.arange(36) * 10.0))
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("lmax", [3, 21, 42])
def test_ecmwf_coefficients_against_the_direct_sum(lmax):
    packed = random_series(lmax, lmax)
    nlat, nlon = 31, 60
    got = spectral.to_grid(as_ecmwf(packed), lmax, nlat, nlon)[0]
    want = direct_sum(packed, lmax, np.linspace(90, -90, nlat), np.arange(nlon) * 6.0)
    # float32 result: a few 1e-7 of the field's own size.
    assert np.abs(got - want).max() < 1e-6 * np.abs(want).max()


def test_ecmwf_mean_is_the_first_coefficient():
    pairs = np.zeros((1, 2 * count(5)))
    pairs[0, 0] = 288.0
    np.testing.assert_allclose(spectral.to_grid(pairs, 5, 19, 36), 288.0, rtol=1e-6)


def test_real_ecmwf_temperature_lies_on_the_right_continents():
    # ecCodes' sample is a real 2 m temperature of 24 April 2007, T63: at 25N the Sahara, Arabia and
    # India are hot and the Pacific is not; without (−1)^m the globe would be turned by 180°.
    eccodes = pytest.importorskip("eccodes")
    message = eccodes.codes_grib_new_from_samples("sh_sfc_grib1")
    values = eccodes.codes_get_values(message)
    celsius = spectral.to_grid(values[None], eccodes.codes_get(message, "J"), 181, 360)[0] - 273.15
    eccodes.codes_release(message)
    row = celsius[90 - 25]
    assert row[[0, 45, 78]].min() > row[[165, 190, 220, 320]].max() + 5
    hudson_bay, scotland = celsius[30, 275], celsius[33, 356]
    assert hudson_bay < scotland - 5


def test_shape_is_checked():
    with pytest.raises(DataError, match=r"coefficients: got shape \(1, 7\), expected \(T, 6\).*T2"):
        synthesise(np.zeros((1, 7), complex), 2, 5, 8)


@pytest.mark.parametrize(("lmax", "spacing"), [(85, 1.0), (63, 1.25), (639, 0.125), (159, 0.5), (21, 4.0)])
def test_default_grid(lmax, spacing):
    latitude, longitude = spectral.grid_axes(lmax)
    assert latitude[0] == 90
    assert latitude[-1] == -90
    assert latitude[0] - latitude[1] == pytest.approx(spacing)
    assert longitude.size == round(360 / spacing)


@pytest.mark.parametrize(("grid", "text"), [(0.5, "holds nothing finer"), (0.7, "divides 180"), (-1, "divides")])
def test_grids_that_make_no_sense(grid, text):
    with pytest.raises(DataError, match=text):
        spectral.grid_axes(85, grid)


def packed_dataset(lmax=10, times=3):
    """A small file in the layout of the shared simulated data, and its unpacked coefficients."""
    generator = np.random.default_rng(3)
    order = spectral.orders(lmax)
    degree = np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
    scale = (1e-9 * (1 + np.arange(lmax + 1))).astype(np.float32)
    data, series = {"l": ("coef", degree), "m": ("coef", order)}, {}
    for prefix in ("vor", "div"):
        real, imaginary = generator.integers(-3000, 3000, (2, times, degree.size)).astype(np.int16)
        imaginary[:, order == 0] = 0
        data[f"{prefix}_re"] = (("time", "coef"), real)
        data[f"{prefix}_im"] = (("time", "coef"), imaginary)
        data[f"{prefix}_scale"] = ("wavenumber", scale, {"units": "s-1"})
        series[prefix] = (real + 1j * imaginary) * scale[degree].astype(float)
    time = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(3, "h")
    return xr.Dataset(data, coords={"time": time}), series


def test_grib_spherical_harmonics(tmp_path):
    lmax, generator = 63, np.random.default_rng(1)
    coefficients = {}
    for name in ("vo", "d"):
        pairs = generator.normal(size=(lmax + 1) * (lmax + 2)) * 1e-6
        pairs[1 : 2 * (lmax + 1) : 2] = 0
        coefficients[name] = pairs
    messages = [
        {"centre": "ecmf", "shortName": n, "level": lev, "bitsPerValue": 24, "values": c * (1 if lev == 120 else 2)}
        for lev in (120, 137)
        for n, c in coefficients.items()
    ]
    write_grib(tmp_path / "sh.grib", messages, "sh_ml_grib2")
    fields = open_fields(tmp_path / "sh.grib", level=120, grid=5.0)
    # The convention of to_grid is fixed above.
    for ours, theirs in (("vorticity", "vo"), ("divergence", "d")):
        want = spectral.to_grid(coefficients[theirs][None], lmax, 37, 72)
        np.testing.assert_allclose(fields[ours].values, want, atol=1e-5 * np.abs(want).max())
    assert fields["latitude"].values[0] == 90
    with pytest.raises(DataError, match="T63 holds nothing finer"):
        open_fields(tmp_path / "sh.grib", level=120, grid=0.5)
    with pytest.raises(DataError, match="level: got None"):
        open_fields(tmp_path / "sh.grib")


def test_packed_coefficients_through_open_fields(tmp_path):
    dataset, series = packed_dataset()
    dataset.to_netcdf(tmp_path / "spectral.nc", engine="h5netcdf")
    opened = open_fields(tmp_path / "spectral.nc", grid=10.0)
    assert opened["vorticity"].shape == (3, 19, 36)
    for name, prefix in (("vorticity", "vor"), ("divergence", "div")):
        want = synthesise(series[prefix], 10, 19, 36)
        np.testing.assert_allclose(opened[name].values, want, atol=2e-7 * np.abs(want).max(), rtol=0)
    assert opened["vorticity"].attrs["standard_name"] == "atmosphere_relative_vorticity"
    with pytest.raises(DataError, match=r"'t'.*divergence, u, v, vorticity"):
        open_fields(dataset, "t")
    with pytest.raises(DataError, match="order of coefficients"):
        open_fields(dataset.isel(coef=slice(None, None, -1)))


def test_lazy_coefficients_give_the_same():
    dataset, _ = packed_dataset()
    want = open_fields(dataset, grid=10.0)
    lazy = open_fields(dataset.chunk(time=2), grid=10.0, missing="ignore")
    assert lazy["vorticity"].chunks is not None
    np.testing.assert_array_equal(lazy["vorticity"].values, want["vorticity"].values)
    np.testing.assert_array_equal(lazy["longitude"].values, want["longitude"].values)


def test_simulated_atmosphere_check_values():
    if not SPEEDY.exists():
        pytest.skip(f"{SPEEDY} is absent: the shared data are not part of the repository")
    with xr.open_dataset(SPEEDY, engine="h5netcdf") as dataset:
        first = dataset.isel(time=slice(0, 1)).load()
    fields = open_fields(first)
    assert fields["vorticity"].shape == (1, 181, 360)
    for name, check in (("vorticity", "check_vor"), ("divergence", "check_div")):
        for latitude, row in zip(first["check_lat"].values, first[check].values, strict=True):
            near = np.floor(latitude), np.ceil(latitude)  # 47.5N lies between two rows
            if near[0] != near[1]:
                continue
            got = fields[name].sel(latitude=latitude, longitude=first["check_lon"].values)[0].values
            # Float32 values: 5e-7 of the field is how far three programs (ducc0, pyshtools, the core's own) agreed.
            np.testing.assert_allclose(got, row, atol=5e-7 * float(np.abs(fields[name]).max()), rtol=0)
    # The half row by a grid of 0.5°, which only the function itself allows.
    series = spectral.unpack(first)[0]["vorticity"].values
    half = synthesise(series, 85, 361, 720)[0, 85, (2 * first["check_lon"].values).astype(int)]
    np.testing.assert_allclose(half, first["check_vor"].values[4], atol=5e-11, rtol=0)


def test_winds_of_a_rossby_haurwitz_wave() -> None:
    # Williamson et al. (1992), case 6: ψ = −a²ω sin φ + a²K cos⁴φ sin φ cos 4λ, no divergence.
    lmax, nlat, nlon, radius = 21, 91, 180, 6.371e6
    omega = k = 7.848e-6
    latitude, longitude = np.deg2rad(np.linspace(90, -90, nlat)), np.deg2rad(np.arange(nlon) * 2.0)
    # ζ = 2ω sin φ − 30 K sin φ cos⁴φ cos 4λ, i.e. Y_10 and Y_54.
    series = np.zeros((1, 2 * count(lmax)), complex)
    series[0, index(lmax, 1, 0)] = 2 * omega * math.sqrt(4 * math.pi / 3)
    y54 = 3 / 16 * math.sqrt(385 / (2 * math.pi))  # Y_54 = this · sin φ cos⁴φ e^{4iλ}
    series[0, index(lmax, 5, 4)] = -30 * k / y54 / 2
    sin, cos = np.sin(latitude)[:, None], np.cos(latitude)[:, None]
    u = radius * cos * (omega + k * cos**2 * (4 * sin**2 - cos**2) * np.cos(4 * longitude))
    v = -4 * radius * k * cos**3 * sin * np.sin(4 * longitude)
    half = count(lmax)
    np.testing.assert_allclose(spectral.to_grid(series, lmax, nlat, nlon)[0], u, atol=2e-5 * np.abs(u).max())
    swapped = np.concatenate((-series[:, half:], series[:, :half]), 1)
    np.testing.assert_allclose(spectral.to_grid(swapped, lmax, nlat, nlon)[0], v, atol=2e-5 * np.abs(v).max())


@pytest.mark.skipif(not SPEEDY.is_file(), reason="../shared is not there")
def test_derivatives_of_the_simulated_winds_are_the_stored_fields() -> None:
    torch = pytest.importorskip("torch")
    from atmoloss.winds import WindToVorticityDivergence

    with xr.open_dataset(SPEEDY, engine="h5netcdf") as file:
        some = file.isel(time=slice(0, 2)).load()
    winds, fields = open_fields(some, ("u", "v")), open_fields(some, ("divergence", "vorticity"))
    stacked = torch.from_numpy(np.stack([winds["u"].values, winds["v"].values], 1)).double()
    derived = WindToVorticityDivergence(winds["latitude"].values, winds["longitude"].values)(stacked).numpy()
    inside = slice(10, 171)
    for channel, name in enumerate(("divergence", "vorticity")):
        truth = fields[name].values[:, inside]
        error = np.sqrt(((derived[:, channel, inside] - truth) ** 2).mean() / (truth**2).mean())
        assert error < 0.03  # fourth-order differences of waves of four to five cells


def gaussian_latitudes(rows):
    """Roots of the Legendre polynomial, descending, in degrees; by numpy, not by ducc0."""
    return np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(rows)[0][::-1]))


def solid_body(phi, lam):
    return np.cos(phi) + 0 * lam, 0 * phi * lam, 2 * np.sin(phi) + 0 * lam, 0 * phi * lam


def rossby_haurwitz(phi, lam, r=4):
    c, s = np.cos(phi), np.sin(phi)
    u = c + c ** (r - 1) * (r * s**2 - c**2) * np.cos(r * lam)
    v = -r * c ** (r - 1) * s * np.sin(r * lam)
    return u, v, 2 * s - (r + 1) * (r + 2) * s * c**r * np.cos(r * lam), 0 * phi * lam


def divergent(phi, lam, r=4):
    c, s = np.cos(phi), np.sin(phi)
    u = -r * c ** (r - 1) * s * np.sin(r * lam)
    v = c ** (r - 1) * (c**2 - r * s**2) * np.cos(r * lam)
    return u, v, 0 * phi * lam, -(r + 1) * (r + 2) * s * c**r * np.cos(r * lam)


def analytic(flow, latitude, longitude):
    """Winds (m s⁻¹) as a file holds them, and their vorticity and divergence (s⁻¹)."""
    speed = 7.848e-6
    fields = flow(np.deg2rad(latitude)[:, None], np.deg2rad(longitude)[None])
    u, v, vorticity, divergence = (np.stack((f, 2 * f)) for f in fields)
    coords = {
        "time": np.datetime64("2026-01-01", "ns") + np.arange(2) * np.timedelta64(6, "h"),
        "lat": ("lat", latitude, {"units": "degrees_north"}),
        "lon": ("lon", longitude, {"units": "degrees_east"}),
    }
    wind = {n: (("time", "lat", "lon"), EARTH_RADIUS * speed * f, {"units": "m s-1"}) for n, f in (("u", u), ("v", v))}
    return xr.Dataset(wind, coords), speed * vorticity, speed * divergence


@pytest.mark.parametrize("flow", [solid_body, rossby_haurwitz, divergent], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("rows", "west", "order"), [(32, 0.0, 1), (48, 0.0, -1), (32, 3.25, 1), (33, -180.0, -1)])
def test_derivatives_on_a_global_gaussian_grid(flow, rows, west, order):
    latitude, longitude = gaussian_latitudes(rows)[::order], west + np.arange(2 * rows) * 180.0 / rows
    data, vorticity, divergence = analytic(flow, latitude, longitude)
    got = open_fields(data)
    assert got["vorticity"].attrs["derived_from"] == "u, v"
    np.testing.assert_array_equal(got["latitude"].values, gaussian_latitudes(rows))
    np.testing.assert_array_equal(got["longitude"].values, longitude)
    scale = max(np.abs(vorticity).max(), np.abs(divergence).max())
    for name, want in (("vorticity", vorticity), ("divergence", divergence)):
        # float32 winds, and a derivative that multiplies their rounding by up to the degree.
        np.testing.assert_allclose(got[name].values, want[:, ::order], atol=3e-6 * scale)


def test_gaussian_grids_in_any_writing_are_the_same():
    latitude, longitude = gaussian_latitudes(32), np.arange(64) * 5.625
    data, vorticity, _ = analytic(rossby_haurwitz, latitude, longitude)
    west = data.assign_coords(lon=(data["lon"] + 180) % 360 - 180)
    for variant in (west, west.sortby("lon"), data.assign_coords(lat=np.round(latitude, 2))):
        got = open_fields(variant)["vorticity"]
        # Columns turned by hand; latitudes rounded to two decimals are those of the grid.
        turned = got.assign_coords(longitude=got["longitude"] % 360).sortby("longitude")
        np.testing.assert_allclose(turned.values, vorticity, atol=2e-6 * np.abs(vorticity).max())
    pytest.importorskip("dask")
    lazy = open_fields(data.chunk(time=1), missing="ignore")["vorticity"]
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy.values, open_fields(data)["vorticity"].values)


def test_regions_inside_a_gaussian_grid_are_regular_enough_for_differences():
    latitude, longitude = gaussian_latitudes(128), np.arange(256) * 1.40625
    data, vorticity, _ = analytic(rossby_haurwitz, latitude, longitude)
    got = open_fields(data.isel(lat=slice(10, 70), lon=slice(20, 90)))["vorticity"].values
    np.testing.assert_allclose(got, vorticity[:, 10:70, 20:90], atol=1e-4 * np.abs(vorticity).max())


def test_what_no_harmonics_can_do_is_refused(one_sentence):
    latitude, longitude = gaussian_latitudes(32), np.arange(64) * 5.625
    data, _, _ = analytic(rossby_haurwitz, latitude, longitude)
    stretched = data.assign_coords(lat=latitude * (1 + 0.05 * (latitude / 90) ** 2))
    for part in (data.isel(lat=slice(0, 20)), data.isel(lon=slice(0, 40)), stretched):
        with pytest.raises(DataError) as error:
            open_fields(part)
        one_sentence(error.value, "cannot be derived from u, v: latitude", "global Gaussian", "regrid")
        assert open_fields(part, "u")["u"].shape[0] == 2
    holes = data.copy(deep=True)
    holes["v"][1, 5, 7] = np.nan
    for missing in ("ignore", 0.0):
        with pytest.raises(DataError) as error:
            open_fields(holes, missing=missing)
        one_sentence(error.value, "missing: 1 value", "Gaussian")


def test_gaussian_grib(tmp_path, one_sentence):
    eccodes = pytest.importorskip("eccodes")
    pytest.importorskip("cfgrib")
    keys = {"centre": "ecmf", "level": 850, "dataDate": 20260301, "dataTime": 600, "bitsPerValue": 24}
    for sample in ("regular_gg_pl_grib2", "reduced_gg_pl_32_grib2"):
        with open(tmp_path / sample, "wb") as file:
            for name in "uv":
                message = eccodes.codes_grib_new_from_samples(sample)
                for key, value in {**keys, "shortName": name}.items():
                    eccodes.codes_set(message, key, value)
                latitude = eccodes.codes_get_array(message, "latitudes")
                eccodes.codes_set_values(message, 10.0 * np.cos(np.deg2rad(latitude)) * (name == "u"))
                eccodes.codes_write(message, file)
                eccodes.codes_release(message)
    got = open_fields(tmp_path / "regular_gg_pl_grib2", level=850)
    assert got["vorticity"].shape == (1, 64, 128)
    want = 20.0 / EARTH_RADIUS * np.sin(np.deg2rad(got["latitude"].values))
    np.testing.assert_allclose(got["vorticity"].values[0].mean(-1), want, atol=5e-6 * want.max())
    with pytest.raises(DataError) as error:
        open_fields(tmp_path / "reduced_gg_pl_32_grib2", level=850)
    one_sentence(error.value, "along one dimension 'values'", "reduced Gaussian", "cdo setgridtype,regular")


@pytest.mark.skipif(not REFERENCE.is_file(), reason="../shared is not there")
def test_gaussian_derivatives_of_real_winds_are_the_reference():
    import ducc0

    lmax, rows, columns = 159, 160, 320
    with xr.open_dataset(REFERENCE, engine="h5netcdf") as file:
        fields = {n: file[n].values[0].astype(np.float64) for n in ("u10", "v10", "vo", "d")}
        time, east = file["time"].values, float(file["longitude"][0])
    phi0 = math.radians(east)

    def moved(names, spin):
        maps = np.stack([sign * fields[n] for n, sign in names])
        alm = ducc0.sht.analysis_2d(map=maps, spin=spin, lmax=lmax, geometry="CC", phi0=phi0)
        return ducc0.sht.synthesis_2d(
            alm=alm, spin=spin, lmax=lmax, ntheta=rows, nphi=columns, geometry="GL", phi0=phi0
        )

    southward, eastward = moved((("v10", -1), ("u10", 1)), 1)
    axes = {"time": time, "lat": gaussian_latitudes(rows), "lon": east + np.arange(columns) * 360.0 / columns}
    wind = {"u10": (("time", "lat", "lon"), eastward[None]), "v10": (("time", "lat", "lon"), -southward[None])}
    got = open_fields(xr.Dataset(wind, axes))
    for name, ours in (("vo", "vorticity"), ("d", "divergence")):
        (truth,) = moved(((name, 1),), 0)
        error = got[ours].values[0] * (EARTH_RADIUS / 6371229.0) - truth
        # The file's winds are rounded; its 0.0014 is the error of fourth-order differences.
        assert np.sqrt((error**2).mean() / (truth**2).mean()) < 5e-4
