"""The bundled sample: a week of real 10 m winds, small enough to ship."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atmoloss.data.reading import open_fields

if TYPE_CHECKING:
    import xarray as xr

SAMPLE_PATH = Path(__file__).with_name("sample_gfs_10m.nc")
"""netCDF of u10 and v10, 27 GFS analyses 6 hours apart on a 1° grid of 68 × 196 points, public domain."""
MARGIN = 2
"""Points that :func:`open_sample` cuts off on every side: there, derivatives of the winds are one-sided."""


def open_sample(variables: str | Sequence[str] = ("divergence", "vorticity")) -> xr.Dataset:
    """Open the bundled sample of real winds.

    GFS analyses of the 10 m wind every 6 hours from 2026-04-30 00 to 2026-05-06 12 UTC, 70–7° N,
    150° W–41° E at 1°. Credit NOAA/NWS/NCEP, public domain. The bundled weights never saw these dates.

    Args:
        variables: as :func:`~atmoloss.data.open_fields` takes them; divergence and vorticity are derived,
            ``("u", "v")`` are the winds themselves.

    Returns:
        Dataset of float32 variables (time 27, latitude 64, longitude 192), SI units.

    Raises:
        MissingDependencyError: xarray or h5netcdf (extra ``data``) is not installed.
    """
    inner = slice(MARGIN, -MARGIN)
    return open_fields(SAMPLE_PATH, variables).isel(latitude=inner, longitude=inner)
