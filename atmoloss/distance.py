"""Distances between fields as plain functions: pairs, and all pairs."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.errors import InputError, require
from atmoloss.extractor import Extractor
from atmoloss.loss import AtmoDistLoss
from atmoloss.weights import CONFIG_NAME

Weights = str | os.PathLike[str] | Extractor


@functools.lru_cache(maxsize=8)
def _cached(weights: str, written: int, device: torch.device, options: tuple[tuple[str, Any], ...]) -> AtmoDistLoss:
    return AtmoDistLoss(weights, **dict(options)).to(device)


def _distance_of(weights: Weights, device: torch.device, options: dict[str, Any]) -> AtmoDistLoss:
    """Return the loss behind a distance; one named set of weights is read once per process."""
    if "reduction" in options:
        raise InputError(f"reduction: got {options['reduction']!r}, expected none; a distance is one value per pair")
    options = {"mse_weight": 0.0, **options, "reduction": "none"}
    if isinstance(options.get("layers"), list):
        options["layers"] = tuple(options["layers"])
    key = tuple(sorted(options.items(), key=lambda item: item[0]))
    try:
        hash(key)
    except TypeError:  # a mapping of layers, say
        return AtmoDistLoss(weights, **options).to(device)
    if isinstance(weights, Extractor):
        return AtmoDistLoss(weights, **options).to(device)
    config = os.path.join(os.fspath(weights), CONFIG_NAME)  # a folder that is written anew is read anew
    written = os.stat(config).st_mtime_ns if os.path.isfile(config) else 0
    return _cached(os.fspath(weights), written, device, key)


def atmodist_distance(
    a: Tensor, b: Tensor, *, weights: Weights = "default", weight: Tensor | None = None, **options: Any
) -> Tensor:
    """Return the AtmoDist distance of each pair of fields, (N,).

    The content term of :class:`~atmoloss.AtmoDistLoss` alone (``mse_weight`` is 0 unless given): symmetric,
    zero if and only if the features are equal, a mean square (no root is taken), differentiable.

    Args:
        a, b: (N, C, H, W), physical units.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        weight: area weights or mask, see :meth:`AtmoDistLoss.forward`.
        **options: of :class:`AtmoDistLoss`, except ``reduction``.

    Raises:
        InputError: shapes, channels or values that do not fit.
        WeightsError: the weights are missing or altered.
    """
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, Tensor):
            raise InputError(f"{name}: got {type(value).__name__}, expected a tensor (N, C, H, W)")
    return _distance_of(weights, a.device, options)._compare(a, b, weight, ("a", "b"))


@torch.no_grad()
def distance_matrix(
    fields: Tensor,
    others: Tensor | None = None,
    *,
    weights: Weights = "default",
    batch_size: int = 32,
    max_memory: float = 4e9,
    progress: bool = False,
    **options: Any,
) -> Tensor:
    """Return the distances of every field from every other, (N, M), float32 on the CPU.

    Each field is encoded once. With features Φ weighted such that d(a, b) = |Φ(a) − Φ(b)|², the matrix is
    |Φ|² + |Φ'|² − 2ΦΦ'ᵀ in float64 of centred features: a pair whose fields differ by 10⁻⁴ keeps its digits.

    Args:
        fields: (N, C, H, W), physical units.
        others: (M, C, H, W); ``None`` compares the fields with each other.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        batch_size: fields encoded at a time.
        max_memory: bytes; features beyond it go to a temporary file.
        progress: show a bar (extra ``train``).
        **options: of :class:`AtmoDistLoss`, except ``reduction``.

    Raises:
        InputError: shapes, channels or values that do not fit.
    """
    if batch_size < 1:
        raise InputError(f"batch_size: got {batch_size}, expected at least 1")
    if not max_memory > 0:
        raise InputError(f"max_memory: got {max_memory}, expected a positive number of bytes")
    for name, value in (("fields", fields), ("others", others)):
        if name == "others" and value is None:
            continue
        if not isinstance(value, Tensor) or value.ndim != 4 or not len(value):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"{name}: got {got}, expected a tensor (N, C, H, W) of at least one field")
    if others is not None and others.shape[1:] != fields.shape[1:]:
        raise InputError(
            f"others: got shape {tuple(others.shape)}, expected (M, {', '.join(map(str, fields.shape[1:]))})"
        )
    loss = _distance_of(weights, fields.device, options)
    with tempfile.TemporaryDirectory() as folder:
        rows = _embed(loss, fields, batch_size, max_memory / 2, folder, "fields", progress)
        columns = (
            rows if others is None else _embed(loss, others, batch_size, max_memory / 2, folder, "others", progress)
        )
        return _pairwise(rows, columns, block=max(1, int(max_memory / 8 / 8 / rows.shape[1])))


def _embed(
    loss: AtmoDistLoss,
    fields: Tensor,
    batch_size: int,
    max_memory: float,
    folder: str,
    name: str,
    progress: bool,
) -> np.ndarray:
    """Return (N, D) float32 rows whose squared Euclidean distances are the distances of the fields."""
    rows: np.ndarray | None = None
    starts: Iterator[int] | Any = range(0, len(fields), batch_size)
    if progress:
        starts = require("tqdm", "train").tqdm(starts, desc=f"encode {name}", unit="batch")
    for start in starts:
        features = loss._features(name, fields[start : start + batch_size])
        parts = [
            (factor / features[n][0].numel()) ** 0.5 * features[n].float().flatten(1)
            for n, factor in ((n, f * (1 - loss.mse_weight)) for n, f in loss.factors.items())
        ]
        if loss.mse_weight:
            pixel = features["normalised"]
            parts.append((loss.mse_weight / pixel[0].numel()) ** 0.5 * pixel.float().flatten(1))
        block = torch.cat(parts, 1).cpu().numpy()
        if rows is None:
            shape = (len(fields), block.shape[1])
            in_memory = 4 * shape[0] * shape[1] <= max_memory
            path = os.path.join(folder, name)
            rows = np.empty(shape, np.float32) if in_memory else np.memmap(path, np.float32, "w+", shape=shape)
        rows[start : start + batch_size] = block
    assert rows is not None
    return rows


def _pairwise(rows: np.ndarray, columns: np.ndarray, block: int) -> Tensor:
    symmetric = rows is columns
    centre = torch.from_numpy(np.asarray(rows[: min(len(rows), 256)]).mean(0, dtype=np.float64))
    out = torch.zeros(len(rows), len(columns), dtype=torch.float64)
    for i in range(0, len(rows), block):
        a = torch.from_numpy(rows[i : i + block]).double() - centre
        for j in range(i if symmetric else 0, len(columns), block):
            b = torch.from_numpy(columns[j : j + block]).double() - centre
            d = a.square().sum(1)[:, None] + b.square().sum(1)[None, :] - 2 * a @ b.T
            out[i : i + block, j : j + block] = d
            if symmetric:
                out[j : j + block, i : i + block] = d.T
    if symmetric:
        out.fill_diagonal_(0.0)
    return out.clamp_min_(0.0).float()
