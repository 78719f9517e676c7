"""Training from a prepared store: memory of the data side, and the share of loading in a step.

    python benchmarks/loading/memory.py --gb 0.5,4 --steps 40

Builds synthetic stores (0.25° global, two variables) in a temporary folder, one after the other, and trains the
network of the configuration (default: the defaults of ``TrainConfig``) on each: first on one batch again and
again (the bare network), then from the loader. Memory is what the data side adds: anonymous and shared pages
of the workers and the growth of the main process when it opens the source; pages of files that the kernel
may drop are not counted. It must not depend on the size of the store. Results: ``results/memory.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from atmoloss.data.calendars import STANDARD
from atmoloss.data.plan import Plan, PrepareOptions
from atmoloss.data.prepare import start
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import open_source
from atmoloss.data.splits import split_by_date
from atmoloss.data.store import PROGRESS
from atmoloss.data.store_writer import create_group, write_shard
from atmoloss.data.stored_fields import choose_sharding
from atmoloss.training.config import TrainConfig, make_config, read_config
from atmoloss.training.model import build_model, fit_normalization, make_optimizer
from atmoloss.training.objective import SequenceObjective

NAMES = ("divergence", "vorticity")


def build(root: Path, gigabytes: float) -> None:
    """Write a store of about that size; every time differs, none costs much to make."""
    h, w = 721, 1440
    n_times = max(64, round(gigabytes * 1e9 / (8 * h * w)))
    base = np.random.default_rng(0).standard_normal((2, h, w), dtype=np.float32) * 3e-5
    axes = {
        "time": 6 * 3600 * np.arange(n_times),
        "run": np.zeros(n_times, np.int64),
        "latitude": 90 - 0.25 * np.arange(h),
        "longitude": 0.25 * np.arange(w),
    }
    sharding = choose_sharding((n_times, h, w))
    attributes = {name: {"units": "s-1"} for name in NAMES}
    plan = Plan("synthetic", PrepareOptions(NAMES), sharding, "", attributes, STANDARD)
    start(root, plan, axes)
    sizes = {name: [] for name in NAMES}
    for c, name in enumerate(NAMES):
        for shard in range(sharding.n_shards):
            fields = np.stack([np.roll(base[c], 2 * t, 1) for t in sharding.times(shard)])
            sizes[name].append(write_shard(root, name, sharding, shard, fields))
    create_group(root, {"plan": plan.record(), "shard_bytes": sizes})
    shutil.rmtree(root / PROGRESS)


def resident(pid: int | str = "self") -> float:
    """Resident memory of a process in MB, without pages of files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(status[key].split()[0]) for key in ("RssAnon", "RssShmem")) / 1e3


def workers_of_the_loader() -> list[int]:
    # Not what /proc calls the children of this process: a worker may be the child of a server that forks it.
    return [process.pid for process in multiprocessing.active_children()]


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_loader(stream: SequenceDataset, workers: int) -> dict[str, float]:
    """Drain the loader alone: memory of the workers, and their processor time per batch."""
    loader = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4))
    for _ in range(2):
        next(loader)
    pids, peak = workers_of_the_loader(), 0.0
    start = sum(map(processor_seconds, pids))
    for _ in range(len(stream) - 4 * workers - 4):
        next(loader)
        peak = max(peak, sum(resident(pid) for pid in pids))
    spent = sum(map(processor_seconds, pids)) - start
    return {"workers_mb": peak, "per_worker_mb": peak / workers, "cpu_seconds_per_batch": spent / (len(stream) - 6)}


def measure(config: TrainConfig, root: Path, steps: int, workers: int) -> dict[str, object]:
    before = resident()
    source = open_source(str(root), "synthetic", config.variables)
    train = split_by_date([source], ["1970-01-01/1970-01-04"], [])["train"]
    stream = SequenceDataset(train, config, seed=0, length=2 * steps + 8)
    opened = resident() - before
    size = sum(p.stat().st_size for p in root.rglob("0")) / 1e9
    alone = SequenceDataset(train, config, seed=1, length=64)
    data_side = {"opening_mb": opened, **measure_loader(alone, max(workers, 1))}
    if not steps:
        return {"store_gb": size, "data_side": data_side}

    model = build_model(config).train()
    optimizer = make_optimizer(config, model)
    normalization = fit_normalization(config, train)
    objective = SequenceObjective(model, config)
    generator = torch.Generator().manual_seed(0)

    def step(batch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            loss = objective(normalization(batch.fields.flatten(0, 1)), batch.hours, generator)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    batch, clock = stream[0], time.perf_counter
    start = clock()
    for i in range(8):
        stream[i + 1]
    read_seconds = (clock() - start) / 8
    for _ in range(2):
        step(batch)

    # Alternating rounds: what else the machine does hits both alike.
    loader = iter(DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    for _ in range(2):
        step(next(loader))
    bare, whole, waits, peak = [], [], [], 0.0
    for round_ in range(0, steps, 4):
        n = min(4, steps - round_)
        start = clock()
        for _ in range(n):
            step(batch)
        bare.append((clock() - start) / n)
        start, waited = clock(), 0.0
        for _ in range(n):
            asked = clock()
            item = next(loader)
            waited += clock() - asked
            step(item)
            peak = max(peak, sum(resident(pid) for pid in workers_of_the_loader()))
        whole.append((clock() - start) / n)
        waits.append(waited / n)
    seconds = {"bare_step": statistics.median(bare), "step": statistics.median(whole), "wait": statistics.median(waits)}
    return {
        "store_gb": size,
        "seconds": {**seconds, "reading_a_batch_alone": read_seconds},
        "waiting_share": seconds["wait"] / seconds["step"],
        "throughput_of_bare": seconds["bare_step"] / seconds["step"],
        "data_side": {**data_side, "workers_while_training_mb": peak},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", default="0.5,4", help="sizes of the stores (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=40, help="training steps; 0: only the data side")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--config", type=Path, help="TOML whose network and batches are used")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    arguments = parser.parse_args()
    raw = {"sources": [{"name": "synthetic", "path": "-"}]}
    config = read_config(arguments.config) if arguments.config else make_config({**raw, "variables": list(NAMES)})
    torch.set_flush_denormal(True)
    results = []
    for size in map(float, arguments.gb.split(",")):
        root = Path(tempfile.mkdtemp(prefix="atmoloss-memory-")) / "store"
        try:
            build(root, size)
            results.append(measure(config, root, arguments.steps, arguments.workers))
            print(json.dumps(results[-1], indent=1), flush=True)
        finally:
            shutil.rmtree(root.parent)
    report = {
        "command": f"benchmarks/loading/memory.py --gb {arguments.gb} --steps {arguments.steps} "
        f"--workers {arguments.workers}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "batch": f"{config.batch_size} x {config.n_times} x {config.patch_sizes}, {config.encoder}",
        "results": results,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
