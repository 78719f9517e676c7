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
from atmoloss.verification.report.page import Page, Table
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
        ``html``, ``json`` and ``figures``: what was written.

    Raises:
        InputError: no such folder can be made.
    """
    path = output_page(output)
    folder = path.with_name(f"{path.stem}_figures")
    folder.mkdir(parents=True, exist_ok=True)
    page = Page(title)
    _introduce(page, evaluation)
    for variable in evaluation.settings["variables"]:
        page.heading(pretty_name(variable).capitalize())
        for part in PARTS:
            item = part(evaluation, variable)
            if isinstance(item, Plot):
                write_atomically(folder / item.file, item.data)
                page.plot(item)
            elif item is not None:
                page.table(item)
    page.heading("What the scores mean")
    used = {score.metric for score in evaluation.scores}
    page.terms([(metric.label, metric.meaning) for name, metric in METRICS.items() if name in used])
    page.heading("How this was made")
    if sources:
        page.terms(sources)
    if command:
        page.code(command)
    page.paragraph(f"atmoloss {evaluation.settings['atmoloss']}; seed {evaluation.settings['seed']}.")
    paths = {"html": path, "json": path.with_suffix(".json"), "figures": folder}
    write_atomically(paths["json"], (json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(path, page.html().encode())
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


def _introduce(page: Page, evaluation: Evaluation) -> None:
    """Say what is compared, what the intervals are, which scales count as unresolved, and what limits all this."""
    s = evaluation.settings
    page.paragraph(f"{', '.join(evaluation.models)} against the truth: {period(evaluation)}, {s['grid']}.")
    if s["n_blocks"] > 1:
        page.paragraph(
            f"Intervals: 95 %, bootstrap over {s['n_blocks']} blocks of {s['block_days']:g} d "
            f"({s['n_bootstrap']} draws, the same for every model)."
        )
    if s["spectrum"] is not None:
        degree = s["unresolved_from_degree"]
        kind = "" if s["spectrum"] == "spherical" else "equivalent "
        page.paragraph(
            f"Scales that the input of the models does not hold count as unresolved: from {kind}degree {degree:.4g}, "
            f"wavelengths below {40030 / degree:.3g} km."
        )
    for note in evaluation.notes:
        page.note(note)
