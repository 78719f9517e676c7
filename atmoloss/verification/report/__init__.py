"""An evaluation as a page for people and a file for machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from atmoloss.errors import InputError
from atmoloss.files import write_atomically
from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report import figures, maps
from atmoloss.verification.report.drawing import Plot, pretty_name
from atmoloss.verification.report.page import Table, render
from atmoloss.verification.report.tables import city_table, difference_table, period, score_table
from atmoloss.verification.results import Evaluation

PARTS: tuple[Callable[[Evaluation, str], Table | Plot | None], ...] = (
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
    """Write ``NAME.html`` (self-contained), its figures as files in ``NAME_figures/``, and ``NAME.json``.

    Args:
        evaluation: of :func:`evaluate_fields`.
        output: ``NAME.html``, or a folder, in which NAME is ``report``.
        title: of the page.
        sources: what to say of where truth and models come from: name and text.
        command: that makes the page again.

    Returns:
        What was written, as ``html``, ``json`` and ``figures``.

    Raises:
        InputError: no such folder can be made.
    """
    path = output_page(output)
    folder = path.with_name(f"{path.stem}_figures")
    folder.mkdir(parents=True, exist_ok=True)
    sections: list[tuple[str, list[Table | Plot]]] = []
    for variable in evaluation.settings["variables"]:
        parts = [part for draw in PARTS if (part := draw(evaluation, variable)) is not None]
        name = pretty_name(variable)
        sections.append((name[0].upper() + name[1:], parts))
        for plot in parts:
            if isinstance(plot, Plot):
                write_atomically(folder / plot.file, plot.data)
    used = {score.metric for score in evaluation.scores}
    page = render(
        title=title,
        evaluation=evaluation,
        period=period(evaluation),
        sections=sections,
        terms=[(metric.label, metric.meaning) for name, metric in METRICS.items() if name in used],
        sources=sources,
        command=command,
    )
    paths = {"html": path, "json": path.with_suffix(".json"), "figures": folder}
    write_atomically(paths["json"], (json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(path, page.encode())
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
