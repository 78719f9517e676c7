"""What the verbs ``prepare``, ``info``, ``push`` and ``convert-keras`` of the command do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmoloss import hub
from atmoloss import weights as weights_folder
from atmoloss.data.calendars import date_texts
from atmoloss.errors import InputError
from atmoloss.extractor import load_extractor
from atmoloss.training.card import baselines, best_baseline


def prepare(arguments: argparse.Namespace) -> int:
    """Run ``atmoloss prepare``."""
    from atmoloss.data.plan import PrepareOptions
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
        missing=arguments.missing,
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
    t, h, w = store.shape
    first, last = (str(t)[:16] for t in date_texts(np.sort(store.times)[[0, -1]], store.calendar))
    size = _size(store.nbytes)
    print(f"{store.path}: {', '.join(store.variables)}; {t} times from {first} to {last}; {h}x{w} points; {size}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


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
