"""What the verb ``report`` of the command does."""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data import open_fields
from atmoloss.data.forecasts import choose_in, has_runs, lead_hours
from atmoloss.errors import DataError, InputError, require
from atmoloss.verification.evaluate import evaluate_fields
from atmoloss.verification.report import output_page, write_report
from atmoloss.verification.results import TRUTH
from atmoloss.verification.statistics.grid import grid_of, standardise_axes

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
        if name in paths or name in (_COARSE, TRUTH):
            raise InputError(f"models: got {name!r} twice or reserved, expected a name of its own for every model")
        paths[name] = path
    variables = tuple(v.strip() for v in arguments.variables.split(",") if v.strip())
    sources = [(TRUTH, arguments.truth), *paths.items()]
    if arguments.coarse is not None:
        sources.append((_COARSE, arguments.coarse))
    data = {name: open_fields(path, variables, arguments.level, missing=arguments.missing) for name, path in sources}
    data = choose_in(data, arguments.run, arguments.lead, next(iter(paths)))
    if arguments.missing == "ignore":
        data = {name: without_missing(fields, name) for name, fields in data.items()}
    unresolved_from = arguments.unresolved_from
    if arguments.coarse is not None:
        sources[-1] = (_COARSE, f"{arguments.coarse}, bilinear")
        if unresolved_from is None:
            unresolved_from = 180.0 / grid_of(standardise_axes(data[_COARSE][variables[0]])).step[0]
        data[_COARSE] = interpolate_to(data[_COARSE], data[TRUTH])
    page = output_page(arguments.output)
    by_lead = split_by_lead(data)
    rows: list[list[object]] = []
    for lead, fields in by_lead.items():
        evaluation = evaluate_fields(
            fields.pop(TRUTH),
            fields,
            unresolved_from=unresolved_from,
            block_days=arguments.block_days,
            n_bootstrap=arguments.draws,
            seed=arguments.seed,
            progress=partial(_show, "" if lead is None else f"{lead:g} h: ") if sys.stderr.isatty() else None,
        )
        if sys.stderr.isatty():
            print(file=sys.stderr)
        written = write_report(
            evaluation,
            arguments.output if lead is None else page.with_name(f"{page.stem}_{lead:03g}h{page.suffix}"),
            title=arguments.title if lead is None else f"{arguments.title}, lead time {lead:g} h",
            sources=sources,
            command=shlex.join(["atmoloss", *arguments._words]),
        )
        for path in written.values():
            print(f"wrote {path}")
        rows += [[lead, s.variable, s.metric, s.model, s.value, s.low, s.high, s.units] for s in evaluation.scores]
    if None not in by_lead:
        _write_table(page.with_name(f"{page.stem}_leads.csv"), rows)
    return 0


def _show(label: str, text: str) -> None:
    print(f"\r{label}{text}", end="", file=sys.stderr, flush=True)


def _write_table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        header = ["lead [h]", "variable", "metric", "model", "value", "low", "high", "units"]
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(f"wrote {path}")


def split_by_lead(data: dict[str, xr.Dataset]) -> dict[float | None, dict[str, xr.Dataset]]:
    """Return the fields of each lead time that all forecasts of several runs have, those of other data with each.

    Lead times for whose valid times not all data have fields are left out; without such forecasts the one key is
    ``None``.

    Raises:
        DataError: no lead time is left.
    """
    several = [name for name, fields in data.items() if has_runs(fields)]
    leads = [np.unique(lead_hours(data[name])) for name in several]
    if all(len(hours) == 1 for hours in leads):
        return {None: data}
    out: dict[float | None, dict[str, xr.Dataset]] = {}
    for lead in reduce(np.intersect1d, leads):
        chosen = {n: f.isel(time=np.flatnonzero(lead_hours(f) == lead)) if n in several else f for n, f in data.items()}
        if reduce(np.intersect1d, [fields["time"].values for fields in chosen.values()]).size:
            out[float(lead)] = chosen
    if not out:
        raise DataError(
            f"models: {', '.join(several)} have no lead time for whose valid times all data have fields, expected one"
        )
    return out


def without_missing(data: xr.Dataset, name: str) -> xr.Dataset:
    """Return the times at which no variable has missing values.

    Raises:
        DataError: there is none.
    """
    complete = np.ones(data.sizes["time"], bool)
    for field in data.data_vars.values():
        complete &= np.isfinite(field.transpose("time", "latitude", "longitude").values).all((1, 2))
    if not complete.any():
        raise DataError(f"--missing: {name} has missing values at all times, expected some without, or a value instead")
    kept: xr.Dataset = data.isel(time=np.flatnonzero(complete))
    return kept


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
    grid = grid_of(standardise_axes(data[next(iter(data.data_vars))]))
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
