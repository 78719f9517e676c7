"""The options that several verbs share, and the types of their values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

WEIGHTS = "The name of bundled weights, a weights folder, or a repository on the Hugging Face Hub."


def add_field_options(parser: argparse.ArgumentParser, ignored: str) -> None:
    """Add what every reader of fields takes; ``ignored`` says what the verb does with missing values that stay."""
    add = parser.add_argument
    add("--level", type=float, help="Take this level: hPa for pressure levels, otherwise its own number.")
    text = f"Accept missing values. With ignore, {ignored}; VALUE is filled in. Without this option they are an error."
    add("--missing", type=word_or_number("error", "ignore"), default="error", metavar="ignore|VALUE", help=text)
    add("--group", help="Read the variables of this group of a netCDF file or Zarr store.")


def field_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of :func:`add_field_options`, which are arguments of :func:`atmoloss.data.open_fields`."""
    return {key: getattr(arguments, key) for key in ("level", "missing", "group")}


def add_forecast_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--run`` and ``--lead``."""
    parser.add_argument("--run", metavar="TIME", help="Take only the forecasts that started at TIME: 2026-07-10T00.")
    parser.add_argument("--lead", type=float, metavar="HOURS", help="Take only the forecasts of this lead time.")


def add_hours(parser: argparse.ArgumentParser, more: str) -> None:
    """Add ``--hours`` and ``--hours-level``; ``more`` says what else there is to know of the hours."""
    text = (
        f"Say how many hours apart two analyses are that differ as much, instead of the distance. {more} The curves of "
        "distance against lag belong to the weights and are chosen by grid spacing and level."
    )
    parser.add_argument("--hours", action="store_true", help=text)
    text = "With --hours: the level of the curve, for example '10 m', where the files do not say their own."
    parser.add_argument("--hours-level", metavar="LEVEL", help=text)


def add_variables(parser: argparse.ArgumentParser) -> None:
    """Add ``--variables`` with divergence and vorticity as its default."""
    default = ("divergence", "vorticity")
    text = f"Take these variables (default: {','.join(default)})."
    parser.add_argument("--variables", type=names, metavar="A,B", default=default, help=text)


def add_dates(parser: argparse.ArgumentParser) -> None:
    """Add ``--dates``."""
    text = "Take only these days, both included. May be repeated."
    parser.add_argument("--dates", action="append", default=[], metavar="FROM/TO", help=text)


def names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    values = tuple(name.strip() for name in text.split(",") if name.strip())
    if not values:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected names separated by commas, for example u10,v10")
    return values


def pair(text: str) -> tuple[str, str]:
    """Read two texts with ``=`` between them."""
    key, _, value = text.partition("=")
    if not (key and value):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected two texts with = between them")
    return key, value


def word_or_number(*words: str) -> Callable[[str], str | float]:
    """Return what reads one of a few words or a finite number."""

    def read(text: str) -> str | float:
        if text in words:
            return text
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {', '.join(words)} or a finite number")
        return value

    return read
