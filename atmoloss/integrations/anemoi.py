"""AtmoDist as a loss of anemoi-training, for regular latitude–longitude grids. Importing this imports anemoi."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.errors import InputError, require
from atmoloss.integrations.regular import RegularGrid
from atmoloss.loss import AtmoDistLoss as Loss

_base = require("anemoi.training.losses.base", install="anemoi-training")
_DIMENSIONS = require("anemoi.training.utils.enums", install="anemoi-training").TensorDim


class AtmoDistLoss(_base.BaseLoss):  # type: ignore[misc, name-defined]
    """:class:`atmoloss.AtmoDistLoss` of fields as anemoi-training has them: normalised, and their points in one row.

    Named in a configuration by ``_target_: atmoloss.integrations.anemoi.AtmoDistLoss``, alone or among the ``losses``
    of a ``CombinedLoss``. anemoi hands over the positions of variables and the graph, whose coordinates say which way
    the grid lies, whether it closes, and what a point has of the area.

    Args:
        variables: names in the data set, one for each channel of the weights, in their order: ``[u_850, v_850]`` for
            ``weights: winds``. They must be normalised by ``mean-std``.
        statistics: what ``anemoi.datasets.open_dataset`` takes, such as the path of the training data, for their mean
            and standard deviation; or a mapping of ``mean`` and ``stdev`` to numbers in the order of ``variables``.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``.
        data_indices, graph_data, data_node_name: given by anemoi.
        **options: of :class:`atmoloss.AtmoDistLoss`, except ``reduction``: ``sharp: true``, ``mse_weight: 0.5``.

    Shape:
        prediction, target: (batch, time, ensemble, grid, variables). The value is summed over time, where a scaler of
        time steps has the shares, and averaged over batch and ensemble, as other losses of anemoi are. Of a prediction
        that is not squashed every variable gets the same value.

    Raises:
        InputError: variables or statistics that do not fit, a grid that is not regular, or a scaler of the grid or of
            variables, of which the loss has its own weights.
    """

    needs_graph_data = True
    needs_data_node_name = True
    factory_context_keys = frozenset({_base.LossFactoryContextKey.DATA_INDICES})

    def __init__(
        self,
        variables: Sequence[str],
        statistics: Any,
        weights: Any = "winds",
        *,
        data_indices: Any,
        graph_data: Any,
        data_node_name: str = "data",
        **options: Any,
    ) -> None:
        super().__init__(ignore_nans=False)
        self.supports_sharding = False  # convolutions need the neighbours: anemoi gathers the grid
        points = np.rad2deg(graph_data[data_node_name].x.double().cpu().numpy())
        self.grid = RegularGrid.of_points(points[:, 0], points[:, 1])
        self.loss = Loss(weights, **{"periodic": self.grid.periodic, **options, "reduction": "none"})
        self.positions = {
            "model_output": _positions(variables, data_indices.model.output.name_to_position),
            "data_output": _positions(variables, data_indices.data.output.name_to_position),
            "data_full": _positions(variables, data_indices.data_full_name_to_position),
        }
        mean, stdev = _statistics(statistics, variables)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("stdev", stdev, persistent=False)
        self.register_buffer("area", self.grid.weight, persistent=False)
        super().add_scaler(_DIMENSIONS.GRID, torch.ones(1), name="atmodist")  # anemoi asks for one of the grid

    @property
    def name(self) -> str:
        """What logs call it."""
        return "atmodist"

    def add_scaler(self, dimension: int | tuple[int, ...], scaler: Tensor, *, name: str | None = None) -> None:
        """Take a scaler of batch, time or ensemble, such as ``time_steps``."""
        dimensions = (dimension,) if isinstance(dimension, int) else dimension
        if {_DIMENSIONS.GRID, _DIMENSIONS.VARIABLE} & set(dimensions):
            raise InputError(
                f"scalers: got {name}, which weighs points or variables, expected scalers of time alone, or []; "
                "AtmoDistLoss has weights of its own"
            )
        super().add_scaler(dimension, scaler, name=name)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        squash: bool = True,
        *,
        pred_layout: str = "model_output",
        target_layout: str = "data_full",
        without_scalers: list[Any] | None = None,
        **_: Any,
    ) -> Tensor:
        """Return the loss, () or one number for each variable of ``pred``."""
        first, second = self._fields(pred, pred_layout), self._fields(target, target_layout)
        outer = pred.shape[:3]
        second = second.expand(*outer, -1, -1, -1)  # targets have one member
        values = self.loss(first.flatten(0, 2), second.flatten(0, 2), self.area).reshape(*outer, 1, 1)
        value = self.reduce(self.scale(values, without_scalers=without_scalers), squash=True)
        return value if squash else value.expand(pred.shape[-1])  # type: ignore[no-any-return]

    def _fields(self, tensor: Tensor, layout: str) -> Tensor:
        """Return (batch, time, ensemble, channel, latitude, longitude) in physical units."""
        chosen = tensor[..., self.positions[str(layout)]].float() * self.stdev + self.mean
        return self.grid.orient(chosen.movedim(-1, -2).unflatten(-1, self.grid.shape))


def _positions(variables: Sequence[str], known: Mapping[str, int]) -> list[int]:
    missing = [v for v in variables if v not in known]
    if missing:
        raise InputError(f"variables: got {', '.join(missing)}, expected some of {', '.join(known)}")
    return [known[v] for v in variables]


def _statistics(source: Any, variables: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of variables, (C,) float32 each."""
    if isinstance(source, Mapping) and set(source) == {"mean", "stdev"}:
        found = [list(source[key]) for key in ("mean", "stdev")]
    else:
        data = require("anemoi.datasets", install="anemoi-datasets").open_dataset(source)
        chosen = _positions(variables, data.name_to_index)
        found = [data.statistics[key][chosen].tolist() for key in ("mean", "stdev")]
    if any(len(values) != len(variables) for values in found):
        raise InputError(f"statistics: got {found}, expected one mean and one stdev for each of {list(variables)}")
    mean, stdev = (torch.tensor(values, dtype=torch.float32) for values in found)
    return mean, stdev
