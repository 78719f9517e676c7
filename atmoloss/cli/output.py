"""What several verbs write: tables, files, and a line that says how far they are."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from atmoloss.errors import InputError


def check_folders(**paths: str | None) -> None:
    """Raise ``InputError`` where the folder of a file to write, by the name of its option, does not exist."""
    for option, path in paths.items():
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(f"--{option}: got {path!r}, expected a file in a folder that exists")


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print aligned columns; numbers to five significant digits."""
    cells = [list(header), *([c if isinstance(c, str) else f"{c:.5g}" for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table as comma-separated values, UTF-8."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


@contextlib.contextmanager
def progress(label: str = "") -> Iterator[Callable[[str], None] | None]:
    """Give a function that shows a text in place of the last one on a terminal, and ``None`` where there is none."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda text: print(f"\r{label}{text}\x1b[K", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
