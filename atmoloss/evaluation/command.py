"""What the verb ``report`` of the command does."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data import open_fields
from atmoloss.errors import DataError, InputError, require
from atmoloss.evaluation.evaluate import evaluate_fields
from atmoloss.evaluation.grid import grid_of, ordered
from atmoloss.evaluation.report import output_page, write_report

if TYPE_CHECKING:
    import xarray as xr

_COARSE = "coarse"


def report(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss report``."""
    output_page(arguments.output)  # before the work, not after it
    paths: dict[str, str] = {}
    for item in arguments.models:
        name, equals, path = item.partition("=")
        if not (name and equals and path):
            arguments._parser.error(f"got {item!r}, expected NAME=FILE")
        if name in paths or name == _COARSE:
            raise InputError(f"models: got {name!r} twice or reserved, expected a name of its own for every model")
        paths[name] = path
    variables = tuple(v.strip() for v in arguments.variables.split(",") if v.strip())
    truth = open_fields(arguments.truth, variables, arguments.level)
    models = {name: open_fields(path, variables, arguments.level) for name, path in paths.items()}
    sources = [("truth", arguments.truth), *paths.items()]
    unresolved_from = arguments.unresolved_from
    if arguments.coarse is not None:
        coarse = open_fields(arguments.coarse, variables, arguments.level)
        models[_COARSE] = interpolate_to(coarse, truth)
        sources.append((_COARSE, f"{arguments.coarse}, bilinear"))
        if unresolved_from is None:
            unresolved_from = 180.0 / grid_of(ordered(coarse[variables[0]])).step[0]
    evaluation = evaluate_fields(
        truth,
        models,
        unresolved_from=unresolved_from,
        block_days=arguments.block_days,
        n_bootstrap=arguments.draws,
        seed=arguments.seed,
        progress=(lambda text: print(f"\r{text}", end="", file=sys.stderr, flush=True))
        if sys.stderr.isatty()
        else None,
    )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    written = write_report(
        evaluation,
        arguments.output,
        title=arguments.title,
        sources=sources,
        command=shlex.join(["atmoloss", *arguments._words]),
    )
    for path in written.values():
        print(f"wrote {path}")
    return 0


def interpolate_to(coarse: xr.Dataset, fine: xr.Dataset) -> xr.Dataset:
    """Interpolate fields bilinearly in latitude and longitude to a finer grid; beyond the outermost points constant.

    Args:
        coarse: of :func:`open_fields`.
        fine: of :func:`open_fields`; only its grid and times count.

    Raises:
        DataError: no time in common.
    """
    xarray = require("xarray", "eval")
    times = np.intersect1d(coarse["time"].values, fine["time"].values)
    if not times.size:
        raise DataError("coarse: has no time in common with the truth, expected fields of the same times")
    data = coarse.sel(time=times)
    grid = grid_of(ordered(data[next(iter(data.data_vars))]))
    west = grid.longitude[0]
    longitude = (fine["longitude"].values - west) % 360.0 + west
    if grid.periodic:
        first = data.isel(longitude=[0])
        data = xarray.concat([data, first.assign_coords(longitude=first["longitude"] + 360.0)], "longitude")
    else:
        # Up to a point left of the first column the nearest end is the first column.
        beyond = longitude - grid.longitude[-1]
        longitude = np.where(beyond > west + 360.0 - longitude, west, np.minimum(longitude, grid.longitude[-1]))
    latitude = np.clip(fine["latitude"].values, grid.latitude[-1], grid.latitude[0])
    places = {
        "latitude": xarray.DataArray(latitude, dims="latitude"),
        "longitude": xarray.DataArray(longitude, dims="longitude"),
    }
    out: xr.Dataset = data.interp(places, method="linear").astype(np.float32)
    out.coords.update({axis: fine[axis] for axis in ("latitude", "longitude")})
    return out
