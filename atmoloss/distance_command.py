"""What the verb ``distance`` of the command does."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atmoloss import plotting
from atmoloss.data import open_fields
from atmoloss.data.alignment import on_grid_of
from atmoloss.data.forecasts import choose_in, has_runs, init_texts, lead_hours, matching, valid_texts
from atmoloss.distance import distance_matrix
from atmoloss.errors import DataError, InputError
from atmoloss.extractor import load_extractor
from atmoloss.loss import AtmoDistLoss
from atmoloss.sphere import is_periodic

if TYPE_CHECKING:
    import xarray as xr

# Cells encoded at a time: the activations of the bundled encoder are then about 200 MB.
_BATCH_CELLS = 2**20


def distance(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss distance``."""
    if arguments.b is None and not arguments.matrix:
        arguments._parser.error("B is missing; only --matrix does without it")
    for option in ("plot", "csv"):  # before the work, not after it
        path = getattr(arguments, option)
        if path is not None and not Path(path).absolute().parent.is_dir():
            raise InputError(f"--{option}: got {path!r}, whose folder does not exist")
    extractor = load_extractor(arguments.weights)
    options: dict[str, Any] = {"scale": _scale(arguments.scale), "mse_weight": 0.0}
    if arguments.layers is not None:
        options["layers"] = tuple(name.strip() for name in arguments.layers.split(","))
    names = extractor.info.channel_names
    data = {
        name: open_fields(path, names, arguments.level, missing=arguments.missing)
        for name, path in (("A", arguments.a), ("B", arguments.b))
        if path is not None
    }
    forecast = next((name for name, fields in data.items() if has_runs(fields)), None)
    if forecast is None and (arguments.run is not None or arguments.lead is not None):
        forecast = "A"
    data = choose_in(data, arguments.run, arguments.lead, "A")
    a = data["A"]
    b = on_grid_of(a, data["B"]) if "B" in data else a
    options["periodic"] = is_periodic(a["longitude"].values)
    loss = AtmoDistLoss(extractor, reduction="none", **options)
    unit = {"mse": "in units of the MSE of normalised fields", "none": "of raw features"}
    title = (
        f"AtmoDist distance, mean square {unit.get(arguments.scale, f'times {arguments.scale}')}; "
        f"weights {extractor.info.id}, layers {', '.join(loss.factors)}"
    )
    if arguments.matrix:
        _matrix(arguments, loss, a, b, options, title)
    else:
        _pairs(arguments, loss, a, b, forecast, title)
    return 0


def _scale(text: str) -> Any:
    if text in ("mse", "none"):
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--scale: got {text!r}, expected 'mse', 'none' or a number") from None


def _tensor(data: xr.Dataset, times: Any = slice(None)) -> Tensor:
    """Return (N, C, H, W) of some times."""
    return torch.from_numpy(np.stack([field.isel(time=times).values for field in data.data_vars.values()], axis=1))


