"""Where is AtmoDist the better content loss, and where not? Trains the GAN of examples/srgan with each and compares.

    python benchmarks/superres/compare.py sweep      # every loss x every adversarial weight; validation dates
    python benchmarks/superres/compare.py train      # every loss with its weight, preset quick
    python benchmarks/superres/compare.py finals     # the finalists with every seed, preset small
    python benchmarks/superres/compare.py test       # the finals on test dates: tables, figures

Options: [--jobs 2] [--runs DIR] [--only LOSS ...] [--seeds 0 1 2]. Finished runs are kept, interrupted ones continue.
The sweep chooses, for each loss, the adversarial weight with the smallest log-spectral distance among those whose RMSE
is at most 10 % above that of the generator that all start from; the smallest RMSE where there is none. Test dates are
not opened before `test`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "examples"))

from srgan.config import SrganConfig, read_config  # noqa: E402
from srgan.infer import fields_of  # noqa: E402
from srgan.store import StoredGenerator, load_generator  # noqa: E402
from srgan.train import run  # noqa: E402

from atmoloss.data.quantities import quantity  # noqa: E402
from atmoloss.data.sources import FieldSource  # noqa: E402
from atmoloss.data.splits import split_by_date  # noqa: E402
from atmoloss.evaluation import evaluate_fields  # noqa: E402
from atmoloss.training.loop import open_sources  # noqa: E402
from atmoloss.weights import write_atomically  # noqa: E402

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RESULTS = HERE / "results"
ARMS = tomllib.loads((HERE / "arms.toml").read_text(encoding="utf-8"))
PRESETS = REPOSITORY / "examples" / "srgan" / "presets"
EVALUATED = ("gfs-1deg-10m", "gfs-1deg-850hPa")  # global, hence with spherical spectra and cities
RMSE_MARGIN = 1.1
Arm = tuple[str, float, int, int]
"""Content loss (a key of `contents` in arms.toml), adversarial weight, steps, seed."""


def config_of(arm: Arm, start: Path) -> SrganConfig:
    """Return the configuration of an arm, from the generator in ``start``."""
    content, adversarial, steps, seed = arm
    overrides = {"content": content, **ARMS["contents"][content]}
    values = {"adversarial_weight": adversarial, "steps": steps, "seed": seed, "threads": 1}
    values |= {"name": name_of(arm), "initial_generator": str(start), "workers": 0, "validate_every": steps}
    if steps == ARMS["sweep_steps"]:
        values["final_steps"] = 0
    preset = "small.toml" if steps == ARMS["finals_steps"] else "quick.toml"
    return read_config(PRESETS / preset, {**values, **overrides})


def name_of(arm: Arm) -> str:
    content, adversarial, steps, seed = arm
    return f"{content}-{adversarial:g}-{steps}-{seed}"


def pretrained(runs: Path, sources: list[FieldSource]) -> Path:
    """Train the generator that all arms start from, where it is not there yet."""
    folder = runs / "pretrain"
    if not (folder / "pretrained").is_dir():
        values = {"content": "mse", "adversarial_weight": 0.0, "steps": 1, "final_steps": 0, "name": "pretrain"}
        config = read_config(PRESETS / "small.toml", {**values, "threads": 1, "workers": 0})
        run(config, folder, resume=(folder / "run.json").is_file(), sources=sources)
    return folder / "pretrained"


def made_by(stored: StoredGenerator, source: FieldSource) -> xr.Dataset:
    """Return the fields that a generator makes of 4 × 4 means of a source."""
    latitude, longitude, fields = fields_of(stored, source, coarsened=True)
    return dataset(np.stack(list(fields)), source, latitude, longitude)


def dataset(values: np.ndarray, source: FieldSource, latitude: np.ndarray, longitude: np.ndarray) -> xr.Dataset:
    """Wrap (T, C, H, W) with coordinates and units."""
    dims = ("time", "latitude", "longitude")
    coords = {"time": source.times, "latitude": latitude, "longitude": longitude}
    units = {name: known.units if (known := quantity(name)) else "1" for name in source.channels}
    variables = {name: (dims, values[:, c], {"units": units[name]}) for c, name in enumerate(source.channels)}
    return xr.Dataset(variables, coords)


def truth_like(made: xr.Dataset, source: FieldSource) -> xr.Dataset:
    """Return the source on the rows and columns that were made of it."""
    rows = [int(np.abs(source.latitude - x).argmin()) for x in made["latitude"].values]
    columns = [int(np.abs(source.longitude - x).argmin()) for x in made["longitude"].values]
    values = np.stack(
        [np.asarray(source.values[t], np.float32)[:, rows][..., columns] for t in range(len(source.times))]
    )
    return dataset(values, source, made["latitude"].values, made["longitude"].values)


def thinned(source: FieldSource, every: int) -> FieldSource:
    """Return every so many-th time of a source."""
    keep = np.zeros(len(source.times), bool)
    keep[::every] = True
    return source.select(keep)


def scores_of(stored: StoredGenerator, sources: Iterable[FieldSource]) -> dict[str, dict[str, dict[str, float]]]:
    """Return source → variable → metric → value on held-out fields, for choosing: without intervals."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for source in sources:
        made = made_by(stored, source)
        found = evaluate_fields(truth_like(made, source), {"made": made}, n_bootstrap=10, n_samples=500)
        of_source = out.setdefault(source.name, {})
        for score in found.scores:
            of_source.setdefault(score.variable, {})[score.metric] = float(f"{score.value:.5g}")
    return out


