"""Divergence and vorticity derived from winds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from atmoloss.data.parts import BLOCK_BYTES, find_winds, present_names
from atmoloss.data.series import Keep, blockwise, checked, regular_series
from atmoloss.data.spectral import differentiate_wind, is_global_gaussian
from atmoloss.errors import DataError, InputError

if TYPE_CHECKING:
    import xarray as xr


def derive(
    files: Sequence[Sequence[xr.Dataset]], name: str, level: float | None, missing: str | float, keep: Keep | None
) -> xr.DataArray:
    """Return divergence and vorticity (time, channel, latitude, longitude) of the one wind that fits.

    Raises:
        DataError: no wind, several, or one whose components or grid allow no derivatives.
    """
    pairs = find_winds(files, level)
    if not pairs:
        raise DataError(f"variables: got {name!r}, neither it nor a wind is there; {present_names(files)}")
    if len(pairs) > 1:
        raise DataError(
            f"variables: {name!r} could be derived from {' or '.join(pairs)}; give level, or pass a dataset "
            "with only one of these winds"
        )
    ((label, components),) = pairs.items()
    wind = [regular_series(field, name, level, None, keep) for name, field in zip("uv", components, strict=True)]
    if missing == "error":
        wind = [checked(component, missing) for component in wind]
    first, second = wind
    if not all(first[axis].equals(second[axis]) for axis in ("time", "latitude", "longitude")):
        raise DataError(f"variables: {label} do not share times and grid, expected one grid to derive {name!r}")
    try:
        transform = _differentiation(first["latitude"].values, first["longitude"].values)
    except InputError as error:
        raise DataError(f"variables: {name!r} cannot be derived from {label}: {error}") from error
    space = {axis: first.sizes[axis] for axis in ("latitude", "longitude")}
    block = max(1, BLOCK_BYTES // (16 * int(np.prod(list(space.values())))))
    fields = blockwise(transform, wind, list(space), {"channel": 2, **space}, block)
    out: xr.DataArray = fields.assign_coords({axis: first[axis] for axis in space})
    out.attrs = {"derived_from": label}
    return out


def _differentiation(latitude: np.ndarray, longitude: np.ndarray) -> Callable[..., np.ndarray]:
    """Return what derives (T, 2, H, W) divergence and vorticity from both winds (T, H, W)."""
    import torch  # here: fields without derivatives are read without it

    from atmoloss.winds import WindToVorticityDivergence

    try:
        module = WindToVorticityDivergence(latitude, longitude)
    except InputError as error:
        if latitude.size > 1 and is_global_gaussian(latitude, longitude):
            return partial(differentiate_wind, longitude=float(longitude[0]))
        raise InputError(f"{error} or a global Gaussian one; regrid to a regular one first") from error

    def differentiate(east: np.ndarray, north: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(np.stack((east, north), axis=1))).numpy())

    return differentiate
