"""Describe weights: channels, architecture, scales and quality."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmoloss.cli.options import WEIGHTS

if TYPE_CHECKING:
    from atmoloss.extractor import Extractor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss info``."""
    parser.add_argument("weights", metavar="WEIGHTS", help=WEIGHTS)


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each thing to know, repeated names left out."""
    from atmoloss import weights
    from atmoloss.extractor import load_extractor

    folder = weights.resolve(arguments.weights)
    extractor = load_extractor(folder)  # reads and verifies the tensors, too
    lines = [("weights", f"{extractor.info.id} ({folder})"), *_describe(extractor), *_quality(folder / "metrics.json")]
    last = ""
    for key, text in lines:
        print(f"{key if key != last else '':<10}  {text}")
        last = key
    return 0


def _describe(extractor: Extractor) -> Iterator[tuple[str, str]]:
    from atmoloss.hours import LagCurve

    info, encoder = extractor.info, extractor.encoder
    for channel in info.channels:
        yield "channel", f"{channel['name']}, {channel.get('units', '?')}"
    for key, value in extractor.normalization.constants().items():
        yield "normalise", f"{key} {_list(value if isinstance(value, list) else [value])}"
    yield "encoder", ", ".join(f"{key} {value}" for key, value in encoder.architecture.items())
    size = max(info.patch_sizes, default=64)
    flops = encoder.flops(size, size)
    for stage, stride in encoder.strides.items():
        scale = info.layer_scales.get(stage)
        text = f"{encoder.channels[stage]} channels, stride {stride}, "
        text += f"receptive field {encoder.receptive_fields[stage]}, "
        text += f"{flops[stage] / 1e6:.0f} MFLOP up to here for a {size}x{size} field, "
        yield stage, text + ("no scale stored" if scale is None else f"scale {scale:.4g}")
    layers = ", ".join(f"{name} x {weight:.3g}" for name, weight in info.layers.items()) or extractor.stages[-1]
    yield "loss", f"layers {layers}, mse_weight {info.mse_weight:g}"
    yield "lags", f"{info.n_lag_classes} classes of {info.base_step_hours} h"
    yield "trained on", f"grid spacings [degrees] {_list(info.grid_spacings)}; levels {_list(info.levels)}"
    for curve in (LagCurve(**values) for values in info.lag_curves):
        yield "hours", f"{curve.describe()}, to {curve.limit:g} h"
    yield "patches", _list(info.patch_sizes)
    yield "licence", info.license or "not said"
    yield "written by", f"atmoloss {info.package_version or '?'}"


def _list(values: Iterable[Any]) -> str:
    return ", ".join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in values) or "not said"


def _quality(path: Path) -> list[tuple[str, str]]:
    """Return the key figures of ``metrics.json``; that there are none, if it is absent or not readable."""
    if not path.is_file():
        return [("quality", "no metrics.json")]
    try:
        return [("quality", _scores(source)) for source in json.loads(path.read_text(encoding="utf-8"))["sources"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [("quality", f"{path.name} cannot be read: {error!r}")]


def _scores(source: dict[str, Any]) -> str:
    from atmoloss.training.card import baselines, best_baseline, with_interval

    shares = source["lag_2afc"]
    text = f"{source['name']} ({source.get('split', '?')}, {source.get('n_times', '?')} times): lag 2AFC "
    text += with_interval(shares["distance"]["value"], shares["distance"]["interval"])
    if baselines(shares):
        name, value = best_baseline(shares)
        text += f", best baseline {value:.3f} ({name})"
    if classes := source.get("classes"):
        text += f"; lag class top-1 {classes['top1']:.3f}, mean error {classes['mae_hours']:.1f} h"
    return text
