"""What the verbs ``prepare``, ``distance``, ``info``, ``push`` and ``convert-keras`` of the command do."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atmoloss import hub, plotting
from atmoloss import weights as weights_folder
from atmoloss.data import open_fields
from atmoloss.data.alignment import on_grid_of
from atmoloss.distance import distance_matrix
from atmoloss.errors import DataError, InputError
from atmoloss.extractor import load_extractor
from atmoloss.loss import AtmoDistLoss
from atmoloss.training.card import baselines, best_baseline
from atmoloss.winds import is_periodic

if TYPE_CHECKING:
    import xarray as xr

# Cells encoded at a time: the activations of the bundled encoder are then about 200 MB.
_BATCH_CELLS = 2**20


def prepare(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss prepare``."""
    from atmoloss.data.prepare import PrepareOptions
    from atmoloss.data.prepare import prepare as write

    every = None
    if arguments.every is not None:
        text = arguments.every.lower().removesuffix("h").strip()
        if not text.isdigit():
            raise InputError(f"--every: got {arguments.every!r}, expected hours, e.g. 6 or 6h")
        every = int(text)
    storage = {}
    for item in arguments.storage:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"--storage: got {item!r}, expected KEY=VALUE")
        storage[key] = value
    options = PrepareOptions(
        variables=_names(arguments.variables),
        level=arguments.level,
        grid=arguments.grid,
        winds=_names(arguments.winds or ""),
        dates=tuple(arguments.dates),
        every=every,
        time_chunk=arguments.time_chunk,
        space_chunk=arguments.space_chunk,
    )
    store = write(
        arguments.source,
        arguments.out,
        options,
        scheduler=arguments.scheduler,
        workers=arguments.workers,
        storage_options=storage or None,
        progress=sys.stderr.isatty(),
    )
    (t, h, w), n = store.layout.shape, len(store.variables)
    size = n * sum(store.layout.shard_bytes(shard) for shard in range(store.layout.n_shards))
    first, last = _text(store.times.min()), _text(store.times.max())
    print(
        f"{store.path}: {', '.join(store.variables)}; {t} times from {first} to {last}; {h}x{w} points; {_size(size)}"
    )
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


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
    a = open_fields(arguments.a, names, arguments.level)
    b = a if arguments.b is None else on_grid_of(a, open_fields(arguments.b, names, arguments.level))
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
        _pairs(arguments, loss, a, b, title)
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


