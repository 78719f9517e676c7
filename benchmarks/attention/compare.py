"""What does a network learn that predicts the next field, and does its attention follow the flow?

    python benchmarks/attention/compare.py train    # every arm with every seed: results/trained.jsonl, validation dates
    python benchmarks/attention/compare.py test     # the same on test dates: results/tested.jsonl and test.md

Options: [--jobs 2] [--runs DIR] [--only ARM ...] [--seeds 0 1 2]. Finished runs are kept, interrupted ones continue.
Test dates are not opened before `test`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tested import test_all
from trainings import HERE, SPEC, train_all


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "test"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    parser.add_argument("--only", nargs="+", choices=SPEC["arms"], default=list(SPEC["arms"]), metavar="ARM")
    parser.add_argument("--seeds", type=int, nargs="+", default=SPEC["seeds"])
    arguments = parser.parse_args()
    arms = [(name, seed) for seed in arguments.seeds for name in arguments.only]
    stage = train_all if arguments.stage == "train" else test_all
    stage(arms, arguments.runs.resolve(), arguments.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
