"""An evaluation as a page for people and a file for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from atmoloss.errors import InputError
from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report import figures, maps
from atmoloss.verification.report.drawing import Plot, pretty_name
from atmoloss.verification.report.page import Code, Item, Note, Section, Terms, to_html, to_markdown
from atmoloss.verification.report.tables import city_table, difference_table, period, score_table
from atmoloss.verification.results import Evaluation

PARTS: tuple[Callable[[Evaluation, str], Item | None], ...] = (
    score_table, difference_table, figures.spectrum, figures.distances_and_tails, maps.cities, city_table,
    maps.moment_maps, maps.example,
)  # fmt: skip
"""What stands under each variable, where the evaluation has it."""


def write_report(
    evaluation: Evaluation,
    output: str | os.PathLike[str] = "report.html",
    *,
    title: str = "Evaluation against the truth",
    sources: Sequence[tuple[str, str]] = (),
    command: str = "",
) -> dict[str, Path]:
    """Write ``NAME.html`` (self-contained), ``NAME.md`` with ``NAME_figures/``, and ``NAME.json``.

    Args:
        evaluation: of :func:`evaluate_fields`.
        output: ``NAME.html``, or a folder, in which NAME is ``report``.
        title: of the page.
        sources: what to say of where truth and models come from: name and text.
        command: that makes the page again.

    Returns:
        ``html``, ``markdown``, ``json`` and ``figures``: what was written.

    Raises:
        InputError: no such folder can be made.
    """
    from atmoloss.files import write_atomically

    page = output_page(output)
    page.parent.mkdir(parents=True, exist_ok=True)
    folder = page.with_name(f"{page.stem}_figures")
    paths = {
        "html": page,
        "markdown": page.with_suffix(".md"),
        "json": page.with_suffix(".json"),
        "figures": folder,
    }
    sections = _sections(evaluation, sources, command)
    folder.mkdir(exist_ok=True)
    for section in sections:
        for item in section.items:
            if isinstance(item, Plot):
                write_atomically(folder / item.file, item.data)
    write_atomically(paths["json"], (json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(paths["markdown"], to_markdown(title, sections, quote(folder.name)).encode())
    write_atomically(page, to_html(title, sections).encode())
    return paths


def output_page(output: str | os.PathLike[str]) -> Path:
    """Return the path of the page for a file ``NAME.html`` or a folder; :func:`write_report` makes its folders.

    Raises:
        InputError: one of its folders is a file, or may not be written to.
    """
    path = Path(output)
    page = path if path.suffix.lower() in (".html", ".htm") else path / "report.html"
    folder = page.absolute().parent
    present = next(p for p in (folder, *folder.parents) if p.exists())
    if not (present.is_dir() and os.access(present, os.W_OK)) or page.is_dir():
        raise InputError(
            f"output: got {os.fspath(output)!r}, expected NAME.html or a folder; {str(present)!r} must be a folder "
            "that can be written to"
        )
    return page


def _sections(evaluation: Evaluation, sources: Sequence[tuple[str, str]], command: str) -> list[Section]:
    sections = [Section("", _introduction(evaluation))]
    for variable in evaluation.settings["variables"]:
        items = [part(evaluation, variable) for part in PARTS]
        sections.append(Section(pretty_name(variable).capitalize(), [item for item in items if item is not None]))
    used = {score.metric for score in evaluation.scores}
    meanings = Terms([(metric.label, metric.meaning) for name, metric in METRICS.items() if name in used])
    sections.append(Section("What the scores mean", [meanings]))
    origin: list[Item] = [Terms(sources)] if sources else []
    if command:
        origin.append(Code(command))
    origin.append(f"atmoloss {evaluation.settings['atmoloss']}; seed {evaluation.settings['seed']}.")
    return [*sections, Section("How this was made", origin)]


def _introduction(evaluation: Evaluation) -> list[Item]:
    s = evaluation.settings
    items: list[Item] = [f"{', '.join(evaluation.models)} against the truth: {period(evaluation)}, {s['grid']}."]
    if s["n_blocks"] > 1:
        items.append(
            f"Intervals: 95 %, bootstrap over {s['n_blocks']} blocks of {s['block_days']:g} d "
            f"({s['n_bootstrap']} draws, the same for every model)."
        )
    if s["spectrum"] is not None:
        degree = s["unresolved_from_degree"]
        kind = "" if s["spectrum"] == "spherical" else "equivalent "
        items.append(
            f"Scales that the input of the models does not hold count as unresolved: from {kind}degree {degree:.4g}, "
            f"wavelengths below {40030 / degree:.3g} km."
        )
    return [*items, *map(Note, evaluation.notes)]