def _common_times(a: xr.Dataset, b: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the fields of ``a`` and of ``b`` that belong together."""
    times = a["time"].values, b["time"].values
    if len(times[0]) == len(times[1]) == 1:
        return np.zeros(1, int), np.zeros(1, int)
    for name, values in zip("AB", times, strict=True):
        if len(np.unique(values)) < len(values):
            raise DataError(f"{name}: some times occur in several forecast runs, expected each once; choose one run")
    common, first, second = np.intersect1d(*times, return_indices=True)
    if not len(common):
        spans = [f"{len(t)} from {_text(t[0])} to {_text(t[-1])}" for t in times]
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


@torch.no_grad()
def _pairs(arguments: argparse.Namespace, loss: AtmoDistLoss, a: xr.Dataset, b: xr.Dataset, title: str) -> None:
    first, second = _common_times(a, b)
    parts = [loss(_tensor(a, first[i]), _tensor(b, second[i])) for i in _batches(len(first), a)]
    values = torch.cat(parts).tolist()
    times_a, times_b = ([_text(t) for t in d["time"].values[i]] for d, i in ((a, first), (b, second)))
    if times_a == times_b:
        header, rows = ["time", "distance"], [[t, v] for t, v in zip(times_a, values, strict=True)]
    else:
        header, rows = ["time of A", "time of B", "distance"], [[times_a[0], times_b[0], values[0]]]
    if arguments.plot is not None and len(values) == 1:
        field = loss.spatial(_tensor(a, first), _tensor(b, second))[0, 0].numpy()
        text = times_a[0] if times_a == times_b else f"{times_a[0]} and {times_b[0]}"
        axes = a["latitude"].values, a["longitude"].values
        plotting.draw_map(arguments.plot, field, *axes, f"{text}: {values[0]:.4g}", title)
    elif arguments.plot is not None:
        plotting.draw_series(arguments.plot, a["time"].values[first], values, title)
    _report(arguments, title, header, rows)


def _matrix(
    arguments: argparse.Namespace,
    loss: AtmoDistLoss,
    a: xr.Dataset,
    b: xr.Dataset,
    options: dict[str, Any],
    title: str,
) -> None:
    progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    values = distance_matrix(
        _tensor(a),
        None if a is b else _tensor(b),
        weights=loss.extractor,
        batch_size=_batch_size(a),
        progress=progress,
        **options,
    ).numpy()
    rows_of, columns_of = ([_text(t) for t in d["time"].values] for d in (a, b))
    rows = [[time, *row] for time, row in zip(rows_of, values.tolist(), strict=True)]
    if arguments.plot is not None:
        plotting.draw_matrix(arguments.plot, values, rows_of, columns_of, title)
    _report(arguments, title, ["time", *columns_of], rows)


def _text(time: np.datetime64) -> str:
    return str(np.datetime_as_string(time, unit="m"))


def _report(arguments: argparse.Namespace, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a table, to the CSV file asked for or aligned to the standard output, and say what was written.

    Comes after the picture: the reader of a long table may close the pipe.
    """
    print(f"# {title}")
    if arguments.csv is not None:
        with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    else:
        cells = [list(header), *([c if isinstance(c, str) else f"{c:.5g}" for c in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        for row in cells:
            print("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))
    for path in (arguments.csv, arguments.plot):
        if path is not None:
            print(f"# wrote {path}")


def info(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss info``."""
    folder = weights_folder.resolve(arguments.weights)
    extractor = load_extractor(folder)  # reads and verifies the tensors, too
    what, encoder = extractor.info, extractor.encoder
    lines = [("weights", f"{what.id} ({folder})")]
    lines += [("channel", f"{c['name']}, {c.get('units', '?')}") for c in what.channels]
    for key, value in extractor.normalization.constants().items():
        lines.append(("normalise", f"{key} {_list(np.atleast_1d(value).tolist())}"))
    size = max(what.patch_sizes, default=64)
    lines.append(("encoder", ", ".join(f"{key} {value}" for key, value in encoder.architecture.items())))
    flops = encoder.flops(size, size)
    for stage, stride in encoder.strides.items():
        scale = what.layer_scales.get(stage)
        text = (
            f"{encoder.channels[stage]} channels, stride {stride}, receptive field {encoder.receptive_fields[stage]}, "
            f"{flops[stage] / 1e6:.0f} MFLOP up to here for a {size}x{size} field, "
        )
        lines.append((stage, text + ("no scale stored" if scale is None else f"scale {scale:.4g}")))
    recommended = ", ".join(f"{name} x {weight:.3g}" for name, weight in what.layers.items())
    lines += [
        ("loss", f"layers {recommended or extractor.stages[-1]}, mse_weight {what.mse_weight:g}"),
        ("lags", f"{what.n_lag_classes} classes of {what.base_step_hours} h"),
        ("trained on", f"grid spacings [degrees] {_list(what.grid_spacings)}; levels {_list(what.levels)}"),
        ("patches", _list(what.patch_sizes)),
        ("licence", what.license or "not said"),
        ("written by", f"atmoloss {what.package_version or '?'}"),
    ]
    lines += _metrics_lines(folder / "metrics.json")
    width = max(len(key) for key, _ in lines)
    last = ""
    for key, text in lines:
        print(f"{key if key != last else '':<{width}}  {text}")
        last = key
    return 0


def _list(values: Sequence[Any]) -> str:
    return ", ".join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in values) or "not said"


def _metrics_lines(path: Path) -> list[tuple[str, str]]:
    """Return the key figures of ``metrics.json``; none if it is absent."""
    if not path.is_file():
        return [("quality", "no metrics.json")]
    try:
        sources = json.loads(path.read_text(encoding="utf-8"))["sources"]
        lines = []
        for source in sources:
            shares = source.get("lag_2afc", {})
            text = f"{source['name']} ({source.get('split', '?')}, {source.get('n_times', '?')} times): lag 2AFC "
            own = shares.get("distance")
            if own is not None:
                text += f"{own['value']:.3f}"
                text += " [{:.3f}, {:.3f}]".format(*own["interval"]) if own["interval"] else ""
            if baselines(shares):
                name, value = best_baseline(shares)
                text += f", best baseline {value:.3f} ({name})"
            classes = source.get("classes") or {}
            if "top1" in classes:
                text += f"; lag class top-1 {classes['top1']:.3f}"
            if "mae_hours" in classes:
                text += f", mean error {classes['mae_hours']:.1f} h"
            lines.append(("quality", text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [("quality", f"{path.name} cannot be read: {error!r}")]
    return lines


def push(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss push``."""
    hub.check_push(arguments.repository)
    hub.announce(arguments.repository, hub.push(weights_folder.resolve(arguments.weights), arguments.repository))
    return 0


def convert_keras(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss convert-keras``."""
    from atmoloss.keras_import import convert_keras as convert

    destination = Path(arguments.destination)
    what = convert(Path(arguments.source), destination, arguments.name)
    print(f"wrote {what.id} to {destination}")
    if what.layer_scales:
        print(f"layer scales: {', '.join(f'{name} {value:.6g}' for name, value in what.layer_scales.items())}")
    else:
        print("no scale file beside the checkpoint: pass scale='none' or a number to AtmoDistLoss")
    return 0
