"""A checkpoint to alter."""

import shutil
from pathlib import Path

import pytest

from .parity_cases import SMALL


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A copy of the tiny checkpoint with a head, to be altered."""
    return shutil.copytree(SMALL / "tiny_n1", tmp_path / "epoch27")
