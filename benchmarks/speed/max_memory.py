"""Memory and time of the loss with and without ``max_memory``.

    python benchmarks/speed/max_memory.py

Each row in its own process, one thread: growth of the resident memory from before the call to its peak, after a
call on a small field (kernels and torch's checkpointing are loaded then). Results: ``results/max_memory.md``.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.utils.checkpoint import checkpoint

from atmoloss import AtmoDistLoss

# pairs, rows, columns, with gradient, max_memory
ROWS = [
    (16, 128, 128, True, None),
    (16, 128, 128, True, 30e6),
    (1, 721, 1440, True, None),
    (1, 721, 1440, True, 100e6),
    (1, 721, 1440, True, 50e6),
    (1, 721, 1440, False, None),
    (1, 721, 1440, False, 50e6),
    (1, 1280, 2560, True, None),
    (1, 1280, 2560, True, 100e6),
]


def status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{key}:\s+(\d+)", text, re.M).group(1))


def measure(pairs: int, height: int, width: int, gradient: bool, max_memory: float | None) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    loss = AtmoDistLoss(max_memory=max_memory, periodic=True)
    small = 4e-5 * torch.randn(1, 2, 64, 64)
    checkpoint(loss, small.clone().requires_grad_(), small, use_reentrant=False).backward()
    a, b = 4e-5 * torch.randn(2, pairs, 2, height, width)
    a.requires_grad_(gradient)
    a.grad = torch.zeros_like(a) if gradient else None
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    before, start = status("VmRSS"), time.process_time()
    value = loss(a, b)
    if gradient:
        value.backward()
    return {"seconds": time.process_time() - start, "bytes": status("VmHWM") - before, "value": value.item()}


def main() -> None:
    lines = [
        f"`python benchmarks/speed/max_memory.py`: torch {torch.__version__}, {platform.machine()}, one thread.",
        "",
        "| pairs | gradient | max_memory | growth of memory | processor time | value |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        run = subprocess.run([sys.executable, __file__, json.dumps(row)], capture_output=True, text=True, check=True)
        got = json.loads(run.stdout)
        pairs, height, width, gradient, bound = row
        limit = "none" if bound is None else f"{bound / 1e6:.0f} MB"
        lines.append(
            f"| {pairs} of {height}×{width} | {'yes' if gradient else 'no'} | {limit} "
            f"| {got['bytes'] / 1e6:.0f} MB | {got['seconds']:.1f} s | {got['value']:.7g} |"
        )
        print(lines[-1], flush=True)
    out = Path(__file__).parent / "results" / "max_memory.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
