"""The comparisons of ``atmoloss distance``: fields that belong together, forecasts, and all with all.

Of ``a`` and ``b``, which are on one grid, by a loss with ``reduction="none"``; ``DataError`` where no time is common.
A ``read`` gives the columns of a table, by name, that distances are shown in; the first is drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.cli import plots
from atmoloss.data.forecasts import has_runs, init_texts, lead_hours, matching, valid_texts
from atmoloss.errors import DataError
from atmoloss.hours import LagCurve
from atmoloss.loss import AtmoDistLoss
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

if TYPE_CHECKING:
    import xarray as xr

# Cells encoded at a time: the activations of the bundled encoder are then about 200 MB.
_BATCH_CELLS = 2**20

Rows = Sequence[Sequence[Any]]
Read = Callable[[Tensor], dict[str, Tensor]]


def as_distance(distances: Tensor) -> dict[str, Tensor]:
    """Show distances as they are."""
    return {"distance": distances}


def in_hours(curve: LagCurve) -> Read:
    """Return what shows distances as equivalent lags with their 80 % range, hours."""

    def read(distances: Tensor) -> dict[str, Tensor]:
        lag = curve.equivalent_lag(distances)
        return {"hours": lag.hours, "low": lag.low, "high": lag.high}

    return read


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Distances as a table, and how they are drawn."""

    header: Sequence[str]
    rows: Rows
    draw: Callable[[str, str], None]
    """Given a path and a title."""
    summary: tuple[Sequence[str], Rows] | None = None
    """Header and rows of a shorter table, to be printed instead."""


def compare_pairs(loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, read: Read = as_distance) -> Comparison:
    """Compare fields of the same time, or the only field of ``a`` with the only one of ``b``."""
    a, b, distances = _distances(loss, a, b)
    columns = {name: values.tolist() for name, values in read(distances).items()}
    times, others = valid_texts(a), valid_texts(b)
    name, values = next(iter(columns.items()))
    draw: Callable[[str, str], None] = partial(plots.draw_series, x=a["time"].values, series={"": values}, name=name)
    if len(values) == 1:
        text = times[0] if times == others else f"{times[0]} and {others[0]}"
        unit = " h" if name == "hours" else ""
        draw = partial(_draw_map, loss=loss, a=a, b=b, heading=f"{text}: {values[0]:.4g}{unit}")
    labels = {"time": times} if times == others else {"time of A": times, "time of B": others}
    return Comparison([*labels, *columns], list(zip(*labels.values(), *columns.values(), strict=True)), draw)


def compare_forecasts(
    loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, forecast: str, *, by_lead: bool, read: Read = as_distance
) -> Comparison:
    """Compare forecasts, ``"A"`` or ``"B"``, with fields at their valid times; the summary has means by lead time.

    Their 95 % intervals are by bootstrap over blocks of five days of initial times, where there are several blocks.
    """
    a, b, distances = _distances(loss, a, b)
    columns = {name: values.tolist() for name, values in read(distances).items()}
    name, values = next(iter(columns.items()))
    data = a if forecast == "A" else b
    hours = lead_hours(data)
    leads, group = np.unique(hours, return_inverse=True)
    means, low, high = _by_group(np.asarray(values), group, data["init_time"].values)
    known = bool(np.isfinite(low).all())  # an interval; there is none of a few days
    shown = (means, low, high) if known else (means,)
    x, y = (leads, shown) if len(leads) > 1 else (data["time"].values, values)
    labels = {"initial time": init_texts(data), "lead [h]": [f"{h:g}" for h in hours], "valid time": valid_texts(data)}
    summary = [[f"{h:g}", *row, str(n)] for h, n, *row in zip(leads, np.bincount(group), *shown, strict=True)]
    titles = ["lead [h]", f"mean {name}", *(("95 % from", "to") if known else ()), "number"]
    return Comparison(
        [*labels, *columns],
        list(zip(*labels.values(), *columns.values(), strict=True)),
        partial(plots.draw_series, x=x, series={"": y}, name=name),
        (titles, summary) if by_lead else None,
    )


