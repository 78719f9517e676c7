"""What files of earlier versions may hold that nothing reads any more, and the last version that reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LAST_VERSION = "commit 8a98d61 (atmoloss 0.1.0 before 2026-11-25)"
# Entry of the file, key in it, the value that is gone (None: any), and the value that had no effect.
_REMOVED: tuple[tuple[str, str, Any, Any], ...] = (
    ("encoder", "context", None, 0),
    ("encoder", "unit_features", None, False),
    ("head", "kind", "difference", None),
    ("config", "amplify", None, 1.0),
    ("config", "average_decay", None, 0.0),
    ("config", "channels_last", None, True),
    ("config", "coarsen", None, [1]),
    ("config", "ranking_temperature", None, 0.1),
    ("config", "regression_weight", None, 0.0),
    ("config", "smooth", None, 0.0),
    ("config", "turn", None, False),
    ("config", "zoom", None, 1.0),
)


def describe_removed(entry: str, values: Mapping[str, Any]) -> str | None:
    """Name the keys of an entry (``"encoder"``, ``"head"``, a training's ``"config"``) that are gone, if any are."""
    found = [
        (f"{key} = {json.dumps(values[key])}", values[key] == idle)
        for of, key, gone, idle in _REMOVED
        if of == entry and values.get(key) is not None and gone in (None, values[key])
    ]
    if not found:
        return None
    remedy = "; of no effect there: remove from the file" if all(idle for _, idle in found) else ""
    names = ", ".join(text for text, _ in found)
    return f"{names} in {entry!r}, no longer known; the last version that reads it is {_LAST_VERSION}{remedy}"
