"""How much memory do forward and backward take? Peak resident memory beyond what was there before, per case.

    python benchmarks/speed/memory.py [--size 160] [--batch 32]      # results/memory.md

Each case runs in a process of its own, so that one's peak does not hide another's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys

import torch
from loss import cases
from timing import described, machine, report


def peak_of(task: tuple[str, int, int]) -> float:
    """Return MB that one forward and backward adds to the peak of this process."""
    name, size, batch = task
    torch.set_num_threads(1)
    make = cases(torch.device("cpu"), ("float32",))[name]

    def run(n: int, side: int) -> None:
        target = torch.randn(n, 2, side, side)
        prediction = (target + 0.3 * torch.randn_like(target)).requires_grad_()
        make(target)(prediction).backward()

    run(1, 64)  # what libraries set up once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(batch, size)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    encoders = ("naive", "published", "default", "vgg")
    names = [name for name in cases(torch.device("cpu"), ("float32",)) if name.startswith(encoders)]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        tasks = [(name, arguments.size, arguments.batch) for name in names]
        peaks = dict(zip(names, pool.map(peak_of, tasks, chunksize=1), strict=True))
    about = described(machine(torch.device("cpu")))
    lines = [f"`python benchmarks/speed/memory.py`: {arguments.batch} patches of {arguments.size}²; {about}.", ""]
    lines += ["| case | MB | MB per patch | of the naive port |", "|---|---|---|---|"]
    lines += [
        f"| {n} | {mb:.0f} | {mb / arguments.batch:.2f} | {mb / peaks['naive port']:.2f} |" for n, mb in peaks.items()
    ]
    report("memory", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
