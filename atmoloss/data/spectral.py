r"""Fields from spherical-harmonic coefficients, and derivatives on Gaussian grids through them.

The internal convention is that of healpy and ducc0: complex orthonormal :math:`Y_{lm}` with
Condon–Shortley phase, only m ≥ 0, m-major (for m = 0 … lmax, l = m … lmax):

.. math::
    f(φ, λ) = \sum_l a_{l0} Y_{l0} + 2\,\mathrm{Re} \sum_{m ≥ 1} \sum_l a_{lm} Y_{lm}(π/2 - φ, λ)

ECMWF's GRIB (``gridType`` ``sh``) stores :math:`X_{lm}` in the same order, for associated Legendre
functions with :math:`\frac12\int_{-1}^{1} P^2 dμ = 1` (ecCodes GRIB FAQ, "How to access the data values
of a spherical harmonic field") and without the phase, :math:`P_{11} = +\sqrt{3/2 (1-μ^2)}` (ecTrans,
``docs/content/design/legendre_polynomials.md``). Hence :math:`a_{lm} = \sqrt{4π} (-1)^m X_{lm}`. Dropping
the sign would turn the globe by 180° of longitude, which ``tests/data/test_spectral.py`` rules out with
a real temperature field.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from atmoloss.errors import DataError, require
from atmoloss.sphere import EARTH_RADIUS, is_periodic

if TYPE_CHECKING:
    import xarray as xr

COEFFICIENT = "values"
"""Dimension of the coefficients, as cfgrib names it."""

# Spacings (degrees) that divide 180: candidates for the default grid.
_SPACINGS = (0.1, 0.125, 0.2, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0)
# Round spacings slightly below 90 / lmax (1.0 for T85) still count as supported.
_SLACK = 0.85
# Prefix of each quantity in files of packed coefficients: `vor_re`, `vor_im`, `vor_scale`, …
_PACKED = {"vorticity": "vor", "divergence": "div"}


def orders(lmax: int) -> np.ndarray:
    """Return the zonal wavenumber m of every coefficient, (K,) with K = (lmax + 1)(lmax + 2)/2."""
    return np.repeat(np.arange(lmax + 1), np.arange(lmax + 1, 0, -1))


def _degrees(lmax: int, mmax: int) -> np.ndarray:
    """Return the degree l of every coefficient up to an order."""
    return np.concatenate([np.arange(m, lmax + 1) for m in range(mmax + 1)])


def _root(lmax: int, mmax: int) -> np.ndarray:
    """Return √(l(l+1)) of every coefficient."""
    degree = _degrees(lmax, mmax).astype(np.float64)
    return np.sqrt(degree * (degree + 1))


def synthesise(coefficients: Any, lmax: int, nlat: int, nlon: int) -> np.ndarray:
    """Evaluate spherical-harmonic series on an equidistant grid that includes both poles.

    The result are point values of the whole series: a grid coarser than the truncation aliases.
    Cost O(lmax² · nlat) a field; about 2 ms for T85 at 1°.

    Args:
        coefficients: complex (T, K), m-major, K = (lmax + 1)(lmax + 2)/2; convention of the module.
        lmax: triangular truncation.
        nlat: rows, from 90N to 90S inclusive.
        nlon: columns, from 0E eastward.

    Returns:
        float32 (T, nlat, nlon) in the units of the coefficients.

    Raises:
        DataError: the coefficients have another shape.
        MissingDependencyError: ducc0 is not installed (extra ``data``).
    """
    alm = np.asarray(coefficients)
    expected = (lmax + 1) * (lmax + 2) // 2
    if alm.ndim != 2 or alm.shape[1] != expected:
        raise DataError(f"coefficients: got shape {alm.shape}, expected (T, {expected}) for truncation T{lmax}")
    return _evaluate(alm[:, None], 0, lmax, nlat, nlon)


def _evaluate(series: np.ndarray, spin: int, lmax: int, nlat: int, nlon: int) -> np.ndarray:
    """Evaluate (T, 1, K) series of scalars or (T, 2, K) of vectors, of which the eastward component is returned."""
    sht = require("ducc0", "data").sht
    grid = {"lmax": lmax, "mmax": lmax, "ntheta": nlat, "nphi": nlon, "geometry": "CC", "nthreads": 1}
    out = np.empty((len(series), nlat, nlon), dtype=np.float32)
    for index, row in enumerate(series):  # float64 inside: coefficients span ten orders of magnitude
        out[index] = sht.synthesis_2d(alm=row.astype(np.complex128), spin=spin, **grid)[-1]
    return out


def synthesise_wind(coefficients: np.ndarray, lmax: int, nlat: int, nlon: int) -> np.ndarray:
    """Evaluate the eastward wind of complex (T, 2K) vorticity, then divergence, s⁻¹; float32 (T, nlat, nlon) in m s⁻¹.

    The inverse of :func:`differentiate_wind`: of the vector (−v, u), southward and eastward, gradient and curl
    coefficients are −R/√(l(l+1)) times those of divergence and vorticity. The northward wind is the same function of
    (−D, ζ). Rows at the poles hold the limit along each meridian.
    """
    factor = _root(lmax, lmax)
    inverse = np.divide(-EARTH_RADIUS, factor, out=np.zeros_like(factor), where=factor > 0)
    series = coefficients.astype(np.complex128).reshape(len(coefficients), 2, -1)[:, ::-1] * inverse
    return _evaluate(series, 1, lmax, nlat, nlon)


def is_global_gaussian(latitude: np.ndarray, longitude: np.ndarray) -> bool:
    """Say whether descending latitudes are all those of a Gaussian grid, and regular longitudes close the circle."""
    gaussian = 90.0 - np.rad2deg(require("ducc0", "data").misc.GL_thetas(latitude.size))
    # Latitudes rounded to two decimals pass.
    stray = np.abs(latitude - gaussian).max() / (180.0 / latitude.size)
    return bool(stray < 0.01) and is_periodic(longitude)


def differentiate_wind(east: np.ndarray, north: np.ndarray, longitude: float) -> np.ndarray:
    r"""Return divergence and vorticity of winds on a global Gaussian grid through spherical harmonics.

    With the gradient and curl coefficients (E, B) of the vector (−v, u), southward and eastward, they are
    :math:`-\sqrt{l(l+1)} / R` times E and B. Exact for winds of degrees up to H − 1 and orders below W / 2.

    East and north are (T, H, W) in m s⁻¹, from north to south and eastward from ``longitude`` (degrees); the result is
    float32 (T, 2, H, W) in s⁻¹. Missing values, which would spread over the globe, are refused.
    """
    sht = require("ducc0", "data").sht
    times, nlat, nlon = east.shape
    lmax, mmax = nlat - 1, min(nlat - 1, (nlon - 1) // 2)
    factor = -_root(lmax, mmax) / EARTH_RADIUS
    grid = {"lmax": lmax, "mmax": mmax, "geometry": "GL", "phi0": math.radians(longitude), "nthreads": 1}
    out = np.empty((times, 2, nlat, nlon), dtype=np.float32)
    for index, (u, v) in enumerate(zip(east, north, strict=True)):
        wind = np.stack((-v, u)).astype(np.float64)
        if not np.isfinite(wind).all():
            raise DataError(
                f"missing: {int((~np.isfinite(wind)).sum())} values of the winds of one time are missing, expected "
                "none: on a Gaussian grid divergence and vorticity are derived from all of them; fill them in first"
            )
        alm = sht.analysis_2d(map=wind, spin=1, **grid)
        for channel in range(2):
            series = (alm[channel] * factor)[None]
            out[index, channel] = sht.synthesis_2d(alm=series, spin=0, ntheta=nlat, nphi=nlon, **grid)[0]
    return out


def grid_axes(lmax: int, spacing: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return (latitude, longitude) in degrees of the synthesis grid of a triangular truncation.

    A spacing must divide 180; ``None`` takes the finest round one that the truncation supports, about four points to
    the shortest wave (90 / lmax degrees).
    """
    finest = 90.0 / lmax
    if spacing is None:
        spacing = next((s for s in _SPACINGS if s >= _SLACK * finest), _SPACINGS[-1])
    if spacing <= 0 or abs(180.0 / spacing - round(180.0 / spacing)) > 1e-6:
        raise DataError(f"grid: got {spacing:g} degrees, expected a positive spacing that divides 180")
    if spacing < _SLACK * finest:
        raise DataError(
            f"grid: got {spacing:g} degrees, expected at least about {finest:.2g} (90/{lmax}): "
            f"truncation T{lmax} holds nothing finer"
        )
    nlat = round(180.0 / spacing) + 1
    return np.linspace(90.0, -90.0, nlat), np.arange(2 * (nlat - 1)) * spacing


