"""Do pretrained features need fewer labels to find tropical cyclones? Held-out storms in whole 1° fields of wind.

    python benchmarks/downstream/cyclones.py [--weights NAME=DIR …] [--every 1]

A linear read-out learns from 4, 16, 64 and all labels (a storm of 34 kt and more at one time) of training dates, which
cells hold a storm: of the frozen features of `default`, `winds`, random weights and any weights folder, and of smoothed
fields. A rule on vorticity learns nothing but its two settings. Test storms lie on dates that no encoder was trained
on. Writes results/cyclones.json and .md and docs/figures/downstream-cyclones.svg; minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cyclones_page
import detection
import numpy as np
import readout
import torch
from feature_maps import (
    Box,
    Globe,
    Maps,
    boxes_of,
    of_extractor,
    random_like,
    smoothed_fields,
    smoothed_fields_and_speed,
    together,
)
from pages import write_page
from scipy.ndimage import gaussian_filter, rank_filter
from storms import Centre, Scene, centres_at, nearest_kilometres, sides

from atmoloss import load_extractor
from atmoloss.data import open_fields
from atmoloss.data.splits import parse_periods
from atmoloss.training.config import read_config
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parents[1] / "configs" / "default.toml"
DATA = HERE.parents[2] / "shared" / "data"
FIELDS = str(DATA / "gfs_1p00_10m_2026_train.nc")
TRACKS = DATA / "tropical_cyclones_2026-07_08.csv"
BUDGETS, DRAWS = (4, 16, 64), 5
STORM, CLEAR = 150.0, 600.0  # km from a centre, up to which a cell is of the storm, and from which it is of none
OTHERS = 150  # cells of no storm that each scene teaches
OTHER_SEASON = ("2026-03-24", "2026-05-06")
Score = Callable[[np.ndarray], np.ndarray]
"""From the maps of a scene (K, h, w) to scores (h, w)."""


class Atmosphere:
    """Fields of single times, which are kept, and the boxes of their grid."""

    def __init__(self, path: str) -> None:
        self._winds = open_fields(path, ("u", "v"))
        self._derived = open_fields(path, ("divergence", "vorticity"))
        self.times = self._winds["time"].values
        self.boxes = boxes_of(self._winds["latitude"].values, self._winds["longitude"].values)

        self._read: dict[np.datetime64, Globe] = {}

    def __call__(self, when: np.datetime64) -> Globe:
        if when not in self._read:
            both = (self._winds.sel(time=when), self._derived.sel(time=when))
            self._read[when] = Globe(*(d.to_array().values.astype(np.float32) for d in both))
        return self._read[when]


def cells_km(box: Box, centres: Sequence[Centre]) -> np.ndarray:
    """Return the distance of every cell of a box (h · w,) from the nearest of some storms, km."""
    return nearest_kilometres(box.latitude[:, None], box.longitude[None, :], centres).ravel()


def moved(scene: Scene, box: Box, how: str, generator: np.random.Generator) -> Scene:
    """Return a scene whose sought storms stand elsewhere, to see what wrong labels teach: "shuffled" or "shifted"."""

    def elsewhere(centre: Centre) -> Centre:
        if how == "shuffled":
            place = (generator.choice(box.latitude), generator.choice(box.longitude))
        else:
            middle = box.longitude.mean()
            place = (centre.latitude, centre.longitude + (15.0 if centre.longitude < middle else -15.0))
        return centre._replace(latitude=float(place[0]), longitude=float(place[1]))

    return dataclasses.replace(scene, sought=tuple(elsewhere(c) for c in scene.sought))


def rows_of(maps: Maps, scenes: Sequence[Scene], atmosphere: Atmosphere, kinds: Sequence[str]) -> list[readout.Rows]:
    """Return what there is to learn from, for labels as they are ("true") and as :func:`moved` has them."""
    parts: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in kinds]
    labels: list[list[tuple[str, int]]] = [[] for _ in kinds]
    for number, scene in enumerate(scenes):
        box = atmosphere.boxes[scene.box]
        x = maps(atmosphere(scene.time), box)
        for k, kind in enumerate(kinds):
            generator = np.random.default_rng(number)  # the same cells for all maps
            told = scene if kind == "true" else moved(scene, box, kind, generator)
            clear = np.flatnonzero(cells_km(box, [*told.sought, *told.ignored]) > CLEAR)
            cells = [generator.choice(clear, min(OTHERS, len(clear)), replace=False)]
            label = [np.full(len(cells[0]), -1)]
            for centre in told.sought:
                cells.append(np.flatnonzero(cells_km(box, [centre]) <= STORM))
                label.append(np.full(len(cells[-1]), len(labels[k])))
                labels[k].append((centre.storm, number))
            chosen = np.concatenate(cells)
            parts[k].append((x.reshape(len(x), -1)[:, chosen].T, np.full(len(chosen), number), np.concatenate(label)))
    return [
        readout.Rows(
            *(np.concatenate(column) for column in zip(*part, strict=True)),
            *(np.array(c) for c in zip(*of, strict=True)),
        )
        for part, of in zip(parts, labels, strict=True)
    ]


def detect(
    maps: Maps, scores: Sequence[Score], scenes: Sequence[Scene], atmosphere: Atmosphere
) -> list[detection.Detections]:
    """Return what each score finds in some scenes; each scene is mapped once."""
    found: list[list[np.ndarray]] = [[] for _ in scores]
    for number, scene in enumerate(scenes):
        box = atmosphere.boxes[scene.box]
        x = maps(atmosphere(scene.time), box)
        for k, score in enumerate(scores):
            values = score(x)
            rows, columns = detection.peaks(values)
            places = box.latitude[rows], box.longitude[columns]
            km, counts = detection.matched(*places, scene.sought, scene.ignored)
            found[k].append(np.stack((values[rows, columns], km, np.full(len(km), number)))[:, counts])
    sought = np.repeat(np.arange(len(scenes)), [len(s.sought) for s in scenes])
    joined = [np.concatenate(parts, 1) for parts in found]
    return [detection.Detections(score, km, number.astype(int), sought) for score, km, number in joined]


def vorticity_map(globe: Globe, box: Box) -> np.ndarray:
    """Return vorticity, as it is and smoothed by one cell."""
    where = np.ix_(box.rows, box.columns)
    return np.stack([gaussian_filter(globe.derived[1], s, mode=("nearest", "wrap"))[where] for s in (0.0, 1.0)])


def vorticity_rules() -> dict[str, Score]:
    """Return rules: the highest threshold above which vorticity is in at least n of the 3×3 cells around a cell."""

    def rule(channel: int, n: int) -> Score:
        return lambda x: rank_filter(x[channel], rank=9 - n, size=3, mode="nearest")

    return {f"{('plain', 'σ 1')[c]}, {n} of 9 cells": rule(c, n) for c in (0, 1) for n in (1, 3, 5, 7, 9)}


def linear(fitted: readout.Readout) -> Score:
    """Return the score of a read-out."""
    return lambda x: np.tensordot(fitted.coefficients, x, 1) + fitted.constant


def days_of(scenes: Sequence[Scene]) -> BlockBootstrap:
    """Return draws of the days of some scenes."""
    return BlockBootstrap(np.array([scene.time for scene in scenes]), block_days=1.0)


def summary(detections: Sequence[detection.Detections], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return average precision over some draws of labels: mean, each, and of draws of days; and the position error."""
    draws = np.stack([detection.draws_of(d, days_of(scenes)) for d in detections])
    km = np.concatenate([d.km[d.hit] for d in detections])
    return {
        "average_precision": float(draws[:, 0].mean()),
        "of_draws": [round(float(x), 4) for x in draws[:, 0]],
        "days": draws.mean(0),
        "found": float(np.mean([d.hit.sum() / len(d.sought) for d in detections])),
        "km": float(np.median(km)) if len(km) else float("nan"),
    }


