"""Spherical-harmonic coefficients as `atmoloss.data.spectral` reads them: conversion, packing, netCDF.

A field is f = Σ a_l0 Y_l0 + 2 Re Σ_{m≥1} a_lm Y_lm with complex orthonormal Y_lm, Condon–Shortley phase, m-major.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr
from schedule import RECORD_HOURS
from scipy.special import sph_harm_y

CHECK_LATITUDES = np.array([-75.0, -30.0, 0.0, 15.0, 47.5, 88.0])
CHECK_LONGITUDES = np.array([0.0, 37.0, 90.0, 181.0, 300.0])
STEPS_PER_RMS = 100  # of the int16 packing: rounding is 1 / (100·√12) = 0.29 % of the rms of a degree
TIMES_PER_CHUNK = 64
QUANTITIES = {
    "vor": ("relative vorticity", "atmosphere_relative_vorticity"),
    "div": ("divergence of horizontal wind", "divergence_of_wind"),
}


def degrees_orders(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Return l and m of every coefficient, (K,) each with K = (lmax + 1)(lmax + 2)/2."""
    degree = np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
    order = np.repeat(np.arange(lmax + 1), np.arange(lmax + 1, 0, -1))
    return degree, order


def from_core(modal: np.ndarray, lmax: int) -> np.ndarray:
    r"""Return complex64 (…, K) coefficients of the core's (…, 2·(lmax + 1), degrees) ones.

    The core's basis is real: P̄_l0/√2π, then P̄_lm cos(mλ)/√π and P̄_lm sin(mλ)/√π in turn, where
    ∫P̄²dμ = 1 and P̄ has the phase (-1)^m already. Rows 0 and 1 belong to m = 0; row 1 is empty.
    """
    degree, order = degrees_orders(lmax)
    cosine, sine = modal[..., 2 * order, degree], modal[..., 2 * order + 1, degree]
    factor = np.where(order == 0, 1.0, 1.0 / np.sqrt(2.0))
    return ((cosine - 1j * sine) * factor).astype(np.complex64)


