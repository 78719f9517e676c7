"""Fields with known answers on common grids."""

import numpy as np
import pytest

xarray = pytest.importorskip("xarray")
pytest.importorskip("ducc0")
pytest.importorskip("scipy")

TIMES = np.datetime64("2026-01-01T00", "ns") + np.arange(64) * np.timedelta64(6, "h")


def axes(rows: str, n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Return latitude, descending, and longitude of a global grid of about n rows."""
    step = 180 / n
    latitude = {
        "both poles": np.linspace(90, -90, n + 1),
        "no south pole": np.linspace(90, -90, n + 1)[:-1],
        "no poles": np.linspace(90, -90, n + 1)[1:-1],
        "half a step": 90 - step * (np.arange(n) + 0.5),
        "Gaussian": np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(n)[0]))[::-1],
    }[rows]
    return latitude, np.arange(2 * n) * step


GRIDS = ("both poles", "no south pole", "no poles", "half a step", "Gaussian")


def field(values, latitude, longitude, units="s-1", name="vorticity", times=TIMES):
    """Wrap (T, H, W) or (H, W) values."""
    values = np.asarray(values, float)
    values = values[None] if values.ndim == 2 else values
    return xarray.DataArray(
        values,
        dims=("time", "latitude", "longitude"),
        coords={"time": times[: len(values)], "latitude": latitude, "longitude": longitude},
        name=name,
        attrs={"units": units},
    )


def band_limited(power, latitude, longitude, seed=0, n_times=1):
    """Random fields (T, H, W) whose power at degree l is `power[l]` exactly, by ducc0's synthesis at any points."""
    import ducc0

    lmax = len(power) - 1
    degree = np.concatenate([np.arange(m, lmax + 1) for m in range(lmax + 1)])
    draw = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(np.deg2rad(90 - latitude), np.deg2rad(longitude % 360), indexing="ij"), -1)
    out = []
    for _ in range(n_times):
        alm = draw.normal(size=degree.size) + 1j * draw.normal(size=degree.size)
        alm[: lmax + 1] = alm[: lmax + 1].real
        weight = np.where(np.arange(degree.size) <= lmax, 1.0, 2.0)
        have = np.bincount(degree, weight * abs(alm) ** 2) / (4 * np.pi)
        alm *= np.sqrt(np.asarray(power) / have)[degree]
        values = ducc0.sht.synthesis_general(alm=alm[None], spin=0, lmax=lmax, loc=points.reshape(-1, 2), epsilon=1e-12)
        out.append(values.reshape(points.shape[:2]))
    return np.array(out)


LATITUDE, LONGITUDE = axes("half a step", 64)


def noise(n=1, seed=0, shape=(64, 128)):
    """White noise (n, 64, 128) for the grid of LATITUDE and LONGITUDE."""
    return np.random.default_rng(seed).normal(size=(n, *shape))
