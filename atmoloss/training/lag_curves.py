"""Curves of distance against lag on held-out dates, by which a weights folder says its distances in hours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sources import FieldSource
from atmoloss.distance import distance_matrix
from atmoloss.errors import InputError
from atmoloss.extractor import Extractor
from atmoloss.hours import LagCurve, fit_lag_curve
from atmoloss.lag_2afc.triples import iterate_patches, later_pairs, patch_size

_PATCHES = 48  # of a source, evenly spread
_WHOLE_FIELDS = 96  # times of whole fields
_WHOLE = 1.5  # whole fields have a curve of their own where they have this many times the points of a patch


def fit_lag_curves(extractor: Extractor, sources: Sequence[FieldSource], spec: SequenceSpec) -> list[LagCurve]:
    """Return a curve for patches of each held-out source and, where they are larger, one for whole fields.

    Whole fields wrap where they close in longitude. Every point counts the same. Sources with too few pairs have no
    curve, nor have those of the grid, level and size of one before them.
    """
    curves: dict[tuple[float, str, tuple[int, int]], LagCurve] = {}
    for source in sources:
        size = patch_size(source, spec.patch_sizes[0])
        whole = source.values.shape[-2:]
        samples = [((size, size), _patches(extractor, source, size))]
        if whole[0] * whole[1] > _WHOLE * size**2:
            samples.append((whole, _whole_fields(extractor, source)))
        for shape, matrices in samples:
            try:
                curve = _fit(source, shape, matrices, spec)
            except InputError:  # too few pairs
                continue
            curves.setdefault((curve.grid_spacing, curve.level, curve.size), curve)
    return list(curves.values())


def _patches(extractor: Extractor, source: FieldSource, size: int) -> Iterator[tuple[FieldSource, Tensor]]:
    for patch in iterate_patches(source, None, size, _PATCHES):
        yield source, distance_matrix(patch["fields"], weights=extractor, validate=False)


def _whole_fields(extractor: Extractor, source: FieldSource) -> Iterator[tuple[FieldSource, Tensor]]:
    stride = -(-len(source.times) // _WHOLE_FIELDS)
    chosen = source.select(np.arange(len(source.times)) % stride == 0)
    fields = torch.from_numpy(np.asarray(chosen.values[np.arange(len(chosen.times))], np.float32))
    if fields.isfinite().all():
        yield chosen, distance_matrix(fields, weights=extractor, periodic=source.periodic, validate=False)


def _fit(
    source: FieldSource, size: tuple[int, int], matrices: Iterator[tuple[FieldSource, Tensor]], spec: SequenceSpec
) -> LagCurve:
    """Fit a curve to the distances (T, T) of several samples of one source, at the lags that training has."""
    distances, lags = [], []
    for sample, matrix in matrices:
        hours = sample.hours
        lag = hours[None, :] - hours[:, None]
        pairs = later_pairs(hours, sample.run, spec.n_classes * spec.base_step) & (lag % spec.base_step == 0)
        distances.append(matrix.numpy()[pairs])
        lags.append(lag[pairs])
    if not lags:
        raise InputError(f"{source.name}: no field without missing values")
    return fit_lag_curve(
        np.concatenate(distances),
        np.concatenate(lags),
        size,
        grid_spacing=round(source.grid_spacing, 4),
        level=source.level or source.name,
        source=source.name,
    )


def as_json(curve: LagCurve) -> dict[str, object]:
    """Return what ``config.json`` holds of a curve."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(curve).items()}
