"""What atmoloss raises: every message names the argument, what came and what was expected."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType


class AtmolossError(Exception):
    """Base of every error that atmoloss raises on purpose."""


class InputError(AtmolossError, ValueError):
    """An argument has the wrong shape, type, range or content."""


class WeightsError(AtmolossError, ValueError):
    """A weights folder is missing, incomplete, altered or of another format."""


class DataError(AtmolossError, ValueError):
    """A data set lacks what was asked of it, or cannot be understood."""


class ConfigError(AtmolossError, ValueError):
    """A training configuration has an unknown key or an impossible value."""


class DistributedError(AtmolossError, RuntimeError):
    """Another process of a distributed run is gone."""


class MissingDependencyError(AtmolossError, ImportError):
    """An optional library is needed; the message names the extra that brings it."""


class UnitsWarning(UserWarning):
    """Fields do not look like the physical units that the weights expect."""


def not_a_tensor(argument: str, value: object, also: str = "") -> InputError:
    """Return the error of what computes on tensors alone; ``also`` says what else it takes."""
    return InputError(
        f"{argument}: got {type(value).__name__}, expected a tensor (N, C, H, W){also}; atmoloss.atmodist_distance "
        "takes arrays and xarray objects, and atmoloss.score forecasts of xarray"
    )


def option(argument: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ``InputError`` where a value is none of those allowed.

    Switches are options of True and False: in Python ``"no"`` is true.
    """
    if value not in allowed:
        raise InputError(f"{argument}: got {value!r}, expected one of {', '.join(map(repr, allowed))}")


def require(module: str, extra: str = "", install: str = "") -> ModuleType:
    """Import ``module``; a ``MissingDependencyError`` says which extra of atmoloss, or what else, to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = install or f"'atmoloss[{extra}]'"
        raise MissingDependencyError(
            f"{module!r} is needed here and could not be imported ({error}); install it with: pip install {wanted}"
        ) from error