def mean_of(scores: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, relative_to: Any = None) -> float:
    """Return the mean of a metric over sources, divergence and vorticity; as ratios to ``relative_to`` if given."""
    values = [
        scores[source][variable][metric] / (relative_to[source][variable][metric] if relative_to else 1.0)
        for source in scores
        for variable in ("divergence", "vorticity")
    ]
    return float(np.mean(values))


def held_out(sources: list[FieldSource], split: str, every: int) -> list[FieldSource]:
    """Return the evaluated sources on the dates of a split, thinned."""
    config = read_config(PRESETS / "quick.toml")
    of_split = split_by_date(sources, config.validation, config.test)[split]
    return [thinned(s, every) for s in of_split if s.name in EVALUATED]


_shared: dict[str, Any] = {}


def _train(arm: Arm) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = _shared["runs"] / name_of(arm)
    config = config_of(arm, _shared["start"])
    scale = _shared["scales"].get(arm[0])
    if scale is not None:
        config = dataclasses.replace(config, content_scale=scale)
    run(config, folder, resume=(folder / "run.json").is_file(), sources=_shared["sources"])
    stored = load_generator(folder / "generator")
    row = {"content": arm[0], "adversarial_weight": arm[1], "steps": arm[2], "seed": arm[3]}
    row |= {"content_scale": stored.origin["content_scale"], "mse_weight": stored.origin["mse_weight"]}
    return {**row, "scores": scores_of(stored, _shared["validation"])}


def read_rows() -> list[dict[str, Any]]:
    path = RESULTS / "arms.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def arm_of(row: Mapping[str, Any]) -> Arm:
    return row["content"], row["adversarial_weight"], row["steps"], row["seed"]


def train_all(arms: list[Arm], runs: Path, jobs: int) -> None:
    """Train and score the arms that have no row yet; rows are added to results/arms.jsonl as they come."""
    torch.set_num_threads(1)  # more would not survive the fork
    rows = read_rows()
    done = {arm_of(row) for row in rows}
    arms = [arm for arm in arms if arm not in done]
    if not arms:
        return
    sources = open_sources(read_config(PRESETS / "quick.toml"))  # type: ignore[arg-type]
    _shared.update(runs=runs, sources=sources, start=pretrained(runs, sources))
    # One fit per loss: its arms differ in what they are compared for and in nothing else.
    _shared["scales"] = {row["content"]: row["content_scale"] for row in rows}
    _shared["validation"] = held_out(sources, "validation", every=4)
    if "start" not in {row["content"] for row in rows}:
        row = {"content": "start", "adversarial_weight": 0.0, "steps": 0, "seed": 0, "content_scale": 1.0}
        add_row(
            {**row, "mse_weight": 1.0, "scores": scores_of(load_generator(_shared["start"]), _shared["validation"])}
        )
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(_train, arms):
            add_row(row)
            print(
                name_of(arm_of(row)),
                f"log-spectral {mean_of(row['scores'], 'log_spectral_distance'):.2f} dB",
                flush=True,
            )


