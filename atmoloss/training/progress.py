"""What a run shows while it runs: a bar on a terminal, lines elsewhere, TensorBoard events where asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atmoloss.errors import require

log = logging.getLogger("atmoloss")


def open_tensorboard(folder: Path) -> Any:
    """Return a TensorBoard writer for a run folder.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """
    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def flat(values: dict[str, Any]) -> dict[str, float]:
    """Put the entries of inner dictionaries beside the others."""
    out: dict[str, float] = {}
    for name, value in values.items():
        out |= value if isinstance(value, dict) else {name: value}
    return out


class Progress:
    """A bar on a terminal, lines elsewhere.

    Args:
        start: steps that are done.
        total: steps of the run.
        shown: whether this process shows anything.
        keys: what stands beside the bar, of what :meth:`note` gets.
    """

    def __init__(
        self, start: int, total: int, shown: bool = True, keys: tuple[str, ...] = ("loss", "accuracy", "ranking")
    ) -> None:
        self._total, self._keys = total, keys
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            self._bar = require("tqdm", "train").tqdm(initial=start, total=total, unit="step", dynamic_ncols=True)
        self.update: Callable[[], Any] = self._bar.update if self._bar is not None else (lambda: None)

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Show the numbers of a step."""
        shown = {name: f"{number:.4g}" for name, number in flat(values).items()}
        if self._bar is not None and self._keys[0] in shown:
            self._bar.set_postfix({key: shown[key] for key in self._keys if key in shown})
        else:
            log.info("step %d of %d: %s", step, self._total, ", ".join(f"{k} {v}" for k, v in shown.items()))

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()
