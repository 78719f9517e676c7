"""The box in the centre of a patch: cut it out, hide it, put it back, and fill it by Laplace's equation."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor


def _inside(fields: Tensor, size: int) -> tuple[slice, slice]:
    """Rows and columns of the box: as many cells before as after it, or one less before.

    60…99 of 160; the original has 59…98.
    """
    first = [(n - size) // 2 for n in fields.shape[-2:]]
    return slice(first[0], first[0] + size), slice(first[1], first[1] + size)


def cut(fields: Tensor, size: int) -> Tensor:
    """Return the box, (N, C, size, size) of (N, C, H, W)."""
    rows, columns = _inside(fields, size)
    return fields[..., rows, columns]


def paste(filling: Tensor, fields: Tensor) -> Tensor:
    """Return ``fields`` with the box replaced by ``filling`` (N, C, size, size); differentiable in it."""
    out = fields.clone()
    rows, columns = _inside(fields, filling.shape[-1])
    out[..., rows, columns] = filling
    return out


def hide(fields: Tensor, size: int) -> Tensor:
    """Return the fields with zeros in the box: of normalised fields, about their mean."""
    return paste(torch.zeros_like(cut(fields, size)), fields)


def laplace(fields: Tensor, size: int) -> Tensor:
    """Return the harmonic filling of the box, which interpolates what is around it: the baseline.

    The value of every cell is the mean of its four neighbours; the cells around the box are given.

    Returns:
        (N, C, size, size).
    """
    ring = cut(fields, size + 2).flatten(-2)
    return (ring @ _solution(size).to(ring).T).unflatten(-1, (size, size))


@functools.lru_cache(maxsize=4)
def _solution(size: int) -> Tensor:
    """Matrix (size², (size + 2)²) from a box with its surroundings to its harmonic filling."""
    cells = np.arange((size + 2) ** 2).reshape(size + 2, size + 2)
    inner = cells[1:-1, 1:-1].reshape(-1)
    equations = np.zeros((len(inner), cells.size))
    rows = np.arange(len(inner))
    equations[rows, inner] = 4
    for step in (1, -1, size + 2, -size - 2):
        equations[rows, inner + step] = -1
    within = equations[:, inner]
    equations[:, inner] = 0
    return torch.from_numpy(-np.linalg.solve(within, equations))
