"""Whose analogue stays near the truth? The most similar past state, by AtmoDist, by winds and by components.

    python benchmarks/downstream/analogues.py [--archives gfs-1deg-10m gfs-1deg-850hPa …]

For each 6-hourly state of the test dates the most similar state of training dates is sought, at least 5 and at most 60
days away, on the whole globe and in 18 boxes of 40° × 60°. What followed it is the forecast of what follows the state.
It is judged by the RMSE and the anomaly correlation of winds and by AtmoDist. Smoothing and numbers of components are
chosen on validation dates. Writes results/analogues-ARCHIVE.json and .md and
docs/figures/downstream-analogues-ARCHIVE.svg; minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import analogue_search as search
import analogues_page
import numpy as np
import torch
from pages import write_page
from scipy.ndimage import gaussian_filter

from atmoloss import embed, load_extractor
from atmoloss.arrays import area_weight
from atmoloss.data import open_fields
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.extractor import Extractor
from atmoloss.lag_2afc.baselines import random_extractor
from atmoloss.training.config import SourceConfig, TrainConfig, read_config

HERE = Path(__file__).resolve().parent
ARCHIVES = ("gfs-1deg-10m", "gfs-1deg-850hPa", "speedy-T85-sigma0.883")
STEP = 6  # hours between the states of an archive
SIGMAS = (1, 2, 4, 8, 16)  # cells of 1°
COMPONENTS = (2, 5, 10, 20, 40)
BANDS = {"20–60°N": (60, 20), "20°S–20°N": (20, -20), "20–60°S": (-20, -60)}
WIDTH = 60  # degrees of longitude of a box
SPACE = ("time", "channel", "latitude", "longitude")
Options = dict[tuple[str, str], np.ndarray]
"""Chooser and setting → squared distances (T, T)."""
Rows = dict[tuple[str, str], dict[str, np.ndarray]]
"""Chooser and setting → score → (Q, leads); of a region, or the mean of several."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """Winds, their divergence and vorticity at the same times, in memory, and the winds smoothed by ``SIGMAS``."""

    winds: Any
    derived: Any
    smoothed: dict[int, Any]

    def fields(self, extractor: Extractor) -> Any:
        """Return what an extractor reads."""
        return self.winds if extractor.info.channel_names[0] == "u" else self.derived


def smoothed(winds: Any, sigma: float) -> Any:
    """Return global winds without what is smaller than a Gaussian of so many cells."""
    around = {"sigma": (0, sigma, sigma), "mode": ("nearest", "nearest", "wrap")}
    return winds.map(lambda wind: wind.copy(data=gaussian_filter(wind.values, **around)))


def plans_of(times: np.ndarray, config: TrainConfig) -> tuple[np.ndarray, dict[str, search.Plan]]:
    """Return which of the times (T,) are training dates, (T,), and the plan of each split that is held out."""
    hours = (times - np.datetime64(0, "s")) // np.timedelta64(1, "h")
    held = {split: in_periods(times, parse_periods(getattr(config, split))) for split in ("validation", "test")}
    known = ~np.any([*held.values()], 0)
    return known, {split: search.plan(hours, known, asked) for split, asked in held.items()}


def open_archive(source: SourceConfig, config: TrainConfig) -> Archive:
    """Read every sixth hour of a source, as far as it is used."""
    winds, derived = (
        open_fields(source.path, names, source.level, grid=source.grid)
        for names in (("u", "v"), ("divergence", "vorticity"))
    )
    sixth = np.flatnonzero(winds["time"].dt.hour.values % STEP == 0)
    _, plans = plans_of(winds["time"].values[sixth], config)
    kept = sixth[np.any([plan.used for plan in plans.values()], 0)]
    winds, derived = (dataset.isel(time=kept).astype(np.float32).load() for dataset in (winds, derived))
    return Archive(winds, derived, {sigma: smoothed(winds, sigma) for sigma in SIGMAS})


def regions() -> Iterator[tuple[tuple[str, ...], dict[str, slice]]]:
    """Yield the groups and the place of each region: the globe, and the boxes of each band of latitude."""
    yield ("globe",), {}
    for band, (north, south) in BANDS.items():
        for west in range(0, 360, WIDTH):
            yield ("boxes", band), {"latitude": slice(north, south), "longitude": slice(west, west + WIDTH - 1)}


def wind_distances(winds: Any) -> np.ndarray:
    """Return area means of the squared differences of winds, of all pairs of times (T, T)."""
    values = winds.to_array("channel").transpose(*SPACE)
    area = area_weight(values["latitude"].values).numpy()[:, None]
    vectors = values.values * np.sqrt(area / area.sum() / values.sizes["longitude"])
    return search.all_distances(vectors.reshape(len(vectors), -1))


def encoders_of(archive: Archive, known: np.ndarray) -> dict[str, tuple[Extractor, dict[str, Any]]]:
    """Return encoders by name, each with the options of its distance; random ones see some of the known times (T,)."""
    out: dict[str, tuple[Extractor, dict[str, Any]]] = {}
    sample = np.flatnonzero(known)[:: max(1, known.sum() // 8)]
    for name in ("default", "winds"):
        extractor = load_extractor(name)
        fields = archive.fields(extractor).isel(time=sample).to_array("channel").transpose(*SPACE)
        random = random_extractor(extractor.info, extractor.normalization, torch.from_numpy(fields.values))
        out[f"AtmoDist {name}"] = (extractor, {})
        out[f"random weights {name}"] = (random, {"layers": random.stages, "scale": "none"})
    return out


def options_of(archive: Archive, encoders: Mapping[str, Any], where: dict[str, slice], known: np.ndarray) -> Options:
    """Return the distances by which states are chosen in one region."""
    out: Options = {}
    for name, (extractor, options) in encoders.items():
        vectors = embed(archive.fields(extractor).sel(where), weights=extractor, weight="area", **options)
        out[name, ""] = search.all_distances(vectors.values)
    out["MSE of winds", ""] = wind_distances(archive.winds.sel(where))
    for sigma, winds in archive.smoothed.items():
        out["MSE of winds, smoothed", f"σ {sigma}"] = wind_distances(winds.sel(where))
    numbers = [n for n in COMPONENTS if n < known.sum()]
    components = search.principal_components(out["MSE of winds", ""], known, max(numbers))
    for n in numbers:
        out["principal components", str(n)] = search.all_distances(components[:, :n])
    return out


def measure_region(options: Options, asked: search.Plan) -> Rows:
    """Return the scores (Q, L) of every chooser in one region, and of the controls."""
    judges = {name: options[name, ""] for name in ("AtmoDist winds", "AtmoDist default")}
    scored = search.scores(options["MSE of winds", ""], judges, asked)
    fewer = search.thinned(asked)
    rows: Rows = {}
    for key, distances in options.items():
        chosen = search.choose(distances, asked.query, asked.allowed)
        same_hour = (asked.hours[chosen] - asked.hours[asked.query]) % 24 == 0
        thinned = [search.mean_correlation(scored, distances, asked.query, draws) for draws in fewer]
        rows[key] = search.of_chosen(scored, chosen) | {"same hour": same_hour, "thinned": np.stack(thinned, 1)}
    return rows | {(name, ""): row for name, row in search.controls(scored).items()}


def chosen_settings(rows: Rows) -> dict[str, str]:
    """Return the setting of each chooser with the highest mean anomaly correlation."""
    best: dict[str, tuple[float, str]] = {}
    for (name, setting), row in rows.items():
        best[name] = max(best.get(name, (-np.inf, "")), (float(row[search.CORRELATION].mean()), setting))
    return {name: setting for name, (_, setting) in best.items()}


def averaged(regions: Sequence[Rows]) -> Rows:
    """Return the means of scores over regions."""
    return {
        key: {score: np.mean([rows[key][score] for rows in regions], 0) for score in regions[0][key]}
        for key in regions[0]
    }


def measure(archive: Archive, config: TrainConfig) -> dict[str, Any]:
    """Return, by group of regions, the scores of every chooser on test dates with its setting, and the dates."""
    times = archive.winds["time"].values
    known, plans = plans_of(times, config)
    encoders = encoders_of(archive, known)
    measured: dict[str, dict[str, list[Rows]]] = {}
    for groups, where in regions():
        options = options_of(archive, encoders, where, known)
        rows = {split: measure_region(options, asked) for split, asked in plans.items()}
        for group in groups:
            for split in plans:
                measured.setdefault(group, {}).setdefault(split, []).append(rows[split])
    out: dict[str, Any] = {"times": times[plans["test"].query], "states": plans["test"].allowed.sum(1), "groups": {}}
    for group, by_split in measured.items():
        settings, test = chosen_settings(averaged(by_split["validation"])), averaged(by_split["test"])
        out["groups"][group] = {"settings": settings, "rows": {name: test[name, s] for name, s in settings.items()}}
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", nargs="*", default=ARCHIVES, help="names of sources")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = read_config(HERE.parents[1] / "configs" / "default.toml")
    sources = {source.name: source for source in config.sources}
    for name in arguments.archives:
        start = time.process_time()
        result = measure(open_archive(sources[name], config), config)
        page = analogues_page.page(name, result, time.process_time() - start)
        print(page[0], flush=True)
        write_page(f"analogues-{name}", page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
