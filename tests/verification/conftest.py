"""Fields with known answers on common grids, and an evaluation of two models on a globe of 36 rows."""

import numpy as np
import pytest

from atmoloss.verification import evaluate_fields
from atmoloss.verification.statistics.grid import Grid, grid_of, standardise_axes

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


def grid_at(latitude, longitude) -> Grid:
    """Return the grid of fields at these axes."""
    return grid_of(standardise_axes(field(np.zeros((len(latitude), len(longitude))), latitude, longitude)))


LATITUDE, LONGITUDE = axes("half a step", 64)
GRID = grid_at(LATITUDE, LONGITUDE)


def noise(n=1, seed=0, shape=(64, 128)):
    """White noise (n, 64, 128) for the grid of LATITUDE and LONGITUDE."""
    return np.random.default_rng(seed).normal(size=(n, *shape))


GLOBE = axes("half a step", 36)
EVERY_DAY = TIMES[0] + np.arange(24) * np.timedelta64(1, "D")
FEW = {"n_bootstrap": 50, "n_samples": 200}


@pytest.fixture(scope="session")
def truth():
    """Divergence and vorticity of 24 days."""
    power = np.where(np.arange(30) > 0, 1e-10, 0)
    draw = np.random.default_rng(0)
    fields = {}
    for i, name in enumerate(("divergence", "vorticity")):
        values = band_limited(power, *GLOBE, seed=i, n_times=24)
        fields[name] = field(values + 3e-6 * draw.normal(size=values.shape), *GLOBE, name=name, times=EVERY_DAY)
    return xarray.Dataset(fields)


@pytest.fixture(scope="session")
def models(truth):
    """Half of the truth, and the truth with noise."""
    noise = np.random.default_rng(5).normal(size=(24, 36, 72)) * 2e-5
    return {"half": truth / 2, "noise": truth + noise}


@pytest.fixture(scope="session")
def evaluation(truth, models):
    return evaluate_fields(truth, models, block_days=2, **FEW)
