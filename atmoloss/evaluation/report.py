"""An evaluation as a page for people and a file for machines."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from atmoloss.errors import InputError
from atmoloss.evaluation import figures, maps
from atmoloss.evaluation.cities import compare_cities
from atmoloss.evaluation.drawing import Plot, pretty_name, raised, readable
from atmoloss.evaluation.page import Cell, Code, Item, Note, Section, Table, Terms, to_html, to_markdown
from atmoloss.evaluation.results import KINETIC_ENERGY, METRICS, Difference, Evaluation, Score
from atmoloss.files import write_atomically


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
    s = evaluation.settings
    first, last = (s[key].replace("T", " ") for key in ("first_time", "last_time"))
    period = f"{s['n_times']} times from {first} to {last} UTC"
    intro: list[Item] = [
        f"{', '.join(evaluation.models)} against the truth: {period}, {s['grid']}.",
    ]
    if s["n_blocks"] > 1:
        intro.append(
            f"Intervals: 95 %, bootstrap over {s['n_blocks']} blocks of {s['block_days']:g} d "
            f"({s['n_bootstrap']} draws, the same for every model)."
        )
    if s["spectrum"] is not None:
        degree = s["unresolved_from_degree"]
        intro.append(
            f"Unresolved scales: from {'' if s['spectrum'] == 'spherical' else 'equivalent '}degree {degree:.4g}, "
            f"wavelengths below {40030 / degree:.3g} km."
        )
    intro += [Note(text) for text in evaluation.notes]
    sections = [Section("", intro)]
    for variable in evaluation.settings["variables"]:
        sections.append(Section(pretty_name(variable).capitalize(), _variable(evaluation, variable, period)))
    used = {score.metric for score in evaluation.scores}
    about: list[Item] = [Terms([(m.label, m.meaning) for key, m in METRICS.items() if key in used])]
    about.append("docs/evaluation.md of atmoloss has the formulas, sources and limits.")
    sections.append(Section("What the scores mean", about))
    made: list[Item] = [Terms(sources)] if sources else []
    if command:
        made.append(Code(command))
    made.append(f"atmoloss {s['atmoloss']}; seed {s['seed']}.")
    return [*sections, Section("How this was made", made)]


def _variable(evaluation: Evaluation, variable: str, period: str) -> list[Item]:
    scores = [x for x in evaluation.scores if x.variable == variable]
    items: list[Item] = [_score_table(scores, evaluation.models, variable, period)]
    differences = [x for x in evaluation.differences if x.variable == variable]
    if differences:
        items.append(_difference_table(differences, variable, period))
    if variable == KINETIC_ENERGY:
        return [*items, figures.spectrum(evaluation, variable)]
    if "spectrum" in evaluation.curves[variable]:
        items.append(figures.spectrum(evaluation, variable))
    items.append(figures.distances_and_tails(evaluation, variable))
    plot = maps.cities(evaluation, variable)
    if plot is not None:
        items.append(plot)
        if len(evaluation.models) > 1:
            items.append(_city_table(evaluation, variable, period))
    return [*items, maps.moment_maps(evaluation, variable), maps.example(evaluation, variable)]


def _score_table(scores: Sequence[Score], models: Sequence[str], variable: str, period: str) -> Table:
    rows: list[list[Cell]] = []
    for metric in dict.fromkeys(s.metric for s in scores):
        own = {s.model: s for s in scores if s.metric == metric}
        of = METRICS[metric]
        distance = {m: float(of.from_ideal(s.value)) for m, s in own.items()}
        best = min((d for d in distance.values() if math.isfinite(d)), default=math.nan)
        factor, unit = _factor_and_unit(list(own.values()))
        cells: list[Cell] = [(of.label, False), (unit, False), (f"{'≤ ' * (of.scale == 'excess')}{of.ideal:g}", False)]
        for model in models:
            cells.append((_interval(own[model], factor), len(models) > 1 and distance[model] == best))
        rows.append(cells)
    bold = "; bold: nearest to the ideal" * (len(models) > 1)
    return Table(
        f"Scores of {_of(variable)}, value [95 % interval]{bold}. {period}.",
        ("score", "unit", "ideal", *models),
        rows,
    )


def _difference_table(differences: Sequence[Difference], variable: str, period: str) -> Table:
    pairs = list(dict.fromkeys((d.model, d.other) for d in differences))
    rows: list[list[Cell]] = []
    for metric in dict.fromkeys(d.metric for d in differences):
        own = {(d.model, d.other): d for d in differences if d.metric == metric}
        factor, unit = _factor_and_unit(list(own.values()))
        cells: list[Cell] = [(METRICS[metric].label, False), (unit, False)]
        cells += [(_interval(own[p], factor, sign="+"), own[p].low > 0 or own[p].high < 0) for p in pairs]
        rows.append(cells)
    return Table(
        f"Scores of {_of(variable)}: how much farther from the ideal the first model is than the second [paired 95 % "
        f"interval]; negative: the first is nearer to the truth; bold: the interval excludes 0. {period}.",
        ("score", "unit", *(f"{a} − {b}" for a, b in pairs)),
        rows,
    )


def _factor_and_unit(values: Sequence[Score] | Sequence[Difference]) -> tuple[float, str]:
    """Return what values of one metric are multiplied with, and in which unit they then are.

    Only units of a field have powers of ten: 0.003 of a ratio whose ideal is 1 is not "3.00 [10⁻³]".
    """
    of = METRICS[values[0].metric]
    if of.units is None:
        return readable([x.value for x in values], values[0].units)
    if of.scale == "difference":
        return 1.0, of.units
    return 1.0, "ln of ratio" if isinstance(values[0], Difference) else "ratio"


def _city_table(evaluation: Evaluation, variable: str, period: str) -> Table:
    distances = evaluation.curves[variable]["wasserstein"]
    rows: list[list[Cell]] = []
    for a, b in itertools.combinations(evaluation.models, 2):
        first, second = (np.asarray(distances.sel(model=m).values) for m in (a, b))
        counts = compare_cities(first, second)
        rows.append([(f"{a} against {b}", False), *((str(n), False) for n in counts.values())])
    return Table(
        f"Cities at which the distribution of {pretty_name(variable)} is nearer to the truth (better), or farther "
        f"(worse), by more than a tenth of the larger Wasserstein distance. {period}.",
        ("models", "better", "equal", "worse"),
        rows,
    )


def _of(variable: str) -> str:
    return "the kinetic-energy spectrum" if variable == KINETIC_ENERGY else pretty_name(variable)


def _interval(x: Score | Difference, factor: float, sign: str = "") -> str:
    """Format a value with its interval: three digits of the largest number."""
    numbers = [x.value * factor, x.low * factor, x.high * factor]
    if not math.isfinite(numbers[0]):
        return "–"
    largest = max(abs(n) for n in numbers if math.isfinite(n))
    if largest == 0:
        return "0"
    exponent = math.floor(math.log10(largest))
    power = ""
    if exponent < -3:  # one model of several on another scale
        numbers, power, exponent = [n * 10.0**-exponent for n in numbers], f" ×10{raised(exponent)}", 0
    digits = int(np.clip(2 - exponent, 0, 5))
    value, low, high = (f"{n:{sign}.{digits}f}".replace("-", "−") for n in numbers)
    return f"{value} [{low}, {high}]{power}" if math.isfinite(numbers[1]) else f"{value}{power}"
