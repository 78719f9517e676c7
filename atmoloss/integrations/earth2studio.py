"""The distance as a metric of earth2studio: tensors with coordinates in, a tensor with coordinates out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.arrays import Weights
from atmoloss.distance import distance_of
from atmoloss.errors import InputError
from atmoloss.integrations.regular import RegularGrid

Coords = OrderedDict[str, np.ndarray]
_FIELD = ("variable", "lat", "lon")


class AtmoDistMetric:
    """Distance of forecasts from analyses, by the protocol ``earth2studio.statistics.Metric``.

    Latitudes may ascend or descend and longitudes start anywhere; points count by the cosine of latitude, and fields
    that close in longitude wrap around, as in :func:`atmoloss.score`. Nothing of earth2studio is imported.

    Args:
        variables: names in earth2studio's lexicon, one for each channel of the weights, in their order:
            ``("u10m", "v10m")`` or ``("u850", "v850")`` for ``weights="winds"``.
        reduction_dimensions: dimensions to average over, such as ``"ensemble"`` or ``"time"``, beside those of a field
            (``variable``, ``lat``, ``lon``), which always go.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        **options: of :class:`~atmoloss.AtmoDistLoss`, except ``reduction``.

    Example:
        >>> metric = AtmoDistMetric(("u10m", "v10m"), ["ensemble"])
        >>> metric.reduction_dimensions
        ['ensemble', 'variable', 'lat', 'lon']
    """

    def __init__(
        self,
        variables: Sequence[str],
        reduction_dimensions: Sequence[str] = (),
        *,
        weights: Weights = "winds",
        **options: Any,
    ) -> None:
        if isinstance(variables, str):
            raise InputError(f"variables: got the string {variables!r}, expected a sequence of names")
        self.variables = tuple(variables)
        self._extra = [d for d in reduction_dimensions if d not in _FIELD]
        self._weights, self._options = weights, options

    def __str__(self) -> str:
        return "_".join([*self._extra, "atmodist"])

    @property
    def reduction_dimensions(self) -> list[str]:
        """Dimensions that the result does not have."""
        return [*self._extra, *_FIELD]

    def output_coords(self, input_coords: Coords) -> Coords:
        """Return the coordinates of the result for fields of these."""
        missing = [d for d in self.reduction_dimensions if d not in input_coords]
        if missing:
            raise InputError(f"coords: got {', '.join(input_coords)}, expected {', '.join(missing)} as well")
        return OrderedDict((d, c) for d, c in input_coords.items() if d not in self.reduction_dimensions)

    def __call__(self, x: Tensor, x_coords: Coords, y: Tensor, y_coords: Coords) -> tuple[Tensor, Coords]:
        """Return the distances of ``x`` from ``y``, and their coordinates.

        Args:
            x: fields, physical units, with the dimensions of ``x_coords`` in their order.
            y: the same; it may lack dimensions of ``x`` that are not those of a field, such as ``"ensemble"``.

        Raises:
            InputError: coordinates that differ or lack something.
        """
        out_coords = self.output_coords(x_coords)
        outer = [d for d in x_coords if d not in _FIELD]
        unknown = [d for d in y_coords if d not in x_coords]
        if unknown:
            raise InputError(f"y_coords: got the dimensions {', '.join(unknown)}, expected those of x_coords alone")
        for name in [d for d in y_coords if d != "variable"]:
            if not np.array_equal(x_coords[name], y_coords[name]):
                raise InputError(f"y_coords: got other values of {name} than x_coords has, expected the same")
        grid = RegularGrid(np.asarray(x_coords["lat"]), np.asarray(x_coords["lon"]))
        shape = tuple(len(x_coords[d]) for d in outer)
        a, b = (
            self._fields(name, tensor, coords, outer, grid).expand(*shape, -1, -1, -1).flatten(0, -4)
            for name, tensor, coords in (("x", x, x_coords), ("y", y, y_coords))
        )
        loss = distance_of(self._weights, a.device, {"periodic": grid.periodic, **self._options})
        values = loss(a, b, grid.weight.to(a.device)).reshape(shape)
        over = [outer.index(d) for d in self._extra]
        return (values.mean(over) if over else values), out_coords

    def _fields(self, name: str, tensor: Tensor, coords: Coords, outer: Sequence[str], grid: RegularGrid) -> Tensor:
        """Return the channels of fields (…, C, H, W), with all of the outer dimensions, of size 1 where not there."""
        if tensor.shape != tuple(len(c) for c in coords.values()):
            raise InputError(f"{name}: got shape {tuple(tensor.shape)}, expected that of the coordinates")
        missing = [d for d in _FIELD if d not in coords]
        known = [] if missing else list(coords["variable"])
        missing += [] if missing else [v for v in self.variables if v not in known]
        if missing:
            raise InputError(f"{name}_coords: has no {', '.join(missing)} (has {', '.join(map(str, known or coords))})")
        dims = list(coords)
        tensor = tensor.permute([dims.index(d) for d in outer if d in dims] + [dims.index(d) for d in _FIELD])
        channels = torch.tensor([known.index(v) for v in self.variables], device=tensor.device)
        fields = grid.orient(tensor.index_select(-3, channels))
        return fields[tuple(slice(None) if d in dims else None for d in outer)]
