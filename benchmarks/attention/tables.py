"""results/test.md: what the rows of results/tested.jsonl say, means over seeds with their spread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

COMMAND = "python benchmarks/attention/compare.py test"
INTERVALS = """Means over seeds ± their standard deviation; in brackets the lowest and the highest bound of the seeds'
95 % intervals, over days or, of the fluid, over runs.
"""
KINDS = {
    "removed": "latitude means removed",
    "all": "as it is",
    "positions": "positions",
    "runs": "means of runs",
    "within": "run means removed",
    "vortices": "means of runs, by vorticity",
}
Row = Mapping[str, Any]


def over_seeds(scores: Sequence[Sequence[float | None]]) -> str:
    """Write the mean of (value, low, high) of each seed, their spread and the widest bounds."""
    values, low, high = (np.array(part, float) for part in list(zip(*scores, strict=True))[:3])
    bounds = f" [{low.min():.3f}, {high.max():.3f}]" if np.isfinite([*low, *high]).all() else ""
    return mean_of(values) + bounds


def mean_of(values: Sequence[float | None] | np.ndarray) -> str:
    numbers = np.array(values, float)
    spread = f" ± {numbers.std(ddof=1):.3f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.3f}{spread}"


def table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def entries_of(rows: Sequence[Row], part: str) -> list[Row]:
    """Return the entries of a part of all rows, each with its training and seed."""
    return [{"arm": row["arm"], "seed": row["seed"], **entry} for row in rows for entry in row[part]]


def groups(entries: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Return entries by the values of some keys, the seeds of each together."""
    out: dict[tuple[Any, ...], list[Row]] = {}
    for entry in sorted(entries, key=lambda e: e["seed"]):
        out.setdefault(tuple(entry[key] for key in keys), []).append(entry)
    return out


def time_of(field: int) -> str:
    """Write which field is meant, counted from the present."""
    return f"t{field:+d}".replace("-", "−")


def error_table(rows: Sequence[Row]) -> str:
    """Return squared errors as shares of that of persistence."""
    names = ("prediction", "damped", "below_damped", "shift")
    lines = [
        [*key, str(len(entries)), *(over_seeds([e[n] for e in entries]) if n in entries[0] else "–" for n in names)]
        for key, entries in groups(entries_of(rows, "errors"), "arm", "source", "channel", "units").items()
    ]
    columns = ("prediction", "damped persistence", "below damped persistence", "best shift")
    return table(("training", "source", "channel", "units", "seeds", *columns), lines)


def globe_table(rows: Sequence[Row]) -> str:
    """Return squared errors on the globe over those in patches."""
    found = groups(entries_of(rows, "globe_over_patches"), "arm", "source", "channel")
    lines = [
        [*key, *(mean_of([e[part] for e in entries]) for part in ("middle", "whole"))] for key, entries in found.items()
    ]
    return table(("training", "source", "channel", "middle of the patches", "whole patches"), lines)


def chosen(entries: Sequence[Row], kind: str) -> list[Row]:
    """Return of each seed the test entry of the head with the lowest score on validation dates."""
    out = []
    for seed in sorted({e["seed"] for e in entries}):
        mine = [e for e in entries if e["seed"] == seed]
        validation = {e["head"]: e[kind][0] for e in mine if e["split"] == "validation"}
        head = min(validation, key=validation.__getitem__) if validation else 0  # gradients have one alone
        out += [e for e in mine if e["split"] == "test" and e["head"] == head]
    return out


def advection_table(rows: Sequence[Row]) -> str:
    """Return advection scores, each of the head with the lowest one on validation dates, beside random weights."""
    lines = []
    for key, entries in groups(entries_of(rows, "advection"), "arm", "source", "method", "field").items():
        trained, random = ([e for e in entries if e["weights"] == w] for w in ("trained", "random"))
        *where, field = key
        for kind in (k for k in KINDS if k in entries[0]):
            best, control = ([e[kind] for e in chosen(of, kind)] for of in (trained, random))
            every = [e[kind][0] for e in random if e["split"] == "test"]
            east, south = (mean_of([score[place] for score in best]) for place in (4, 3))
            scores = [over_seeds(best), east, south, over_seeds(control), f"{min(every):.2f} to {max(every):.2f}"]
            lines.append([*where, time_of(field), KINDS[kind], *scores])
    columns = ("kind", "score", "eastward", "southward", "random weights", "all their heads")
    return table(("training", "source", "maps", "field", *columns), lines)


def report(rows: Sequence[Row]) -> str:
    """Return results/test.md."""
    parts = {
        "Squared error as a share of that of persistence": error_table(rows),
        "Squared error on the globe over that in patches, same cells": globe_table(rows),
        "Advection score": advection_table(rows),
    }
    return f"Test dates, `{COMMAND}`. {INTERVALS}" + "".join(f"\n## {title}\n\n{text}" for title, text in parts.items())
