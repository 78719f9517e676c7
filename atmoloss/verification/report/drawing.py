"""What all plots of a report share: colours, units, settings of matplotlib, and how they become files."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from atmoloss.errors import require
from atmoloss.verification.results import TRUTH, Evaluation

# Okabe & Ito's palette, distinguishable with any colour vision; every model has a dash pattern, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (8, 2)), (0, (2, 2)))
WIDTH = 7.2
"""Of every figure, inches."""
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture: file name with its type, bytes, and what to write under it and in place of it."""

    file: str
    data: bytes
    caption: str
    alt: str

    @property
    def url(self) -> str:
        """The picture as a URL that holds it."""
        kind = "svg+xml" if self.file.endswith(".svg") else "png"
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode('ascii')}"


Draw = Callable[[Evaluation, str], Plot | None]
"""Draws one variable of an evaluation."""


def raised(number: int | str) -> str:
    """Return a whole number as an exponent, −5 as ⁻⁵."""
    return str(number).translate(_RAISED)


def pretty_units(units: str) -> str:
    """Return CF units as they are printed: ``s-1`` as s⁻¹."""
    return re.sub(r"(?<=[A-Za-z)])-?\d+", lambda match: raised(match.group()), units)


def pretty_name(variable: str) -> str:
    """Return the name of a variable for people."""
    return variable.replace("_", " ")


def style(models: Sequence[str], dataset: str) -> dict[str, Any]:
    """Return colour and dashes of a data set, the same in every plot."""
    if dataset == TRUTH:
        return {"color": "black", "linewidth": 1.8, "zorder": 1}
    i = list(models).index(dataset)
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.4}


def readable(values: Any, units: str) -> tuple[float, str]:
    """Return the factor that makes values readable, and the unit that says so, e.g. 1e5 and 10⁻⁵ s⁻¹."""
    finite = np.abs(np.asarray(values, np.float64))
    finite = finite[np.isfinite(finite)]
    largest = float(finite.max()) if finite.size else 0.0
    unit = "" if units == "1" else pretty_units(units)
    if largest == 0 or 1e-2 <= largest < 1e4:
        return 1.0, unit
    exponent = math.floor(math.log10(largest))
    return 10.0**-exponent, f"10{raised(exponent)} {unit}".strip()


def drawn_from(curve: str) -> Callable[[Draw], Draw]:
    """Return a decorator of a plot: drawn with its settings of matplotlib, ``None`` where there is no such curve."""

    def decorate(draw: Draw) -> Draw:
        @functools.wraps(draw)
        def drawn(evaluation: Evaluation, variable: str) -> Plot | None:
            if curve not in evaluation.curves[variable]:
                return None
            with require("matplotlib", "eval").rc_context({"svg.hashsalt": "atmoloss", "font.size": 8.5}):
                return draw(evaluation, variable)

        return drawn

    return decorate


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Any, np.ndarray]:
    """Return a figure of a height in inches and its axes (rows, columns)."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def to_plot(figure: Any, file: str, caption: str, alt: str) -> Plot:
    """Draw a figure in the format that the name of its file says."""
    out = io.BytesIO()
    kind = file.rpartition(".")[2]
    figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return Plot(file, out.getvalue(), caption, alt)
