"""A report as text: sections of paragraphs, tables and plots, written as one HTML page or as Markdown."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from html import escape

from atmoloss.evaluation.figures import Plot

Cell = tuple[str, bool]
"""Text, and whether it is bold."""

_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid #ccc; }
p, li { max-width: 46rem; }
nav { font-size: .95rem; }
nav a { margin-right: .9rem; white-space: nowrap; }
a { color: #0057a3; }
.scroll { overflow-x: auto; margin: 1rem 0 1.4rem; }
table { border-collapse: collapse; min-width: min(100%, 40rem); font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; color: #333; max-width: 46rem; }
th, td { padding: .28rem .9rem .28rem .3rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { border-top: 1.5px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }
tbody tr:last-child > * { border-bottom: 1.5px solid #1a1a1a; }
tbody th { font-weight: 400; }
tbody tr:nth-child(even) > * { background: #f6f6f6; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; width: 100%; max-width: 52rem; height: auto; }
figcaption { font-size: .9rem; color: #333; margin-top: .4rem; max-width: 46rem; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; max-width: 46rem; }
code { font-size: .88em; overflow-wrap: anywhere; }
.note { border-left: 4px solid #E69F00; padding: .2rem .8rem; background: #fdf6e6; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  figure, tr { break-inside: avoid; }
  h2, caption { break-after: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8pt; }
  figure img { max-width: 17cm; }
}
"""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: the first column names the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence that limits what is shown."""

    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclasses.dataclass(frozen=True)
class Terms:
    """Names and what they mean."""

    items: Sequence[tuple[str, str]]


Item = str | Table | Plot | Note | Code | Terms


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    items: Sequence[Item]


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Return a page that needs nothing else: pictures are inside it."""
    numbers = _Numbers()
    body = [f"<h1>{escape(title)}</h1>"]
    links = " ".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections) if s.title)
    for i, section in enumerate(sections):
        if section.title:
            body.append(f'<h2 id="s{i}">{escape(section.title)}</h2>')
        body += [_html(item, numbers) for item in section.items]
        if i == 0:
            body.append(f"<nav aria-label='Sections'>{links}</nav>")
    inner = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n"
        "</html>\n"
    )


class _Numbers:
    """Numbers tables and figures in the order in which they come."""

    def __init__(self) -> None:
        self.last = {"Table": 0, "Figure": 0}

    def __call__(self, kind: str) -> str:
        self.last[kind] += 1
        return f"{kind} {self.last[kind]}."


def _html(item: Item, numbers: _Numbers) -> str:
    if isinstance(item, Table):
        head = "".join(f'<th scope="col">{escape(h)}</th>' for h in item.header)
        rows = []
        for row in item.rows:
            cells = [f'<th scope="row">{escape(row[0][0])}</th>']
            cells += [f"<td>{'<strong>' * b}{escape(text)}{'</strong>' * b}</td>" for text, b in row[1:]]
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return (
            f'<div class="scroll"><table><caption><strong>{numbers("Table")}</strong> {escape(item.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )
    if isinstance(item, Plot):
        kind = _TYPES[item.file.rpartition(".")[2]]
        data = base64.b64encode(item.data).decode("ascii")
        return (
            f'<figure><img src="data:{kind};base64,{data}" alt="{escape(item.alt)}"><figcaption>'
            f"<strong>{numbers('Figure')}</strong> {escape(item.caption)}</figcaption></figure>"
        )
    if isinstance(item, Note):
        return f'<p class="note">{escape(item.text)}</p>'
    if isinstance(item, Code):
        return f"<p><code>{escape(item.text)}</code></p>"
    if isinstance(item, Terms):
        return f"<dl>{''.join(f'<dt>{escape(a)}</dt><dd>{escape(b)}</dd>' for a, b in item.items)}</dl>"
    return f"<p>{escape(item)}</p>"


def to_markdown(title: str, sections: Sequence[Section], folder: str) -> str:
    """Return the same as Markdown, with the pictures in a folder beside it."""
    numbers = _Numbers()
    parts = [f"# {_plain(title)}"]
    for section in sections:
        if section.title:
            parts.append(f"## {_plain(section.title)}")
        parts += [_markdown(item, numbers, folder) for item in section.items]
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """Keep text from being read as Markdown."""
    for character in "\\`*_<>|[]":
        text = text.replace(character, f"\\{character}")
    return text


def _markdown(item: Item, numbers: _Numbers, folder: str) -> str:
    if isinstance(item, Table):
        lines = [" | ".join(_plain(h) or " " for h in item.header), " | ".join("---" for _ in item.header)]
        lines += [" | ".join(f"{'**' * b}{_plain(text)}{'**' * b}" for text, b in row) for row in item.rows]
        table = "\n".join(f"| {line} |" for line in lines)
        return f"**{numbers('Table')}** {_plain(item.caption)}\n\n{table}"
    if isinstance(item, Plot):
        image = f"![{_plain(item.alt)}]({folder}/{item.file})"
        return f"{image}\n\n**{numbers('Figure')}** {_plain(item.caption)}"
    if isinstance(item, Note):
        return f"> {_plain(item.text)}"
    if isinstance(item, Code):
        return f"    {item.text}"
    if isinstance(item, Terms):
        return "\n".join(f"- **{_plain(a)}**: {_plain(b)}" for a, b in item.items)
    return _plain(item)
