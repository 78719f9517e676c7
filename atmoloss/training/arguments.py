"""Command-line arguments of ``train`` and ``evaluate``; imports nothing heavy, ``--help`` is instant."""

from __future__ import annotations

import argparse
import math


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss train``."""
    parser.add_argument("config", nargs="?", help="TOML configuration; not needed with --resume or --export alone")
    parser.add_argument("--output", metavar="DIR", help="run folder (default: runs/NAME)")
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    parser.add_argument("--export", metavar="DIR", help="write the weights folder there (default: OUTPUT/weights)")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="publish the weights folder, as atmoloss push")
    parser.add_argument("--recipe", choices=("fast", "paper"), help="defaults to start from")
    parser.add_argument("--data", action="append", metavar="PATH", help="use this data instead; may be repeated")
    parser.add_argument("--variables", metavar="A,B", help="channels, e.g. u10,v10")
    parser.add_argument("--steps", type=int, help="optimizer steps")
    parser.add_argument("--seed", type=int, help="of weights and batches")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override any key")


def add_missing(parser: argparse.ArgumentParser, ignored: str) -> None:
    """Add ``--missing``; ``ignored`` says what the verb does with missing values that are not filled."""
    parser.add_argument(
        "--missing",
        type=_missing,
        default="error",
        metavar="ignore|VALUE",
        help=f"what to do with missing values: {ignored}; a value is filled in (default: an error)",
    )


def _missing(text: str) -> str | float:
    if text in ("error", "ignore"):
        return text
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_missing.__name__ = "ignore or number"  # argparse: "invalid ignore or number value: 'x'"


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss evaluate``."""
    parser.add_argument("weights", help="bundled name, weights folder or Hub repository")
    parser.add_argument("data", nargs="+", help="files or URLs, one source each")
    parser.add_argument("--level", type=float, help="level to take from each file")
    add_missing(parser, "patches that have any are left out where they are ignored")
    parser.add_argument(
        "--dates", action="append", default=[], metavar="FROM/TO", help="only these days, both included; repeatable"
    )
    parser.add_argument("--patch", type=int, default=64, help="rows and columns of the patches (default: 64)")
    parser.add_argument("--max-lag", type=int, default=96, help="hours (default: 96)")
    parser.add_argument("--patches", type=int, help="at most that many patches per source")
    parser.add_argument("--no-baselines", action="store_true", help="only the weights themselves")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
