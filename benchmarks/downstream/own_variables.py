"""Your own variable in five minutes: train on vorticity alone and on sea-level pressure alone, and measure.

    python benchmarks/downstream/own_variables.py               # results/own_variables.md and .json, and the figure
    python benchmarks/downstream/own_variables.py --settings    # results/own_variables_settings.md

Both configurations, own_vorticity.toml and own_pressure.toml, are trained by `atmoloss train` with one thread, and the
seconds of a core are counted from its start to the finished weights folder. The networks are then compared with pixel
norms and with random weights by lag 2AFC (two-alternative forced choice) on test dates: all triples, and those whose
two later fields are of the same time of day. Settings are compared on validation dates alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import own_variables_page
import torch

from atmoloss import load_extractor
from atmoloss.data.sources import FieldSource, open_source
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import Extractor
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import extractor_measure, pixel_measures, random_extractor
from atmoloss.lag_2afc.triples import Kept, Measure, Tally, bootstrap, iterate_patches, tally_anchors
from atmoloss.training.config import TrainConfig, read_config

HERE = Path(__file__).resolve().parent
CONFIGS = {"vorticity": "own_vorticity.toml", "sea-level pressure": "own_pressure.toml"}
DISTANCE = "AtmoDist"
SETTINGS: dict[str, tuple[str, ...]] = {
    "patches of 32": ("patch_sizes=[32]", "steps=3000"),
    "patches of 48": ("patch_sizes=[48]", "steps=1500"),
    "patches of 64": ("patch_sizes=[64]", "steps=1000"),
    "patches of 32, a third of the steps": ("patch_sizes=[32]", "steps=1000"),
    "patches of 32, stem of stride 1": ("patch_sizes=[32]", "steps=1000", "encoder_options={ stem_stride = 1 }"),
}
"""What --settings compares; everything else is as the configurations have it."""


def same_time_of_day(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Say which lags a < b, hours, lead to the same time of day: a tide tells nothing of their order."""
    return (a < b) & ((b - a) % 24 == 0)


TRIPLES: dict[str, Kept] = {"all": np.less, "same time of day": same_time_of_day}


def train(config: Path, output: Path, changes: Sequence[str] = ()) -> float:
    """Train a configuration with some keys changed, by the command that a user gives; return seconds of a core."""
    command = [sys.executable, "-m", "atmoloss.train", str(config), "--output", str(output)]
    command += [word for change in changes for word in ("--set", change)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def held_out(config: TrainConfig) -> dict[str, FieldSource]:
    """Return the source of a configuration on validation and on test dates."""
    (told,) = config.sources
    source = open_source(told.path, told.name, config.variables, told.level)
    splits = split_by_date([source], config.validation, config.test)
    return {name: splits[name][0] for name in ("validation", "test")}


def measures_of(extractor: Extractor, source: FieldSource) -> dict[str, Measure]:
    """Return the distances that are compared, by name: that of the extractor first."""
    times = np.linspace(0, len(source.times) - 1, 16).astype(int)
    sample = torch.from_numpy(np.asarray(source.values[times]))
    random = random_extractor(extractor.info, extractor.normalization, sample)
    pixels = {n: m for n, m in pixel_measures(extractor.normalization).items() if " of fields" in n}
    return {
        DISTANCE: extractor_measure(extractor),
        "random weights": extractor_measure(random, random.stages),
        **{name.replace(" of fields", ""): measure for name, measure in pixels.items()},
    }


def tallies(
    source: FieldSource, measures: Mapping[str, Measure], size: int, longest: int
) -> dict[str, dict[str, Tally]]:
    """Return the right answers of every distance for each kind of triples, over all patches."""
    sums: dict[str, dict[str, Any]] = {kind: {} for kind in TRIPLES}
    for patch in iterate_patches(source, None, size):
        for name, measure in measures.items():
            distances = torch.as_tensor(measure(patch)).double().numpy()
            for kind, kept in TRIPLES.items():
                counted = np.stack(tally_anchors(distances, source.hours, source.run, longest, kept))
                sums[kind][name] = sums[kind].get(name, 0) + counted
    return {kind: {n: Tally(*counts, source.times) for n, counts in by.items()} for kind, by in sums.items()}


def measure(weights: Path, config: TrainConfig) -> dict[str, Any]:
    """Return lag 2AFC by split, kind of triples and distance: value, interval, and that of AtmoDist minus it."""
    extractor, longest = load_extractor(weights), config.base_step * config.n_classes
    out: dict[str, Any] = {}
    for split, source in held_out(config).items():
        counted = tallies(source, measures_of(extractor, source), config.patch_sizes[0], longest)
        out[split] = {}
        for kind, by in counted.items():
            intervals, gaps = bootstrap(list(by.values()))
            out[split][kind] = {
                name: {"value": tally.share, "interval": interval, "gap": gap}
                for (name, tally), interval, gap in zip(by.items(), intervals, [None, *gaps], strict=True)
            }
    return out


def compare_settings(folder: Path) -> str:
    """Train every setting on every variable and return the table of their validation dates."""
    rows: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in SETTINGS}
    for variable, config in CONFIGS.items():
        for number, (name, changes) in enumerate(SETTINGS.items()):
            output = folder / f"{variable}-{number}"
            seconds = train(HERE / config, output, changes)
            metrics = json.loads((output / "weights" / "metrics.json").read_text(encoding="utf-8"))
            (value,) = (s["lag_2afc"]["distance"]["value"] for s in metrics["sources"] if s["split"] == "validation")
            rows[name][variable] = value, seconds
            print(variable, name, f"{value:.4f}, {seconds:.0f} CPU-seconds", flush=True)
    return own_variables_page.settings(rows, SETTINGS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", action="store_true", help="compare settings on validation dates instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.settings:
            write_atomically(HERE / "results" / "own_variables_settings.md", compare_settings(Path(folder)).encode())
            return 0
        results = {}
        for variable, name in CONFIGS.items():
            seconds = train(HERE / name, output := Path(folder) / name)
            results[variable] = {"cpu_seconds": round(seconds), **measure(output / "weights", read_config(HERE / name))}
            print(variable, f"{seconds:.0f} CPU-seconds", flush=True)
    text, data, figure = own_variables_page.page(results)
    print(text)
    write_atomically(HERE / "results" / "own_variables.md", text.encode())
    write_atomically(HERE / "results" / "own_variables.json", (json.dumps(data, indent=1) + "\n").encode())
    write_atomically(HERE.parents[1] / "docs" / "figures" / "downstream-own-variables.svg", figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
