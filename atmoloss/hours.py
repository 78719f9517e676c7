r"""Distances in hours: the lag at which two analyses are usually as far apart, by curves of distance against lag.

For pairs of analyses whose lag is known, :math:`q_p(h)` is the quantile p of their distances at lag h, made not to
decrease with h. A distance d is then as large as that of two analyses :math:`q_{50}^{-1}(d)` hours apart, and those
lags whose central 80 % of distances hold d are the ones from :math:`q_{90}^{-1}(d)` to :math:`q_{10}^{-1}(d)`: a
confidence interval by inversion of a test (Neyman 1937), which covers the true lag in 80 % of pairs at each lag.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from atmoloss.arrays import Fields, Weights, convert, convert_lists
from atmoloss.distance import distance_of, pair_distances
from atmoloss.errors import InputError, instance, number, option, shown
from atmoloss.extractor import Extractor

_FEWEST_PAIRS = 8  # of a lag: fewer say nothing of its 10th and 90th percentile
_SAME_SPACING = 1.1  # grid spacings within this ratio have the same curve
_SAME_SIZE = 2.0  # fields whose numbers of points are within this ratio have the same curve
_QUANTILES = (0.1, 0.5, 0.9)
_DESCRIBED = ("grid_spacing", "level", "source", "weights")


class Hours(NamedTuple):
    """Equivalent lags: ``hours``, the 80 % range from ``low`` to ``high``, and ``beyond`` (bool), each (N,).

    ``beyond`` marks distances larger than the curve can tell apart; their ``hours`` are the largest lag that it can.
    """

    hours: Any
    low: Any
    high: Any
    beyond: Any


@dataclasses.dataclass(frozen=True)
class LagCurve:
    """How the distance of two analyses grows with the lag between them.

    Attributes:
        hours: (K,) lags, ascending, hours.
        low, median, high: (K,) 10th, 50th and 90th percentile of the distance at each lag, none decreasing.
        size: rows and columns of the fields that were compared.
        grid_spacing: degrees, of these fields; 0 where nobody said.
        level: of these fields, ``"10 m"`` or ``"850 hPa"``; empty where nobody said.
        source: what they are.
        weights: id of the weights whose distance it is; empty where it stands in their folder.
    """

    hours: tuple[float, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]
    size: tuple[int, int]
    grid_spacing: float = 0.0
    level: str = ""
    source: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        for name in ("hours", "low", "median", "high", "size"):  # JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def limit(self) -> float:
        """The largest lag that can be told, hours.

        The last whose median is below the 10th percentile of the longest lags (their last third, in the mean), and by
        5 % below their median.
        """
        third = -(-len(self.hours) // 3)
        last = min(np.mean(self.low[-third:]), 0.95 * np.mean(self.median[-third:]))
        told = [h for h, d in zip(self.hours, self.median, strict=True) if d < last]
        return told[-1] if told else self.hours[0]

    def equivalent_lag(self, distance: Tensor) -> Hours:
        """Return the equivalent lags of distances (N,), float64, on their device.

        Below the shortest lag the curve is a straight line from 0 h and the distance 0.
        """
        d = distance.detach().double().cpu().numpy()
        columns = []
        for quantile in (self.median, self.high, self.low):
            points, first = np.unique((0.0, *quantile), return_index=True)
            columns.append(np.interp(d, points, np.array((0.0, *self.hours))[first]))
        hours, low, high = columns
        limit = self.limit
        kept = (
            np.minimum(hours, limit),
            np.minimum(low, limit),
            np.where(d > self.low[-1], math.inf, high),
            hours > limit,
        )
        return Hours(*(torch.as_tensor(x, device=distance.device) for x in kept))

    def describe(self) -> str:
        """Return what fields it is for, in words."""
        named = f"{self.source}: " if self.source else ""
        level = f", {self.level}" if self.level else ""
        return f"{named}{self.grid_spacing:g}°{level}, {self.size[0]}x{self.size[1]} points"


def fit_lag_curve(distances: ArrayLike, lags: ArrayLike, size: tuple[int, int], **description: Any) -> LagCurve:
    """Fit a curve to distances of pairs of known lag.

    Args:
        distances: (P,), one per pair.
        lags: (P,), hours; lags with fewer than 8 pairs are left out.
        size: rows and columns of the fields.
        **description: ``grid_spacing``, ``level``, ``source`` and ``weights`` of :class:`LagCurve`.

    Raises:
        InputError: fewer than three lags with enough pairs, or distances that do not grow with the lag.
    """
    d, h = np.asarray(distances, np.float64), np.asarray(lags, np.float64)
    known, count = np.unique(h[h > 0], return_counts=True)
    known, count = known[count >= _FEWEST_PAIRS], count[count >= _FEWEST_PAIRS]
    if len(known) < 3:
        got = f"{len(known)} lags with {_FEWEST_PAIRS} or more pairs of fields"
        raise InputError(f"times: got {got}, expected at least 3; more analyses are needed")
    raw = np.array([np.quantile(d[h == lag], _QUANTILES) for lag in known])
    low, median, high = (_not_decreasing(column, count) for column in raw.T)
    if not 0 < median[0] < median[-1]:
        raise InputError(f"fields: distances do not grow with the lag ({median[0]:.3g} to {median[-1]:.3g})")
    rounded = [tuple(float(f"{x:.5g}") for x in column) for column in (known, low, median, high)]
    return LagCurve(rounded[0], rounded[1], rounded[2], rounded[3], size, **description)


def _not_decreasing(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return the weighted least-squares fit that does not decrease (pool adjacent violators, Barlow et al. 1972)."""
    blocks: list[list[float]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append([float(value), float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n, i), (b, m, j) = blocks[-2], blocks.pop()
            blocks[-1] = [(a * n + b * m) / (n + m), n + m, i + j]
    return np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])