def add_row(row: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "arms.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def chosen_weight(content: str, rows: list[dict[str, Any]]) -> float:
    """Return the adversarial weight that the sweep chooses for a loss."""
    start = next(row for row in rows if row["content"] == "start")["scores"]
    mine = [row for row in rows if row["content"] == content and row["steps"] == ARMS["sweep_steps"]]
    if not mine:
        raise SystemExit(f"sweep: has no rows of {content} yet; run `compare.py sweep` first")
    near = [row for row in mine if mean_of(row["scores"], "rmse", start) <= RMSE_MARGIN]
    if near:
        best = min(near, key=lambda row: mean_of(row["scores"], "log_spectral_distance"))
    else:
        best = min(mine, key=lambda row: mean_of(row["scores"], "rmse", start))
    return float(best["adversarial_weight"])


def finals(contents: Sequence[str], seeds: Sequence[int]) -> list[Arm]:
    """Return the arms of the test: finalists with every seed, and what the adversary adds to some; seeds in turn."""
    rows = read_rows()
    arms = [
        (c, chosen_weight(c, rows), ARMS["finals_steps"], s) for c in contents if c in ARMS["finalists"] for s in seeds
    ]
    arms += [(c, 0.0, ARMS["finals_steps"], 0) for c in contents if c in ARMS["without_adversary"]]
    return sorted(dict.fromkeys(arms), key=lambda arm: arm[3])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown of all arms, on validation dates."""
    columns = {"log_spectral_distance": "log-spectral, dB", "unresolved_power": "unresolved power / truth"}
    columns |= {"semivariogram": "semivariogram", "city_wasserstein": "cities / start", "upper_tail": "upper tail, %"}
    columns |= {"grid_scale_power": "grid-scale power / truth"}
    start = next(row for row in rows if row["content"] == "start")["scores"]
    lines = ["| content | adversarial weight | steps | seed | RMSE / start | " + " | ".join(columns.values()) + " |"]
    lines += ["|---" * (5 + len(columns)) + "|"]
    order = ["start", *ARMS["contents"]]
    for row in sorted(rows, key=lambda r: (r["steps"], order.index(r["content"]), r["adversarial_weight"], r["seed"])):
        cells = [f"{mean_of(row['scores'], 'rmse', start):.3f}"]
        cells += [f"{mean_of(row['scores'], m, start if m == 'city_wasserstein' else None):.2f}" for m in columns]
        head = f"| {row['content']} | {row['adversarial_weight']:g} | {row['steps']} | {row['seed']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("sweep", "train", "finals", "test"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="run folders (not committed)")
    parser.add_argument("--only", nargs="+", default=list(ARMS["contents"]), metavar="LOSS", help="these losses")
    parser.add_argument("--seeds", type=int, nargs="+", default=ARMS["seeds"], help="of the finalists")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.only) - set(ARMS["contents"]))
    if unknown:
        parser.error(f"--only: got {unknown[0]}, expected some of {', '.join(ARMS['contents'])}")
    if arguments.stage == "sweep":
        none, first, *others = ARMS["adversarial_weights"]
        # One weight before the rest, so that the scale of each loss is known when its other arms begin.
        for weights in ([first], [none, *others]):
            arms = [(c, w, ARMS["sweep_steps"], 0) for w in weights for c in arguments.only]
            train_all(arms, arguments.runs, arguments.jobs)
    elif arguments.stage == "train":
        rows = read_rows()
        arms = [(c, chosen_weight(c, rows), ARMS["steps"], 0) for c in arguments.only]
        arms += [(c, 0.0, ARMS["steps"], 0) for c in arguments.only if c in ARMS["without_adversary"]]
        train_all(list(dict.fromkeys(arms)), arguments.runs, arguments.jobs)
    else:
        arms = finals(arguments.only, arguments.seeds)
        if arguments.stage == "finals":
            train_all(arms, arguments.runs, arguments.jobs)
        else:
            from report import report

            report(arms, arguments.runs)
    text = "On validation dates; means over 1° 10 m and 850 hPa, divergence and vorticity.\n\n" + table(read_rows())
    write_atomically(RESULTS / "arms.md", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
