"""A report as text: sections of paragraphs, tables and plots, written as one HTML page or as Markdown."""

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
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n{inner}\n</main>\n</body>\n"
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
