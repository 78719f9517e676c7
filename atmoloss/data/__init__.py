"""Reading of atmospheric data: any common file to one layout.

Everything that needs xarray, zarr, cfgrib or ducc0 (extras ``data`` and ``grib``) imports them when
called, so that ``import atmoloss.data`` works in a core install.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atmoloss.data.reading import open_fields
    from atmoloss.data.spectral import synthesise

__all__ = ["open_fields", "synthesise"]

# Loaded at first use: a training configuration is read without importing torch.
_HOME = {"open_fields": "reading", "synthesise": "spectral"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"atmoloss.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'atmoloss.data' has no attribute {name!r}")
