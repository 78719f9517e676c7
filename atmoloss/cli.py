"""The command ``atmoloss``: parsing and exit codes. Each verb imports what it needs when it runs.

Exit codes: 0 done, 1 an error that one line on stderr explains, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from atmoloss._version import __version__
from atmoloss.errors import AtmolossError
from atmoloss.training.arguments import add_arguments, add_evaluate_arguments, add_missing

_EPILOG = """\
examples:
  atmoloss distance yesterday.nc today.nc            one number per common time
  atmoloss distance forecasts.nc analyses.nc         means over runs by lead time
  atmoloss distance week.nc --matrix --plot week.png all times against each other
  atmoloss report truth.nc A=a.nc B=b.nc             a page that compares fields of models with the truth
  atmoloss info default                              what the bundled weights are
  atmoloss prepare era5.zarr store --level 850       lay large data out for training
  atmoloss train config.toml --set steps=2000        train weights of your own

Exit code 0: done; 1: an error, in one line on stderr (--debug shows where); 2: wrong usage.
"""
_DISTANCE = """\
Print the AtmoDist distance of the fields of A from those of B: a mean squared difference of features,
zero for equal fields; no root is taken. A and B are files or URLs in any layout that atmoloss.data.open_fields
reads (netCDF, Zarr, GRIB), on one grid. Fields of the same time are compared, or, if there is one time
in each, these two. Forecasts of several runs are each compared with the field at their valid time (or, if both
are forecasts, of the same run and time), and the distances tabulated by lead time: --run and --lead choose some,
--csv writes all. With --matrix every time of A is compared with every time of B, or of A if there is no B.
"""
_REPORT = """\
Compare fields of models with the truth at the times that all have: power and kinetic-energy spectra, semivariogram,
distributions at cities, tails, moments, pixel errors and grid artefacts, with intervals by bootstrap over blocks of
time. Writes a self-contained HTML page, the same as Markdown with its figures, and the scores as JSON.
Of forecasts with several runs a page is written for each lead time, and a table of the scores of all of them;
--run and --lead choose one. All files are read by atmoloss.data.open_fields and lie on one grid.
docs/verification.md defines every score.
"""
_PREPARE = """\
Read SOURCE (anything that atmoloss.data.open_fields reads: netCDF, Zarr, GRIB, spherical harmonics, URLs), derive
divergence and vorticity where it has none, and write the folder OUT that training reads without loading it into
memory. Interrupted or killed, the same command continues. docs/scale.md has commands for public ERA5 stores.
"""
_CONVERT = """\
Read the checkpoint folder of the original AtmoDist code (Keras) and write a weights folder from it, with
the original's normalisation. The published layers 148 and 196 become stage3 and stage4.
"""
_PUSH = """\
Write the files of a weights folder to a repository on the Hugging Face Hub, as one commit; afterwards
load_extractor("OWNER/NAME", revision="COMMIT") reads them anywhere. The token is that of HF_TOKEN or `hf auth login`.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and all its verbs."""
    parser = argparse.ArgumentParser(
        prog="atmoloss",
        description="A loss and a distance that know weather: AtmoDist for PyTorch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"atmoloss {__version__}")
    # Offered before and after the verb; SUPPRESS keeps the verb's default from undoing the first.
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error (or ATMOLOSS_DEBUG=1)")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, run: str, text: str, description: str = "") -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=description or f"{text[0].upper()}{text[1:]}.")
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        verb.set_defaults(_run=run, _parser=verb)
        return verb

    add_arguments(add("train", "atmoloss.training.main:run", "train an encoder on your data, from a TOML file"))
    add_evaluate_arguments(
        add("evaluate", "atmoloss.lag_2afc.evaluate:run", "measure how well weights order fields by their lag")
    )
    convert = add("convert-keras", "atmoloss.commands:convert_keras", "make weights of the original's", _CONVERT)
    convert.add_argument("source", metavar="SRC", help="folder of the original's checkpoint")
    convert.add_argument("destination", metavar="DST", help="weights folder to write")
    convert.add_argument("--name", help="of the weights (default: that of SRC)")
    _add_prepare(add("prepare", "atmoloss.commands:prepare", "write a training store of data of any size", _PREPARE))
    _add_distance(add("distance", "atmoloss.distance_command:distance", "distances of fields in files", _DISTANCE))
    _add_report(add("report", "atmoloss.evaluation.command:report", "compare models with the truth on a page", _REPORT))
    info = add("info", "atmoloss.commands:info", "describe weights: channels, architecture, scales, quality")
    info.add_argument("weights", metavar="WEIGHTS", help="bundled name, weights folder or Hub repository")
    push = add("push", "atmoloss.commands:push", "publish a weights folder on the Hugging Face Hub", _PUSH)
    push.add_argument("weights", metavar="WEIGHTS", help="bundled name or weights folder")
    push.add_argument("repository", metavar="OWNER/NAME", help="Hub repository; made where there is none")
    return parser


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="file, folder, glob or URL")
    parser.add_argument("out", metavar="OUT", help="folder to write; may hold an unfinished run of the same command")
    parser.add_argument("--variables", metavar="A,B", default="divergence,vorticity", help="(default: %(default)s)")
    parser.add_argument("--level", type=float, help="level to take, hPa for pressure levels")
    parser.add_argument("--grid", type=float, metavar="DEGREES", help="grid spacing for spherical harmonics")
    parser.add_argument("--winds", metavar="U,V", help="derive from these where SOURCE has several winds, e.g. u10,v10")
    add_missing(parser, "ignored ones stay NaN in the store, and training draws no patch with any")
    parser.add_argument(
        "--dates", action="append", default=[], metavar="FROM/TO", help="only these days, both included; repeatable"
    )
    parser.add_argument("--every", metavar="HOURS", help="only times at multiples of that after 00 UTC, e.g. 6h")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a running dask scheduler (default: a local cluster)")
    parser.add_argument(
        "--workers", type=int, help="processes of the local cluster (default: one per core; 0: no dask)"
    )
    parser.add_argument(
        "--time-chunk", type=int, default=16, metavar="N", help="times per chunk (default: %(default)s)"
    )
    parser.add_argument(
        "--space-chunk", type=int, default=128, metavar="N", help="rows and columns per chunk, roughly (default: 128)"
    )
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of the file system of a URL, e.g. token=anon; repeatable",
    )


def _add_distance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="file or URL")
    parser.add_argument("b", metavar="B", nargs="?", help="file or URL; optional with --matrix")
    parser.add_argument("--matrix", action="store_true", help="every time of A against every time of B")
    parser.add_argument("--plot", metavar="PNG", help="draw: distance over time, the matrix, or a map for one pair")
    parser.add_argument("--csv", metavar="FILE", help="write the distances there instead of printing them")
    parser.add_argument(
        "--weights", default="default", help="bundled name, weights folder or Hub repository (default: default)"
    )
    parser.add_argument("--level", type=float, help="level to take from A and B, hPa for pressure levels")
    _add_forecasts(parser)
    add_missing(parser, "ignored ones are masked in both fields of a pair")
    parser.add_argument("--layers", metavar="NAMES", help="e.g. stage3,stage4 (default: what WEIGHTS recommend)")
    parser.add_argument(
        "--scale", default="mse", help="mse: as large as the MSE of normalised fields (default); none; or a number"
    )


def _add_forecasts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", metavar="TIME", help="of forecasts, those that started then, e.g. 2026-07-10T00")
    parser.add_argument("--lead", type=float, metavar="HOURS", help="of forecasts, those of that lead time")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("truth", metavar="TRUTH", help="file or URL")
    parser.add_argument("models", metavar="NAME=FILE", nargs="+", help="a model's name and its file or URL")
    parser.add_argument(
        "--output", default="report.html", metavar="PATH", help="NAME.html, or a folder (default: %(default)s)"
    )
    parser.add_argument("--variables", metavar="A,B", default="divergence,vorticity", help="(default: %(default)s)")
    parser.add_argument("--level", type=float, help="level to take from all files, hPa for pressure levels")
    _add_forecasts(parser)
    add_missing(parser, "times that have any are left out where they are ignored")
    parser.add_argument(
        "--coarse", metavar="FILE", help="the models' input: compared, too, after bilinear interpolation"
    )
    parser.add_argument(
        "--unresolved-from",
        type=float,
        metavar="DEGREE",
        help="first degree that the input did not resolve (default: the shortest wave of COARSE, or a quarter of "
        "TRUTH's highest degree)",
    )
    parser.add_argument(
        "--block-days", type=float, default=5.0, metavar="D", help="length of the blocks of time (default: %(default)g)"
    )
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="of blocks (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--title", default="Evaluation against the truth", help="of the page (default: %(default)s)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: without the program's name; ``None`` takes those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    namespace = build_parser().parse_args(words, argparse.Namespace(_words=words))
    debug = namespace.debug or os.environ.get("ATMOLOSS_DEBUG", "") not in ("", "0")
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = _show_warning
        try:
            module, _, function = namespace._run.partition(":")
            code: int = getattr(importlib.import_module(module), function)(namespace)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader, head say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except KeyboardInterrupt:
            print("\natmoloss: interrupted", file=sys.stderr)
            return 130
        except (AtmolossError, OSError) as error:
            if debug:
                traceback.print_exc()
            print(f"atmoloss: error: {' '.join(str(error).split())}", file=sys.stderr)
            return 1
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"atmoloss: warning: {' '.join(str(message).split())}", file=sys.stderr)
