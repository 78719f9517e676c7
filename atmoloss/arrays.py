"""Fields in the forms that users hold them in, as tensors (N, C, H, W), and results in the same form.

A form is a ``Tensor``, an ``ndarray`` (…, C, H, W), or an xarray object, which says itself where north is, what its
channels are, and in which units.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from atmoloss import weights as weights_folder
from atmoloss.data import alignment, gridded
from atmoloss.data.times import valid_times
from atmoloss.errors import InputError, require
from atmoloss.extractor import Extractor

if TYPE_CHECKING:
    import xarray as xr

Weights = str | os.PathLike[str] | Extractor
Fields = Any
"""A tensor or an array (…, C, H, W), or an xarray ``DataArray`` or ``Dataset``."""
AREA = "area"


@dataclasses.dataclass(frozen=True)
class Converted:
    """Fields as tensors (N, C, H, W), and what else is known of them.

    Attributes:
        tensors: of each argument; the same N for all.
        weight: what :meth:`atmoloss.AtmoDistLoss.forward` takes.
        restore: from a tensor (N, …) to the form of the arguments; of xarray with the names of further dimensions.
        grid: of xarray objects.
    """

    tensors: tuple[Tensor, ...]
    weight: Tensor | None
    restore: Callable[..., Any]
    grid: gridded.GriddedFields | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the fields themselves say of the options of a loss."""
        return {} if self.grid is None else {"periodic": self.grid.periodic}

    @property
    def times(self) -> np.ndarray:
        """The valid times of an xarray object, ``datetime64``; anything else has none, which is an ``InputError``."""
        if self.grid is None:
            raise InputError("times: got None, expected one per field; only xarray objects know their times")
        return valid_times(self.grid.outer)[0].values


def channel_names(weights: Weights) -> tuple[str, ...]:
    """Return the names of the channels of some weights; of a folder only its description is read."""
    if isinstance(weights, Extractor):
        return weights.info.channel_names
    return weights_folder.read_info(weights_folder.resolve(weights)).channel_names


def device_of(weights: Weights) -> torch.device:
    """Return where an ``Extractor`` is; the CPU for weights that have yet to be read."""
    if isinstance(weights, Extractor):
        return weights.encoder.stem.kernel_weight().device
    return torch.device("cpu")


def area_weight(latitude: np.ndarray) -> Tensor:
    """Return the cosine of latitudes in degrees, (H,) float32: what a cell of a regular grid has of the area."""
    return torch.from_numpy(np.cos(np.deg2rad(latitude)).clip(0).astype(np.float32))


def convert(fields: Mapping[str, Fields], weight: Any, weights: Weights) -> Converted:
    """Return arguments, by their names, as tensors; their leading dimensions are broadcast.

    Raises:
        InputError: different or unknown forms, shapes that do not broadcast, or a weight that does not fit.
        DataError: xarray objects in which the channels of the weights are not found.
    """
    if _are_labelled(fields):
        return _of_xarray(fields, weight, channel_names(weights))
    if isinstance(weight, str):
        raise InputError(f"weight: got {weight!r}, expected a tensor or None; only xarray objects know their latitudes")
    return _of_arrays(fields, weight)


def convert_lists(fields: Mapping[str, Fields], weight: Any, weights: Weights) -> list[Converted]:
    """Return lists of fields of one size, of any length each, as tensors (N, C, H, W), one ``Converted`` a list.

    Raises:
        InputError: different sizes, none or several dimensions beside those of a field, or what :func:`convert`
            refuses.
        DataError: xarray objects in which the channels of the weights are not found.
    """
    labelled = _are_labelled(fields)
    lists = [convert({name: value}, weight, weights) for name, value in fields.items()]
    for name, value, its in zip(fields, fields.values(), lists, strict=True):
        if its.grid is not None and its.grid.outer.ndim != 1:
            dims = ", ".join(map(str, its.grid.outer.dims)) or "none"
            raise InputError(f"{name}: got dimensions beside those of space {dims}, expected one; stack or select")
        if its.grid is None and value.ndim != 4:
            raise InputError(f"{name}: got shape {tuple(value.shape)}, expected (N, C, H, W)")
        got, first = its.tensors[0].shape, lists[0].tensors[0].shape[1:]
        if got[1:] != first:
            raise InputError(f"{name}: got shape {tuple(got)}, expected (N, {', '.join(map(str, first))})")
    if labelled:
        _one_grid({name: its.grid for name, its in zip(fields, lists, strict=True) if its.grid is not None})
    return lists