def synthesise_points(coefficients: np.ndarray, lmax: int, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Sum the series (K,) directly in float64 at the (lat, lon) pairs of two axes; no transform involved."""
    degree, order = degrees_orders(lmax)
    theta, phi = np.deg2rad(90.0 - latitude), np.deg2rad(longitude)
    harmonics = sph_harm_y(degree, order, theta[:, None, None], phi[None, :, None])
    return ((harmonics * coefficients).real * np.where(order == 0, 1.0, 2.0)).sum(-1)


def pack(coefficients: np.ndarray, lmax: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return int16 real and imaginary parts (T, K) and the float32 step of each degree (lmax + 1,)."""
    degree, _ = degrees_orders(lmax)
    count = np.bincount(degree)
    power = np.bincount(degree, np.mean(np.abs(coefficients.astype(np.complex128)) ** 2, axis=0)) / (2 * count)
    parts = np.maximum(np.abs(coefficients.real), np.abs(coefficients.imag)).max(axis=0)
    largest = np.zeros(lmax + 1)
    np.maximum.at(largest, degree, parts)
    # A degree that its zonal part dominates could leave the range of int16.
    scale = np.maximum(np.sqrt(power) / STEPS_PER_RMS, largest / np.iinfo(np.int16).max)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    packed = coefficients / scale[degree]
    return np.rint(packed.real).astype(np.int16), np.rint(packed.imag).astype(np.int16), scale


def write(path: Path, vorticity: np.ndarray, divergence: np.ndarray, lmax: int, start: str, **about: object) -> None:
    """Write packed coefficients, 3 hours apart from ``start``; the file appears only when it is complete.

    Args:
        path: netCDF file to make or replace.
        vorticity: complex (T, K) in s⁻¹.
        divergence: complex (T, K) in s⁻¹.
        lmax: triangular truncation.
        start: date of the first time, 00 UTC.
        about: further global attributes (title, source, level …).
    """
    degree, order = degrees_orders(lmax)
    hours = RECORD_HOURS * np.arange(len(vorticity), dtype=np.int32)
    variables: dict[str, tuple] = {
        "l": ("coef", degree.astype(np.int16), {"long_name": "total wavenumber (degree) of coefficient"}),
        "m": ("coef", order.astype(np.int16), {"long_name": "zonal wavenumber (order) of coefficient, m >= 0"}),
    }
    encoding: dict[str, dict] = {
        "l": {"zlib": True, "complevel": 4, "shuffle": True, "_FillValue": None},
        "m": {"zlib": True, "complevel": 4, "shuffle": True, "_FillValue": None},
    }
    for name, series in (("vor", vorticity), ("div", divergence)):
        long_name, standard = QUANTITIES[name]
        real, imaginary, scale = pack(series, lmax)
        step = (
            f"packing step of {name}_re and {name}_im for each total wavenumber l: "
            f"coefficient = packed_int16 * {name}_scale[l]"
        )
        variables[f"{name}_scale"] = ("wavenumber", scale, {"units": "s-1", "long_name": step})
        for part, values in (("re", real), ("im", imaginary)):
            words = {"re": "real", "im": "imaginary"}[part]
            text = f"{words} part of spherical-harmonic coefficient of {long_name}, packed: multiply by {name}_scale[l]"
            attributes = {"long_name": text, "packed_quantity": standard}
            variables[f"{name}_{part}"] = (("time", "coef"), values, attributes)
            chunks = (min(TIMES_PER_CHUNK, len(values)), len(degree))
            encoding[f"{name}_{part}"] = {"zlib": True, "complevel": 7, "shuffle": True, "chunksizes": chunks}
        first = (real[0] + 1j * imaginary[0]) * scale.astype(np.float64)[degree]
        points = synthesise_points(first, lmax, CHECK_LATITUDES, CHECK_LONGITUDES).astype(np.float32)
        text = (
            f"{long_name} of time index 0 synthesised from the packed coefficients at check_lat, check_lon "
            "(to test a reader)"
        )
        attributes = {"units": "s-1", "long_name": text}
        variables[f"check_{name}"] = (("check_lat", "check_lon"), points, attributes)
    axes = {
        "time": (
            "time",
            hours,
            {
                "units": f"hours since {start} 00:00:00",
                "calendar": "proleptic_gregorian",
                "standard_name": "time",
                "axis": "T",
            },
        ),
        "check_lat": ("check_lat", CHECK_LATITUDES.astype(np.float32), {"units": "degrees_north"}),
        "check_lon": ("check_lon", CHECK_LONGITUDES.astype(np.float32), {"units": "degrees_east"}),
    }
    sigma = {"long_name": "sigma = p / surface pressure of the full model level"}
    variables["sigma"] = ((), np.float32(about.pop("sigma")), sigma)
    dataset = xr.Dataset(variables, coords=axes, attrs={**about, **_attributes(lmax)})
    for name in ("vor_scale", "div_scale", "check_vor", "check_div", "check_lat", "check_lon", "sigma"):
        encoding[name] = {"_FillValue": None}
    part = path.with_name(path.name + ".part")
    dataset.to_netcdf(part, engine="h5netcdf", encoding=encoding)
    os.replace(part, path)


def _attributes(lmax: int) -> dict[str, str]:
    """Return the global attributes that say how to read the coefficients."""
    count = (lmax + 1) * (lmax + 2) // 2
    return {
        "Conventions": "CF-1.10 (time axis); spectral coefficients as described in 'convention'",
        "truncation": f"triangular T{lmax}: 0 <= m <= l <= {lmax}",
        "convention": (
            "Orthonormal complex spherical harmonics Y_lm with Condon-Shortley phase (scipy.special.sph_harm_y; "
            "ducc0 / healpy alm; pyshtools normalization='ortho', csphase=-1 complex), integral over the unit sphere "
            f"|Y_lm|^2 dOmega = 1. Field: f(lat, lon) = sum_l a_l0 Y_l0 + 2 Re sum_{{m=1..{lmax}}} "
            f"sum_{{l=m..{lmax}}} a_lm Y_lm(theta = 90deg - lat, phi = lon), in s-1, lon eastward from Greenwich. "
            "Only m >= 0 stored; the field is real, a_l,-m = (-1)^m conj(a_lm)."
        ),
        "ordering": (
            f"m-major: for m = 0..{lmax}, l = m..{lmax} ({count} coefficients); "
            f"index k(l, m) = m*({2 * lmax + 1}-m)/2 + l ; see variables l and m"
        ),
        "packing": (
            "a_lm = (re_int16 + i im_int16) * scale[l]; step = rms coefficient of that degree / 100; "
            "rounding error rms = 0.29 % of the rms coefficient"
        ),
    }
