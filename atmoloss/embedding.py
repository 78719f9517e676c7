"""Fields as vectors whose squared Euclidean distances are their AtmoDist distances, and the nearest among many."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from atmoloss import functional
from atmoloss.arrays import Fields, Weights, convert
from atmoloss.distance import batch_of, distance_of
from atmoloss.errors import InputError, number, option

_DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
_BLOCK_BYTES = 2**26  # of float64 copies of query and archive, and of the distances between them, at a time


class Neighbours(NamedTuple):
    """The nearest of an archive: ``indices`` into it (int64) and ``distances``, each (…, k), nearest first."""

    indices: Any
    distances: Any


@torch.no_grad()
def embed(
    fields: Fields,
    *,
    weights: Weights = "default",
    weight: Any = None,
    pooling: int | None = None,
    dtype: Literal["float16", "float32", "float64"] | None = None,
    **options: Any,
) -> Any:
    r"""Return vectors (…, D) with :math:`|Φ(a) - Φ(b)|^2 = d(a, b)`, the distance of :func:`atmodist_distance`.

    They are the features of all stages that take part, each times the root of its share, its layer scale and the
    weight of its position, divided by the number of channels. Distances of vectors are therefore those of fields in
    whatever works with Euclidean distances: nearest neighbours, k-means, UMAP.

    Args:
        fields: a tensor or an array (…, C, H, W), or an xarray object, which is read as a whole; see
            :func:`atmodist_distance`.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        weight: area weights or mask, as :func:`atmodist_distance` takes them; the same for all fields.
        pooling: average each stage over windows, at most ``pooling`` in each direction, for short vectors: 1 leaves one
            position a stage, whatever the size of the fields. Squared distances then are lower bounds of the distance.
        dtype: of the vectors; ``None`` is float64 for float64 fields, else float32. float16 keeps three digits.
        **options: of :class:`AtmoDistLoss`, except ``reduction`` and ``sharp``.

    Returns:
        Vectors in the form of the fields; of an xarray object with the dimension ``feature`` in place of those of
        space. Without pooling D is large, a multiple of H × W: about 7.5 for the bundled weights.

    Raises:
        InputError: a bad argument, or fields that :func:`atmodist_distance` refuses.
    """
    if pooling is not None:
        number("pooling", pooling, lambda x: x >= 1, "a number of windows of at least 1, or None", Integral)
    if dtype is not None:
        option("dtype", dtype, tuple(_DTYPES))
    if options.get("sharp"):
        raise InputError("sharp: got True, expected False; Euclidean distances are squared differences")
    converted = convert({"fields": fields}, weight, weights)
    (values,) = converted.tensors
    loss = distance_of(weights, values.device, {**converted.options, **options})
    rows: list[Tensor] = []
    for batch in torch.split(values, batch_of(values)):
        area = loss.inputs.fields("fields", batch, converted.weight)
        strides = {**loss.extractor.encoder.strides, functional.NORMALISED: 1}
        parts = functional.vectors(loss._encode(batch, area), loss.mixture, area, strides, pooling)
        vectors = torch.cat(list(parts), 1)
        rows.append(vectors if dtype is None else vectors.to(_DTYPES[dtype]))
    return converted.restore(torch.cat(rows), "feature")


@torch.no_grad()
def nearest(query: Any, archive: Any, k: int = 1) -> Neighbours:
    """Return the ``k`` vectors of an archive that are nearest to each query, by squared Euclidean distance.

    The archive is read in blocks and compared in float64, so that a memory map on disk, or float16, need not fit into
    memory once more. Work grows with queries × archive × D; for millions of vectors take an index such as FAISS.

    Args:
        query: (…, D), of :func:`embed`: a tensor, an array or a ``DataArray``.
        archive: (N, D), of the same weights and options; any of these, or a memory map.
        k: how many, at most N.

    Returns:
        :class:`Neighbours`, of tensors where the query is one, else of arrays.

    Raises:
        InputError: shapes that do not fit, or a ``k`` that the archive does not have.
    """
    for name, value, least in (("query", query, 1), ("archive", archive, 2)):
        if len(getattr(value, "shape", ())) < least or (name == "archive" and len(value.shape) != 2):
            got = getattr(value, "shape", type(value).__name__)
            raise InputError(f"{name}: got {got}, expected vectors {'(…, D)' if least == 1 else '(N, D)'} of embed()")
    if query.shape[-1] != archive.shape[1]:
        raise InputError(
            f"archive: got vectors of length {archive.shape[1]}, expected {query.shape[-1]}, that of the query"
        )
    n = len(archive)
    number("k", k, lambda x: 1 <= x <= n, f"1 to {n}, the number of vectors of the archive", Integral)
    queries = _rows(query).reshape(-1, query.shape[-1])
    found = [_nearest(queries[i : i + 1024].double(), archive, k) for i in range(0, len(queries), 1024)]
    shape = (*query.shape[:-1], k)
    indices, distances = (torch.cat(column).reshape(shape) for column in zip(*found, strict=True))
    return Neighbours(*((x if isinstance(query, Tensor) else x.cpu().numpy()) for x in (indices, distances)))


def _nearest(queries: Tensor, archive: Any, k: int) -> tuple[Tensor, Tensor]:
    """Return indices and squared distances (Q, k) of a few queries (Q, D), float64."""
    best = queries.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    squares = queries.square().sum(1, keepdim=True)
    step = max(1, _BLOCK_BYTES // (8 * (queries.shape[1] + len(queries))))
    for start in range(0, len(archive), step):
        block = _rows(archive[start : start + step]).to(queries)
        distances = torch.addmm(squares + block.square().sum(1), queries, block.T, alpha=-2).clamp_min_(0)
        numbers = torch.arange(start, start + len(block), device=queries.device).expand(len(queries), -1)
        candidates, all_numbers = torch.cat((best, distances), 1), torch.cat((index, numbers), 1)
        best, chosen = candidates.topk(min(k, candidates.shape[1]), largest=False, sorted=True)
        index = all_numbers.gather(1, chosen)
    return index, best


def _rows(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
