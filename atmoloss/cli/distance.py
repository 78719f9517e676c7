"""Print the AtmoDist distances of the fields in files.

The distance of a field of A from one of B is a mean squared difference of features: zero for equal fields; no root
is taken. A and B are files or URLs in any layout that atmoloss.data.open_fields reads (netCDF, Zarr, GRIB), on one
grid. Fields of the same time are compared, or, if there is one time in each, these two. Forecasts of several runs
are each compared with the field at their valid time (or, if both are forecasts, of the same run and time), and the
distances are tabulated by lead time, with 95 % intervals where initial times span more than five days: --run and
--lead choose some, --csv writes all. With --matrix every time of A is compared with every time of B, or of A if there
is no B.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from functools import partial
from typing import Any

from atmoloss.cli.options import (
    WEIGHTS,
    add_field_options,
    add_forecast_options,
    add_hours,
    field_options,
    names,
    word_or_number,
)
from atmoloss.cli.output import check_folders, print_table, write_csv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss distance``."""
    add = parser.add_argument
    add("a", metavar="A", help="A file or URL.")
    add("b", metavar="B", nargs="?", help="A file or URL; optional with --matrix.")
    add("--matrix", action="store_true", help="Compare every time of A with every time of B.")
    add("--plot", metavar="PNG", help="Draw the distances over time, the matrix, or the map of a single pair.")
    add("--csv", metavar="FILE", help="Write the distances to FILE instead of printing them.")
    text = "Their 80 %% range is from low to high; where high is inf, hours is the largest lag that can be told."
    add_hours(parser, text)
    add("--weights", default="default", help=f"{WEIGHTS[:-1]} (default: %(default)s).")
    add_field_options(parser, "values that are missing in one field of a pair are masked in both")
    add_forecast_options(parser)
    text = "Compare these layers, for example stage3,stage4, instead of those that the weights recommend."
    add("--layers", type=names, metavar="NAMES", help=text)
    text = (
        "With mse, distances are as large as the mean squared error of normalised fields (default); with none, they "
        "are those of raw features; a number multiplies these."
    )
    add("--scale", type=word_or_number("mse", "none"), default="mse", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Compare, draw, print and write."""
    from atmoloss.cli import comparison, plots
    from atmoloss.data import open_fields
    from atmoloss.data.alignment import on_grid_of
    from atmoloss.data.forecasts import choose_in, has_runs
    from atmoloss.distance import distance_matrix
    from atmoloss.extractor import load_extractor
    from atmoloss.loss import AtmoDistLoss
    from atmoloss.sphere import is_periodic

    if arguments.b is None and not arguments.matrix:
        arguments._usage_error("B is missing; only --matrix does without it")
    check_folders(plot=arguments.plot, csv=arguments.csv)
    if arguments.plot is not None:
        plots.check_format(arguments.plot)
    extractor = load_extractor(arguments.weights)
    data = {
        name: open_fields(path, extractor.info.channel_names, **field_options(arguments))
        for name, path in (("A", arguments.a), ("B", arguments.b))
        if path is not None
    }
    chosen = arguments.run is not None or arguments.lead is not None
    forecast = next((name for name, fields in data.items() if has_runs(fields)), "A" if chosen else None)
    data = choose_in(data, arguments.run, arguments.lead, "A")
    a = data["A"]
    b = on_grid_of(a, data["B"]) if "B" in data else a
    options: dict[str, Any] = {"scale": arguments.scale, "mse_weight": 0.0}
    options["periodic"] = is_periodic(a["longitude"].values)
    if arguments.layers is not None:
        options["layers"] = arguments.layers
    loss = AtmoDistLoss(extractor, reduction="none", **options)
    read: comparison.Read = comparison.as_distance
    if arguments.hours:
        if arguments.layers is not None or arguments.scale != "mse":
            arguments._usage_error("--hours belongs to the plain distance; leave out --layers and --scale")
        read = comparison.in_hours(_curve(extractor, a, arguments.level, arguments.hours_level))
    if arguments.matrix:
        bar = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
        matrix = partial(distance_matrix, weights=extractor, progress=bar, **options)
        result = comparison.compare_all(a, b, matrix, read)
    elif forecast is None:
        result = comparison.compare_pairs(loss, a, b, read)
    else:
        result = comparison.compare_forecasts(loss, a, b, forecast, by_lead=not chosen, read=read)
    _write(result, _title(loss, arguments.scale, arguments.hours), arguments.csv, arguments.plot)
    return 0


def _title(loss: Any, scale: str | float, hours: bool) -> str:
    """Return what the numbers are."""
    if hours:
        return f"Hours between two analyses that differ as much; weights {loss.extractor.info.id}"
    units = {"mse": "in units of the MSE of normalised fields", "none": "of raw features"}
    unit = units.get(str(scale), f"times {scale}")
    layers = ", ".join(loss.factors)
    return f"AtmoDist distance, mean square {unit}; weights {loss.extractor.info.id}, layers {layers}"


def _curve(extractor: Any, data: Any, level: float | None, named: str | None) -> Any:
    """Return the ``LagCurve`` of the weights for the grid and level of some fields."""
    from atmoloss.data.sources import describe_level
    from atmoloss.hours import curve_for

    latitude = data["latitude"].values
    spacing = float(abs(latitude[1] - latitude[0]))
    return curve_for(
        extractor, (len(latitude), data.sizes["longitude"]), spacing, named or describe_level(data, level) or None
    )


def _write(result: Any, title: str, csv: str | None, plot: str | None) -> None:
    """Write a ``Comparison``; the table comes after the picture, for the reader of a long one may close the pipe."""
    if plot is not None:
        result.draw(plot, title)
    print(f"# {title}")
    if result.summary is not None:
        print_table(*result.summary)
    elif csv is None:
        print_table(result.header, result.rows)
    if csv is not None:
        write_csv(csv, result.header, result.rows)
    for path in (csv, plot):
        if path is not None:
            print(f"# wrote {path}")
