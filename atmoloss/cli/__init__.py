"""The command ``atmoloss``: its parser, exit codes and messages. Each verb is a module of this package.

The first line of a verb's docstring is its line in ``atmoloss --help``; the whole is the head of ``VERB --help``.
``add_arguments(parser)`` declares its options and ``run(arguments)`` returns the exit code; where a verb has
``epilog()``, its text ends the help. Only ``run`` and ``epilog`` import anything heavy, so that help is instant.

Exit codes: 0 done, 1 an error that one line on stderr explains, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from atmoloss._version import __version__
from atmoloss.errors import AtmolossError

VERBS = ("distance", "attention", "evaluate", "report", "prepare", "train", "push", "weights", "info", "convert_keras")
_EPILOG = """\
examples:
  atmoloss distance yesterday.nc today.nc            one number per common time
  atmoloss distance forecasts.nc analyses.nc         means over runs by lead time
  atmoloss distance week.nc --matrix --plot week.png all times against each other
  atmoloss attention run/weights winds.nc --time 2026-05-01T06 --point 18N,122W --plot map.png
                                                     what the prediction of a place is made of
  atmoloss report truth.nc A=a.nc B=b.nc             a page that compares fields of models with the truth
  atmoloss weights                                   which weights there are, and what for
  atmoloss info default                              what some weights are
  atmoloss prepare era5.zarr store --level 850       lay large data out for training
  atmoloss train config.toml --set steps=2000        train weights of your own

Exit code 0: done; 1: an error, in one line on stderr (--debug shows where); 2: wrong usage.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose epilog may be made when help is asked for, and not before."""

    make_epilog: Callable[[], str] | None = None

    def format_help(self) -> str:
        if self.make_epilog is not None:
            self.epilog = self.make_epilog()
        return super().format_help()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command and all its verbs."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="atmoloss",
        description="A loss and a distance that know weather: AtmoDist for PyTorch.",
        epilog=_EPILOG,
        formatter_class=as_written,
    )
    parser.add_argument("--version", action="version", version=f"atmoloss {__version__}")
    # Offered before and after the verb; SUPPRESS keeps the verb's default from undoing the first.
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error (or ATMOLOSS_DEBUG=1).")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in VERBS:
        module = importlib.import_module(f"{__name__}.{name}")
        text = inspect.cleandoc(module.__doc__ or "")
        first = text.partition("\n")[0]
        verb = verbs.add_parser(name.replace("_", "-"), help=first, description=text, formatter_class=as_written)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        verb.make_epilog = getattr(module, "epilog", None)
        verb.set_defaults(_run=module.run, _usage_error=verb.error)
        module.add_arguments(verb)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: without the program's name; ``None`` takes those of the process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = shlex.join(["atmoloss", *words])
    namespace = build_parser().parse_args(words, argparse.Namespace(_command=command))
    debug = namespace.debug or os.environ.get("ATMOLOSS_DEBUG", "") not in ("", "0")
    with warnings.catch_warnings():
        if not debug:
            warnings.showwarning = _show_warning
        try:
            code: int = namespace._run(namespace)
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
