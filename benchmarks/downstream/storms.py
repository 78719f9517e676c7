"""Where tropical cyclones were: tracks at the times of analyses, the boxes that are searched, and the two sides."""

from __future__ import annotations

import collections
import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from atmoloss.data.splits import Period, in_periods
from atmoloss.sphere import distance_and_bearing

GALE = 34.0  # kt, from which on a storm has a name
LONGEST_GAP = np.timedelta64(6, "h")  # between two positions of a track that a time between them is interpolated from
BOXES = {"west": (100.0, 180.0), "east": (181.0, 340.0)}
"""Longitudes (degrees east, both ends included) in which western Pacific tracks lie, and those of all other basins."""
NORTHERNMOST = 45.0


class Centre(NamedTuple):
    """A storm at one time: ``wind`` in kt, degrees north and east."""

    storm: str
    box: str
    time: np.datetime64
    latitude: float
    longitude: float
    wind: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """One box at one time.

    Attributes:
        box: its name.
        time: of the analysis.
        sought: storms of 34 kt and more that count here.
        ignored: storms that neither count as found nor as false alarms: weaker ones, and those of the other side.
    """

    box: str
    time: np.datetime64
    sought: tuple[Centre, ...]
    ignored: tuple[Centre, ...]


def centres_at(path: Path, times: np.ndarray) -> list[Centre]:
    """Return all storms of a file of tracks at the times (T,), positions and winds interpolated between two of its."""
    tracks: dict[str, list[tuple[np.datetime64, float, float, float]]] = collections.defaultdict(list)
    boxes = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            storm = f"{row['name'].title()} {row['id']}"
            boxes[storm] = "west" if row["basin"] == "WP" else "east"
            values = (float(row["lat"]), float(row["lon"]) % 360.0, float(row["wind_kt"]))
            tracks[storm].append((np.datetime64(row["time_utc"], "s"), *values))
    centres = []
    for storm, track in tracks.items():
        stamps, *columns = (np.array(column) for column in zip(*sorted(track), strict=True))
        for time in times.astype("datetime64[s]"):
            after = int(np.searchsorted(stamps, time))
            if after == len(stamps) or (stamps[after] != time and after == 0):
                continue
            first = after if stamps[after] == time else after - 1
            if stamps[after] - stamps[first] <= LONGEST_GAP:
                x = [float(np.interp(*(t.astype(float) for t in (time, stamps)), c)) for c in columns]
                centres.append(Centre(storm, boxes[storm], time, *x))
    return centres


def sides(centres: Iterable[Centre], held_out: Sequence[Period]) -> tuple[list[Scene], list[Scene]]:
    """Return the scenes to train on and those of held-out dates; no storm is sought in both.

    A storm is sought on the side where more of its centres of 34 kt lie, and ignored on the other. A box is searched at
    the times at which there is a track in it: where there is none, the files do not say whether there was no storm.
    """
    by_place = collections.defaultdict(list)
    balance: dict[str, int] = collections.Counter()
    for centre in centres:
        late = bool(in_periods(np.array([centre.time]), held_out)[0])
        by_place[centre.box, centre.time, late].append(centre)
        balance[centre.storm] += (1 if late else -1) * (centre.wind >= GALE)
    scenes: tuple[list[Scene], list[Scene]] = ([], [])
    for (box, time, late), present in sorted(by_place.items()):
        sought = tuple(c for c in present if c.wind >= GALE and (balance[c.storm] > 0) == late)
        scenes[late].append(Scene(box, time, sought, tuple(c for c in present if c not in sought)))
    return scenes


def kilometres(latitude: np.ndarray, longitude: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """Return great-circle distances of points to one place, degrees north and east."""
    return np.asarray(distance_and_bearing((latitude, longitude), place)[0] / 1e3)


def nearest_kilometres(latitude: np.ndarray, longitude: np.ndarray, centres: Sequence[Centre]) -> np.ndarray:
    """Return the distance of points to the nearest of some storms, infinite where there is none."""
    each = [kilometres(latitude, longitude, (c.latitude, c.longitude)) for c in centres]
    return np.min(each, 0) if each else np.full(np.broadcast(latitude, longitude).shape, np.inf)
