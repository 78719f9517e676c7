"""Distances between fields as plain functions: pairs, and all pairs."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss import functional
from atmoloss.arrays import Converted, Fields, Weights, convert, convert_lists
from atmoloss.errors import InputError, number, option, require
from atmoloss.extractor import Extractor
from atmoloss.hub import CONFIG_NAME
from atmoloss.loss import AtmoDistLoss
from atmoloss.tiling import working_memory
from atmoloss.weights import name_of

_BATCH_POINTS = 2**18  # encoded at a time; larger batches leave a processor's caches
_PIECE = 1024  # numbers of each vector that are multiplied at a time
_STRIP = 64  # rows; one half of a symmetric product is left out in steps of that


def _make(weights: Weights, device: torch.device, options: dict[str, Any]) -> AtmoDistLoss:
    loss = AtmoDistLoss(weights, **options).to(device)
    loss.inputs.names = ("a", "b")
    return loss


@functools.lru_cache(maxsize=8)
def _cached(weights: str, written: int, device: torch.device, options: tuple[tuple[str, Any], ...]) -> AtmoDistLoss:
    return _make(weights, device, dict(options))


def distance_of(weights: Weights, device: torch.device, options: dict[str, Any]) -> AtmoDistLoss:
    """Return the loss behind a distance; one named set of weights is read once per process."""
    if "reduction" in options:
        raise InputError(f"reduction: got {options['reduction']!r}, expected none; a distance is one value per pair")
    options = {"mse_weight": 0.0, **options, "reduction": "none"}
    if isinstance(options.get("layers"), list):
        options["layers"] = tuple(options["layers"])
    key = tuple(sorted(options.items()))  # by name, since no name is there twice
    try:
        hash(key)
    except TypeError:  # a mapping of layers, say
        return _make(weights, device, options)
    if isinstance(weights, Extractor):
        return _make(weights, device, options)
    name = name_of(weights)
    config = os.path.join(name, CONFIG_NAME)  # a folder that is written anew is read anew
    written = os.stat(config).st_mtime_ns if os.path.isfile(config) else 0
    return _cached(name, written, device, key)


def atmodist_distance(a: Fields, b: Fields, *, weights: Weights = "default", weight: Any = None, **options: Any) -> Any:
    """Return the AtmoDist distance of each pair of fields, (N,).

    The content term of :class:`~atmoloss.AtmoDistLoss` alone (``mse_weight`` is 0 unless given): symmetric,
    zero if and only if the features are equal, a mean square (no root is taken), differentiable.

    Args:
        a, b: two tensors or two arrays (…, C, H, W) whose leading dimensions broadcast, in physical units, row 0
            northernmost, columns eastward. One whose latitude ascends cannot be told from one that descends, and gets
            another number without an error. Or two xarray objects, whose channels, units, orientation and periodicity
            are read off them; their other dimensions broadcast by name, with equal coordinates. To compare forecasts
            with the analyses of their valid times take :func:`atmoloss.score`.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        weight: area weights or mask, see :meth:`AtmoDistLoss.forward`; of xarray objects ``"area"`` for the cosine of
            latitude, or ``None``.
        **options: of :class:`AtmoDistLoss`, except ``reduction``.

    Returns:
        One distance for each pair, as a tensor, array or ``DataArray`` like the arguments.

    Raises:
        InputError: shapes, channels or values that do not fit.
        DataError: an xarray object without the variables of the weights.
        WeightsError: the weights are missing or altered.
    """
    fields = convert({"a": a, "b": b}, weight, weights)
    loss = distance_of(weights, fields.tensors[0].device, {**fields.options, **options})
    return fields.restore(loss(*fields.tensors, fields.weight))


@torch.no_grad()
def distance_matrix(
    fields: Fields,
    others: Fields | None = None,
    *,
    weights: Weights = "default",
    squared: bool = True,
    batch_size: int | None = None,
    max_memory: float = 4e9,
    progress: bool = False,
    **options: Any,
) -> Any:
    r"""Return the distances of every field from every other, (N, M), float32 on the CPU.

    Each field is encoded once. With features Φ weighted such that :math:`d(a, b) = \|Φ(a) - Φ(b)\|^2`, the matrix is
    :math:`\|Φ\|^2 + \|Φ'\|^2 - 2 Φ Φ'^T`, with products in float64: pairs whose fields differ by 10⁻⁴ keep
    their digits.

    Args:
        fields: a tensor or an array (N, C, H, W), physical units, row 0 northernmost, columns eastward; or an xarray
            object with one further dimension, which is read as a whole: see :func:`atmodist_distance`.
        others: (M, C, H, W) in the same form; ``None`` compares the fields with each other.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        squared: return distances as they are, which are squares. Their roots (``False``) obey the triangle inequality,
            which clustering, UMAP and scikit-learn (``metric="precomputed"``) ask for.
        batch_size: fields encoded at a time; ``None`` for about 2¹⁸ points, or what ``max_memory`` allows.
        max_memory: bytes, beside the fields and the matrix itself. Features that do not fit go to a temporary
            file (``TMPDIR`` says where; for its size see docs/speed.md).
        progress: show a bar (extra ``train``).
        **options: of :class:`AtmoDistLoss`, except ``reduction`` and ``sharp``.

    Returns:
        The matrix in the form of the arguments; of xarray objects along their dimension ``DIM`` and ``other_DIM``.

    Raises:
        InputError: shapes, channels or values that do not fit.
        DataError: an xarray object without the variables of the weights.
    """
    if batch_size is not None:
        number("batch_size", batch_size, lambda x: x >= 1, "a number of fields of at least 1, or None", Integral)
    number("max_memory", max_memory, lambda x: x > 0, "a positive number of bytes")
    option("squared", squared, (True, False))
    option("progress", progress, (True, False))
    if options.get("sharp"):
        raise InputError("sharp: got True, expected False; products of features make squared differences only")
    arguments = {"fields": fields} if others is None else {"fields": fields, "others": others}
    converted = convert_lists(arguments, None, weights)
    tensors = {name: its.tensors[0] for name, its in zip(arguments, converted, strict=True)}
    first = tensors["fields"]
    # Half for features; the other half for encoding, which takes no more of its bound without a gradient, and after
    # it for the products.
    loss = distance_of(weights, first.device, {**converted[0].options, **options, "max_memory": max_memory})
    if batch_size is None:
        height, width = first.shape[-2:]
        needed = working_memory(loss.extractor.encoder, height, width, 4, tuple(loss.factors))
        needed += 8 * 4 * first[0].numel()  # what the normalisation makes of them
        batch_size = max(1, min(batch_of(first), int(max_memory / 2 / needed)))
    in_memory = max_memory / 2 / sum(map(len, tensors.values()))
    with tempfile.TemporaryDirectory() as folder:
        embedded = [_embed(loss, x, batch_size, in_memory, folder, name, progress) for name, x in tensors.items()]
        distances = _pairwise(embedded[0], embedded[-1], max_memory / 2)
    return _labelled(distances if squared else distances.sqrt_(), converted)


@torch.no_grad()
def pair_distances(loss: AtmoDistLoss, fields: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the distances (T, T) of fields (T, C, H, W) on the CPU, each encoded once; 0 below the diagonal."""
    out = torch.zeros(len(fields), len(fields))
    if weight is not None:
        weight = functional.expand_weight(weight, fields[:1])
    features = [loss.features(field[None], weight) for field in fields]
    for i, first in enumerate(features[:-1]):
        for j in range(i + 1, len(fields)):
            out[i, j] = loss.compare(first, features[j], weight)
    return out


