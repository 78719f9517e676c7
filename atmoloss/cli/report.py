"""Compare fields of models with the truth on a page.

At the times that all have: power and kinetic-energy spectra, semivariogram, distributions at cities, tails, moments,
pixel errors and grid artefacts, with intervals by bootstrap over blocks of time. Writes a self-contained HTML page,
the same as Markdown with its figures, and the scores as JSON. Of forecasts with several runs a page is written for
each lead time, and a table of the scores of all of them; --run and --lead choose one. All files are read by
atmoloss.data.open_fields and lie on one grid. The documentation of evaluation defines every score.
"""

from __future__ import annotations

import argparse

from atmoloss.cli.options import add_field_options, add_forecast_options, add_variables, field_options, pair
from atmoloss.cli.output import progress, write_csv
from atmoloss.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss report``."""
    add = parser.add_argument
    add("truth", metavar="TRUTH", help="A file or URL.")
    add("models", metavar="NAME=FILE", type=pair("NAME=FILE"), nargs="+", help="A model's name and its file or URL.")
    add("--output", default="report.html", metavar="PATH", help="NAME.html, or a folder (default: %(default)s).")
    add_variables(parser)
    add_field_options(parser, "times that have any are left out")
    add_forecast_options(parser)
    add("--coarse", metavar="FILE", help="Compare the models' input, too, after bilinear interpolation.")
    text = (
        "The first degree that the input did not resolve (default: that of the shortest wave of --coarse, or a "
        "quarter of the highest degree of TRUTH)."
    )
    add("--unresolved-from", type=float, metavar="DEGREE", help=text)
    text = "The length of the blocks of time in days (default: %(default)g)."
    add("--block-days", type=float, default=5.0, metavar="D", help=text)
    add("--draws", type=int, default=1000, metavar="N", help="How often blocks are drawn (default: %(default)s).")
    add("--seed", type=int, default=0, help="The seed of the draws (default: %(default)s).")
    add("--title", default="Evaluation against the truth", help="The title of the page (default: %(default)s).")


def run(arguments: argparse.Namespace) -> int:
    """Write the pages."""
    from atmoloss.cli.report_fields import COARSE, interpolate_to, open_all, shortest_degree, split_by_lead
    from atmoloss.verification.evaluate import evaluate_fields
    from atmoloss.verification.report import output_page, write_report
    from atmoloss.verification.results import TRUTH

    page = output_page(arguments.output)  # before the work, not after it
    paths = {TRUTH: arguments.truth}
    for name, path in arguments.models:
        if name in (*paths, COARSE):
            raise InputError(f"models: got {name!r} twice or reserved, expected a name of its own for every model")
        paths[name] = path
    if arguments.coarse is not None:
        paths[COARSE] = arguments.coarse
    data = open_all(paths, arguments.variables, field_options(arguments), arguments.run, arguments.lead)
    unresolved_from = arguments.unresolved_from
    if COARSE in data:
        paths[COARSE] += ", bilinear"
        if unresolved_from is None:
            unresolved_from = shortest_degree(data[COARSE])
        data[COARSE] = interpolate_to(data[COARSE], data[TRUTH])
    by_lead = split_by_lead(data)
    rows: list[list[object]] = []
    for lead, fields in by_lead.items():
        with progress("" if lead is None else f"{lead:g} h: ") as show:
            evaluation = evaluate_fields(
                fields.pop(TRUTH),
                fields,
                unresolved_from=unresolved_from,
                block_days=arguments.block_days,
                n_bootstrap=arguments.draws,
                seed=arguments.seed,
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
        rows += [[lead, s.variable, s.metric, s.model, s.value, s.low, s.high, s.units] for s in evaluation.scores]
    if None not in by_lead:
        table = page.with_name(f"{page.stem}_leads.csv")
        write_csv(table, ["lead [h]", "variable", "metric", "model", "value", "low", "high", "units"], rows)
        print(f"wrote {table}")
    return 0
