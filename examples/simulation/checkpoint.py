"""Files of a run in progress. Each is written under another name and renamed: what exists is complete."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from schedule import SimulationError

Pytree = Any


class Workspace:
    """The folder of one run: its configuration, the state after the last day, the fields of each recorded day.

    Args:
        folder: made when missing.
        configuration: whatever the result depends on; a folder is not continued with another.

    Raises:
        SimulationError: the folder belongs to another configuration.
    """

    def __init__(self, folder: Path, configuration: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / "run.json"
        if record.exists():
            known = json.loads(record.read_text())
            other = sorted(k for k in known | configuration if known.get(k) != configuration.get(k))
            if other:
                told = ", ".join(f"{k} {known.get(k)} (now {configuration.get(k)})" for k in other)
                raise SimulationError(f"{folder} holds a run with {told}: remove it, or name another output")
        else:
            _replace(record, json.dumps(configuration, indent=1).encode())

    def save_state(self, day: int, truncation: int, flow: Pytree) -> None:
        """Store what the run needs to start with ``day``."""
        leaves = {f"leaf{i}": np.asarray(x) for i, x in enumerate(jax.tree_util.tree_leaves(flow))}
        _save(self.folder / "checkpoint.npz", day=np.int64(day), truncation=np.int64(truncation), **leaves)

    def next_day(self) -> tuple[int, int] | None:
        """Return the day to start with and the truncation of the stored state; ``None`` in a new folder."""
        path = self.folder / "checkpoint.npz"
        if not path.exists():
            return None
        with np.load(path) as stored:
            return int(stored["day"]), int(stored["truncation"])

    def load_state(self, template: Pytree) -> Pytree:
        """Return the stored state with the structure of ``template``.

        Raises:
            SimulationError: it does not fit.
        """
        leaves, structure = jax.tree_util.tree_flatten(template)
        with np.load(self.folder / "checkpoint.npz") as stored:
            names = [name for name in stored.files if name.startswith("leaf")]
            arrays = [stored[f"leaf{i}"] for i in range(len(names))]
        if [np.shape(x) for x in leaves] != [x.shape for x in arrays]:
            raise SimulationError(f"{self.folder}: the checkpoint does not fit this version of jcm; remove the folder")
        return jax.tree_util.tree_unflatten(structure, [jax.numpy.asarray(x) for x in arrays])

    def save_day(self, day: int, vorticity: np.ndarray, divergence: np.ndarray) -> None:
        """Store the (T, K) coefficients of a recorded day."""
        _save(self._day(day), vorticity=vorticity, divergence=divergence)

    def load_days(self, days: int) -> tuple[np.ndarray, np.ndarray]:
        """Return vorticity and divergence (T, K) of the first recorded ``days``."""
        stored = [np.load(self._day(day)) for day in range(days)]
        return tuple(np.concatenate([part[name] for part in stored]) for name in ("vorticity", "divergence"))

    def _day(self, day: int) -> Path:
        return self.folder / f"day{day:05d}.npz"


def _save(path: Path, **arrays: np.ndarray) -> None:
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)
