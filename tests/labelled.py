"""Small labelled fields for the tests of what takes xarray objects: divergence and vorticity of the tiny weights."""

import numpy as np
import pytest

xr = pytest.importorskip("xarray")

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2026-05-01T00", "ns")
NAMES = ("divergence", "vorticity")
GLOBE = (np.linspace(87.5, -87.5, 24), np.arange(0.0, 360.0, 10.0))
REGION = (np.arange(60.0, 20.0, -1.5), np.arange(-20.0, 16.0, 1.5))


def fields(grid=REGION, seed=0, dtype=np.float32, **outer):
    """Random divergence and vorticity, s-1, with the dimensions and coordinates of ``outer`` before those of space."""
    latitude, longitude = grid
    shape = (*(len(values) for values in outer.values()), latitude.size, longitude.size)
    rng = np.random.default_rng(seed)
    dims = (*outer, "latitude", "longitude")
    variables = {
        name: (dims, (scale * rng.standard_normal(shape)).astype(dtype), {"units": "s-1"})
        for name, scale in zip(NAMES, (3e-5, 5e-5), strict=True)
    }
    return xr.Dataset(variables, {**outer, "latitude": latitude, "longitude": longitude})


def analyses(n=6, grid=REGION, **more):
    """One field every 6 hours."""
    return fields(grid, seed=1, time=START + 6 * HOUR * np.arange(n), **more)


def forecasts(inits=3, leads=4, grid=REGION, **more):
    """Initial times and lead times every 6 hours."""
    return fields(grid, 2, init_time=START + 6 * HOUR * np.arange(inits), lead_time=6 * HOUR * np.arange(leads), **more)
