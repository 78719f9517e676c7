"""What a set of weights is worth on held-out data: its lag 2AFC (two-alternative forced choice) beside baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from atmoloss.data import open_fields
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource, source_from_dataset
from atmoloss.errors import DataError
from atmoloss.extractor import Extractor
from atmoloss.heads import PretextModel
from atmoloss.lag_2afc.baselines import (
    extractor_measure,
    pixel_measures,
    random_extractor,
    ssim_measure,
    stage_measures,
)
from atmoloss.lag_2afc.triples import Measure, bootstrap, iterate_patches, measure_source
from atmoloss.normalization import LogNormalization

_CLASS_BATCHES = 32


def open_winds(
    path: str, level: float | None, fields: FieldSource, missing: Any = "error", group: str | None = None
) -> FieldSource | None:
    """Open the winds of the same times and grid as ``fields``, or return ``None`` where a file has none."""
    try:
        dataset = open_fields(path, ("u", "v"), level, missing=missing, group=group)
    except DataError:
        return None
    winds = source_from_dataset(dataset, fields.name)
    keep = np.isin(winds.times, fields.times)
    return winds.select(keep) if keep.sum() == len(fields.times) else None


def lag_2afc(
    extractor: Extractor,
    source: FieldSource,
    winds: FieldSource | None = None,
    *,
    size: int = 64,
    max_lag: int = 96,
    baselines: bool = True,
    limit: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return lag 2AFC with 95 % intervals over blocks of days, the extractor first, and the gap to each baseline.

    Args:
        extractor: of which the recommended distance and each stage alone are measured.
        source, winds, size, max_lag, limit, progress: see :func:`measure_source`.
        baselines: whether those of :mod:`~atmoloss.lag_2afc.baselines` are measured, too.

    Raises:
        DataError: no patch without missing values.

    Returns:
        name → ``value``, ``interval`` and, for all but ``"distance"``, ``gap`` (interval of "distance" minus it);
        intervals are ``None`` where there are too few days, see :func:`~atmoloss.lag_2afc.triples.bootstrap`.
    """
    whole = next(iterate_patches(source, winds, size, limit), None)
    if whole is None:
        raise DataError(f"{source.name}: every patch has missing values, expected one without; fill in a value")
    measures: dict[str, Measure] = stage_measures(extractor)
    if baselines:
        times = np.linspace(0, len(source.times) - 1, min(16, len(source.times))).astype(int)
        sample = whole["fields"][times]
        measures["random weights"] = extractor_measure(
            random_extractor(extractor.info, extractor.normalization, sample), extractor.stages
        )
        measures |= pixel_measures(extractor.normalization)
        measures["SSIM of fields"] = ssim_measure(extractor.normalization)
    tallies = measure_source(source, measures, winds=winds, size=size, max_lag=max_lag, limit=limit, progress=progress)
    intervals, gaps = bootstrap(list(tallies.values()))
    out: dict[str, dict[str, Any]] = {}
    for (name, tally), interval, gap in zip(tallies.items(), intervals, [None, *gaps], strict=True):
        out[name] = {"value": tally.share, "interval": interval and list(interval)}
        if name != "distance":
            out[name]["gap"] = gap and list(gap)
    return out


@torch.no_grad()
def lag_classes(
    model: PretextModel, normalization: LogNormalization, source: FieldSource, spec: SequenceSpec
) -> dict[str, Any]:
    """Return what the pretext head answers on held-out pairs of evenly drawn lags.

    Returns:
        ``top1`` and ``top3`` accuracy, ``mae_hours``, the same ``per_lag`` (hours, n, top1, top3, mae_hours)
        and ``confusion`` (K × K counts, true lag by row).
    """
    model.eval()
    k = spec.n_classes
    confusion, top3, error = np.zeros((k, k), np.int64), np.zeros(k), np.zeros(k)
    source = dataclasses.replace(source, weight=1.0)  # of 0 it would not be drawn
    data = SequenceDataset([source], spec, seed=1, length=_CLASS_BATCHES)
    for i in range(len(data)):
        batch = data[i]
        x1, x2 = (normalization(batch.fields[:, j]) for j in (0, 1))
        logits = model(x1, x2)
        true = ((batch.hours[:, 1] - batch.hours[:, 0]) // spec.base_step - 1).numpy()
        best = logits.topk(min(3, k)).indices.numpy()
        np.add.at(confusion, (true, best[:, 0]), 1)
        np.add.at(top3, true, (best == true[:, None]).any(1))
        np.add.at(error, true, np.abs(best[:, 0] - true) * spec.base_step)
    n = confusion.sum(1)
    sums = {"top1": np.diag(confusion), "top3": top3, "mae_hours": error}
    per_lag = [
        {"hours": (c + 1) * spec.base_step, "n": int(n[c]), **{name: float(x[c] / n[c]) for name, x in sums.items()}}
        for c in range(k)
        if n[c]
    ]
    means = {name: float(x.sum() / n.sum()) for name, x in sums.items()}
    return {**means, "per_lag": per_lag, "confusion": confusion.tolist()}


def evaluate_source(
    extractor: Extractor, model: PretextModel | None, source: FieldSource, winds: FieldSource | None, **options: Any
) -> dict[str, Any]:
    """Evaluate on one source: an entry of ``metrics.json``; ``options`` are those of :func:`lag_2afc`."""
    info = extractor.info
    days = source.dates.astype("datetime64[D]")
    entry: dict[str, Any] = {
        "name": source.name,
        "level": source.level,
        "grid_spacing": source.grid_spacing,
        "n_times": len(source.times),
        "dates": f"{days.min()}/{days.max()}",
        "lag_2afc": lag_2afc(extractor, source, winds, **options),
    }
    if model is not None and info.n_lag_classes:
        head = info.head or {}
        size = head["input_size"][0] if head.get("kind") == "published" else options.get("size", 64)
        spec = SequenceSpec(
            n_times=2, n_classes=info.n_lag_classes, base_step=info.base_step_hours, patch_sizes=(size,), mirror=False
        )
        try:
            entry["classes"] = lag_classes(model, extractor.normalization, source, spec)
        except DataError:  # no pair at a multiple of the base step, or the grid is too small for the head
            entry["classes"] = None
    return entry


def format_entry(entry: dict[str, Any]) -> str:
    """Format an entry of ``metrics.json`` as text."""
    lines = [f"{entry['name']}: {entry['n_times']} times, {entry['grid_spacing']:g}°, {entry['dates']}"]
    scores = entry["lag_2afc"]
    lines.append(f"  {'lag 2AFC':40s} value   95 % over days    distance minus it")
    for name, score in sorted(scores.items(), key=lambda item: -item[1]["value"]):
        interval = "{:.3f} to {:.3f}".format(*score["interval"]) if score["interval"] else "too few days"
        gap = scores["distance"]["value"] - score["value"]
        text = "" if name == "distance" else f"{gap:+.3f}"
        text += " ({:+.3f} to {:+.3f})".format(*score["gap"]) if score.get("gap") else ""
        lines.append(f"  {name:40s} {score['value']:.3f}   {interval:14s}    {text}".rstrip())
    if classes := entry.get("classes"):
        text = "  lag class: top-1 {top1:.3f}, top-3 {top3:.3f}, mean absolute error {mae_hours:.1f} h"
        lines.append(text.format_map(classes))
        text = "    {hours:3d} h: n {n:4d}, top-1 {top1:.2f}, top-3 {top3:.2f}, error {mae_hours:.1f} h"
        lines += [text.format_map(lag) for lag in classes["per_lag"]]
    return "\n".join(lines)
