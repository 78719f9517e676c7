"""Tensors on a latitude–longitude grid of another program, in the order that the loss expects."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from atmoloss.arrays import area_weight
from atmoloss.data.conventions import from_greenwich, latitude_order, longitude_order
from atmoloss.errors import InputError
from atmoloss.sphere import is_periodic

_SAME = 1e-3  # degrees; coordinates that were float32 radians differ by 2e-5


class RegularGrid:
    """Which way is north on a grid, and what a row of it has of the area.

    Args:
        latitude, longitude: degrees, 1-D, in the order of the fields. Latitude may ascend or descend, longitude start
            anywhere.

    Attributes:
        shape: rows and columns of the fields as they come.
        periodic: whether longitudes close around the globe.
        weight: cosine of latitude of the oriented fields, (H,) float32.

    Raises:
        InputError: coordinates that are not 1-D, or longitudes with different steps.
        DataError: latitudes that are not monotonic.
    """

    def __init__(self, latitude: np.ndarray, longitude: np.ndarray) -> None:
        for name, values in (("latitude", latitude), ("longitude", longitude)):
            if values.ndim != 1:
                raise InputError(f"{name}: got shape {values.shape}, expected one dimension; interpolate the fields")
        self.shape = (latitude.size, longitude.size)
        rows = latitude_order(latitude)
        columns, east = longitude_order(longitude)
        self.periodic = is_periodic(east)
        if self.periodic:
            columns = columns[from_greenwich(east)]
        self._rows, self._columns = (torch.from_numpy(order.copy()) for order in (rows, columns))
        self.weight = area_weight(latitude[rows])

    @classmethod
    def of_points(cls, latitude: np.ndarray, longitude: np.ndarray) -> RegularGrid:
        """Return the grid whose points, row by row, have these coordinates, (H × W,) each, in degrees.

        Raises:
            InputError: points that are not rows of equal longitudes, as those of a reduced Gaussian grid are not.
        """
        columns = int(np.argmax(np.append(np.abs(latitude - latitude[0]) > _SAME, True)))
        if latitude.size % columns == 0:
            rows, meridians = latitude.reshape(-1, columns), longitude.reshape(-1, columns)
            if (np.abs(rows - rows[:, :1]) < _SAME).all() and (np.abs(meridians - meridians[0]) < _SAME).all():
                return cls(rows[:, 0], meridians[0])
        raise InputError(
            f"grid: got {latitude.size} points that are not rows of {columns} equal longitudes, expected a regular "
            "latitude–longitude grid; interpolate the data to one"
        )

    def orient(self, fields: Tensor) -> Tensor:
        """Return fields (…, H, W) with rows southward and columns eastward, those of a globe from 0; differentiable."""
        device = fields.device
        return fields.index_select(-2, self._rows.to(device)).index_select(-1, self._columns.to(device))
