"""Look at what the prediction of one place is made of.

WEIGHTS predict a field (atmoloss train with pretext = "next"). FILE, anything that atmoloss.data.open_fields reads,
has the present, T, and the fields before it that a prediction reads. Printed is for each of them how much of the
map lies in it, and where its centroid lies: latitude and longitude, distance and bearing from the centre of the
position that holds the point. Where FILE has winds, the last two columns say where the air of that position was, had
it moved with the wind of the present all the time. --plot draws the fields with the maps over them, what was
predicted, and what came. The documentation of attention explains the maps.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from atmoloss.cli.options import add_field_options, add_forecast_options, field_options
from atmoloss.cli.output import check_folders, print_table
from atmoloss.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from atmoloss.cli.look import Look

_METHODS = {"head": "attention", "rollout": "rollout of attention", "gradient": "gradient"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss attention``."""
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="A weights folder that predicts, or a repository on the Hugging Face Hub.")
    add("file", metavar="FILE", help="A file or URL.")
    add("--time", type=_time, required=True, metavar="T", help="The present, for example 2026-05-01T06.")
    text = "The place to look at: 18N,122W or 18,-122 (with a minus in front --point=-18,122)."
    add("--point", type=_point, required=True, metavar="LAT,LON", help=text)
    text = "Take the map of this method (default: %(default)s)."
    add("--method", choices=tuple(_METHODS), default="head", help=text)
    text = (
        "With the method head: take this head alone, from 0 on, those of the first block first (default: their mean)."
    )
    add("--head", type=int, metavar="K", help=text)
    add("--channel", metavar="NAME", help="Draw this channel of the weights (default: their last).")
    add("--plot", metavar="PNG", help="Draw fields, maps, prediction and what came.")
    text = "Draw no coastlines, for data that are not of the Earth."
    add("--no-coastlines", action="store_true", help=text)
    add_field_options(parser, "the fields that a prediction reads must have none")
    add_forecast_options(parser)


