"""What does one training sequence cost to read, for different chunks of a prepared store?

    python benchmarks/loading/layout.py gfs_1p00_10m_2026_train.nc   # docs/training.md says what this file is

Writes the fields with each layout, and reads the same random sequences (the defaults of ``SequenceSpec``:
4 times within 96 h of a 64 × 64 patch, two variables) from each: with the reader of atmoloss, from a warm and
from an emptied page cache, and with zarr-python. Results go to ``benchmarks/loading/results/layout.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from numcodecs import Blosc

from atmoloss.data import open_fields
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import PartnerIndex
from atmoloss.data.sources import FieldSource, source_from_dataset
from atmoloss.data.store_writer import create_variable, write_shard
from atmoloss.data.stored_fields import Sharding, StoredFields, choose_sharding

LAYOUTS = [(t, s) for t in (1, 4, 16, 64) for s in (32, 64, 128)]
ZARR = ((1, 64), (16, 64), (16, 128))
Draw = tuple[np.ndarray, int, int]


def draw(source: FieldSource, count: int, size: int = 64) -> list[Draw]:
    """Return times, row and column of random sequences, as training draws them but without wrapping."""
    spec, rng = SequenceSpec(), np.random.default_rng(0)
    lags = PartnerIndex(source, spec)
    h, w = source.values.shape[2:]
    out = []
    for _ in range(count):
        anchor = int(rng.choice(lags.anchors))
        later = rng.choice(lags.after(anchor), spec.n_times - 1, replace=False)
        times = np.sort(np.append(later, anchor))
        out.append((times, int(rng.integers(h - size + 1)), int(rng.integers(w - size + 1))))
    return out


def write(root: Path, source: FieldSource, sharding: Sharding) -> StoredFields:
    sizes = {}
    for c, name in enumerate(source.channels):
        create_variable(root / name, sharding, {})
        shards = [(shard, sharding.times(shard)) for shard in range(sharding.n_shards)]
        sizes[name] = [write_shard(root, name, sharding, i, source.values[t.start : t.stop, c]) for i, t in shards]
    return StoredFields(root, source.channels, sharding, sizes)


def empty_cache(root: Path) -> None:
    for path in root.rglob("c/*/0/0"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def median_ms(read, draws: list[Draw], before=lambda: None, clock=time.perf_counter) -> float:
    times = []
    for d in draws:
        before()
        start = clock()
        read(*d)
        times.append(clock() - start)
    return 1e3 * float(np.median(times))


def chunks_touched(sharding: Sharding, times: np.ndarray, row: int, column: int, size: int = 64) -> int:
    ct, ch, cw = sharding.chunk
    rows, columns = ((a + size - 1) // c - a // c + 1 for a, c in ((row, ch), (column, cw)))
    return len(np.unique(times // ct)) * rows * columns


def measure(source: FieldSource, draws: list[Draw], time_chunk: int, space_chunk: int) -> dict[str, object]:
    sharding = choose_sharding((len(source.times), *source.values.shape[2:]), time_chunk, space_chunk)
    root = Path(tempfile.mkdtemp(prefix="atmoloss-layout-"))
    try:
        fields = write(root, source, sharding)

        def ours(times: np.ndarray, row: int, column: int) -> np.ndarray:
            return fields[times, :, row : row + 64, column : column + 64]

        for d in draws[:20]:
            assert np.array_equal(ours(*d), source.values[d[0], :, d[1] : d[1] + 64, d[2] : d[2] + 64])
        fields.bytes_read = 0
        out: dict[str, object] = {"chunk": sharding.chunk, "warm_ms": median_ms(ours, draws)}
        # Time of the processor too: what else runs on the machine does not count in it.
        out["cpu_ms"] = median_ms(ours, draws, clock=time.process_time)
        out["read_mb"] = fields.bytes_read / len(draws) / 2e6  # read twice
        touched = np.mean([chunks_touched(sharding, *d) for d in draws]) * len(source.channels)
        out["chunks"], out["chunk_mb"] = touched, touched * sharding.chunk_bytes / 1e6
        out["cold_ms"] = median_ms(ours, draws[:20], lambda: empty_cache(root))
        if (time_chunk, space_chunk) in ZARR:
            arrays = [zarr.open_array(root / name, mode="r") for name in source.channels]

            def theirs(times: np.ndarray, row: int, column: int) -> list[object]:
                return [a.oindex[times, slice(row, row + 64), slice(column, column + 64)] for a in arrays]

            out["zarr_ms"] = median_ms(theirs, draws[:20], clock=time.process_time)
        return out
    finally:
        shutil.rmtree(root)


def compression(source: FieldSource) -> list[str]:
    """How much smaller chunks of 16 × 60 × 60 become, and how fast they are decoded."""
    lines = []
    for name, codec in (
        ("lz4, shuffle", Blosc("lz4", 5, Blosc.SHUFFLE)),
        ("lz4, bit shuffle", Blosc("lz4", 5, Blosc.BITSHUFFLE)),
        ("zstd 3, shuffle", Blosc("zstd", 3, Blosc.SHUFFLE)),
    ):
        blocks = [
            np.ascontiguousarray(source.values[t : t + 16, c, r : r + 60, k : k + 60], np.float32)
            for c in range(source.values.shape[1])
            for t in range(0, min(64, len(source.times)), 16)
            for r in (0, 60)
            for k in (0, 120, 240)
        ]
        encoded = [codec.encode(b) for b in blocks]
        total, target = sum(b.nbytes for b in blocks), np.empty_like(blocks[0])
        start = time.perf_counter()
        for e, b in zip(encoded, blocks, strict=True):
            codec.decode(e, target[: len(b)])
        seconds = time.perf_counter() - start
        lines.append(f"| {name} | {total / sum(map(len, encoded)):.2f} | {total / seconds / 1e6:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file with winds")
    parser.add_argument("--count", type=int, default=200, help="sequences read per layout")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "layout.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = source_from_dataset(open_fields(arguments.source), Path(arguments.source).name)
    draws = draw(source, arguments.count)
    needed = 4 * 4 * 64 * 64 * len(source.channels) / 1e6
    h, w = source.values.shape[2:]
    lines = [
        "Reading one sequence from a prepared store, as [data larger than memory](../../../docs/scale.md) does. "
        f"`python benchmarks/loading/layout.py {Path(arguments.source).name}`: {len(source.times)} times of {h}×{w}, "
        f"{len(source.channels)} variables; medians of {arguments.count} sequences of 4 times × 64×64, {needed:.3f} MB "
        "of values each. *read*: what the reader of atmoloss takes; *chunks*: how many hold it, and their size, "
        "which any other Zarr reader takes. *cold*: page cache of the store emptied before each sequence.",
        "",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the "
        f"start; torch {torch.__version__}, zarr {zarr.__version__}, Python {platform.python_version()}.",
        "",
        "| chunk (time, rows, columns) | read MB | chunks | their MB | CPU ms | warm ms | cold ms | zarr CPU ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for time_chunk, space_chunk in LAYOUTS:
        r = measure(source, draws, time_chunk, space_chunk)
        zarr_ms = f"{r['zarr_ms']:.0f}" if "zarr_ms" in r else "–"
        lines.append(
            f"| {' × '.join(map(str, r['chunk']))} | {r['read_mb']:.2f} | {r['chunks']:.0f} | {r['chunk_mb']:.2f} "
            f"| {r['cpu_ms']:.2f} | {r['warm_ms']:.2f} | {r['cold_ms']:.1f} | {zarr_ms} |"
        )
        print(lines[-1], flush=True)
    lines += ["", "Compression of 16×60×60 chunks:", "", "| codec | ratio | decoding MB/s |", "|---|---|---|"]
    lines += compression(source)
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