def unpack(dataset: xr.Dataset) -> list[xr.Dataset]:
    """Return complex64 (time, values) coefficients of each quantity of a packed file, and those of the winds.

    A packed file (``vor_re``, ``vor_im``, ``vor_scale``, ``l``, ``m`` …) holds a_lm = (re + i·im)·scale[l] in int16;
    any other dataset is returned as it is. The winds that vorticity and divergence determine are kept as twice as many
    coefficients, see :func:`synthesise_wind`.
    """
    packed = {name: p for name, p in _PACKED.items() if {f"{p}_re", f"{p}_im", f"{p}_scale"} <= set(dataset)}
    if not (packed and "l" in dataset and "m" in dataset):
        return [dataset]
    xr = require("xarray", "data")
    degree, order = dataset["l"].values.astype(int), dataset["m"].values.astype(int)
    lmax = int(degree.max())
    if not (np.array_equal(order, orders(lmax)) and np.array_equal(degree, _degrees(lmax, lmax))):
        raise DataError(f"l, m: got another order of coefficients, expected m-major up to T{lmax}")
    (dimension,) = dataset["l"].dims
    fields = {}
    for name, prefix in packed.items():
        real, imaginary = dataset[f"{prefix}_re"], dataset[f"{prefix}_im"]
        scale = xr.DataArray(dataset[f"{prefix}_scale"].values[degree].astype(np.float32), dims=dimension)
        series = ((real + np.complex64(1j) * imaginary) * scale).astype(np.complex64)
        series.attrs = {"units": dataset[f"{prefix}_scale"].attrs.get("units", "s-1"), "truncation": lmax}
        fields[name] = series.rename({dimension: COEFFICIENT})
    out = [xr.Dataset(fields, attrs=dataset.attrs)]
    if len(fields) == len(_PACKED):
        vorticity, divergence = fields["vorticity"], fields["divergence"]
        winds = {}
        for name, pair in {"u": (vorticity, divergence), "v": (-divergence, vorticity)}.items():  # see synthesise_wind
            joined = xr.concat(pair, COEFFICIENT, coords="minimal", compat="override")
            winds[name] = joined.assign_attrs(units="m s-1", truncation=lmax)
        out.append(xr.Dataset(winds, attrs=dataset.attrs))
    return out


