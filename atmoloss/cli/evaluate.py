"""Measure how well the distance of weights orders fields by their lag.

For a field and two later ones of the same patch, a distance is right when it puts the earlier of the two nearer. The
share of right answers is called lag 2AFC (two-alternative forced choice); chance is 0.5. It is printed with 95 %
intervals over blocks of days and beside baselines, and, where the weights have their pretext head, with how well that
head tells lags.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from atmoloss.cli.options import WEIGHTS, add_dates, add_field_options, field_options
from atmoloss.cli.output import check_folders, progress
from atmoloss.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss evaluate``."""
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help=WEIGHTS)
    add("data", metavar="DATA", nargs="+", help="A file or URL; each is evaluated on its own.")
    add_field_options(parser, "patches that have any are left out")
    add_dates(parser)
    add("--patch", type=int, default=64, help="Use patches of this many rows and columns (default: 64).")
    add("--max-lag", type=int, default=96, metavar="HOURS", help="The longest lag (default: 96 hours).")
    add("--patches", type=int, help="Use at most this many patches of each file.")
    add("--no-baselines", action="store_true", help="Leave the baselines out.")
    add("--json", metavar="FILE", help="Write all figures to FILE.")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate weights on each file."""
    from atmoloss import weights
    from atmoloss.data import open_fields
    from atmoloss.data.sources import source_from_dataset
    from atmoloss.data.splits import in_periods, parse_periods
    from atmoloss.extractor import load_extractor
    from atmoloss.files import write_atomically
    from atmoloss.lag_2afc.evaluate import evaluate_source, format_entry, open_winds
    from atmoloss.training.weights_folder import load_pretext

    check_folders(json=arguments.json)
    extractor = load_extractor(arguments.weights)
    model = load_pretext(weights.resolve(arguments.weights))
    periods, options = parse_periods(arguments.dates), field_options(arguments)
    level = "" if arguments.level is None else f"{arguments.level:g}"
    entries = []
    for path in arguments.data:
        dataset = open_fields(path, extractor.info.channel_names, **options)
        source = source_from_dataset(dataset, Path(path).name, level=level)
        if periods:
            source = source.select(in_periods(source.dates, periods))
        if len(source.times) < 3:
            raise DataError(f"data: {path} has {len(source.times)} times in the given dates, expected at least 3")
        with progress() as show:
            entry = evaluate_source(
                extractor,
                model,
                source,
                open_winds(path, fields=source, **options),
                size=arguments.patch,
                max_lag=arguments.max_lag,
                baselines=not arguments.no_baselines,
                limit=arguments.patches,
                progress=show,
            )
        print(format_entry(entry))
        entries.append(entry)
    if arguments.json is not None:
        text = json.dumps({"weights": extractor.info.id, "sources": entries}, indent=1, ensure_ascii=False)
        write_atomically(Path(arguments.json), f"{text}\n".encode())
    return 0
