"""From maps of scores to storms: peaks, which of them are storms, average precision with intervals over days."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import maximum_filter
from storms import Centre, kilometres, nearest_kilometres

from atmoloss.verification.statistics.bootstrap import BlockBootstrap

FOUND = 300.0  # km from a centre, within which a peak has found it
REACH = 5  # cells: a peak is the largest score within so many rows and columns


@dataclasses.dataclass
class Detections:
    """Peaks of all scenes, those near ignored storms left out.

    Attributes:
        score: of each peak.
        km: from the storm that it found; NaN for a false alarm.
        scene: number of the scene of each peak.
        sought: number of the scene of each storm that was to be found.
    """

    score: np.ndarray
    km: np.ndarray
    scene: np.ndarray
    sought: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """Whether each peak found a storm."""
        return ~np.isnan(self.km)


def peaks(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the peaks of a map (h, w), the highest first; of equal neighbours the first alone."""
    rows, columns = np.nonzero(scores == maximum_filter(scores, 2 * REACH + 1, mode="nearest"))
    kept: list[int] = []
    for i in np.argsort(-scores[rows, columns], kind="stable"):
        if all(max(abs(rows[i] - rows[j]), abs(columns[i] - columns[j])) > REACH for j in kept):
            kept.append(int(i))
    return rows[kept], columns[kept]


def matched(
    latitude: np.ndarray, longitude: np.ndarray, sought: Sequence[Centre], ignored: Sequence[Centre]
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each peak, the highest first, its distance from the storm that it found, km or NaN, and if it counts.

    Each storm is found once, by the highest peak within 300 km; a peak finds the nearest storm that is left.
    """
    km = np.full(len(latitude), np.nan)
    left = list(sought)
    for i, place in enumerate(zip(latitude, longitude, strict=True)):
        away = [float(kilometres(c.latitude, c.longitude, place)) for c in left]
        if away and min(away) <= FOUND:
            km[i] = min(away)
            left.pop(int(np.argmin(away)))
    return km, ~np.isnan(km) | (nearest_kilometres(latitude, longitude, ignored) > FOUND)


def average_precision(score: np.ndarray, hit: np.ndarray, weight: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the mean precision at the storms that are found, those never found counting 0, for each draw.

    Args:
        score: (P,) of peaks; equal scores count as given.
        hit: (P,) whether it found a storm.
        weight: (D, P) how often each peak counts.
        total: (D,) storms to be found, counted in the same way.

    Returns:
        (D,), NaN where there is nothing to find.
    """
    order = np.argsort(-score, kind="stable")
    weight, hit = weight[:, order], hit[order]
    found = np.cumsum(weight * hit, 1)
    precision = found / np.maximum(np.cumsum(weight, 1), 1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((precision * weight * hit).sum(1) / total)


def draws_of(detections: Detections, days: BlockBootstrap) -> np.ndarray:
    """Return average precision as it is and of draws of days (1001,); ``days`` is over the times of the scenes."""
    peak, sought = (days.counts[:, days.block[scene]] for scene in (detections.scene, detections.sought))
    return average_precision(detections.score, detections.hit, peak, sought.sum(1))
