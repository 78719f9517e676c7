"""What atmoloss raises: every message names the argument, what came and what was expected."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from numbers import Real
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


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
    several = hasattr(value, "__len__") and not isinstance(value, str)  # an array is compared element by element
    if several or value not in allowed:
        raise InputError(f"{argument}: got {shown(value)}, expected one of {', '.join(map(repr, allowed))}")


def instance(argument: str, value: object, kinds: type[Any] | tuple[type[Any], ...], expected: str) -> None:
    """Raise ``InputError`` where a value is of none of the types."""
    if not isinstance(value, kinds):
        raise InputError(f"{argument}: got {shown(value)}, expected {expected}")


def number(argument: str, value: Any, fits: Callable[[Any], bool], expected: str, kind: type[Any] = Real) -> None:
    """Raise ``InputError`` where a value is no number, or one that does not fit; True, False and NaN are none."""
    if isinstance(value, bool) or not isinstance(value, kind) or math.isnan(value) or not fits(value):
        raise InputError(f"{argument}: got {shown(value)}, expected {expected}")


def floats(argument: str, value: object, expected: str) -> np.ndarray:
    """Return numbers as an array of float64; ``InputError`` where they are none."""
    import numpy as np  # not above: ``--help`` waits for no numpy

    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{argument}: got {shown(value)}, expected {expected}") from None


def shown(value: object) -> str:
    """Return a value as messages show it: of what takes several lines, or a long one, the type."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a value of type {type(value).__name__}"


def require(module: str, extra: str = "", install: str = "") -> ModuleType:
    """Import ``module``; a ``MissingDependencyError`` says which extra of atmoloss, or what else, to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = install or f"'atmoloss[{extra}]'"
        raise MissingDependencyError(
            f"{module!r} is needed here and could not be imported ({error}); install it with: pip install {wanted}"
        ) from error
