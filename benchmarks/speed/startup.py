"""What do import, wheel and a step of training cost?

    python benchmarks/speed/startup.py [--steps 20]      # results/startup.md

Import times are medians over new processes, minus that of `import torch`: public names are loaded when they are first
asked for, so that `import atmoloss` alone says little. The training rate is that of the default recipe on fields from a
random generator, in encoded patches per second.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import described, machine, report

from atmoloss.training.config import make_config
from atmoloss.training.model import build_model, make_optimizer
from atmoloss.training.objective import SequenceObjective

HERE = Path(__file__).resolve().parent


def import_seconds(statement: str, times: int = 7) -> list[float]:
    """Return the seconds that a new process takes for ``statement``."""
    out = []
    for _ in range(times + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        out.append(time.perf_counter() - began)
    return out[1:]


def construction_seconds(times: int = 7) -> float:
    """Return the median seconds of ``AtmoDistLoss()`` with its import, in new processes that have imported torch."""
    code = "import torch, time; t = time.perf_counter(); from atmoloss import AtmoDistLoss; AtmoDistLoss(); "
    code += "print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(times)]
    return statistics.median(float(run) for run in runs)


def wheel_megabytes() -> float:
    """Build the wheel and return its size."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(HERE.parents[1])]
        subprocess.run(command, check=True, capture_output=True)
        return next(Path(folder).glob("*.whl")).stat().st_size / 1e6


def patches_per_second(steps: int) -> float:
    """Return encoded 64² patches per second of a training step: forward, backward, optimizer."""
    config = make_config({})
    torch.manual_seed(0)
    model = build_model(config)
    objective, optimizer = SequenceObjective(model, config), make_optimizer(config, model)
    fields = torch.randn(config.batch_size * config.n_times, 2, 64, 64).contiguous(memory_format=torch.channels_last)
    hours = 6 * torch.arange(config.n_times).expand(config.batch_size, -1)
    generator = torch.Generator()
    seconds = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        optimizer.zero_grad()
        objective(fields, hours, generator)["loss"].backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return len(fields) / statistics.median(seconds[2:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    bare = statistics.median(import_seconds("import torch"))
    names = ("import atmoloss", "from atmoloss import AtmoDistLoss, distance_matrix, load_extractor")
    beyond = {name: statistics.median(import_seconds(f"import torch; {name}")) - bare for name in names}
    rows = {
        "`import torch`": f"{bare:.2f} s",
        **{f"`{name}` beyond it": f"{seconds:.3f} s" for name, seconds in beyond.items()},
        "`AtmoDistLoss()` with its import, after `import torch`": f"{construction_seconds():.3f} s",
        "wheel, bundled weights included": f"{wheel_megabytes():.1f} MB",
        "training, encoded 64² patches": f"{patches_per_second(arguments.steps):.0f} per second",
    }
    about = described(machine(torch.device("cpu")))
    lines = [f"`python benchmarks/speed/startup.py`: {about}.", "", "| what | value |", "|---|---|"]
    report("startup", [*lines, *(f"| {name} | {value} |" for name, value in rows.items())])
    return 0


if __name__ == "__main__":
    sys.exit(main())