def _time(text: str) -> str:
    """Read a date, or a date and a time, as text to the minute."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d)?)?", text):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a date and hour such as 2026-05-01T06")
    return text + "T00:00"[len(text) - 10 :]


def _point(text: str) -> tuple[float, float]:
    """Read a latitude and a longitude: 18N,122W or 18,-122."""
    number = r"\d+(?:\.\d+)?"
    match = re.fullmatch(rf"(-?{number}|{number}[NS]),(-?{number}|{number}[EW])", re.sub(r"[\s°]", "", text).upper())
    if match:
        latitude, longitude = (float(t.rstrip("NSEW")) * (-1.0 if t[-1] in "SW" else 1.0) for t in match.groups())
        if abs(latitude) <= 90 and abs(longitude) <= 360:
            return latitude, longitude
    raise argparse.ArgumentTypeError(f"got {text!r}, expected latitude and longitude such as 18N,122W or 18,-122")


def run(arguments: argparse.Namespace) -> int:
    """Look, draw and print."""
    from atmoloss import weights
    from atmoloss.cli import attention_plot, plots
    from atmoloss.cli.look import Position, look, place_text
    from atmoloss.predictor import load_predictor
    from atmoloss.verification.statistics.grid import grid_of

    if arguments.head is not None and arguments.method != "head":
        arguments._usage_error("--head belongs to the method head; leave it out")
    check_folders(plot=arguments.plot)
    if arguments.plot is not None:
        plots.check_format(arguments.plot)
    folder = weights.resolve(arguments.weights)
    channels = weights.read_info(folder).channel_names
    channel = arguments.channel or channels[-1]
    if channel not in channels:
        raise InputError(f"--channel: got {channel!r}, expected one of {', '.join(channels)}")
    data = _open(arguments, channels)
    grid = grid_of(data[channel])
    predictor = load_predictor(folder, periodic=grid.periodic)
    position = Position.around(arguments.point, grid, predictor.stride)
    fields = _sequence(data, arguments.time, predictor.frames, predictor.info.base_step_hours)
    seen = look(predictor, position, fields, _winds(arguments, fields), arguments.method, arguments.head)
    what = _METHODS[arguments.method]
    if arguments.method == "head":
        what += ", mean of the heads" if arguments.head is None else f", head {arguments.head}"
    title = f"What the prediction at {place_text(position.centre)} reads: {what}; weights {predictor.info.id}"
    if arguments.plot is not None:
        attention_plot.draw(arguments.plot, title, seen, channel, coasts=not arguments.no_coastlines)
    print(f"# {title}")
    _print(seen)
    if arguments.plot is not None:
        print(f"# wrote {arguments.plot}")
    return 0


def _open(arguments: argparse.Namespace, names: Sequence[str]) -> xr.Dataset:
    """Open variables of FILE as one series of times."""
    from atmoloss.data import open_fields
    from atmoloss.data.forecasts import choose

    data = choose(open_fields(arguments.file, names, **field_options(arguments)), arguments.run, arguments.lead, "FILE")
    if not data.indexes["time"].is_unique:
        raise DataError("FILE: has forecasts of several runs at one time, expected one: choose by --run or --lead")
    return data


def _sequence(data: xr.Dataset, present: str, frames: int, step: int) -> xr.Dataset:
    """Return the fields that a prediction reads, so many, the present last, and the next one, if there is one."""
    import numpy as np

    from atmoloss.data.calendars import calendar_of, date_texts
    from atmoloss.data.forecasts import valid_texts

    texts = valid_texts(data)
    if present not in texts:
        raise DataError(
            f"--time: got {present}, expected a time of FILE, which has {len(texts)} from {min(texts)} to {max(texts)}"
        )
    wanted = data["time"].values[texts.index(present)] + np.arange(1 - frames, 2) * np.timedelta64(step, "h")
    index = data.indexes["time"].get_indexer(wanted)
    if missing := [str(t)[:16] for t in date_texts(wanted[:-1][index[:-1] < 0], calendar_of(data))]:
        raise DataError(
            f"--time: FILE has no field of {' and '.join(missing)}, expected {frames} fields, {step} h apart, up to "
            f"{present}"
        )
    return data.isel(time=index[index >= 0]).load()


def _winds(arguments: argparse.Namespace, fields: xr.Dataset) -> xr.Dataset | None:
    """Open the winds of the same times and grid as fields; ``None`` where FILE has none."""
    from atmoloss.data.alignment import on_grid_of

    try:
        winds = _open(arguments, ("u", "v"))
        return on_grid_of(fields, winds.sel(time=fields["time"]).load(), ("fields", "winds"))
    except (DataError, KeyError):
        return None


def _print(seen: Look) -> None:
    """Print a line for each field, and how good the prediction is."""
    from atmoloss.cli.look import place_text
    from atmoloss.data.forecasts import valid_texts
    from atmoloss.sphere import distance_and_bearing

    header = ["hours", "valid time", "weight", "centroid", "km", "bearing"]
    if seen.winds is not None:
        header += ["air km", "air bearing"]
    rows = []
    for read, time in zip(seen.reads, valid_texts(seen.fields), strict=False):
        row = [f"{read.hours:g}", time, f"{read.map.sum():.3f}", place_text(read.centroid)]
        for place in (read.centroid, read.air):
            if place is not None:
                metres, bearing = distance_and_bearing(seen.position.centre, place)
                row += [f"{metres / 1e3:.0f}", f"{bearing:.0f}°" if metres else "-"]
        rows.append(row)
    print_table(header, rows)
    if errors := seen.errors():
        text = ", ".join(f"{name} {value:.3f}" for name, value in errors.items())
        print(f"# squared error of the whole prediction over that of persistence: {text}")
    else:
        print("# FILE ends here: what came is not known")