def false_alarms(test: detection.Detections, other: detection.Detections, scenes: int, others: int) -> list[float]:
    """Return peaks a scene above the score at which half of the test storms are found, in the test and elsewhere."""
    hit = test.hit
    if hit.sum() * 2 < len(test.sought):
        return [float("nan")] * 2
    threshold = np.sort(test.score[hit])[::-1][len(test.sought) // 2 - 1]
    return [float((test.score[~hit] >= threshold).sum() / scenes), float((other.score >= threshold).sum() / others)]


def measure(
    maps: Maps, known: Sequence[Scene], unknown: Sequence[Scene], other: Sequence[Scene], air: Atmosphere
) -> Any:
    """Return the summaries of one kind of maps, for every budget and for wrong labels, and false alarms elsewhere."""
    true, *wrong = rows_of(maps, known, air, kinds := ("true", "shuffled", "shifted"))
    n = len(true.storm)
    fits: dict[str, list[readout.Readout]] = {}
    for budget in (b for b in BUDGETS if b < n):
        drawn = [np.random.default_rng(1000 * budget + d).choice(n, budget, replace=False) for d in range(DRAWS)]
        fits[str(budget)] = [readout.fit(true, labels) for labels in drawn]
    fits["all"] = [readout.fit(true, np.arange(n))]
    fits |= {kind: [readout.fit(rows, np.arange(n))] for kind, rows in zip(kinds[1:], wrong, strict=True)}
    every = detect(maps, [linear(f) for fitted in fits.values() for f in fitted], unknown, air)
    elsewhere = detect(maps, [linear(fits["all"][0])], other, air)[0]
    out, start = {}, 0
    for name, fitted in fits.items():
        out[name] = summary(mine := every[start : start + len(fitted)], unknown)
        out[name]["penalties"] = [f.penalty for f in fitted]
        start += len(fitted)
        if name == "all":
            out["false_alarms"] = false_alarms(mine[0], elsewhere, len(unknown), len(other))
    return out


def measure_rule(known: Sequence[Scene], unknown: Sequence[Scene], other: Sequence[Scene], air: Atmosphere) -> Any:
    """Return the same of the rule on vorticity that is best on training storms."""
    rules = vorticity_rules()
    trained = detect(vorticity_map, list(rules.values()), known, air)
    best = max(zip(rules, trained, strict=True), key=lambda item: detection.draws_of(item[1], days_of(known))[0])[0]
    found, elsewhere = (detect(vorticity_map, [rules[best]], scenes, air)[0] for scenes in (unknown, other))
    return {
        "all": summary([found], unknown) | {"rule": best},
        "false_alarms": false_alarms(found, elsewhere, len(unknown), len(other)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=DIR", help="further weights folders")
    parser.add_argument("--every", type=int, default=1, help="of the times every so many alone, to try things out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = read_config(CONFIG)
    held_out = parse_periods([*config.validation, *config.test])
    air = Atmosphere(FIELDS)
    centres = centres_at(TRACKS, air.times[:: arguments.every])
    known, unknown = sides(centres, held_out)
    first, last = (np.datetime64(day) for day in OTHER_SEASON)
    season = air.times[(air.times >= first) & (air.times <= last)]
    other = [Scene("west", t, (), ()) for t in season[:: 8 * arguments.every]]
    encoders = {name: load_extractor(name) for name in ("default", "winds")}
    sample = [air(scene.time) for scene in known[:: max(1, len(known) // 8)]]
    methods: dict[str, Maps] = {name: of_extractor(extractor) for name, extractor in encoders.items()}
    methods |= {n: of_extractor(load_extractor(folder)) for n, folder in (w.split("=", 1) for w in arguments.weights)}
    methods |= {f"random {name}": random_like(extractor, sample) for name, extractor in encoders.items()}
    for name, extractor in encoders.items():
        methods[f"{name}, stage1"] = of_extractor(extractor, ("stage1",))
        methods[f"random {name}, stage1"] = random_like(extractor, sample, ("stage1",))
    methods |= {"smoothed fields": smoothed_fields, "smoothed fields, speed": smoothed_fields_and_speed}
    methods["smoothed fields, speed, winds"] = together(smoothed_fields_and_speed, methods["winds"])
    results: dict[str, Any] = {}
    for name, maps in methods.items():
        results[name] = measure(maps, known, unknown, other, air)
        print(name, cyclones_page.line(results[name]), flush=True)
    results["vorticity rule"] = measure_rule(known, unknown, other, air)
    print("vorticity rule", cyclones_page.line(results["vorticity rule"]), flush=True)
    if arguments.every == 1:
        page = cyclones_page.page(results, days_of(unknown).bounds, known, unknown, time.process_time())
        write_page("cyclones", page)
    print(f"{time.process_time():.0f} CPU-seconds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
