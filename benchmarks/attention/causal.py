"""Do prediction and attention depend on where the air came from? Two interventions on trained networks.

    python benchmarks/attention/causal.py [--runs DIR] [--seeds 0 1 2]     # results/causal.json and causal.md

followed.py adds a mean flow to fresh runs of the fluid, removed.py takes away what is read upstream, downstream or
anywhere. `compare.py test` goes first: it chooses the heads on validation dates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from cases import cases_of
from followed import followed, fresh_runs
from removed import removed
from tables import INTERVALS, chosen, entries_of, groups, over_seeds, table, time_of
from tested import ROWS, SCORED, networks_of, weights_of
from trainings import HERE, RESULTS, SPEC, config_of, read_rows, sources_of

from atmoloss.data.splits import split_by_date
from atmoloss.files import json_text, write_atomically
from atmoloss.predictor import load_predictor

COMMAND = "python benchmarks/attention/causal.py"
ON = (("fluid", "fluid"), ("winds", "gfs-1deg-850hPa"))
"""Arm and source of which positions are removed."""


def heads_of(seed: int, weights: str) -> dict[int, int]:
    """Return past field to the head that the validation runs of the fluid choose."""
    rows = [row for row in read_rows(ROWS) if (row["arm"], row["seed"]) == ("fluid", seed)]
    if not rows:
        raise SystemExit(f"results: have no scores of fluid-{seed} yet; run `compare.py test --only fluid` first")
    found = groups(entries_of(rows, "advection"), "weights", "method", "field")
    return {field: chosen(found[weights, "head", field], "positions")[0]["head"] for field in (-2, -1)}


def followed_rows(seeds: list[int], runs: Path) -> list[dict[str, Any]]:
    """Return the slopes of the fluid's networks and of the same with random weights."""
    fresh = fresh_runs()
    out = []
    for seed in seeds:
        for name, network in networks_of(weights_of(("fluid", seed), runs), seed, periodic=False).items():
            rows = followed(network, fresh, heads_of(seed, name))
            out += [{"seed": seed, "weights": name, **row} for row in rows]
            print("followed", seed, name, flush=True)
    return out


def removed_rows(seeds: list[int], runs: Path) -> list[dict[str, Any]]:
    """Return the rises of the error on test dates."""
    out = []
    for arm, name in ON:
        config = config_of((arm, 0), runs)
        test = split_by_date(sources_of(arm, runs, {}), config.validation, config.test)["test"]
        cases = cases_of(next(s for s in test if s.name == name), config, SCORED)
        for seed in seeds:
            predictor = load_predictor(weights_of((arm, seed), runs), periodic=cases.source.periodic)
            out += [{"seed": seed, **row} for row in removed(predictor, cases, config.sources)]
            print("removed", arm, seed, flush=True)
    return out


def report(record: dict[str, Any]) -> str:
    """Return results/causal.md."""
    slopes = groups(record["followed"], "what", "field", "where", "weights")
    rises = groups(record["removed"], "source", "removed")
    followed_lines = [
        [what, time_of(field), where, weights, over_seeds([e["slope"] for e in entries])]
        for (what, field, where, weights), entries in slopes.items()
    ]
    removed_lines = [[*key, over_seeds([e["rise"] for e in entries])] for key, entries in rises.items()]
    return (
        f"`{COMMAND}`. {INTERVALS}\n## Cells moved for each added cell and step\n\n"
        + table(("what", "field", "where", "weights", "slope"), followed_lines)
        + "\n## Rise of the squared error by removal, as a share of it\n\n"
        + table(("source", "removed", "rise"), removed_lines)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders of compare.py")
    parser.add_argument("--seeds", type=int, nargs="+", default=SPEC["seeds"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = arguments.runs.resolve()
    record = {
        "followed": followed_rows(arguments.seeds, runs),
        "removed": removed_rows(arguments.seeds, runs),
    }
    write_atomically(RESULTS / "causal.json", f"{json_text(record)}\n".encode())
    write_atomically(RESULTS / "causal.md", report(record).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
