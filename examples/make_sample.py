"""Make the bundled sample (``atmoloss/data/sample_gfs_10m.nc``) from a file of GFS analyses.

    python examples/make_sample.py gfs_1p00_10m_2026_train.nc   # docs/training.md says what this file is

10 m winds of every 6-hourly analysis of 2026-04-30 … 05-06, dates that the bundled weights were tested
on and never trained on, over North America, the North Atlantic and Europe.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import xarray as xr

from atmoloss.data.sample import MARGIN, SAMPLE_PATH

FIRST, LAST = np.datetime64("2026-04-30T00"), np.datetime64("2026-05-06T12")
# 64 × 192 points, i.e. three patches of 64 × 64, and MARGIN more on every side: derivatives at the edge
# of a grid are one-sided, which multiplies the rounding of the winds.
LATITUDES = np.arange(70.0 + MARGIN, 6.0 - MARGIN, -1.0)
LONGITUDES = np.arange(-150.0 - MARGIN, 42.0 + MARGIN)
RESOLUTION = 0.1  # m s⁻¹, that of the source
NAMES = {
    "u10": ("eastward_wind", "10 metre U wind component"),
    "v10": ("northward_wind", "10 metre V wind component"),
}


def make_sample(source: Path) -> xr.Dataset:
    """Cut the sample out of ``source`` and describe it."""
    with xr.open_dataset(source) as data:
        cut = data[list(NAMES)].sel(time=slice(FIRST, LAST), latitude=LATITUDES, longitude=LONGITUDES % 360)
        out = cut.reset_coords(drop=True).load()
    steps = np.diff(out["time"].values)
    if not (steps == np.timedelta64(6, "h")).all() or out["time"].values[-1] != LAST:
        raise SystemExit(f"{source}: the analyses from {FIRST} to {LAST} are not complete")
    out = out.assign_coords(longitude=LONGITUDES, height=10.0)
    for name, (standard_name, long_name) in NAMES.items():
        if not np.isfinite(out[name]).all():
            raise SystemExit(f"{source}: {name} has missing values")
        out[name].attrs = {"standard_name": standard_name, "long_name": long_name, "units": "m s-1"}
    out["time"].attrs = {"standard_name": "time", "axis": "T"}
    out["latitude"].attrs = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    out["longitude"].attrs = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    out["height"].attrs = {"standard_name": "height", "units": "m", "positive": "up"}
    out.attrs = {
        "Conventions": "CF-1.8",
        "title": "Sample of GFS 1 degree 10 m wind analyses, North America to Europe, 2026-04-30 to 2026-05-06",
        "source": "NCEP GFS pgrb2.1p00 f000",
        "institution": "NOAA/NWS/NCEP",
        "credit": "NOAA/NWS/NCEP",
        "license": "public domain: a work of the United States Government, no restriction on re-use",
        "comment": f"rounded to {RESOLUTION} m s-1; held-out test dates of the weights bundled with atmoloss",
        "history": f"cut out of {source.name} by examples/make_sample.py of atmoloss",
    }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="netCDF file with u10 and v10 on the global 1 degree grid")
    parser.add_argument("--output", type=Path, default=SAMPLE_PATH)
    arguments = parser.parse_args()
    sample = make_sample(arguments.source)
    packing = {
        "dtype": "int16", "scale_factor": RESOLUTION, "_FillValue": np.int16(-32768),
        "zlib": True, "complevel": 9, "shuffle": True, "chunksizes": tuple(sample.sizes.values()),
    }  # fmt: skip
    encoding = {
        **dict.fromkeys(NAMES, packing),
        "time": {"units": "hours since 2026-04-30 00:00:00", "calendar": "standard", "dtype": "int32"},
        **{axis: {"dtype": "float32"} for axis in ("latitude", "longitude", "height")},
    }
    sample.to_netcdf(arguments.output, engine="h5netcdf", encoding=encoding)
    print(f"{arguments.output}: {dict(sample.sizes)}, {arguments.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
