"""A report as text: headings, paragraphs, tables and plots, written at once as one HTML page and as Markdown."""

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
_LINKS = "<nav></nav>"  # gives way to the links to the sections


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: the first column names the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Page:
    """A page of text, to which parts are added from top to bottom.

    Args:
        title: of the page.
        folder: in which Markdown finds the plots, as a URL; HTML holds them itself.
    """

    def __init__(self, title: str, folder: str) -> None:
        self._title, self._folder = escape(title), folder
        self._html, self._markdown = [f"<h1>{self._title}</h1>"], [f"# {_plain(title)}"]
        self._links: list[str] = []
        self._last = {"Table": 0, "Figure": 0}

    def _add(self, html: str, markdown: str) -> None:
        self._html.append(html)
        self._markdown.append(markdown)

    def _number(self, kind: str) -> str:
        self._last[kind] += 1
        return f"{kind} {self._last[kind]}."

    def heading(self, text: str) -> None:
        """Begin a section."""
        if not self._links:
            self._html.append(_LINKS)
        anchor = f"s{len(self._links) + 1}"
        self._links.append(f'<a href="#{anchor}">{escape(text)}</a>')
        self._add(f'<h2 id="{anchor}">{escape(text)}</h2>', f"## {_plain(text)}")

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._add(f"<p>{escape(text)}</p>", _plain(text))

    def note(self, text: str) -> None:
        """Add a sentence that limits what is shown."""
        self._add(f'<p class="note">{escape(text)}</p>', f"> {_plain(text)}")

    def code(self, text: str) -> None:
        """Add a command."""
        self._add(f"<p><code>{escape(text)}</code></p>", f"    {text}")

    def terms(self, items: Sequence[tuple[str, str]]) -> None:
        """Add names and what they mean."""
        html = "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in items)
        self._add(f"<dl>{html}</dl>", "\n".join(f"- **{_plain(a)}**: {_plain(b)}" for a, b in items))

    def table(self, table: Table) -> None:
        """Add a table, with its number."""
        number = self._number("Table")
        head = "".join(f'<th scope="col">{escape(h)}</th>' for h in table.header)
        rows = []
        for row in table.rows:
            cells = [f'<th scope="row">{escape(row[0][0])}</th>']
            cells += [f"<td>{'<strong>' * b}{escape(text)}{'</strong>' * b}</td>" for text, b in row[1:]]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        lines = [" | ".join(_plain(h) or " " for h in table.header), " | ".join("---" for _ in table.header)]
        lines += [" | ".join(f"{'**' * b}{_plain(text)}{'**' * b}" for text, b in row) for row in table.rows]
        self._add(
            f'<div class="scroll"><table><caption><strong>{number}</strong> {escape(table.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
            f"**{number}** {_plain(table.caption)}\n\n" + "\n".join(f"| {line} |" for line in lines),
        )

    def plot(self, plot: Plot) -> None:
        """Add a plot, with its number."""
        number, data = self._number("Figure"), base64.b64encode(plot.data).decode("ascii")
        self._add(
            f'<figure><img src="data:{_TYPES[plot.file.rpartition(".")[2]]};base64,{data}" alt="{escape(plot.alt)}">'
            f"<figcaption><strong>{number}</strong> {escape(plot.caption)}</figcaption></figure>",
            f"![{_plain(plot.alt)}]({self._folder}/{plot.file})\n\n**{number}** {_plain(plot.caption)}",
        )

    def html(self) -> str:
        """Return a page that needs nothing else: pictures are inside it."""
        style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
        inner = "\n".join(self._html).replace(_LINKS, f"<nav aria-label='Sections'>{' '.join(self._links)}</nav>")
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{self._title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n"
            "</html>\n"
        )

    def markdown(self) -> str:
        """Return the same as Markdown."""
        return "\n\n".join(self._markdown) + "\n"


def _plain(text: str) -> str:
    """Keep text from being read as Markdown."""
    for character in "\\`*_<>|[]":
        text = text.replace(character, f"\\{character}")
    return text
