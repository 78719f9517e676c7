"""Compare fields of models with the truth on a page.

At the times that all have: power and kinetic-energy spectra, semivariogram, distributions at cities, tails, moments,
pixel errors, grid artefacts and, where bundled weights have these variables, the AtmoDist distance, with intervals by
bootstrap over blocks of time. Writes a self-contained HTML page, its figures as files, and the scores as JSON. Of
forecasts with several runs a page is written for each lead time, a table of the scores of all of them, and a figure of
the AtmoDist distance against lead time; --run and --lead choose one. All files are read by atmoloss.data.open_fields
and lie on one grid. The documentation of evaluation defines every score.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING

from atmoloss.cli.options import add_field_options, add_forecast_options, add_hours, add_variables, field_options, pair
from atmoloss.cli.output import progress, write_csv
from atmoloss.errors import DataError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from atmoloss.verification.results import Score

_COLUMNS = ("variable", "metric", "model", "value", "low", "high", "units")  # of the table over lead times


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss report``."""
    add = parser.add_argument
    add("truth", metavar="TRUTH", help="A file or URL.")
    add("models", metavar="NAME=FILE", type=pair, nargs="+", help="A model's name and its file or URL.")
    add("--output", default="report.html", metavar="PATH", help="NAME.html, or a folder (default: %(default)s).")
    add_variables(parser)
    add_field_options(parser, "times that have any are left out")
    add_forecast_options(parser)
    add_hours(parser, "Distances beyond the largest lag that can be told count as that lag.")
    text = (
        "The first degree that the models' input did not resolve: 180 over its step in latitude, in degrees (default: "
        "a quarter of the highest degree of TRUTH)."
    )
    add("--unresolved-from", type=float, metavar="DEGREE", help=text)
    text = "The length of the blocks of time in days (default: %(default)g)."
    add("--block-days", type=float, default=5.0, metavar="D", help=text)
    add("--draws", type=int, default=1000, metavar="N", help="How often blocks are drawn (default: %(default)s).")
    add("--seed", type=int, default=0, help="The seed of the draws (default: %(default)s).")
    add("--title", default="Evaluation against the truth", help="The title of the page (default: %(default)s).")


def run(arguments: argparse.Namespace) -> int:
    """Write the pages."""
    from atmoloss.data.sources import describe_level
    from atmoloss.verification.evaluate import evaluate_fields
    from atmoloss.verification.report import output_page, write_report
    from atmoloss.verification.results import TRUTH

    page = output_page(arguments.output)  # before the work, not after it
    paths = {TRUTH: arguments.truth}
    for name, path in arguments.models:
        if name in paths:
            raise InputError(f"models: got {name!r} twice or reserved, expected a name of its own for every model")
        paths[name] = path
    data = _open_all(paths, arguments)
    level = arguments.hours_level or describe_level(data[TRUTH], arguments.level)
    by_lead = split_by_lead(data)
    scores: dict[float, Sequence[Score]] = {}
    for lead, fields in by_lead.items():
        with progress("" if lead is None else f"{lead:g} h: ") as show:
            evaluation = evaluate_fields(
                fields.pop(TRUTH),
                fields,
                unresolved_from=arguments.unresolved_from,
                block_days=arguments.block_days,
                n_bootstrap=arguments.draws,
                seed=arguments.seed,
                atmodist="hours" if arguments.hours else "distance",
                level=level,
                progress=show,
            )
        written = write_report(
            evaluation,
            page if lead is None else page.with_name(f"{page.stem}_{lead:03g}h{page.suffix}"),
            title=arguments.title if lead is None else f"{arguments.title}, lead time {lead:g} h",
            sources=list(paths.items()),
            command=arguments._command,
        )
        for path in written.values():
            print(f"wrote {path}")
        if lead is not None:
            scores[lead] = evaluation.scores
    if scores:
        made = evaluation.settings["atmodist"]
        title = f"{arguments.title}: AtmoDist, weights {made['weights']}" if made else ""
        _write_leads(page.with_name(f"{page.stem}_leads"), scores, title)
    return 0


def _write_leads(path: Path, scores: Mapping[float, Sequence[Score]], title: str) -> None:
    """Write the scores of all lead times (hours) to ``path.csv``; draw AtmoDist, if it is there, to ``path.svg``."""
    import numpy as np

    from atmoloss.cli.plots import draw_series
    from atmoloss.verification.results import ATMODIST

    rows = [[lead, *(getattr(score, column) for column in _COLUMNS)] for lead, own in scores.items() for score in own]
    table, picture = (path.with_name(f"{path.name}.{kind}") for kind in ("csv", "svg"))
    write_csv(table, ["lead [h]", *_COLUMNS], rows)
    print(f"wrote {table}")
    series: dict[str, list[tuple[float, ...]]] = {}
    for score in (s for own in scores.values() for s in own if s.variable == ATMODIST):
        series.setdefault(score.model, []).append((score.value, score.low, score.high))
        name = score.metric.removeprefix("atmodist_")
    if series:
        bands = {model: np.transpose(values) for model, values in series.items()}
        draw_series(str(picture), title, x=np.array(list(scores)), series=bands, name=name)
        print(f"wrote {picture}")


def _open_all(paths: Mapping[str, str], arguments: argparse.Namespace) -> dict[str, xr.Dataset]:
    """Open the truth and the models after it, each at the times that can be compared."""
    import numpy as np

    from atmoloss.data import open_fields
    from atmoloss.data.forecasts import choose_in

    data = {name: open_fields(path, arguments.variables, **field_options(arguments)) for name, path in paths.items()}
    data = choose_in(data, arguments.run, arguments.lead, list(paths)[1])
    if arguments.missing == "ignore":
        data = {name: fields.where(np.isfinite).dropna("time") for name, fields in data.items()}
        for name, fields in data.items():
            if not fields.sizes["time"]:
                raise DataError(
                    f"--missing: {name} has missing values at all times, expected some without, or a value instead"
                )
    return data


def split_by_lead(data: dict[str, xr.Dataset]) -> dict[float | None, dict[str, xr.Dataset]]:
    """Return the fields of each lead time that all forecasts of several runs have, those of other data with each.

    Lead times for whose valid times not all data have fields are left out; without such forecasts the one key is
    ``None``.
    """
    import numpy as np

    from atmoloss.data.forecasts import has_runs, lead_hours

    several = [name for name, fields in data.items() if has_runs(fields)]
    leads = [np.unique(lead_hours(data[name])) for name in several]
    if all(len(hours) == 1 for hours in leads):
        return {None: data}
    out: dict[float | None, dict[str, xr.Dataset]] = {}
    for lead in reduce(np.intersect1d, leads):
        chosen = {n: f.isel(time=np.flatnonzero(lead_hours(f) == lead)) if n in several else f for n, f in data.items()}
        if reduce(np.intersect1d, [fields["time"].values for fields in chosen.values()]).size:
            out[float(lead)] = chosen
    if not out:
        raise DataError(
            f"models: {', '.join(several)} have no lead time for whose valid times all data have fields, expected one"
        )
    return out