def _are_labelled(fields: Mapping[str, Fields]) -> bool:
    """Say whether all are xarray objects, and raise where they are neither that nor all tensors nor all arrays."""
    if all(map(gridded.is_labelled, fields.values())):
        return True
    kinds = {Tensor if isinstance(value, Tensor) else type(value) for value in fields.values()}
    if kinds != {Tensor} and kinds != {np.ndarray}:
        got = " and ".join(type(value).__name__ for value in fields.values())
        raise InputError(f"{', '.join(fields)}: got {got}, expected tensors (…, C, H, W), or arrays, or xarray objects")
    return False


def _one_grid(grids: Mapping[str, gridded.GriddedFields]) -> None:
    """Raise ``InputError`` where xarray objects are not on the grid of the first."""
    first, *others = grids
    for other in others:
        alignment.on_grid_of(grids[first].grid, grids[other].grid, (first, other), InputError)


def _of_arrays(fields: Mapping[str, Any], weight: Any) -> Converted:
    arrays = not isinstance(next(iter(fields.values())), Tensor)
    tensors = {name: _tensor(name, value) for name, value in fields.items()}
    weight = None if weight is None else _tensor("weight", weight)
    for name, tensor in tensors.items():
        if tensor.ndim < 3 or 0 in tensor.shape:
            raise InputError(f"{name}: got shape {tuple(tensor.shape)}, expected (…, C, H, W) of at least one field")
    leading = [tensor.shape[:-3] for tensor in tensors.values()]
    try:
        lead = torch.broadcast_shapes(*leading)  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise InputError(
            f"{' and '.join(tensors)}: got shapes {' and '.join(str(tuple(t.shape)) for t in tensors.values())}, "
            "expected leading dimensions that broadcast"
        ) from error
    if weight is not None and weight.ndim > 2 and len(lead) != 1:
        try:
            weight = _flat(weight, lead)
        except RuntimeError as error:
            raise InputError(
                f"weight: got shape {tuple(weight.shape)}, expected (H,), (H, W) or leading dimensions like the "
                f"fields', {tuple(lead)}"
            ) from error

    def restore(values: Tensor, *_: str) -> Any:
        values = values.reshape((*lead, *values.shape[1:]))
        return values.detach().cpu().numpy() if arrays else values

    return Converted(tuple(_flat(tensor, lead) for tensor in tensors.values()), weight, restore)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.from_numpy(np.require(value, requirements=["C", "W"]))
    except TypeError as error:
        raise InputError(f"{name}: got an array of {getattr(value, 'dtype', type(value))}, expected floats") from error


def _flat(tensor: Tensor, lead: Sequence[int]) -> Tensor:
    if tensor.ndim == 4 and tensor.shape[:1] == torch.Size(lead):
        return tensor
    return tensor.expand(*lead, *tensor.shape[-3:]).reshape(-1, *tensor.shape[-3:])


def _of_xarray(fields: Mapping[str, Any], weight: Any, names: Sequence[str]) -> Converted:
    xarray = require("xarray", "data")
    if weight is not None and not (isinstance(weight, str) and weight == AREA):
        got = repr(weight) if isinstance(weight, str) else type(weight).__name__
        raise InputError(f"weight: got {got}, expected {AREA!r} or None with xarray objects")
    space = ("_channel", "_latitude", "_longitude")
    read: dict[str, tuple[gridded.GriddedFields, xr.DataArray]] = {}
    for name, value in fields.items():
        with gridded.opened(value, names, name) as files:
            grid = gridded.gridded(files, names)
        read[name] = (grid, xarray.DataArray(grid.read(), grid.outer.coords, (*grid.outer.dims, *space)))
    _one_grid({name: its for name, (its, _) in read.items()})
    grid = next(iter(read.values()))[0]
    try:
        aligned = xarray.align(*(array for _, array in read.values()), join="exact", exclude=space)
    except ValueError as error:  # xarray's AlignmentError is one
        raise InputError(
            f"{' and '.join(fields)}: have different coordinates, expected the same ({' '.join(str(error).split())})"
        ) from error
    arrays = xarray.broadcast(*aligned, exclude=space)
    outer = arrays[0].isel(dict.fromkeys(space, 0), drop=True)
    tensors = tuple(_tensor(name, a.values.reshape(-1, *a.shape[-3:])) for name, a in zip(read, arrays, strict=True))

    def restore(values: Tensor, *dims: str) -> xr.DataArray:
        shaped = values.reshape((*outer.shape, *values.shape[1:])).detach().cpu().numpy()
        return xarray.DataArray(shaped, outer.coords, (*outer.dims, *dims))  # type: ignore[no-any-return]

    return Converted(tensors, area_weight(grid.grid["latitude"].values) if weight else None, restore, grid)
