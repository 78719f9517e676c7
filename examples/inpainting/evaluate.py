"""Compare trained networks, and the harmonic filling, on held-out dates: scores with intervals, and a picture.

    cd examples
    python -m inpainting.evaluate runs/inpainting-small-mse/generator runs/inpainting-small-atmodist/generator

Writes evaluation.json, evaluation.md and fields.png. Data, dates and box are those that the networks were trained with.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from srgan import measures
from srgan.content import load_weights
from srgan.store import StoredGenerator, load_generator
from torch import Tensor

from atmoloss import AtmoDistLoss
from atmoloss.data.sequences import read_patch
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.errors import AtmolossError, ConfigError, DataError
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.triples import tiles
from atmoloss.training.config_reading import build_dataclass
from atmoloss.training.loop import open_sources
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

from . import box
from .config import InpaintingConfig
from .figure import draw
from .model import Autoencoder
from .train import fill

BASELINE = "laplace"
Fill = Callable[[Tensor], Tensor]
"""Normalised fields (N, C, H, W), the box of which it must not look at, to its filling."""
Score = list[float | None]
SCORES = {
    "mse": "MSE",
    "mae": "MAE",
    "gradient_ratio": "gradient energy / truth",
    "power_ratio": "power / truth",
    "spectral_error": "RMS ln power / truth",
    "distance": "AtmoDist",
}
_AT_A_TIME = 32
_FLOOR = 1e-6  # powers are about the number of coefficients of a ring: what is below this is rounding


def statistics(filling: Tensor, fields: Tensor, distance: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
    """Return what :func:`scores` takes means of: values of each patch, first axis N.

    Args:
        filling: (N, C, box, box), normalised.
        fields: the true (N, C, H, W), normalised.
        distance: of fields with a filling to the true ones, (N,).
    """
    size = filling.shape[-1]
    truth = box.cut(fields, size)
    nothing = torch.zeros_like(truth)
    # Outside the box nothing differs: the factor brings the mean over the patch back to one over the box, nearly.
    factor = (fields.shape[-1] / size) ** 2
    out = {
        "mse": measures.mse(filling, truth),
        "mae": measures.l1(filling, truth),
        "distance": factor * distance(box.paste(filling, fields)),
    }
    for name, x in (("made", filling), ("true", truth)):
        out[f"gradient_{name}"] = measures.gradient(x, nothing)
        out[f"power_{name}"] = measures.ring_power(measures.cosine_transform(x))[..., 1:size]
    return {name: value.double().numpy() for name, value in out.items()}


def scores(values: Mapping[str, np.ndarray], draws: BlockBootstrap) -> dict[str, Score]:
    """Return value, lower and upper bound of each of :data:`SCORES`; no bounds for a single block.

    Ratios are of means over all patches. The power is compared in each ring of the box's cosine transform, the mean
    apart: ``power_ratio`` is the geometric mean over rings and channels, ``spectral_error`` the root mean square of
    the logarithm, in which too much here does not make up for too little there.
    """
    mean = {name: draws.means(draws.block_sums(value)) for name, value in values.items()}
    log_power = np.log((mean["power_made"] + _FLOOR) / (mean["power_true"] + _FLOOR))
    samples = {
        "mse": mean["mse"],
        "mae": mean["mae"],
        "gradient_ratio": mean["gradient_made"] / mean["gradient_true"],
        "power_ratio": np.exp(log_power.mean((1, 2))),
        "spectral_error": np.sqrt(np.square(log_power).mean((1, 2))),
        "distance": mean["distance"],
    }
    bounds = {name: draws.bounds(samples[name]).tolist() for name in SCORES}
    return {name: [None if math.isnan(x) else x for x in values] for name, values in bounds.items()}


@torch.no_grad()
def evaluate_source(
    source: FieldSource,
    config: InpaintingConfig,
    normalise: Callable[[Tensor], Tensor],
    fills: Mapping[str, Fill],
    distance: Callable[[Tensor, Tensor], Tensor],
    *,
    patches: int = 6,
    block_days: float = 1.0,
) -> dict[str, dict[str, Score]]:
    """Return the :func:`scores` of every filling on all times of a source.

    Args:
        source: held-out fields.
        config: sizes and latitude band.
        normalise: physical fields to what is filled.
        fills: by name.
        distance: of two normalised (N, C, H, W), (N,).
        patches: at most that many places, evenly spread; at each all times.
        block_days: the bootstrap draws blocks of that many days, the same for all fillings.
    """
    parts: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in fills}
    times = []
    for row, column in _corners(source, config, patches):
        for index in np.array_split(np.arange(len(source.times)), -(-len(source.times) // _AT_A_TIME)):
            fields = normalise(torch.from_numpy(read_patch(source, index, row, column, config.patch_size)))
            times.append(source.times[index])
            for name, filler in fills.items():
                filling = filler(fields)
                parts[name].append(statistics(filling, fields, lambda x, true=fields: distance(x, true)))
    draws = BlockBootstrap(np.concatenate(times), block_days)
    return {
        name: scores({key: np.concatenate([p[key] for p in some]) for key in some[0]}, draws)
        for name, some in parts.items()
    }


def _corners(source: FieldSource, config: InpaintingConfig, patches: int) -> list[tuple[int, int]]:
    corners = tiles(source, config.patch_size, config.latitude_band)
    chosen = np.linspace(0, len(corners) - 1, min(patches, len(corners)))
    return [corners[int(k)] for k in chosen]


def load_networks(folders: Sequence[Path]) -> tuple[dict[str, StoredGenerator], InpaintingConfig]:
    """Read networks that fill the same box of the same normalised fields; return them by content loss, and the first
    one's configuration.

    Raises:
        ConfigError: they differ in what decides that.
        WeightsError: no such network.
    """
    out: dict[str, StoredGenerator] = {}
    configs = []
    for folder in folders:
        stored = load_generator(folder, Autoencoder)
        configs.append(build_dataclass(InpaintingConfig, stored.origin["config"]))
        name = configs[-1].content
        out[f"{name} {stored.id}" if name in out else name] = stored
    first = configs[0]
    constants = [stored.normalization.constants() for stored in out.values()]
    for folder, config, mine in zip(folders, configs, constants, strict=True):
        for key in ("variables", "patch_size", "box_size", "sources", "validation", "test"):
            if getattr(config, key) != getattr(first, key):
                raise ConfigError(
                    f"generators: {folder} has {key} {getattr(config, key)}, expected that of {folders[0]}, "
                    f"{getattr(first, key)}"
                )
        if mine != constants[0]:
            raise ConfigError(f"generators: {folder} has another normalization than {folders[0]}, expected the same")
    return out, first


def table(results: Mapping[str, Mapping[str, Mapping[str, Score]]]) -> str:
    """Return results, source → filling → score → (value, low, high), as a Markdown table."""
    lines = [f"| source | filling | {' | '.join(SCORES.values())} |", "|---" * (2 + len(SCORES)) + "|"]
    for source, by_filling in results.items():
        for name, values in by_filling.items():
            cells = [_text(values[key]) for key in SCORES]
            lines.append(f"| {source} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _text(score: Score) -> str:
    value, low, high = ("–" if x is None else f"{x:.3g}" for x in score)
    return f"{value} ({low}…{high})"


def evaluate(
    folders: Sequence[Path], output: Path, *, split: str, weights: str, patches: int, block_days: float
) -> str:
    """Evaluate networks into a folder as the command line says; return the table."""
    networks, config = load_networks(folders)
    held = split_by_date(open_sources(config), config.validation, config.test)[split]
    if not held:
        raise DataError(f"split: no source has times in the {split} periods, expected at least one")
    normalization = next(iter(networks.values())).normalization
    extractor = load_weights(dataclasses.replace(config, weights=weights or config.weights))
    loss = AtmoDistLoss(extractor, reduction="none", mse_weight=0.0, validate=False)

    def distance(a: Tensor, b: Tensor) -> Tensor:  # in physical units: the weights have a normalisation of their own
        value: Tensor = loss(normalization.inverse(a), normalization.inverse(b))
        return value

    fills: dict[str, Fill] = {BASELINE: lambda x: box.laplace(x, config.box_size)}
    for name, stored in networks.items():
        fills[name] = lambda x, net=stored.generator: fill(net, x, config.box_size)
    results = {
        s.name: evaluate_source(s, config, normalization, fills, distance, patches=patches, block_days=block_days)
        for s in held
    }
    record = {
        "networks": {name: {"id": stored.id, "origin": dict(stored.origin)} for name, stored in networks.items()},
        "split": split,
        "distance": extractor.info.id,
        "patches": patches,
        "block_days": block_days,
        "results": results,
    }
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "evaluation.json", (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomically(output / "evaluation.md", table(results).encode())
    _draw_example(output / "fields.png", held[0], config, normalization, fills)
    return table(results)


@torch.no_grad()
def _draw_example(
    path: Path, source: FieldSource, config: InpaintingConfig, normalization: Any, fills: Mapping[str, Fill]
) -> None:
    """Draw the middle one of the patches, at the middle time: chosen before anyone has seen it."""
    corners, time = _corners(source, config, 1000), len(source.times) // 2
    row, column = corners[len(corners) // 2]
    truth = normalization(torch.from_numpy(read_patch(source, np.array([time]), row, column, config.patch_size)))
    shown = {"truth": truth, "masked": box.paste(torch.full_like(box.cut(truth, config.box_size), torch.nan), truth)}
    shown |= {name: box.paste(filler(truth), truth) for name, filler in fills.items()}
    middle = row + config.patch_size // 2, (column + config.patch_size // 2) % len(source.longitude)
    latitude = source.latitude[middle[0]]
    title = (
        f"{source.name}, {np.datetime_as_string(source.times[time], 'h')} UTC, around "
        f"{abs(latitude):.1f}°{'N' if latitude >= 0 else 'S'} {source.longitude[middle[1]]:.1f}°E"
    )
    fields = {name: normalization.inverse(x)[0].numpy() for name, x in shown.items()}
    draw(path, fields, config.variables, config.box_size, title)


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", nargs="+", type=Path, metavar="GENERATOR", help="folder of a trained network")
    parser.add_argument("--output", type=Path, default=Path("runs/inpainting-evaluation"), metavar="DIR")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="which held-out dates")
    parser.add_argument("--weights", default="", help="of the AtmoDist distance (default: those of the first run)")
    parser.add_argument("--patches", type=int, default=6, help="places per source, evenly spread")
    parser.add_argument("--block-days", type=float, default=1.0, help="days per block of the bootstrap")
    args = parser.parse_args(arguments)
    options = {key: getattr(args, key) for key in ("split", "weights", "patches", "block_days")}
    try:
        print(evaluate(args.generators, args.output, **options), end="")
    except AtmolossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
