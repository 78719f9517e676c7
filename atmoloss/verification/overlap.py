"""What data sets of one comparison have in common: variables, times, rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.alignment import on_grid_of
from atmoloss.errors import InputError, instance, require
from atmoloss.sphere import is_periodic
from atmoloss.verification.results import ATMODIST, KINETIC_ENERGY, TRUTH
from atmoloss.verification.statistics.grid import FEWEST, TOLERANCE, standardise_axes

if TYPE_CHECKING:
    import xarray as xr


def on_common_grid(fields: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return ordered data sets at the rows and columns that all have, with the coordinates of the first.

    Grids may differ in extent, as of a model that covers a region, or leaves out the row at a pole. An ``InputError``
    is raised where the points differ, or fewer than 5 rows or columns are common.
    """
    label, first = next(iter(fields.items()))
    positions = {name: _positions(first, data) for name, data in fields.items()}
    latitude, longitude = (np.stack([p[axis] for p in positions.values()]).min(0) >= 0 for axis in (0, 1))
    rows = np.flatnonzero(latitude)
    # Columns may be common on both sides of the seam of a globe: they begin where the one before is not common.
    starts = np.flatnonzero(longitude & ~np.roll(longitude, 1))
    columns = (np.arange(longitude.sum()) + (starts[0] if starts.size else 0)) % longitude.size
    out: dict[str, xr.Dataset] = {}
    for name, data in fields.items():
        north, east = positions[name][0][rows], positions[name][1][columns]
        # Of a grid twice as fine every second point is common, but a field is not what its samples are.
        whole = (np.diff(north) == 1).all() and (np.diff(east) % data.sizes["longitude"] == 1).all()
        over_seam = bool((np.diff(east) < 0).any())
        closed = not over_seam or is_periodic(data["longitude"].values)
        if min(rows.size, columns.size) < FEWEST or not (whole and closed):
            for other in fields:
                on_grid_of(first, fields[other], (label, other), InputError)  # raises for the one that differs
        # Slices where possible: they copy nothing.
        across = east if over_seam else slice(east[0], east[-1] + 1)
        out[name] = data.isel(latitude=slice(north[0], north[-1] + 1), longitude=across)
    west = first["longitude"].values[columns]
    axes = {
        "latitude": first["latitude"][rows],
        "longitude": ("longitude", west + 360.0 * (west < west[0]), first["longitude"].attrs),
    }
    return {name: data.assign_coords(axes) for name, data in out.items()}


def _positions(reference: xr.Dataset, data: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return which row and column of ``data`` each of ``reference`` is, −1 for none."""

    def of_axis(name: str) -> np.ndarray:
        wanted, own = (np.asarray(d[name].values, np.float64) for d in (reference, data))
        apart = np.abs((wanted[:, None] - own + 180.0) % 360.0 - 180.0)  # latitudes differ by less than 180
        near = apart.min(1) < TOLERANCE * abs(wanted[1] - wanted[0])
        return np.where(near, apart.argmin(1), -1)

    return of_axis("latitude"), of_axis("longitude")


def overlap(truth: xr.Dataset, models: Mapping[str, xr.Dataset]) -> tuple[dict[str, xr.Dataset], str]:
    """Return name → data of the truth and the models with standard axes, at the times and points that all have.

    The truth comes first. The text is a sentence that says which data sets have more points, or empty.
    """
    xarray = require("xarray", "eval")
    instance("models", models, Mapping, "a mapping from names to xarray Datasets")
    for argument, data in (("truth", truth), *((f"models: {name}", data) for name, data in models.items())):
        if not isinstance(data, xarray.Dataset):
            raise InputError(f"{argument}: got {type(data).__name__}, expected an xarray Dataset")
    names = [str(name) for name in truth.data_vars]
    if not models or not names:
        raise InputError(f"truth, models: got {len(names)} variables and {len(models)} models, expected one or more")
    if TRUTH in models:
        raise InputError(f"models: got one named {TRUTH!r}, expected another name")
    for reserved in {KINETIC_ENERGY, ATMODIST}.intersection(names):
        raise InputError(f"truth: got a variable {reserved!r}, which is reserved; expected another name")
    everything = {TRUTH: truth, **models}
    times = _common_times(everything, names)
    standard: dict[str, xr.Dataset] = {}
    for label, data in everything.items():
        part = data.sel(time=times)
        standard[label] = xarray.Dataset({n: standardise_axes(part[n], label).reset_coords(drop=True) for n in names})
    common = on_common_grid(standard)
    shapes = {label: (d.sizes["latitude"], d.sizes["longitude"]) for label, d in standard.items()}
    rows, columns = (common[TRUTH].sizes[axis] for axis in ("latitude", "longitude"))
    larger = [f"{label} has {h} × {w}" for label, (h, w) in shapes.items() if (h, w) != (rows, columns)]
    note = f"Compared on the {rows} × {columns} points that all have: {', '.join(larger)}." if larger else ""
    return common, note


def _common_times(everything: Mapping[str, xr.Dataset], names: Sequence[str]) -> np.ndarray:
    """Return the times that all data sets have, and refuse those without time or one of the variables."""
    times: np.ndarray | None = None
    for label, data in everything.items():
        missing = [n for n in names if n not in data.data_vars]
        if missing:
            raise InputError(f"{label}: lacks {', '.join(missing)}, expected the variables of the truth")
        if "time" not in data.coords or "time" not in data.dims:
            raise InputError(f"{label}: has no time axis, expected (time, latitude, longitude)")
        own = data["time"].values
        if len(np.unique(own)) < len(own):
            raise InputError(f"{label}: some times occur twice, expected each once; choose one forecast run")
        times = own if times is None else np.intersect1d(times, own)
        if not len(times):
            first, last = (np.datetime_as_string(t, unit="m") for t in (own.min(), own.max()))
            raise InputError(
                f"{label}: has no time in common with the others ({len(own)} from {first} to {last}), expected fields "
                "of the same times"
            )
    assert times is not None
    return times
