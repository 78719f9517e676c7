"""A loss and a distance for atmospheric fields, in PyTorch: AtmoDist (Hoffmann & Lessig 2023, arXiv:2202.01897)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from atmoloss._version import __version__ as __version__

if TYPE_CHECKING:
    from atmoloss.distance import atmodist_distance, distance_matrix
    from atmoloss.embedding import embed, nearest
    from atmoloss.extractor import load_extractor
    from atmoloss.hours import atmodist_hours, fit_hours
    from atmoloss.loss import AtmoDistLoss
    from atmoloss.metric import AtmoDistMetric
    from atmoloss.predictor import load_predictor
    from atmoloss.scoring import score
    from atmoloss.weights import list_weights

__all__ = [
    "AtmoDistLoss",
    "AtmoDistMetric",
    "atmodist_distance",
    "atmodist_hours",
    "distance_matrix",
    "embed",
    "fit_hours",
    "list_weights",
    "load_extractor",
    "load_predictor",
    "nearest",
    "score",
]

# Loaded at first use: `atmoloss --help` answers without importing torch.
_MODULES = {
    "AtmoDistLoss": "loss",
    "AtmoDistMetric": "metric",
    "atmodist_distance": "distance",
    "atmodist_hours": "hours",
    "distance_matrix": "distance",
    "embed": "embedding",
    "fit_hours": "hours",
    "list_weights": "weights",
    "load_extractor": "extractor",
    "load_predictor": "predictor",
    "nearest": "embedding",
    "score": "scoring",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"atmoloss.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'atmoloss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
