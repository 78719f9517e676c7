"""Which stages should enter the distance? On the validation dates of finished runs, leaving out one or taking some.

    python benchmarks/pretext/stages.py RUN…      # results/stages.md

The metric head weighs all stages; here each stage is left out in turn, and taken alone. The others keep what the head
gave them.
Runs of one configuration are averaged over seeds. About a minute a run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from study import RESULTS, SHORT, Scores, compare_runs

from atmoloss.data.splits import split_by_date
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import mixtures
from atmoloss.lag_2afc.triples import measure_source, patch_size
from atmoloss.training.checkpoint import read_record
from atmoloss.training.config import make_config
from atmoloss.training.layer_scales import fit_layers, source_curves
from atmoloss.training.loop import open_sources
from atmoloss.training.weights_folder import build_extractor, load_model


def scores(run: Path) -> tuple[str, Scores]:
    """Return the name of the run's configuration, and the scores of each choice of stages."""
    config = make_config(read_record(run)["config"])
    model, normalization, _ = load_model(config, run)
    extractor = build_extractor(config, model, normalization)
    sources = split_by_date(open_sources(config), config.validation, config.test)["validation"]
    fitted = fit_layers(model, source_curves(extractor, sources, config), config.low_pass_share)
    factors = {name: share * fitted["layer_scales"][name] for name, share in fitted["layers"].items()}
    chosen = {"all": factors}
    chosen |= {f"without {out}": {n: f for n, f in factors.items() if n != out} for out in factors}
    chosen |= {f"{name} alone": {name: 1.0} for name in factors}
    out: Scores = {name: {} for name in chosen}
    for source in (s for s in sources if s.name in SHORT):
        for name, tally in measure_source(source, mixtures(extractor, chosen), size=patch_size(source)).items():
            out[name][source.name] = tally.share
    return config.name, out


def main() -> int:
    lines = [f"| run | seeds | stages | {' | '.join(SHORT.values())} | mean |", "|---" * (4 + len(SHORT)) + "|"]
    lines += [f"| {name} | {n} | {key} | {cells} |" for name, n, key, cells in compare_runs(__doc__, scores)]
    print("\n".join(lines))
    write_atomically(RESULTS / "stages.md", ("\n".join(lines) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
