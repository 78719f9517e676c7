"""The arms of the comparison: their configurations, the fields that they make, and the truth beside these."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import numpy as np
import xarray as xr

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(REPOSITORY / "examples"))

from srgan.config import SrganConfig, read_config  # noqa: E402
from srgan.infer import fields_of  # noqa: E402
from srgan.store import StoredGenerator  # noqa: E402

from atmoloss.data.quantities import quantity  # noqa: E402
from atmoloss.data.sources import FieldSource  # noqa: E402
from atmoloss.data.splits import split_by_date  # noqa: E402

RESULTS = HERE / "results"
ARMS = tomllib.loads((HERE / "arms.toml").read_text(encoding="utf-8"))
PRESETS = REPOSITORY / "examples" / "srgan" / "presets"
EVALUATED = ("gfs-1deg-10m", "gfs-1deg-850hPa")  # global, hence with spherical spectra and cities
Arm = tuple[str, float, int, int]
"""Content loss (a key of `contents` in arms.toml), adversarial weight, steps, seed."""


def config_of(arm: Arm, start: Path) -> SrganConfig:
    """Return the configuration of an arm, from the generator in ``start``."""
    content, adversarial, steps, seed = arm
    overrides = {"content": content, **ARMS["contents"][content]}
    values = {"adversarial_weight": adversarial, "steps": steps, "seed": seed, "threads": 1}
    values |= {"name": name_of(arm), "initial_generator": str(start), "workers": 0, "validate_every": steps}
    if steps in (ARMS["sweep_steps"], ARMS["finals_steps"]):
        values["final_steps"] = 0 if steps == ARMS["sweep_steps"] else ARMS["finals_last"]
    preset = "small.toml" if steps == ARMS["finals_steps"] else "quick.toml"
    return read_config(PRESETS / preset, {**values, **overrides})


def name_of(arm: Arm) -> str:
    content, adversarial, steps, seed = arm
    return f"{content}-{adversarial:g}-{steps}-{seed}"


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


def truth_like(example: xr.Dataset, source: FieldSource) -> xr.Dataset:
    """Return the source on the rows and columns that were made of it."""
    rows = [int(np.abs(source.latitude - x).argmin()) for x in example["latitude"].values]
    columns = [int(np.abs(source.longitude - x).argmin()) for x in example["longitude"].values]
    values = np.stack(
        [np.asarray(source.values[t], np.float32)[:, rows][..., columns] for t in range(len(source.times))]
    )
    return dataset(values, source, example["latitude"].values, example["longitude"].values)


def thinned(source: FieldSource, every: int) -> FieldSource:
    """Return every so many-th time of a source."""
    keep = np.zeros(len(source.times), bool)
    keep[::every] = True
    return source.select(keep)


def held_out(sources: list[FieldSource], split: str, every: int) -> list[FieldSource]:
    """Return the evaluated sources on the dates of a split, thinned."""
    config = read_config(PRESETS / "quick.toml")
    chosen = split_by_date(sources, config.validation, config.test)[split]
    return [thinned(s, every) for s in chosen if s.name in EVALUATED]
