"""List the bundled weights: variables, what they were trained on, what can be said in hours, and size.

Wherever weights are asked for, these names, a weights folder, and a repository on the Hugging Face Hub are taken.
"""

from __future__ import annotations

import argparse

from atmoloss.cli.output import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: ``atmoloss weights`` has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each set of weights."""
    from atmoloss.weights import list_weights

    rows = [
        [
            s.name,
            ", ".join(s.variables),
            ", ".join(f"{spacing:g}" for spacing in s.grid_spacings),
            ", ".join(s.levels),
            ", ".join(f"{spacing:g}° at {level}" for spacing, level in s.hours) or "none",
            f"{s.megabytes:.1f}",
        ]
        for s in list_weights()
    ]
    print_table(["name", "variables", "grid spacings [degrees]", "levels", "hours for", "size [MB]"], rows)
    return 0
