"""What a run says while it runs: its log, a bar on a terminal or lines elsewhere, TensorBoard events if asked for."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atmoloss.errors import require
from atmoloss.files import write_atomically
from atmoloss.training.checkpoint import METRICS
from atmoloss.training.config import MachineConfig

log = logging.getLogger("atmoloss")


class RunLog:
    """Means of what steps return, to ``metrics.jsonl``, the terminal and TensorBoard.

    Args:
        folder: of the run. Lines of its log after ``start`` are dropped: the steps are taken again.
        config: how often a line is written, and whether to TensorBoard, too.
        start: steps that are done.
        last: steps of the run.
        shown: names of the numbers beside the bar.
    """

    def __init__(self, folder: Path, config: MachineConfig, start: int, last: int, shown: tuple[str, ...]) -> None:
        self._every, self._last, self._shown = config.log_every, last, shown
        path = folder / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        write_atomically(path, "".join(line + "\n" for line in lines if _step_of(line) <= start).encode())
        self._file = path.open("a", encoding="utf-8")
        self._board: Any = None
        if config.tensorboard:
            require("tensorboard", "tensorboard")
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder))
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = require("tqdm", "train").tqdm(initial=start, total=last, unit="step", dynamic_ncols=True)
        self._sums: dict[str, tuple[float, int]] = {}
        self._since = start, time.perf_counter()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Count what a step returned; every ``log_every`` steps, write the means since the line before."""
        for name, number in numbers.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + number, count + 1
        if self._bar is not None:
            self._bar.update()
        if step % self._every == 0 or step == self._last:
            (before, began), now = self._since, time.perf_counter()
            means = {name: total / count for name, (total, count) in self._sums.items()}
            self.write(step, {**means, "seconds_per_step": (now - began) / (step - before)})
            self._sums, self._since = {}, (step, now)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a line: numbers, or dictionaries of them."""
        flat: dict[str, float] = {}
        for name, value in values.items():
            flat |= value if isinstance(value, dict) else {name: value}
        if not flat:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        texts = {name: f"{number:.4g}" for name, number in flat.items()}
        if self._bar is not None and self._shown[0] in texts:
            self._bar.set_postfix({name: texts[name] for name in self._shown if name in texts})
        else:
            log.info("step %d of %d: %s", step, self._last, ", ".join(f"{k} {v}" for k, v in texts.items()))
        if self._board is not None:
            for name, number in flat.items():
                self._board.add_scalar(name, number, step)

    def close(self) -> None:
        """Close files and bar."""
        for stream in (self._file, self._bar, self._board):
            if stream is not None:
                stream.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # half a line, from a kill
        return float("inf")
