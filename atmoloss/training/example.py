"""A training to begin with: a commented configuration and a week of real winds."""

from __future__ import annotations

import shutil
from pathlib import Path

from atmoloss.data.sample import SAMPLE_PATH
from atmoloss.errors import ConfigError

_FILES = {"example.toml": Path(__file__).with_name("example.toml"), "winds.nc": SAMPLE_PATH}


def write_example(folder: Path) -> Path:
    """Write ``example.toml`` and its data, ``winds.nc`` (0.8 MB), and return the path of the first.

    Args:
        folder: made where it is missing.

    Raises:
        ConfigError: a file of one of these names is there already, and may have been changed by its owner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (folder / name).exists():
            raise ConfigError(f"example: got {folder}, which has {name} already; expected a folder without it")
    for name, source in _FILES.items():
        shutil.copyfile(source, folder / name)
    return folder / "example.toml"
