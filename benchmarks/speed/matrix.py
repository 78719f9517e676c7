"""What does a matrix of distances cost, against calling the pairwise distance in a loop?

    python benchmarks/speed/matrix.py [--fields 1000] [--size 256]      # results/matrix.md

The loop is timed on a sample of its pairs, since all of them would take hours; both give the same numbers. Encoding
grows with the number of fields and the products with its square: from the times of half and of all fields follows that
of ten times as many.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from timing import described, machine, report

from atmoloss import atmodist_distance, distance_matrix


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=40, help="pairs of the loop that are timed")
    arguments = parser.parse_args()
    n = arguments.fields
    torch.manual_seed(0)
    fields = 3e-5 * torch.randn(n, 2, arguments.size, arguments.size)
    distance_matrix(fields[:4])
    atmodist_distance(fields[:1], fields[1:2])
    seconds = []
    for part in (fields[: n // 2], fields):
        began = time.perf_counter()
        matrix = distance_matrix(part)
        seconds.append(time.perf_counter() - began)
    whole = seconds[1]
    square = max(2 * (whole - 2 * seconds[0]), 0.0)  # T = a n + b n², and b n² of all fields
    tenfold = 10 * (whole - square) + 100 * square
    pairs = torch.randint(n, (arguments.pairs, 2)).tolist()
    began = time.perf_counter()
    with torch.no_grad():
        one_by_one = torch.cat([atmodist_distance(fields[i : i + 1], fields[j : j + 1]) for i, j in pairs])
    loop = (time.perf_counter() - began) / len(pairs) * n * (n - 1) / 2
    expected = torch.stack([matrix[i, j] for i, j in pairs])
    error = float(((one_by_one - expected).abs() / expected.abs().max()).max())
    about = described(machine(torch.device("cpu")))
    values = f"{whole:.1f} | {loop:.0f} (from {len(pairs)} pairs) | {loop / whole:.0f} | {error:.1e} | {tenfold:.0f}"
    lines = [f"`python benchmarks/speed/matrix.py`: {about}.", ""]
    lines += [
        "| fields | size | matrix, s | loop over half of the pairs, s | ratio | largest difference "
        "| estimate for ten times as many fields, s |",
        "|---" * 7 + "|",
    ]
    lines += [f"| {n} | {arguments.size}² | {values} |"]
    report("matrix", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
