"""A linear read-out: logistic regression whose penalty is chosen by cross-validation over whole storms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

PENALTIES = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
"""Of the squared norm of the coefficients of standardised features, in units of the mean log loss."""
FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Rows:
    """Positions to learn from: features ``x`` (n, K), the scene of each, and the label whose storm it is, −1 for none.

    ``storm`` (labels,) and ``scene_of`` (labels,) say of each label which storm and which scene it is of.
    """

    x: np.ndarray
    scene: np.ndarray
    label: np.ndarray
    storm: np.ndarray
    scene_of: np.ndarray


@dataclasses.dataclass(frozen=True)
class Readout:
    """Coefficients of the features as they come, (K,), the constant, and the penalty that was chosen."""

    coefficients: np.ndarray
    constant: float
    penalty: float


def _balanced(positive: np.ndarray) -> np.ndarray:
    """Return weights with which the positions of storms count as much as all others together."""
    return np.asarray(np.where(positive, 0.5 / max(positive.sum(), 1), 0.5 / max((~positive).sum(), 1)))


def _path(x: np.ndarray, positive: np.ndarray) -> list[np.ndarray]:
    """Return the coefficients, the constant last, for every penalty, each started from the one before."""
    sign, weight = np.where(positive, 1.0, -1.0), _balanced(positive)
    theta, path = np.zeros(x.shape[1] + 1), []

    def loss(theta: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        w = theta[:-1]
        margin = sign * (x @ w.astype(x.dtype) + theta[-1])
        slope = -weight * sign / (1 + np.exp(np.clip(margin, -50, 50)))
        gradient = np.append(x.T @ slope.astype(x.dtype) + penalty * w, slope.sum())
        return float(weight @ np.logaddexp(0, -margin) + penalty / 2 * w @ w), gradient

    for penalty in PENALTIES:
        theta = minimize(loss, theta, (penalty,), "L-BFGS-B", jac=True, options={"maxiter": 40}).x
        path.append(theta)
    return path


def _folds(rows: Rows, labels: np.ndarray) -> list[np.ndarray]:
    """Divide labels into folds of whole storms, or of single labels where they are all of one storm."""
    of = rows.storm[labels] if len(set(rows.storm[labels])) > 1 else labels
    storms, count = np.unique(of, return_counts=True)
    rank = np.empty(len(storms), int)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(storms))
    fold = rank[np.searchsorted(storms, of)] % FOLDS
    return [labels[fold == k] for k in range(min(FOLDS, len(storms)))]


def _chosen(rows: Rows, labels: np.ndarray, but: np.ndarray | None = None) -> np.ndarray:
    """Say which rows are of these labels, or of no storm in their scenes; none of the scenes of ``but``."""
    scenes = set(rows.scene_of[labels]) - (set() if but is None else set(rows.scene_of[but]))
    return np.asarray(np.isin(rows.scene, list(scenes)) & np.isin(rows.label, [-1, *labels]))


def fit(rows: Rows, labels: Sequence[int] | np.ndarray) -> Readout:
    """Fit to some labels and the fields that they are of; what other labels mark is left out."""
    labels = np.asarray(labels)
    every = _chosen(rows, labels)
    mean, std = rows.x[every].mean(0), rows.x[every].std(0)
    std = np.where(std > 1e-6 * np.abs(mean), std, np.inf)  # what never changes tells nothing
    x = ((rows.x - mean) / std).astype(np.float32)
    risk = np.zeros(len(PENALTIES))
    for held in _folds(rows, labels):
        known, judged = _chosen(rows, labels, but=held), _chosen(rows, held)
        positive = rows.label[known] >= 0
        if not positive.any():
            continue
        weight = _balanced(rows.label[judged] >= 0)
        sign = np.where(rows.label[judged] >= 0, 1.0, -1.0)
        for k, theta in enumerate(_path(x[known], positive)):
            risk[k] += len(held) * weight @ np.logaddexp(0, -sign * (x[judged] @ theta[:-1] + theta[-1]))
    best = int(np.argmin(risk)) if risk.any() else 1
    theta = _path(x[every], rows.label[every] >= 0)[best]
    coefficients = theta[:-1] / std
    return Readout(coefficients, float(theta[-1] - mean @ coefficients), PENALTIES[best])
