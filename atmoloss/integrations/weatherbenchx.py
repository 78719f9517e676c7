"""The distance as a statistic of WeatherBench-X: maps, which its aggregation averages. Importing this imports it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from atmoloss.arrays import Weights, convert, device_of
from atmoloss.distance import distance_of
from atmoloss.errors import InputError, require

if TYPE_CHECKING:
    import xarray as xr

_base = require("weatherbenchX.metrics.base", install="git+https://github.com/google-research/weatherbenchX")


class AtmoDistStatistic(_base.Statistic):  # type: ignore[misc, name-defined]
    """Where predictions differ from targets, as maps on their own grid; a ``Metric`` as well, as every statistic is.

    WeatherBench-X averages statistics over latitude and longitude with weights and bins of its own choice. The mean of
    a map (:meth:`atmoloss.AtmoDistLoss.spatial`) is close to the distance of the fields. Initial times, lead times and
    members stay, so that they can be binned and averaged like those of any other statistic.

    Args:
        variables: names in the data, from which the channels of the weights are taken or derived.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        level: of the coordinate ``level``, where the variables have several.
        per_variable: beside ``"atmodist"``, give for each variable the map of a prediction in which that variable alone
            is the predicted one, and the others are the targets'.
        **options: of :class:`~atmoloss.AtmoDistLoss`, except ``reduction``.

    Raises:
        InputError, DataError: in ``compute``, where variables, coordinates or values do not fit.
    """

    def __init__(
        self,
        variables: Sequence[str],
        *,
        weights: Weights = "winds",
        level: float | None = None,
        per_variable: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(variables, str):
            raise InputError(f"variables: got the string {variables!r}, expected a sequence of names")
        self._variables, self._weights, self._level = tuple(variables), weights, level
        self._per_variable, self._options = per_variable, options

    @property
    def unique_name(self) -> str:
        """Name by which WeatherBench-X computes equal statistics once; it has all that changes the numbers."""
        weights = self._weights if isinstance(self._weights, str) else repr(self._weights)
        parts = [weights, *self._variables, self._level, self._per_variable, *sorted(self._options.items())]
        return "_".join(["AtmoDist", *map(str, parts)])

    def compute(
        self, predictions: Mapping[Hashable, xr.DataArray], targets: Mapping[Hashable, xr.DataArray]
    ) -> dict[Hashable, xr.DataArray]:
        """Return float32 maps by name, each with the dimensions of the predictions."""
        predicted, target = (self._chosen(fields) for fields in (predictions, targets))
        maps: dict[Hashable, xr.DataArray] = {"atmodist": self._maps(predicted, target)}
        if self._per_variable:
            for name in self._variables:
                maps[name] = self._maps({**target, name: predicted[name]}, target)
        return maps

    def _chosen(self, fields: Mapping[Hashable, xr.DataArray]) -> dict[Hashable, xr.DataArray]:
        missing = [name for name in self._variables if name not in fields]
        if missing:
            raise InputError(f"variables: got {', '.join(missing)}, expected some of {', '.join(map(str, fields))}")
        chosen = {name: fields[name] for name in self._variables}
        if self._level is not None:
            chosen = {name: field.sel(level=self._level) for name, field in chosen.items()}
        return chosen  # type: ignore[return-value]

    @torch.no_grad()
    def _maps(
        self, predicted: Mapping[Hashable, xr.DataArray], target: Mapping[Hashable, xr.DataArray]
    ) -> xr.DataArray:
        dataset = require("xarray", "data").Dataset
        # Each field has dimensions of its own: a target without members meets every member of a prediction.
        like = {name: field.broadcast_like(predicted[name]) for name, field in target.items()}
        fields = convert({"predictions": dataset(predicted), "targets": dataset(like)}, None, self._weights)
        assert fields.grid is not None  # for labelled arrays
        device = device_of(self._weights)
        loss = distance_of(self._weights, device, {**fields.options, **self._options})
        pairs = zip(*(tensor.to(device) for tensor in fields.tensors), strict=True)
        maps = torch.cat([loss.spatial(a[None], b[None])[:, 0] for a, b in pairs]).cpu().numpy()
        own = fields.grid.own
        out: xr.DataArray = fields.restore(torch.from_numpy(fields.grid.on_own_grid(maps)), *map(str, own.dims))
        return out.assign_coords(own.coords).rename("atmodist")
