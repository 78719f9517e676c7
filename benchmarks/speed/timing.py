"""Timing of cases that compete: interleaved in one process, after a warm-up, as median and spread; and the roof."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from atmoloss.files import write_atomically

Step = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one case: median and interquartile range over ``rounds``."""

    median: float
    spread: float
    rounds: int


def seconds_of(step: Step, device: torch.device) -> float:
    """Time one call; on CUDA by events, so that what is timed is the device's work."""
    if device.type == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        step()
        end.record()
        torch.cuda.synchronize(device)
        return float(begin.elapsed_time(end)) / 1e3
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def interleave(steps: Sequence[Step], device: torch.device, *, budget: float, least: int = 3) -> list[Timing]:
    """Time ``steps`` in turns, so that a slow spell of the machine hits all of them.

    Args:
        steps: what to time; each is called twice before, untimed.
        device: that they run on.
        budget: seconds for all of them together; at least ``least`` rounds are run, at most 30.
    """
    for step in steps:
        step()
    once = sum(seconds_of(step, device) for step in steps)
    rounds = max(least, min(30, int(budget / max(once, 1e-9))))
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for times, step in zip(seconds, steps, strict=True):
            times.append(seconds_of(step, device))
    return [_summary(times) for times in seconds]


def _summary(times: list[float]) -> Timing:
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(statistics.median(times), high - low, len(times))


def roof(dtype: torch.dtype, device: torch.device, n: int = 2048) -> float:
    """Measure the machine's matrix-product rate, GFLOP/s: the best of several products of two n × n matrices."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def step() -> object:
        return torch.mm(a, b, out=out)

    step()
    return 2 * n**3 / min(seconds_of(step, device) for _ in range(5)) / 1e9


def bfloat16_is_native() -> bool:
    """Say whether this CPU multiplies bfloat16 in hardware; elsewhere it is emulated, and slower than float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return "AMX" in capabilities or _has_cpu_flag("avx512_bf16") or _has_cpu_flag("amx_bf16")


def _has_cpu_flag(flag: str) -> bool:
    path = Path("/proc/cpuinfo")
    return path.is_file() and flag in path.read_text(encoding="utf-8")


def machine(device: torch.device) -> dict[str, object]:
    """Describe what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0] if names else cpu
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": "native" if device.type == "cuda" or bfloat16_is_native() else "emulated",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }


def described(about: dict[str, object]) -> str:
    """Write what :func:`machine` returned in one line."""
    return ", ".join(f"{key} {value}" for key, value in about.items())


def report(name: str, lines: Sequence[str]) -> None:
    """Print the Markdown of a benchmark and write it to ``results/NAME.md``."""
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomically(Path(__file__).resolve().parent / "results" / f"{name}.md", text.encode())
