"""The advection score: does attention look where the air came from?

For each position that asks, the centroid of its map over a past field says where it looks, relative to itself. The wind
says how the air moved since. Attention that follows the flow looks upstream: the correlation of both displacements is
negative, and −1 at best. Tokens of one day resemble each other, so that the interval is over blocks of days.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np

from atmoloss.errors import InputError, floats, number, option
from atmoloss.sphere import EARTH_RADIUS
from atmoloss.verification.statistics.bootstrap import DEFAULT_BLOCK_DAYS, BlockBootstrap


class AdvectionScore(NamedTuple):
    """Correlation of where attention looks with how the air moved since: −1 where it follows the flow, 0 by chance.

    Attributes:
        value: both components pooled.
        low, high: bounds of the 95 % interval over blocks of days; NaN for too few blocks.
        south, east: of each component alone; NaN where it never differs.
    """

    value: float
    low: float
    high: float
    south: float
    east: float


def displacement(maps: np.ndarray) -> np.ndarray:
    """Return where maps look relative to their query, (…, 2): positions southward and eastward.

    Args:
        maps: (…, S, S), weights around each query, rows southward and columns eastward, as
            :meth:`atmoloss.predictor.Predictor.attention` returns them; their sum need not be 1.

    Returns:
        The centroids; NaN where a map has no weight.
    """
    side = maps.shape[-1]
    if maps.ndim < 2 or maps.shape[-2] != side or side % 2 == 0:
        raise InputError(f"maps: got shape {maps.shape}, expected (…, S, S) with an odd S")
    offset = np.arange(side) - side // 2
    south, east = (maps.sum(axis) @ offset for axis in (-1, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        centroids: np.ndarray = np.stack((south, east), -1) / maps.sum((-2, -1))[..., None]
    return centroids


def motion(u: np.ndarray, v: np.ndarray, latitude: np.ndarray, spacing: float, hours: float) -> np.ndarray:
    """Return how far the air moves in some hours, (…, h, w, 2): positions southward and eastward.

    Args:
        u, v: eastward and northward wind at the positions, (…, h, w), m/s.
        latitude: of the rows, (h,), degrees.
        spacing: from one position to the next, degrees; the stride of the features times the spacing of the grid.
        hours: between the past field and the present.
    """
    metres = math.radians(spacing) * EARTH_RADIUS
    seconds = 3600.0 * hours
    shrinks = np.cos(np.radians(latitude))[:, None]
    return np.stack((-v * seconds / metres, u * seconds / (metres * shrinks)), -1)


def interior(height: int, width: int, side: int, periodic: bool = False) -> np.ndarray:
    """Return the positions, (h, w) bool, whose whole window of ``side`` lies inside the field.

    Near an edge even a uniform map looks inwards. With ``periodic`` columns have no edge.
    """
    radius = side // 2
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) >= radius for n in (height, width))
    return np.asarray(rows[:, None] & (columns | periodic)[None, :])


def advection_score(
    maps: np.ndarray,
    moved: np.ndarray,
    times: Any,
    *,
    weight: np.ndarray | None = None,
    radius: int | None = None,
    periodic: bool = False,
    remove_latitude_means: bool = False,
    field_means: Literal["kept", "only", "removed"] = "kept",
    block_days: float = DEFAULT_BLOCK_DAYS,
) -> AdvectionScore:
    """Correlate where maps look in a past field with how the air moved since then.

    Args:
        maps: of one head and one past field, (T, h, w, S, S).
        moved: of the air at the queries, (T, h, w, 2), from :func:`motion`.
        times: of the present, (T,) datetime64.
        weight: how much each query counts, (T, h, w): where nothing is in the field, there is nothing to follow.
        radius: positions around a query that count, where the windows of the maps are wider (those of a rollout).
        periodic: columns wrap, and no column is near an edge.
        remove_latitude_means: take the mean of each row of both displacements out first: that westerlies are westerly
            then counts for nothing.
        field_means: ``"only"`` correlates the means over the positions of each time: how it follows a flow that carries
            all of it. ``"removed"`` takes them out of both displacements: how it follows what differs within a field.
        block_days: of the bootstrap (:class:`BlockBootstrap`); a day, where each day is a run of its own.

    Raises:
        InputError: shapes that do not fit, no position whose window lies inside, or another ``field_means``.
    """
    option("field_means", field_means, ("kept", "only", "removed"))
    option("periodic", periodic, (True, False))
    option("remove_latitude_means", remove_latitude_means, (True, False))
    if radius is not None:
        number("radius", radius, lambda x: x >= 1, "a number of positions of at least 1, or None", Integral)
    maps, moved = np.asarray(maps), np.asarray(moved)
    if maps.ndim != 5:
        raise InputError(f"maps: got shape {maps.shape}, expected (T, h, w, S, S)")
    count, height, width = maps.shape[:3]
    weight = np.ones((count, height, width)) if weight is None else floats("weight", weight, "numbers (T, h, w)")
    if moved.shape != (count, height, width, 2) or weight.shape != (count, height, width):
        raise InputError(
            f"moved, weight: got shapes {moved.shape} and {weight.shape} for maps {maps.shape}, expected (T, h, w, 2) "
            "and (T, h, w) for (T, h, w, S, S)"
        )
    if radius is not None and radius < maps.shape[-1] // 2:
        cut = slice(maps.shape[-1] // 2 - radius, maps.shape[-1] // 2 + radius + 1)
        maps = maps[..., cut, cut]
    inside = interior(height, width, maps.shape[-1], periodic)
    if not inside.any():
        raise InputError(
            f"maps: got windows of {maps.shape[-1]} in {height}x{width} positions, expected a smaller radius"
        )
    looks, moves = displacement(maps), moved.astype(np.float64)
    weight = np.where(inside[..., None] & np.isfinite(looks) & np.isfinite(moves), weight[..., None], 0.0)
    looks, moves = (np.where(weight > 0, x, 0.0) for x in (looks, moves))
    weight, looks, moves = _without_means(weight, looks, moves, remove_latitude_means, field_means)
    bootstrap = BlockBootstrap(times, block_days)
    if len(bootstrap.block) != count:
        raise InputError(f"times: got {len(bootstrap.block)}, expected {count}, one for each field of the maps")
    products = np.stack((np.ones_like(looks), looks, moves, looks * moves, looks**2, moves**2))
    moments = (weight * products).sum((2, 3))  # (6, T, 2)
    drawn = np.einsum("kb,bmc->mkc", bootstrap.counts, bootstrap.block_sums(moments.swapaxes(0, 1)))
    total, a, b, ab, aa, bb = drawn
    covariance, first, second = ab - a * b / total, aa - a**2 / total, bb - b**2 / total
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = covariance.sum(1) / np.sqrt(first.sum(1) * second.sum(1))
        value, low, high = bootstrap.bounds(pooled)
        south, east = covariance[0] / np.sqrt(first[0] * second[0])
    return AdvectionScore(float(value), float(low), float(high), float(south), float(east))


def _without_means(
    weight: np.ndarray, looks: np.ndarray, moves: np.ndarray, of_latitudes: bool, field_means: str
) -> list[np.ndarray]:
    """Take weighted means out of both displacements, (T, h, w, 2), or leave those of fields, which count alike."""

    def mean(x: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
        total = weight.sum(axes, keepdims=True)
        return np.asarray((weight * x).sum(axes, keepdims=True) / np.where(total > 0, total, 1.0))

    both = [looks, moves]
    if of_latitudes:
        both = [x - mean(x, (0, 2)) for x in both]
    if field_means == "only":
        return [np.sign(weight.sum((1, 2), keepdims=True)), *(mean(x, (1, 2)) for x in both)]
    if field_means == "removed":
        both = [x - mean(x, (1, 2)) for x in both]
    return [weight, *both]
