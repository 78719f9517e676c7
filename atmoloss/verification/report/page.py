"""A report as one HTML page: headings, paragraphs, tables and plots, which it holds inside."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from html import escape
from pathlib import Path

from atmoloss.verification.report.drawing import Plot

Cell = tuple[str, bool]
"""Text, and whether it is bold."""

_TYPES = {"svg": "image/svg+xml", "png": "image/png"}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: the first column names the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Page:
    """A page, to which parts are added from top to bottom."""

    def __init__(self, title: str) -> None:
        self._title = escape(title)
        self._introduction: list[str] = []
        self._sections: list[str] = []
        self._links: list[str] = []
        self._last = {"Table": 0, "Figure": 0}

    def _add(self, html: str) -> None:
        (self._sections if self._links else self._introduction).append(html)

    def _number(self, kind: str) -> str:
        self._last[kind] += 1
        return f"<strong>{kind} {self._last[kind]}.</strong>"

    def heading(self, text: str) -> None:
        """Begin a section."""
        anchor = f"s{len(self._links) + 1}"
        self._links.append(f'<a href="#{anchor}">{escape(text)}</a>')
        self._add(f'<h2 id="{anchor}">{escape(text)}</h2>')

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._add(f"<p>{escape(text)}</p>")

    def note(self, text: str) -> None:
        """Add a sentence that limits what is shown."""
        self._add(f'<p class="note">{escape(text)}</p>')

    def code(self, text: str) -> None:
        """Add a command."""
        self._add(f"<p><code>{escape(text)}</code></p>")

    def terms(self, items: Sequence[tuple[str, str]]) -> None:
        """Add names and what they mean."""
        self._add(f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in items)}</dl>")

    def table(self, table: Table) -> None:
        """Add a table, with its number."""
        head = "".join(f'<th scope="col">{escape(h)}</th>' for h in table.header)
        rows = []
        for row in table.rows:
            cells = [f'<th scope="row">{escape(row[0][0])}</th>']
            cells += [f"<td>{'<strong>' * b}{escape(text)}{'</strong>' * b}</td>" for text, b in row[1:]]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        self._add(
            f'<div class="scroll"><table><caption>{self._number("Table")} {escape(table.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )

    def plot(self, plot: Plot) -> None:
        """Add a plot, with its number."""
        kind, data = _TYPES[plot.file.rpartition(".")[2]], base64.b64encode(plot.data).decode("ascii")
        self._add(
            f'<figure><img src="data:{kind};base64,{data}" alt="{escape(plot.alt)}">'
            f"<figcaption>{self._number('Figure')} {escape(plot.caption)}</figcaption></figure>"
        )

    def html(self) -> str:
        """Return a page that needs nothing else: pictures are inside it."""
        style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        links = f"<nav aria-label='Sections'>{' '.join(self._links)}</nav>"
        inner = "\n".join((f"<h1>{self._title}</h1>", *self._introduction, links, *self._sections))
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{self._title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n"
            "</html>\n"
        )
