"""How should a sharp loss compare? Trains the generator of compare.py with each setting and scores validation dates.

    python benchmarks/superres/sharp_settings.py [NAME ...] [--jobs 2] [--runs DIR]     # results/sharp_settings.md

All start from the generator of `compare.py`, without an adversary, and take the steps of the preset quick. Rows of
results/sharp_settings.jsonl are kept. About a minute and a half a setting and core.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import HERE, PRESETS, RESULTS, held_out
from compare import mean_of, pretrained, scores_of
from rows import read_rows, trained
from srgan.config import read_config
from srgan.content import _PLAIN
from srgan.store import load_generator
from srgan.train import run
from torch import Tensor

from atmoloss import adjusted
from atmoloss.files import write_atomically
from atmoloss.training.loop import open_sources

ROWS = RESULTS / "sharp_settings.jsonl"
SETTINGS = tomllib.loads((HERE / "sharp_settings.toml").read_text(encoding="utf-8"))
_shared: dict[str, Any] = {}


class Larger(adjusted.AdjustedDifference):
    """With the larger of both powers, as AMSE has it, in place of the target's."""

    def _adjustment(self, a: Tensor, b: Tensor) -> Tensor:
        groups = adjusted._groups(self.window, a)
        x, y = self._coefficients(a), self._coefficients(b)
        power, other, cross = x.square() @ groups, y.square() @ groups, (x * y) @ groups
        shared = 1e-3 * (power + other) + 1e-20
        first, second = (power + shared).sqrt(), (other + shared).sqrt()
        high, low = torch.maximum(first, second), torch.minimum(first, second)
        return (2 * (high - low) * (high - (cross + shared) / low)).sum(-1)


@dataclasses.dataclass(frozen=True)
class Part(adjusted.AdjustedDifference):
    """With a part of what is added to the squared difference: what is uncertain is then asked to be weaker."""

    share: float = 1.0

    def _adjustment(self, a: Tensor, b: Tensor) -> Tensor:
        return self.share * super()._adjustment(a, b)


def _train(name: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    values = dict(SETTINGS[name])
    adjusted._DIRECTIONS = values.pop("directions", 6)
    kind = Larger if values.pop("larger", False) else Part
    _PLAIN["adjusted"] = kind(**values.pop("adjusted", {}))
    values |= {"adversarial_weight": 0.0, "initial_generator": str(_shared["start"]), "threads": 1, "workers": 0}
    config = read_config(PRESETS / "quick.toml", {**values, "name": name, "validate_every": 1000})
    folder = _shared["runs"] / f"settings-{name}"
    run(config, folder, resume=(folder / "run.json").is_file(), sources=_shared["sources"])
    return {"name": name, "scores": scores_of(load_generator(folder / "generator"), _shared["validation"])}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown of all settings; RMSE and cities beside those of the loss ``amse``."""
    columns = {"log_spectral_distance": "log-spectral, dB", "unresolved_power": "unresolved power / truth"}
    columns |= {"local_energy": "error of local energy", "local_energy_correlation": "its correlation"}
    columns |= {"upper_tail": "99.9th percentile, %", "city_wasserstein": "cities / amse"}
    columns |= {"peak_2": "artefact at 2 grid steps"}
    amse = next((row["scores"] for row in rows if row["name"] == "amse"), rows[0]["scores"])
    lines = ["| setting | RMSE / amse | " + " | ".join(columns.values()) + " |", "|---" * (2 + len(columns)) + "|"]
    order = list(SETTINGS)
    for row in sorted((r for r in rows if r["name"] in order), key=lambda r: order.index(r["name"])):
        values = [mean_of(row["scores"], "rmse", amse)]
        values += [mean_of(row["scores"], m, amse if m == "city_wasserstein" else None) for m in columns]
        lines.append(f"| {row['name']} | " + " | ".join(f"{v:.2f}" if np.isfinite(v) else "–" for v in values) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SETTINGS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more would not survive the fork
    done = {row["name"] for row in read_rows(ROWS)}
    sources = open_sources(read_config(PRESETS / "quick.toml"))  # type: ignore[arg-type]
    _shared.update(runs=arguments.runs, sources=sources, start=pretrained(arguments.runs, sources))
    _shared["validation"] = held_out(sources, "validation", every=4)
    for row in trained(_train, [n for n in arguments.names if n not in done], ROWS, arguments.jobs):
        print(table([row]).splitlines()[-1], flush=True)
    write_atomically(RESULTS / "sharp_settings.md", table(read_rows(ROWS)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