def _by_group(values: np.ndarray, group: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return means by lead time and their 95 % intervals, (3, L); bounds are NaN where all starts are one block."""
    bootstrap = BlockBootstrap(starts)
    out = []
    for g in range(group.max() + 1):
        sums, totals = (bootstrap.block_sums(x * (group == g)) for x in (values, np.ones_like(values)))
        with np.errstate(invalid="ignore"):  # draws without this lead time
            out.append(bootstrap.bounds(bootstrap.ratios(sums, totals)))
    return np.stack(out, axis=1)


def compare_all(
    a: xr.Dataset, b: xr.Dataset, distance_matrix: Callable[..., Tensor], read: Read = as_distance
) -> Comparison:
    """Compare every field of ``a`` with every one of ``b``, which may be ``a``, by a partial ``distance_matrix``."""
    fields = [_tensor(data) for data in ((a,) if a is b else (a, b))]
    if not all(field.isfinite().all() for field in fields):
        raise DataError("--missing: got 'ignore' with --matrix and missing values, expected a value to fill in")
    name, shown = next(iter(read(distance_matrix(*fields, batch_size=_batch_size(a))).items()))
    values = shown.numpy()
    rows, columns = _labels(a), _labels(b)
    draw = partial(plots.draw_matrix, values=values, rows=rows, columns=columns, name=name)
    table = [[label, *row] for label, row in zip(rows, values.tolist(), strict=True)]
    return Comparison(["time", *columns], table, draw)


@torch.no_grad()
def _distances(loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, Tensor]:
    """Return the fields of ``a`` and of ``b`` that belong together, and their distances."""
    if not a.sizes["time"] == b.sizes["time"] == 1:
        first, second = matching(a, b)
        if not len(first):
            spans = [f"{len(t)} from {min(t)} to {max(t)}" for t in (valid_texts(a), valid_texts(b))]
            raise DataError(
                f"A and B: have no time in common ({spans[0]}; {spans[1]}), expected fields of the same times, "
                "or one time in each; --matrix compares all with all"
            )
        a, b = a.isel(time=first), b.isel(time=second)
    values = []
    size = _batch_size(a)
    for start in range(0, a.sizes["time"], size):
        fields = [_tensor(data.isel(time=slice(start, start + size))) for data in (a, b)]
        values.append(loss(*fields, _present(*fields)))
    return a, b, torch.cat(values)


def _tensor(data: xr.Dataset) -> Tensor:
    """Return all fields, (N, C, H, W)."""
    return torch.from_numpy(np.stack([field.values for field in data.data_vars.values()], axis=1))


def _batch_size(data: xr.Dataset) -> int:
    return max(1, min(32, _BATCH_CELLS // (data.sizes["latitude"] * data.sizes["longitude"])))


def _present(first: Tensor, second: Tensor) -> Tensor | None:
    """Return where both fields have values, (N, 1, H, W), or ``None`` if that is everywhere."""
    present = (torch.isfinite(first) & torch.isfinite(second)).all(1, keepdim=True)
    return None if present.all() else present.float()


@torch.no_grad()
def _draw_map(path: str, title: str, *, loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, heading: str) -> None:
    """Draw where two fields differ; blank where one of them has no value."""
    first, second = _tensor(a), _tensor(b)
    present = _present(first, second)
    if present is not None:  # zero in both, as good as the mean there
        first, second = (field.masked_fill(present == 0, 0.0) for field in (first, second))
    values = loss.spatial(first, second)
    if present is not None:
        values = values.masked_fill(present == 0, torch.nan)
    axes = {axis: a[axis].values for axis in ("latitude", "longitude")}
    plots.draw_map(path, title, values=values[0, 0].numpy(), heading=heading, **axes)


def _labels(data: xr.Dataset) -> list[str]:
    """Return a name for each field: its valid time, with that of its start where runs repeat it."""
    times = valid_texts(data)
    return [f"{t} of {s}" for t, s in zip(times, init_texts(data), strict=True)] if has_runs(data) else times
