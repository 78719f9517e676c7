"""Analogues: which states may answer for a query, which is chosen, and how its future compares with the truth.

All that is needed of the fields are squared distances (T, T) between all times. Those of winds also give climatology
and anomaly correlation, since the distance of a field from a mean of fields follows from its distances to them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atmoloss import nearest

LEADS = (6, 12, 24, 48)  # hours
FARTHER, WITHIN = 5 * 24, 60 * 24
"""Hours between a query and a state that may answer: no longer the same weather, and still the same season."""
SHARES, DRAWS = (1 / 8, 1 / 4, 1 / 2), 10
"""Of the days, that a thinned archive has, and how often they are drawn."""
FEWEST = 2  # states that may answer, without which a query is not asked
RMSE, CORRELATION = "RMSE of winds", "anomaly correlation"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Queries and what may answer, as indices of T times.

    Attributes:
        hours: (T,) the times.
        query: (Q,) indices of the queries.
        allowed: (Q, T) whether a state may answer.
        later: (T, L) indices of the times that follow after each of ``LEADS``, −1 where there is none.
    """

    hours: np.ndarray
    query: np.ndarray
    allowed: np.ndarray
    later: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Say which times (T,) are queries or may answer one, or follow after such."""
        out = self.allowed.any(0)
        out[self.query] = True
        out[self.later[out]] = True
        return out


def plan(hours: np.ndarray, known: np.ndarray, asked: np.ndarray) -> Plan:
    """Return the plan for times in hours (T,), of which some may answer (T,) and others may be asked for (T,).

    The 48 hours that follow a query are asked for, too, and those that follow an answer are known.
    """
    position = {int(h): i for i, h in enumerate(hours)}
    later = np.array([[position.get(int(h) + lead, -1) for lead in LEADS] for h in hours])

    def with_future(chosen: np.ndarray) -> np.ndarray:
        return np.asarray(chosen & (later >= 0).all(1) & chosen[later].all(1))

    query = np.flatnonzero(with_future(asked))
    away = np.abs(hours[query, None] - hours[None, :])
    allowed = with_future(known) & (away >= FARTHER) & (away <= WITHIN)
    enough = allowed.sum(1) >= FEWEST
    return Plan(hours, query[enough], allowed[enough], later)


def all_distances(vectors: Any) -> np.ndarray:
    """Return the squared distances (T, T) of vectors (T, D) such as :func:`atmoloss.embed` makes."""
    found = nearest(vectors, vectors, k=len(vectors))
    out = np.empty(found.indices.shape)
    np.put_along_axis(out, found.indices, found.distances, 1)
    return out


def principal_components(distances: np.ndarray, known: np.ndarray, most: int) -> np.ndarray:
    """Return the leading components (T, most) of fields whose squared distances are (T, T).

    They are those of the known times (T,), about the mean of these, and all times are projected onto them
    (principal coordinates, Gower 1966, doi:10.1093/biomet/53.3-4.325).
    """
    of_known = distances[:, known]
    row, column = of_known.mean(1, keepdims=True), of_known[known].mean(0)
    products = -0.5 * (of_known - row - column + column.mean())  # of anomalies: all times with the known ones
    values, vectors = np.linalg.eigh(products[known])
    leading = slice(-1, -most - 1, -1)
    return np.asarray(products @ vectors[:, leading] / np.sqrt(values[leading]))


def choose(distances: np.ndarray, query: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the nearest state (Q,) to each query (Q,), of those that may answer (Q, T)."""
    return np.asarray(np.where(allowed, distances[query], np.inf).argmin(1))


def _from_mean(distances: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the squared distances (T,) of fields from the mean of those with the indices ``of``."""
    return np.asarray(distances[:, of].mean(1) - 0.5 * distances[np.ix_(of, of)].mean())


def scores(winds: np.ndarray, judges: Mapping[str, np.ndarray], asked: Plan) -> dict[str, np.ndarray]:
    """Return how the future of every state compares with that of every query, (Q, T + 1, L); the last is persistence.

    The RMSE of winds is a share of that of climatology, the distances of further judges are a share of their mean over
    the states that may answer; both denominators are means over queries, one for each lead. Climatology is the mean
    of the futures of the states that may answer. States that may not are NaN.

    Args:
        winds: squared distances (T, T) of the winds.
        judges: further squared distances (T, T) by name.
        asked: the plan.
    """
    q, t, n = len(asked.query), len(winds), len(LEADS)
    out = {name: np.full((q, t + 1, n), np.nan) for name in (RMSE, CORRELATION, *judges)}
    climatology = np.empty((q, n))
    for i, query in enumerate(asked.query):
        may = np.flatnonzero(asked.allowed[i])
        at = np.append(may, t)
        for k in range(n):
            truth, future = asked.later[query, k], np.append(asked.later[may, k], query)
            away = _from_mean(winds, asked.later[may, k])
            apart = winds[truth, future]
            climatology[i, k] = np.sqrt(away[truth])
            out[RMSE][i, at, k] = np.sqrt(apart)
            both = 2 * np.sqrt(away[truth] * away[future])
            out[CORRELATION][i, at, k] = (away[truth] + away[future] - apart) / both
            for name, distances in judges.items():
                out[name][i, at, k] = distances[truth, future]
    out[RMSE] /= climatology.mean(0)
    for name in judges:
        out[name] /= np.nanmean(out[name][:, :t], 1).mean(0)
    return out


def of_chosen(scored: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores (Q, L) of one state a query (Q,)."""
    return {name: values[np.arange(len(chosen)), chosen] for name, values in scored.items()}


def thinned(asked: Plan) -> list[list[np.ndarray]]:
    """Return what may answer (Q, T) where only some of the days may, for each of ``SHARES`` and each draw of them."""
    days, of = np.unique(asked.hours // 24, return_inverse=True)
    out: list[list[np.ndarray]] = []
    for share in SHARES:
        drawn = [np.random.default_rng(draw).random(len(days)) < share for draw in range(DRAWS)]
        left = [asked.allowed & day[of] for day in drawn]
        out.append([np.where(few.any(1, keepdims=True), few, asked.allowed) for few in left])  # rather all than none
    return out


def mean_correlation(
    scored: Mapping[str, np.ndarray], distances: np.ndarray, query: np.ndarray, draws: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the anomaly correlation (Q,) of the nearest states, mean over leads and over draws of what may answer."""
    chosen = [scored[CORRELATION][np.arange(len(query)), choose(distances, query, allowed)] for allowed in draws]
    return np.asarray(np.mean(chosen, (0, 2)))


def controls(scored: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the scores (Q, L) of persistence, of a random state, and of the best by each score, told by the truth."""
    states = {name: values[:, :-1] for name, values in scored.items()}
    best = {name: np.nanmax if name == CORRELATION else np.nanmin for name in scored}
    return {
        "persistence": {name: values[:, -1] for name, values in scored.items()},
        "random state": {name: np.nanmean(values, 1) for name, values in states.items()},
        "best of the archive": {name: best[name](values, 1) for name, values in states.items()},
    }
