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
from pages import write_page

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
SIZE = 32  # rows and columns of the patches of measurements, 80°, whatever a network was trained on
SETTINGS: dict[str, tuple[str, ...]] = {
    "patches of 32": ("patch_sizes=[32]", "steps=1500", "encoder_options={}"),
    "patches of 64": ("patch_sizes=[64]", "steps=500", "encoder_options={}"),
    "stem of stride 1": ("patch_sizes=[32]", "steps=500", "encoder_options={ stem_stride = 1 }"),
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
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


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


def tallies(source: FieldSource, measures: Mapping[str, Measure], longest: int) -> dict[str, dict[str, Tally]]:
    """Return right answers by kind of triples and by distance, over all patches; lags up to ``longest`` hours."""
    sums: dict[str, dict[str, Any]] = {kind: {} for kind in TRIPLES}
    for patch in iterate_patches(source, None, SIZE):
        for name, measure in measures.items():
            distances = torch.as_tensor(measure(patch)).double().numpy()
            for kind, kept in TRIPLES.items():
                counted = np.stack(tally_anchors(distances, source.hours, source.run, longest, kept))
                sums[kind][name] = sums[kind].get(name, 0) + counted
    return {kind: {n: Tally(*counts, source.times) for n, counts in by.items()} for kind, by in sums.items()}


def measure(weights: Path, source: FieldSource, longest: int) -> dict[str, Any]:
    """Return lag 2AFC by kind of triples and distance: value, interval, and that of AtmoDist minus it."""
    out: dict[str, Any] = {}
    for kind, by in tallies(source, measures_of(load_extractor(weights), source), longest).items():
        intervals, gaps = bootstrap(list(by.values()))
        out[kind] = {
            name: {"value": tally.share, "interval": interval, "gap": gap}
            for (name, tally), interval, gap in zip(by.items(), intervals, [None, *gaps], strict=True)
        }
    return out


def train_and_measure(name: str, output: Path, splits: Sequence[str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """Train a configuration, and return seconds of a core and what :func:`measure` says of some splits."""
    config = read_config(HERE / name)
    seconds, sources = train(HERE / name, output, changes), held_out(config)
    longest = config.base_step * config.n_classes
    measured = {split: measure(output / "weights", sources[split], longest) for split in splits}
    return {"cpu_seconds": round(seconds)} | measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", action="store_true", help="compare settings on validation dates instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = SETTINGS if arguments.settings else {"": ()}
    splits = ("validation",) if arguments.settings else ("validation", "test")
    results: dict[str, dict[str, Any]] = {}
    for variable, config in CONFIGS.items():
        for name, changes in settings.items():
            with tempfile.TemporaryDirectory() as folder:
                result = train_and_measure(config, Path(folder) / "run", splits, changes)
            results.setdefault(variable, {})[name] = result
            print(variable, name, own_variables_page.line(result), flush=True)
    if arguments.settings:
        text = own_variables_page.settings(results, SETTINGS)
        write_atomically(HERE / "results" / "own_variables_settings.md", text.encode())
        return 0
    results = {variable: by[""] for variable, by in results.items()}
    page = own_variables_page.page(results)
    print(page[0])
    write_page("own_variables", page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
