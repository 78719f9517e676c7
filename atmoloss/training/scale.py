r"""Layer scale: the factor that brings feature distances to the size of the squared error they replace."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atmoloss.errors import InputError


def fit_layer_scale(content: NDArray[Any], mse: NDArray[Any]) -> float:
    r"""Fit the scale of a layer by least squares through zero, on the upper half of the lags.

    .. math:: s = \frac{\sum_i c_i m_i}{\sum_i c_i^2}, \qquad i ≥ \lfloor K/2 \rfloor

    At short lags feature distance and squared error grow differently; at long ones both level off, and
    there their ratio says something (Hoffmann & Lessig 2023, and their code).

    Args:
        content: (K,), mean feature distance of pairs per lag, shortest lag first.
        mse: (K,), mean squared error of the same pairs; of which fields (log-normalised as the network
            gets them, or only standardised as in the original code's last version) is the caller's choice.

    Returns:
        The scale, such that scale × content is near mse.

    Raises:
        InputError: curves of other shapes, missing values, or content that is zero where it is fitted.
    """
    c, m = np.asarray(content, np.float64), np.asarray(mse, np.float64)
    if c.ndim != 1 or c.shape != m.shape or not len(c):
        raise InputError(f"content, mse: got shapes {c.shape} and {m.shape}, expected two equal shapes (K,)")
    c, m = c[len(c) // 2 :], m[len(m) // 2 :]
    if not (np.isfinite(c).all() and np.isfinite(m).all() and (c * c).sum() > 0):
        raise InputError(
            f"content, mse: got {c.tolist()} and {m.tolist()} in the upper half of the lags, expected finite "
            "means that are not all zero"
        )
    return float((c * m).sum() / (c * c).sum())