def fit_hours(
    fields: Fields,
    times: ArrayLike | None = None,
    *,
    weights: Weights = "default",
    weight: Any = None,
    max_lag: float = 96.0,
    description: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> LagCurve:
    """Fit the curve of distance against lag to analyses of your own; a few days are enough.

    Args:
        fields: a tensor or an array (T, C, H, W), physical units, or an xarray object with times; what is compared
            later should have the same size, grid and level.
        times: (T,), ``datetime64`` or hours; ``None`` for those of an xarray object.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        weight: as the comparisons will have it: (H,) or (H, W), or ``"area"`` with an xarray object.
        max_lag: longest lag, hours.
        description: ``grid_spacing``, ``level`` and ``source`` of :class:`LagCurve`, for those who read it.
        **options: of :func:`atmodist_hours`, the same for both.

    Raises:
        InputError: times that do not fit the fields, too few of them, or an option that changes the distance.
    """
    check_options(options)
    number("max_lag", max_lag, lambda x: x > 0, "a positive number of hours")
    if not isinstance(description, Mapping) or not set(description) <= set(_DESCRIBED):
        raise InputError(f"description: got {shown(description)}, expected a mapping of {', '.join(_DESCRIBED)}")
    converted = convert_lists({"fields": fields}, weight, weights)[0]
    values = converted.tensors[0]
    t = np.asarray(converted.times if times is None else times)
    if t.shape != values.shape[:1]:
        raise InputError(f"times: got shape {t.shape}, expected {tuple(values.shape[:1])}, one per field")
    if np.issubdtype(t.dtype, np.datetime64):
        t = (t - t.min()) / np.timedelta64(1, "h")
    loss = distance_of(weights, values.device, {**converted.options, **options})
    matrix = pair_distances(loss, values, converted.weight)
    lag = np.asarray(t, np.float64)[None, :] - np.asarray(t, np.float64)[:, None]
    chosen = (lag > 0) & (lag <= max_lag)
    size = (int(values.shape[-2]), int(values.shape[-1]))
    description = {"weights": loss.extractor.info.id, **description}
    return fit_lag_curve(matrix.numpy()[chosen], lag[chosen], size, **description)


def curve_for(
    extractor: Extractor,
    size: Sequence[int],
    grid_spacing: float | None = None,
    level: str | None = None,
    own: LagCurve | None = None,
) -> LagCurve:
    """Return ``own``, or the curve of some weights for a grid spacing and level, of several sizes the nearest.

    Raises:
        InputError: none, or several kinds of field, fit, which the sentence lists; or ``own`` is of other weights.
    """
    check_fields(grid_spacing, level, own)
    if own is not None:
        if own.weights not in ("", extractor.info.id):
            raise InputError(f"curve: got one of weights {own.weights}, expected one of {extractor.info.id}")
        if not 1 / _SAME_SIZE <= math.prod(size) / math.prod(own.size) <= _SAME_SIZE:
            warnings.warn(
                f"curve: got one of fields of {own.size[0]}x{own.size[1]} points for fields of {size[0]}x{size[1]}; "
                "distances depend on the size",
                stacklevel=3,
            )
        return own
    curves = [LagCurve(**values) for values in extractor.info.lag_curves]
    fitting = [
        c
        for c in curves
        if (grid_spacing is None or 1 / _SAME_SPACING <= grid_spacing / c.grid_spacing <= _SAME_SPACING)
        and (level is None or level.replace(" ", "").lower() == c.level.replace(" ", "").lower())
    ]
    if len({(c.grid_spacing, c.level) for c in fitting}) != 1:
        kinds = "; ".join(dict.fromkeys(f"{c.grid_spacing:g} degrees, {c.level}" for c in curves)) or "none"
        raise InputError(
            f"grid_spacing, level: got {grid_spacing} and {level}, expected one of those that {extractor.info.id} "
            f"has a curve for ({kinds}), or curve=fit_hours(fields, times) of your own analyses"
        )
    return min(fitting, key=lambda c: abs(math.log(math.prod(c.size) / math.prod(size))))


def check_fields(grid_spacing: object, level: object, curve: object) -> None:
    """Raise ``InputError`` for what should say which fields are compared and is of another type."""
    if grid_spacing is not None:
        number("grid_spacing", grid_spacing, lambda x: x > 0, "a positive number of degrees, or None")
    instance("level", level, (str, type(None)), "a text such as '10 m' or '850 hPa', or None")
    instance("curve", curve, (LagCurve, type(None)), "what fit_hours returns, or None")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ``InputError`` for an option of the loss with which the curves are not those of its distance."""
    for name in ("layers", "scale", "mse_weight", "normalization", "sharp"):
        if name in options:
            raise InputError(f"{name}: got {options[name]!r}, expected none; curves belong to the plain distance")


def atmodist_hours(
    a: Fields,
    b: Fields,
    *,
    grid_spacing: float | None = None,
    level: str | None = None,
    curve: LagCurve | None = None,
    uncertainty: bool = False,
    weights: Weights = "default",
    weight: Any = None,
    **options: Any,
) -> Any:
    """Return how many hours apart two analyses are that differ as much as each pair of fields, (N,) float64.

    Args:
        a, b: tensors, arrays or xarray objects, as :func:`atmodist_distance` takes them.
        grid_spacing: degrees; which of the curves that belong to the weights is meant, together with ``level``.
        level: of the fields, as the curves name it: ``"10 m"``, ``"850 hPa"``. xarray objects say both themselves.
        curve: from :func:`fit_hours`, instead of those of the weights.
        uncertainty: return :class:`Hours`, with the 80 % range and a mark where the distance is beyond what the
            curve can tell. Without it, such distances get the largest lag that can be told, and a warning.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        weight: area weights or mask, as :func:`atmodist_distance` takes them.
        **options: ``periodic``, ``max_memory``, ``compile``, ``compute_dtype``, ``transform`` and ``validate`` of
            :class:`AtmoDistLoss`; others would change the distance that the curve was fitted to.

    Raises:
        InputError: no curve for such fields, or fields that :func:`atmodist_distance` refuses.
    """
    check_options(options)
    option("uncertainty", uncertainty, (True, False))
    fields = convert({"a": a, "b": b}, weight, weights)
    loss = distance_of(weights, fields.tensors[0].device, {**fields.options, **options})
    distance = loss(*fields.tensors, fields.weight)
    if fields.grid is not None:
        grid_spacing, level = grid_spacing or fields.grid.spacing, level or fields.grid.level or None
    curve = curve_for(loss.extractor, fields.tensors[0].shape[-2:], grid_spacing, level, curve)
    hours = curve.equivalent_lag(distance)
    if uncertainty:
        return Hours(*map(fields.restore, hours))
    if hours.beyond.any():
        warnings.warn(
            f"atmodist_hours: {int(hours.beyond.sum())} of {len(distance)} distances are beyond {curve.limit:g} h, the "
            "largest lag that can be told; they are given as that",
            stacklevel=2,
        )
    return fields.restore(hours.hours)
