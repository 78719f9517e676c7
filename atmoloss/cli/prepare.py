"""Write a training store of data of any size.

Read SOURCE (anything that atmoloss.data.open_fields reads: netCDF, Zarr, GRIB, spherical harmonics, URLs), derive
divergence and vorticity where it has none, and write the folder OUT that training reads without loading it into
memory. Interrupted or killed, the same command continues.
The documentation of data larger than memory has commands for public ERA5 stores.
"""

from __future__ import annotations

import argparse
import sys

from atmoloss.cli.options import add_dates, add_field_options, add_variables, field_options, names, pair


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss prepare``."""
    add = parser.add_argument
    add("source", metavar="SOURCE", help="A file, folder, glob or URL.")
    add("out", metavar="OUT", help="The folder to write; it may hold an unfinished run of the same command.")
    add_variables(parser)
    add_field_options(parser, "they stay NaN in the store, and training draws no patch with any")
    add("--grid", type=float, metavar="DEGREES", help="The grid spacing for spherical harmonics.")
    text = "Derive from these winds, for example u10,v10, where SOURCE has several."
    add("--winds", type=names, metavar="U,V", default=(), help=text)
    add_dates(parser)
    add("--every", type=_hours, metavar="HOURS", help="Take only times at multiples of HOURS after 00 UTC: 6h.")
    add("--scheduler", metavar="ADDRESS", help="Use a running dask scheduler (default: a local cluster).")
    add("--workers", type=int, help="The processes of the local cluster (default: one per core; 0: no dask).")
    add("--time-chunk", type=int, default=16, metavar="N", help="Times per chunk (default: %(default)s).")
    add("--space-chunk", type=int, default=128, metavar="N", help="Rows and columns per chunk, roughly (default: 128).")
    text = "An option of the file system of a URL, for example token=anon. May be repeated."
    add("--storage", type=pair, action="append", metavar="KEY=VALUE", help=text)


def _hours(text: str) -> int:
    digits = text.lower().removesuffix("h").strip()
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected hours, for example 6 or 6h")
    return int(digits)


def run(arguments: argparse.Namespace) -> int:
    """Write the store and say what it holds."""
    import numpy as np

    from atmoloss.data.calendars import date_texts
    from atmoloss.data.plan import PrepareOptions
    from atmoloss.data.prepare import prepare

    options = PrepareOptions(
        variables=arguments.variables,
        grid=arguments.grid,
        winds=arguments.winds,
        dates=tuple(arguments.dates),
        every=arguments.every,
        time_chunk=arguments.time_chunk,
        space_chunk=arguments.space_chunk,
        **field_options(arguments),
    )
    store = prepare(
        arguments.source,
        arguments.out,
        options,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        storage_options=dict(arguments.storage) if arguments.storage else None,
        progress=sys.stderr.isatty(),
    )
    t, h, w = store.shape
    size = store.nbytes
    amount = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    first, last = (str(t)[:16] for t in date_texts(np.sort(store.times)[[0, -1]], store.calendar))
    print(f"{store.path}: {', '.join(store.variables)}; {t} times from {first} to {last}; {h}x{w} points; {amount}")
    return 0
