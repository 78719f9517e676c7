"""What a worked case leaves: a page of tables, the same as data, and a figure of the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atmoloss.files import write_atomically

HERE = Path(__file__).resolve().parent


def write_page(name: str, page: tuple[str, Any, bytes], kind: str = "svg") -> None:
    """Write results/NAME.md and NAME.json, and docs/figures/downstream-NAME, with hyphens, of a page."""
    text, data, figure = page
    write_atomically(HERE / "results" / f"{name}.md", text.encode())
    write_atomically(HERE / "results" / f"{name}.json", (json.dumps(data, indent=1) + "\n").encode())
    figures = HERE.parents[1] / "docs" / "figures"
    write_atomically(figures / f"downstream-{name.replace('_', '-')}.{kind}", figure)
