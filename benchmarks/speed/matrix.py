"""``distance_matrix`` against ``atmodist_distance`` in a loop over pairs, 256×256 fields.

    python benchmarks/speed/matrix.py

Processor time, one thread. The loop is measured on ten pairs and multiplied. Results: ``results/matrix.md``.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from atmoloss import atmodist_distance, distance, distance_matrix


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@torch.no_grad()
def measure(x: torch.Tensor) -> tuple[float, float]:
    """Return the seconds of the matrix, and of one pair."""
    atmodist_distance(x[:1], x[1:2])
    pairs = seconds(lambda: [atmodist_distance(x[i : i + 1], x[i + 1 : i + 2]) for i in range(10)])
    return seconds(lambda: distance_matrix(x)), pairs / 10


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = [
        f"torch {torch.__version__}, {platform.machine()}, one thread. Command: `python benchmarks/speed/matrix.py`",
        "",
        "| fields | matrix | of that products | a pair | loop over N(N-1)/2 pairs | ratio |",
        "|---|---|---|---|---|---|",
    ]
    products: list[float] = []
    pairwise = distance._pairwise

    def timed(*arguments):
        start = time.process_time()
        out = pairwise(*arguments)
        products.append(time.process_time() - start)
        return out

    distance._pairwise = timed
    for n in (64, 128, 256):
        matrix, pair = measure(4e-5 * torch.randn(n, 2, 256, 256))
        loop = n * (n - 1) / 2 * pair
        lines.append(
            f"| {n} | {matrix:.1f} s | {products[-1]:.1f} s | {pair * 1e3:.0f} ms | {loop:.0f} s "
            f"| {loop / matrix:.0f} |"
        )
        print(lines[-1], flush=True)
    (Path(__file__).parent / "results" / "matrix.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
