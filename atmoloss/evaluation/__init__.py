"""How near fields come to the truth: spectra, semivariogram, cities, moments, tails, pixels, artefacts.

Functions take and return xarray objects with dimensions (time, latitude, longitude); they need the extra ``eval``.
:func:`evaluate_fields` computes everything with intervals, and ``atmoloss report`` makes a page of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atmoloss.evaluation.bootstrap import bootstrap_mean
    from atmoloss.evaluation.cities import at_cities, city_percentiles, city_wasserstein, load_cities
    from atmoloss.evaluation.distributions import histogram, tails
    from atmoloss.evaluation.evaluate import evaluate_fields
    from atmoloss.evaluation.grid import area_mean
    from atmoloss.evaluation.lattice import grid_artefacts, lattice_power
    from atmoloss.evaluation.moment_maps import moment_errors, moments
    from atmoloss.evaluation.pixel import pixel_errors
    from atmoloss.evaluation.report import write_report
    from atmoloss.evaluation.results import Evaluation
    from atmoloss.evaluation.spectra import kinetic_energy_spectrum, log_spectral_distance, power_spectrum
    from atmoloss.evaluation.variogram import semivariance, semivariogram

_MODULES = {
    "bootstrap": ("bootstrap_mean",),
    "cities": ("at_cities", "city_percentiles", "city_wasserstein", "load_cities"),
    "distributions": ("histogram", "tails"),
    "evaluate": ("evaluate_fields",),
    "grid": ("area_mean",),
    "lattice": ("grid_artefacts", "lattice_power"),
    "moment_maps": ("moment_errors", "moments"),
    "pixel": ("pixel_errors",),
    "report": ("write_report",),
    "results": ("Evaluation",),
    "spectra": ("kinetic_energy_spectrum", "log_spectral_distance", "power_spectrum"),
    "variogram": ("semivariance", "semivariogram"),
}
__all__ = [
    "Evaluation",
    "area_mean",
    "at_cities",
    "bootstrap_mean",
    "city_percentiles",
    "city_wasserstein",
    "evaluate_fields",
    "grid_artefacts",
    "histogram",
    "kinetic_energy_spectrum",
    "lattice_power",
    "load_cities",
    "log_spectral_distance",
    "moment_errors",
    "moments",
    "pixel_errors",
    "power_spectrum",
    "semivariance",
    "semivariogram",
    "tails",
    "write_report",
]
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
