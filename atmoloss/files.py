"""Writing files such that a reader never meets half of one, and JSON that people can read."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder and rename it: it is whole or not there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def json_text(value: Any, indent: int = 0) -> str:
    """Return JSON whose objects and lists take a line where they fit on one, and lists of numbers always."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list, tuple)) or len(flat) + indent <= _LINE:
        return flat
    if isinstance(value, dict):
        brackets, items = (
            "{}",
            [f"{json.dumps(key, ensure_ascii=False)}: {json_text(v, indent + 1)}" for key, v in value.items()],
        )
    elif any(isinstance(v, (dict, list, tuple)) for v in value):
        brackets, items = "[]", [json_text(v, indent + 1) for v in value]
    else:
        return flat
    margin = "\n" + " " * (indent + 1)
    return brackets[0] + margin + f",{margin}".join(items) + margin[:-1] + brackets[1]


_LINE = 120
