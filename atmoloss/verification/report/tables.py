"""The tables of a report: scores, differences of models, and counts of cities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report.drawing import pretty_name, raised, readable
from atmoloss.verification.report.page import Cell, Table
from atmoloss.verification.results import ATMODIST, KINETIC_ENERGY, Difference, Evaluation, Score
from atmoloss.verification.statistics.cities import compare_cities


def period(evaluation: Evaluation) -> str:
    """Return a phrase that says which times are compared."""
    settings = evaluation.settings
    first, last = (settings[key].replace("T", " ") for key in ("first_time", "last_time"))
    return f"{settings['n_times']} times from {first} to {last} UTC"


def score_table(evaluation: Evaluation, variable: str) -> Table:
    """Return the scores of one variable, a row a score and a column a model."""
    scores = [s for s in evaluation.scores if s.variable == variable]
    rows: list[list[Cell]] = []
    for name in dict.fromkeys(s.metric for s in scores):
        own, metric = {s.model: s for s in scores if s.metric == name}, METRICS[name]
        distance = {model: float(metric.from_ideal(s.value)) for model, s in own.items()}
        best = min((d for d in distance.values() if math.isfinite(d)), default=math.nan)
        factor, unit = _factor_and_unit(list(own.values()))
        ideal = f"{'≤ ' * (metric.scale == 'excess')}{metric.ideal:g}"
        row: list[Cell] = [(metric.label, False), (unit, False), (ideal, False)]
        for model in evaluation.models:
            row.append((_interval(own[model], factor), len(evaluation.models) > 1 and distance[model] == best))
        rows.append(row)
    bold = "; bold: nearest to the ideal" * (len(evaluation.models) > 1)
    caption = f"Scores of {_of(variable, evaluation)}, value [95 % interval]{bold}. {period(evaluation)}."
    return Table(caption, ("score", "unit", "ideal", *evaluation.models), rows)


def difference_table(evaluation: Evaluation, variable: str) -> Table | None:
    """Return the differences of one variable, a column a pair of models; ``None`` for a single model."""
    differences = [d for d in evaluation.differences if d.variable == variable]
    pairs = list(dict.fromkeys((d.model, d.other) for d in differences))
    if not pairs:
        return None
    rows: list[list[Cell]] = []
    for name in dict.fromkeys(d.metric for d in differences):
        own = {(d.model, d.other): d for d in differences if d.metric == name}
        factor, unit = _factor_and_unit(list(own.values()))
        row: list[Cell] = [(METRICS[name].label, False), (unit, False)]
        rows.append(row + [(_interval(own[p], factor, sign="+"), own[p].low > 0 or own[p].high < 0) for p in pairs])
    return Table(
        f"Scores of {_of(variable, evaluation)}: how much farther from the ideal the first model is than the second "
        "[paired 95 % interval]; negative: the first is nearer to the truth; bold: the interval excludes 0. "
        f"{period(evaluation)}.",
        ("score", "unit", *(f"{a} − {b}" for a, b in pairs)),
        rows,
    )


def city_table(evaluation: Evaluation, variable: str) -> Table | None:
    """Return at how many cities each of two models is better; ``None`` for a single model or without cities."""
    pairs = list(itertools.combinations(evaluation.models, 2))
    if not pairs or "wasserstein" not in evaluation.curves[variable]:
        return None
    distances = evaluation.curves[variable]["wasserstein"]
    rows: list[list[Cell]] = []
    for a, b in pairs:
        counts = compare_cities(distances.sel(model=a).values, distances.sel(model=b).values)
        rows.append([(f"{a} against {b}", False), *((str(n), False) for n in counts.values())])
    return Table(
        f"Cities at which the distribution of {pretty_name(variable)} is nearer to the truth (better), or farther "
        f"(worse), by more than a tenth of the larger Wasserstein distance. {period(evaluation)}.",
        ("models", "better", "equal", "worse"),
        rows,
    )


def _of(variable: str, evaluation: Evaluation) -> str:
    if variable == ATMODIST:
        made = evaluation.settings["atmodist"]
        hours = f", hours by the curve of {made['curve']}, up to {made['limit']:g} h" if "curve" in made else ""
        return f"AtmoDist (weights {made['weights']}{hours})"
    return "the kinetic-energy spectrum" if variable == KINETIC_ENERGY else pretty_name(variable)


def _factor_and_unit(values: Sequence[Score]) -> tuple[float, str]:
    """Return what values of one metric are multiplied with, and in which unit they then are.

    Only units of a field have powers of ten: 0.003 of a ratio whose ideal is 1 is not "3.00 [10⁻³]".
    """
    metric = METRICS[values[0].metric]
    if metric.units is None:
        return readable([x.value for x in values], values[0].units)
    if metric.scale == "difference":
        return 1.0, metric.units
    return 1.0, "ln of ratio" if isinstance(values[0], Difference) else "ratio"


def _interval(x: Score, factor: float, sign: str = "") -> str:
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