def _labelled(matrix: Tensor, converted: list[Converted]) -> Any:
    """Return a matrix in the form of the fields that it compares."""
    columns = converted[-1].grid
    if columns is None:
        return converted[0].restore(matrix)
    (dim,) = columns.outer.dims
    labels = {f"other_{name}": (f"other_{dim}", c.values) for name, c in columns.outer.coords.items() if c.ndim}
    return converted[0].restore(matrix, f"other_{dim}").assign_coords(labels)


def batch_of(fields: Tensor) -> int:
    """Return how many fields (N, C, H, W) are encoded at a time."""
    return max(1, _BATCH_POINTS // (fields.shape[-2] * fields.shape[-1]))


def _embed(
    loss: AtmoDistLoss, fields: Tensor, batch_size: int, in_memory: float, folder: str, name: str, progress: bool
) -> np.ndarray:
    """Return vectors whose squared Euclidean distances are the distances of the fields, float32.

    They are cut into pieces, (pieces, N, length), and filled with zeros, so that the products read one piece of
    all fields from one place of the file. Above ``in_memory`` bytes a field they go to one in ``folder``.
    """
    out: np.ndarray | None = None
    starts: Iterator[int] | Any = range(0, len(fields), batch_size)
    if progress:
        starts = require("tqdm", "train").tqdm(starts, desc=f"encode {name}", unit="batch")
    for start in starts:
        batch = fields[start : start + batch_size]
        loss.inputs.fields(name, batch)
        features = loss._encode(batch)
        pieces = -(-sum(features[n][0].numel() for _, factors in loss.mixture for n in factors) // _PIECE)
        block = torch.zeros(len(batch), pieces * _PIECE)
        first = 0
        for part in functional.vectors(features, loss.mixture):
            block[:, first : first + part.shape[1]] = part
            first += part.shape[1]
        if out is None:
            shape = (pieces, len(fields), _PIECE)
            if 4 * pieces * _PIECE <= in_memory:
                out = np.empty(shape, np.float32)
            else:
                out = np.memmap(os.path.join(folder, name), np.float32, "w+", shape=shape)
        out[:, start : start + len(block)] = block.reshape(-1, pieces, _PIECE).movedim(0, 1).numpy()
    assert out is not None
    return out


def _pairwise(rows: np.ndarray, columns: np.ndarray, max_memory: float) -> Tensor:
    """Return the squared distances (N, M) of vectors in pieces; a piece is read and converted once per block."""
    symmetric = rows is columns
    n, m = rows.shape[1], columns.shape[1]
    out = torch.zeros(n, m)
    # Half for the block of products, half for the two pieces that are multiplied, all float64.
    size = max(1, int(min((max_memory / 2 / 8) ** 0.5, max_memory / 2 / (2 * 8 * _PIECE))))
    for i in range(0, n, size):
        for j in range(i if symmetric else 0, m, size):
            block = _block(rows[:, i : i + size], columns[:, j : j + size], symmetric and i == j)
            out[i : i + size, j : j + size] = block
            if symmetric:
                out[j : j + size, i : i + size] = block.T
    return out


def _block(rows: np.ndarray, columns: np.ndarray, diagonal: bool) -> Tensor:
    """Return |a|² + |b|² − 2ab of all pairs, float64; of a block on the diagonal only one half is computed."""
    n, m = rows.shape[1], columns.shape[1]
    products = torch.zeros(n, m, dtype=torch.float64)
    squares = torch.zeros(n, 1, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    strip = _STRIP if diagonal else n
    for piece in range(len(rows)):
        a = torch.from_numpy(rows[piece]).double()
        b = a if diagonal else torch.from_numpy(columns[piece]).double()
        squares[0].add_(a.square().sum(1, keepdim=True))
        squares[1].add_(b.square().sum(1))
        for s in range(0, n, strip):
            first = s if diagonal else 0
            products[s : s + strip, first:].addmm_(a[s : s + strip], b[first:].T)
    distances = products.mul_(-2).add_(squares[0]).add_(squares[1]).clamp_min_(0.0)
    if diagonal:
        distances = distances.triu_(1)
        distances += distances.T.clone()
    return distances
