"""How much of a distance should the low-passed fields be? On the validation dates of finished runs.

    python benchmarks/pretext/low_pass.py RUN…      # results/low_pass.md

The layer `low_pass` is not trained, so its share is chosen here: 0 is the network alone, 1 the low-pass alone. Random
weights of the same architecture tell what training adds; the best baseline of controls.md stands beside them. Runs of
one configuration are averaged over seeds. A minute or two a run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from lags import BASELINE
from study import RESULTS, SHORT, Scores, compare_runs

from atmoloss.data.sequences import read_patch
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import Extractor
from atmoloss.files import write_atomically
from atmoloss.heads import PretextModel
from atmoloss.lag_2afc.baselines import mixtures, pixel_measures, random_extractor
from atmoloss.lag_2afc.triples import Measure, measure_source, patch_size
from atmoloss.networks import Encoder
from atmoloss.training.checkpoint import read_record
from atmoloss.training.config import TrainConfig, make_config
from atmoloss.training.layer_scales import fit_layers, lag_curves
from atmoloss.training.loop import open_sources
from atmoloss.training.publish import winds_of
from atmoloss.training.weights_folder import build_extractor, load_model

SHARES = (0.0, 0.1, 0.2, 0.33, 0.5, 0.7, 1.0)
STRIDE = 16


def with_low_pass(model: PretextModel) -> PretextModel:
    """Return the model with the layer added; it has nothing that is trained."""
    encoder = Encoder(**{**model.encoder.architecture, "low_pass": STRIDE})
    encoder.load_state_dict(model.encoder.state_dict())
    return PretextModel(encoder, model.head).eval()


def measures_of(
    model: PretextModel, extractor: Extractor, held_out: list[FieldSource], config: TrainConfig
) -> dict[str, Measure]:
    """Return the distance with each share; scales are fitted as those of weights that ship."""
    curves = {s.name: lag_curves(extractor, s, config) for s in held_out}
    factors = {}
    for share in SHARES:
        fitted = fit_layers(model, curves, share)
        factors[f"{share:g}"] = {n: weight * fitted["layer_scales"][n] for n, weight in fitted["layers"].items()}
    return mixtures(extractor, factors)


def scores(run: Path) -> tuple[str, Scores]:
    """Return what tells the run's configuration, and the scores of its distances."""
    config = make_config(read_record(run)["config"])
    model, normalization, _ = load_model(config, run)
    model = with_low_pass(model)
    trained = build_extractor(config, model, normalization)
    sources = split_by_date(open_sources(config), config.validation, config.test)["validation"]
    first = sources[0]
    sample = torch.from_numpy(read_patch(first, np.arange(16), (len(first.latitude) - 64) // 2, 0, 64))
    measures: dict[str, Measure] = {f"{BASELINE} | ": pixel_measures(normalization)[BASELINE]}
    for name, extractor in (
        ("trained", trained),
        ("random weights", random_extractor(trained.info, trained.normalization, sample)),
    ):
        for share, measure in measures_of(model, extractor, sources, config).items():
            measures[f"{name} | {share}"] = measure
    out: Scores = {name: {} for name in measures}
    for source in sources:
        size = patch_size(source)
        for name, tally in measure_source(source, measures, winds=winds_of(config, source), size=size).items():
            out[name][source.name] = tally.share
    return f"{config.name}, {len(config.validation)} periods held out", out


def main() -> int:
    lines = [
        f"| run | distance | share of low-pass | {' | '.join(SHORT.values())} | mean |",
        "|---" * (4 + len(SHORT)) + "|",
    ]
    lines += [f"| {name} | {key} | {cells} |" for name, _, key, cells in compare_runs(__doc__, scores)]
    print("\n".join(lines))
    write_atomically(RESULTS / "low_pass.md", ("\n".join(lines) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
