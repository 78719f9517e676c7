"""Write a weights folder from a run: scales, metrics on held-out dates, figures and the model card."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atmoloss import weights as weights_folder
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import load_extractor
from atmoloss.files import json_text, write_atomically
from atmoloss.lag_2afc.evaluate import evaluate_source, open_winds
from atmoloss.lag_2afc.triples import patch_size
from atmoloss.training import checkpoint as runs
from atmoloss.training.card import describe_data, public_path, write_card
from atmoloss.training.config import TrainConfig
from atmoloss.training.figures import write_figures
from atmoloss.training.loop import open_sources
from atmoloss.training.weights_folder import load_model, write_weights

log = logging.getLogger("atmoloss")


def winds_of(config: TrainConfig, fields: FieldSource) -> FieldSource | None:
    """Open the winds that belong to ``fields``, one of the sources of ``config``, see :func:`open_winds`."""
    (source,) = (s for s in config.sources if s.name == fields.name)
    return open_winds(source.path, source.level, fields, source.missing)


def publish(config: TrainConfig, run: Path, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors``, ``metrics.json``, figures and card of a run into ``folder``.

    Layer scales come from validation dates (from training dates where none are held out), metrics from
    validation and test dates. ``ConfigError`` without a checkpoint, or where data changed since the run.
    """
    record = runs.read_record(run)
    model, normalization, step = load_model(config, run)
    torch.set_flush_denormal(True)
    sources = open_sources(config)
    runs.check_same(record, runs.describe(config, sources), TrainConfig)
    splits = split_by_date(sources, config.validation, config.test)
    held_out = splits["validation"] or splits["train"]

    info, curves = write_weights(config, model, normalization, sources, held_out, folder)
    extractor = load_extractor(folder)
    entries = []
    for split in ("validation", "test"):
        for source in splits[split]:
            log.info("evaluating %s (%s)", source.name, split)
            size = patch_size(source, config.patch_sizes[0])
            max_lag = config.base_step * config.n_classes
            entry = evaluate_source(extractor, model, source, winds_of(config, source), size=size, max_lag=max_lag)
            entries.append({"split": split, **entry})
    metrics: dict[str, Any] = {
        "weights": info.id,
        "step": step,
        "steps": training_steps(config, record, step),
        "processes": record.get("processes", 1),
        "commands": training_commands(config, record),
        "training": describe_data(config.sources, splits["train"], record["data"]),
        "sources": entries,
        "lag_hours": [(k + 1) * config.base_step for k in range(config.n_classes)],
        "lag_curves": {
            source: {n: [None if np.isnan(v) else float(v) for v in c] for n, c in by_stage.items()}
            for source, by_stage in curves.items()
        },
        "origin": {key: record[key] for key in ("atmoloss", "torch", "git_commit", "data")},
        "config": record["config"]
        | {"sources": [{**s, "path": public_path(s["path"])} for s in record["config"]["sources"]]},
    }
    write_figures(folder, info, metrics)
    for entry in entries:  # drawn, and too many numbers to read
        (entry.get("classes") or {}).pop("confusion", None)
    write_atomically(folder / "metrics.json", f"{json_text(_rounded(metrics))}\n".encode())
    write_card(folder, info, metrics)


def _rounded(value: Any) -> Any:
    """Return the same with numbers of five digits, but for the configuration, which trains the same weights again."""
    if isinstance(value, dict):
        return {key: v if key == "config" else _rounded(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def training_steps(config: TrainConfig, record: dict[str, Any], step: int) -> list[int]:
    """Return the steps of each part of a training: of the weights it starts from, and whenever it was lengthened."""
    before: list[int] = []
    if config.initial_weights:
        path = weights_folder.resolve(config.initial_weights) / "metrics.json"
        before = json.loads(path.read_text(encoding="utf-8")).get("steps", []) if path.is_file() else []
    return [*before, *np.diff([0, *record.get("lengthened", []), step]).tolist()]


def training_commands(config: TrainConfig, record: dict[str, Any]) -> list[str]:
    """Return the commands that train the same weights with ``metrics.json``, one after the other."""
    processes = record.get("processes", 1)
    start = "atmoloss train" if processes == 1 else f"torchrun --nproc-per-node {processes} -m atmoloss.train"
    output = f"--output runs/{config.name}"
    lengths: list[int] = [*record.get("lengthened", []), config.steps]
    first, *more = lengths
    shorter = f" --steps {first}" if more else ""
    return [f"{start} metrics.json {output}{shorter}", *(f"{start} --resume {output} --steps {n}" for n in more)]