def _together(a: xr.Dataset, b: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the fields of ``a`` and of ``b`` that belong together."""
    if a.sizes["time"] == b.sizes["time"] == 1:
        return np.zeros(1, int), np.zeros(1, int)
    first, second = matching(a, b)
    if not len(first):
        texts = [valid_texts(d) for d in (a, b)]
        spans = [f"{len(t)} from {min(t)} to {max(t)}" for t in texts]
        raise DataError(
            f"A and B: have no time in common ({spans[0]}; {spans[1]}), expected fields of the same times, "
            "or one time in each; --matrix compares all with all"
        )
    return first, second


def _batches(count: int, data: xr.Dataset) -> Iterator[slice]:
    size = _batch_size(data)
    return (slice(start, start + size) for start in range(0, count, size))


def _batch_size(data: xr.Dataset) -> int:
    return max(1, min(32, _BATCH_CELLS // (data.sizes["latitude"] * data.sizes["longitude"])))


def _present(first: Tensor, second: Tensor) -> Tensor | None:
    """Return where both fields have values, (N, 1, H, W), or ``None`` if that is everywhere."""
    present = (torch.isfinite(first) & torch.isfinite(second)).all(1, keepdim=True)
    return None if present.all() else present.float()


@torch.no_grad()
def _pairs(
    arguments: argparse.Namespace, loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, forecast: str | None, title: str
) -> None:
    """Compare fields that belong together; ``forecast`` says which of A and B are forecasts, if any."""
    first, second = _together(a, b)
    parts = []
    for i in _batches(len(first), a):
        fields = _tensor(a, first[i]), _tensor(b, second[i])
        parts.append(loss(*fields, _present(*fields)))
    values = torch.cat(parts).tolist()
    if forecast is not None:
        _forecasts(arguments, a.isel(time=first) if forecast == "A" else b.isel(time=second), values, title)
        return
    times_a, times_b = ([valid_texts(d)[k] for k in i] for d, i in ((a, first), (b, second)))
    if times_a == times_b:
        header, rows = ["time", "distance"], [[t, v] for t, v in zip(times_a, values, strict=True)]
    else:
        header, rows = ["time of A", "time of B", "distance"], [[times_a[0], times_b[0], values[0]]]
    if arguments.plot is not None and len(values) == 1:
        text = times_a[0] if times_a == times_b else f"{times_a[0]} and {times_b[0]}"
        _map(arguments.plot, loss, a.isel(time=first), b.isel(time=second), f"{text}: {values[0]:.4g}", title)
    elif arguments.plot is not None:
        plotting.draw_series(arguments.plot, a["time"].values[first], values, title)
    _report(arguments, title, header, rows)


def _map(path: str, loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, heading: str, title: str) -> None:
    """Draw where two fields differ; blank where one of them has no value."""
    fields = _tensor(a), _tensor(b)
    present = _present(*fields)
    if present is not None:  # zero in both, as good as the mean there
        fields = fields[0].masked_fill(present == 0, 0.0), fields[1].masked_fill(present == 0, 0.0)
    values = loss.spatial(*fields)
    if present is not None:
        values = values.masked_fill(present == 0, torch.nan)
    plotting.draw_map(path, values[0, 0].numpy(), a["latitude"].values, a["longitude"].values, heading, title)


def _forecasts(arguments: argparse.Namespace, data: xr.Dataset, values: Sequence[float], title: str) -> None:
    """Tabulate distances of forecasts: each of them where a run or lead time was chosen, else means by lead time.

    A CSV file has each of them in any case.
    """
    starts, times, hours = init_texts(data), valid_texts(data), lead_hours(data)
    header = ["initial time", "lead [h]", "valid time", "distance"]
    rows = [[s, f"{h:g}", t, v] for s, h, t, v in zip(starts, hours, times, values, strict=True)]
    leads, group = np.unique(hours, return_inverse=True)
    numbers = np.bincount(group)
    means = np.bincount(group, values) / numbers
    if arguments.plot is not None and len(leads) > 1:
        plotting.draw_leads(arguments.plot, leads, means, title)
    elif arguments.plot is not None:
        plotting.draw_series(arguments.plot, data["time"].values, values, title)
    if arguments.run is not None or arguments.lead is not None:
        _report(arguments, title, header, rows)
        return
    print(f"# {title}")
    by_lead = [[f"{h:g}", m, str(n)] for h, m, n in zip(leads, means.tolist(), numbers, strict=True)]
    _print(["lead [h]", "mean distance", "number"], by_lead)
    _write(arguments, header, rows)


def _matrix(
    arguments: argparse.Namespace,
    loss: AtmoDistLoss,
    a: xr.Dataset,
    b: xr.Dataset,
    options: dict[str, Any],
    title: str,
) -> None:
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    fields = [_tensor(d) for d in ((a,) if a is b else (a, b))]
    if arguments.missing == "ignore" and not all(f.isfinite().all() for f in fields):
        raise DataError("--missing: got 'ignore' with --matrix and missing values, expected a value to fill in")
    values = distance_matrix(
        *fields,
        weights=loss.extractor,
        batch_size=_batch_size(a),
        progress=progress,
        **options,
    ).numpy()
    rows_of, columns_of = (_labels(d) for d in (a, b))
    rows = [[time, *row] for time, row in zip(rows_of, values.tolist(), strict=True)]
    if arguments.plot is not None:
        plotting.draw_matrix(arguments.plot, values, rows_of, columns_of, title)
    _report(arguments, title, ["time", *columns_of], rows)


def _labels(data: xr.Dataset) -> list[str]:
    """Return a name for each field: its valid time, with that of its start where runs repeat it."""
    times = valid_texts(data)
    return [f"{t} of {s}" for t, s in zip(times, init_texts(data), strict=True)] if has_runs(data) else times


def _report(arguments: argparse.Namespace, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, to the CSV file asked for or aligned to the standard output, and say what was written.

    Comes after the picture: the reader of a long table may close the pipe.
    """
    print(f"# {title}")
    if arguments.csv is None:
        _print(header, rows)
    _write(arguments, header, rows)


def _print(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    cells = [list(header), *([c if isinstance(c, str) else f"{c:.5g}" for c in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        print("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


def _write(arguments: argparse.Namespace, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if arguments.csv is not None:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    for path in (arguments.csv, arguments.plot):
        if path is not None:
            print(f"# wrote {path}")