def truncation(field: xr.DataArray) -> int | None:
    """Return the triangular truncation of a field of coefficients, ``None`` for a field on a grid."""
    if "truncation" in field.attrs:
        return int(field.attrs["truncation"])
    if field.attrs.get("GRIB_gridType") != "sh":
        return None
    limits = [int(field.attrs[f"GRIB_{key}"]) for key in "JKM"]
    if len(set(limits)) > 1:
        raise DataError(f"{field.name}: got spectral truncation J, K, M = {limits}, expected a triangular one")
    return limits[0]


def to_grid(block: np.ndarray, lmax: int, nlat: int, nlon: int) -> np.ndarray:
    """Synthesise (T, K) complex coefficients, (T, 2K) of winds, or (T, 2K) real ones as ECMWF's GRIB stores them."""
    if np.iscomplexobj(block):
        wind = block.shape[-1] == 2 * len(orders(lmax))
        return (synthesise_wind if wind else synthesise)(block, lmax, nlat, nlon)
    pairs = np.asarray(block, dtype=np.float64)
    series = pairs[..., ::2] + 1j * pairs[..., 1::2]
    if series.shape[-1] == len(orders(lmax)):
        series = series * (math.sqrt(4 * math.pi) * (1.0 - 2.0 * (orders(lmax) % 2)))
    return synthesise(series, lmax, nlat, nlon)
