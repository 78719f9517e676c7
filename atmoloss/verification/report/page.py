"""A report as one HTML page, which holds its pictures inside; ``page.html`` is its template."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atmoloss.errors import require

Cell = tuple[str, bool]
"""Text, and whether it is bold."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: the first column names the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def render(**content: Any) -> str:
    """Return the page of what the head of ``page.html`` names; texts are escaped, parts are a ``Table`` or ``Plot``."""
    jinja2 = require("jinja2", "eval")  # a dependency of torch
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return str(environment.get_template("page.html").render(content))
