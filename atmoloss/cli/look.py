"""What ``atmoloss attention`` looks at: one position, what its prediction reads of each field, where its air was."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from atmoloss.data.alignment import Fields
from atmoloss.errors import InputError
from atmoloss.predictor import Predictor
from atmoloss.sphere import destination
from atmoloss.verification.statistics.advection import displacement
from atmoloss.verification.statistics.grid import Grid, degrees

if TYPE_CHECKING:
    import xarray as xr

Place = tuple[float, float]
"""Degrees north and east."""


@dataclasses.dataclass(frozen=True)
class Position:
    """A position of the features, ``stride`` cells wide and high, on the grid of the fields."""

    grid: Grid
    stride: int
    row: int
    column: int

    @classmethod
    def around(cls, point: Place, grid: Grid, stride: int) -> Position:
        """Return the position that holds a point; ``InputError`` where the point lies outside of the grid."""
        rows, columns = grid.latitude.size, grid.longitude.size
        south = (grid.latitude[0] - point[0]) / grid.step[0]
        half = grid.step[1] / 2  # a point may lie as much west of the first meridian
        east = ((point[1] - grid.longitude[0] + half) % 360.0 - half) / grid.step[1]
        if not (-0.5 <= south <= rows - 0.5 and (grid.periodic or east < columns - 0.5)):
            raise InputError(f"--point: got {place_text(point)}, expected a point of the grid of FILE, {grid}")
        row, column = int(np.abs(grid.latitude - point[0]).argmin()), round(east) % columns
        return cls(grid, stride, row // stride, column // stride)

    def places(self, south: Any = 0.0, east: Any = 0.0) -> tuple[Any, Any]:
        """Return latitudes and longitudes so many positions from the centre; longitudes go on past the grid's own."""
        row, column = (
            (place + moved) * self.stride + (self.stride - 1) / 2
            for place, moved in ((self.row, south), (self.column, east))
        )
        latitude = np.interp(row, np.arange(self.grid.latitude.size), self.grid.latitude)
        return latitude, self.grid.longitude[0] + self.grid.step[1] * column

    @property
    def centre(self) -> Place:
        """The centre of its cells."""
        latitude, longitude = self.places()
        return float(latitude), float(longitude)

    @property
    def cells(self) -> tuple[slice, slice]:
        """Rows and columns of its cells."""
        row, column = (slice(self.stride * i, self.stride * (i + 1)) for i in (self.row, self.column))
        return row, column

    def view(self, fields: Fields, reach: int) -> Fields:
        """Return the part of fields at most so many cells from the position; longitudes ascend across a seam."""
        height, width = self.grid.latitude.size, self.grid.longitude.size
        rows, columns = (
            np.arange(self.stride * i - reach, self.stride * (i + 1) + reach) for i in (self.row, self.column)
        )
        rows = rows[(rows >= 0) & (rows < height)]
        columns = columns[:width] if self.grid.periodic else columns[(columns >= 0) & (columns < width)]
        longitude = self.grid.longitude[0] + self.grid.step[1] * columns
        return fields.isel(latitude=rows, longitude=columns % width).assign_coords(longitude=longitude)


@dataclasses.dataclass(frozen=True)
class Read:
    """What a position reads of one field.

    Attributes:
        hours: of the field, from the present; 0 or negative.
        map: (S, S), weights around the position, rows southward and columns eastward.
        centroid: of the map.
        air: where the air of the position was then, had it moved with its wind of the present ever since; ``None``
            where no wind is known.
    """

    hours: float
    map: np.ndarray
    centroid: Place
    air: Place | None


@dataclasses.dataclass(frozen=True)
class Look:
    """A position, what its prediction reads, what was predicted, and what came.

    Attributes:
        position: that is looked at.
        reads: of each field that a prediction reads, the present last.
        fields: those, and after them the one that came, if there is one, (time, latitude, longitude).
        predicted: the next field, (time, latitude, longitude) with the one time.
        winds: ``u`` and ``v`` of the times of ``fields``, or ``None``.
        radius: of the head's window; what a rollout reads beyond it is little.
        step: hours from one field to the next.
    """

    position: Position
    reads: list[Read]
    fields: xr.Dataset
    predicted: xr.Dataset
    winds: xr.Dataset | None
    radius: int
    step: int

    @property
    def came(self) -> bool:
        """Whether the field that was to be predicted is there."""
        return self.fields.sizes["time"] > len(self.reads)

    def errors(self) -> dict[str, float]:
        """Return for each channel the squared error of the whole prediction over that of persistence, by area."""
        if not self.came:
            return {}
        out = {}
        for name, field in self.fields.data_vars.items():
            present, came = field.values[-2:].astype(np.float64)
            guesses = np.stack((self.predicted[name].values[0], present))
            predicted, persistence = self.position.grid.means((guesses - came) ** 2)
            out[str(name)] = float(predicted / persistence)
        return out


def look(
    predictor: Predictor,
    position: Position,
    fields: xr.Dataset,
    winds: xr.Dataset | None,
    method: Literal["head", "rollout", "gradient"],
    head: int | None,
) -> Look:
    """Predict, and look at one position.

    Args:
        predictor: whose columns wrap where the grid closes.
        position: to look at.
        fields: in order of time, one step apart, with the channels of the predictor in order: those that it reads, and
            the next one, if there is one.
        winds: ``u`` and ``v`` of the same times and grid, m/s.
        method: of :meth:`atmoloss.predictor.Predictor.attention`.
        head: whose map is taken; ``None``: the mean of all there are.
    """
    frames = predictor.frames
    sequence = torch.from_numpy(np.stack([field.values[:frames] for field in fields.data_vars.values()], 1))[None]
    maps = predictor.attention(sequence, method, (position.row, position.column))[0, :, 0, 0].double().numpy()
    if head is not None and not 0 <= head < len(maps):
        raise InputError(f"--head: got {head}, expected one from 0 to {len(maps) - 1}")
    maps = maps.mean(0) if head is None else maps[head]
    wind, step = None, predictor.info.base_step_hours
    if winds is not None:
        u, v = (float(winds[name].values[frames - 1][position.cells].mean()) for name in "uv")
        wind = 3600.0 * math.hypot(u, v), math.degrees(math.atan2(-u, -v))
    reads = []
    for frame, (weights, moved) in enumerate(zip(maps, displacement(maps), strict=True)):
        hours = step * (frame + 1 - frames)
        latitude, longitude = position.places(*moved)
        air = None if wind is None else destination(position.centre, -hours * wind[0], wind[1])
        reads.append(Read(hours, weights, (float(latitude), float(longitude)), air))
    channels = dict(zip(fields, predictor(sequence)[0, :, None].numpy(), strict=True))
    predicted = fields.isel(time=[frames - 1]).copy(data=channels)
    later = predicted["time"].copy(data=predicted["time"].values + np.timedelta64(step, "h"))
    predicted = predicted.assign_coords(time=later)
    return Look(position, reads, fields, predicted, winds, predictor.model.head.radius, step)


def place_text(place: Place) -> str:
    """Return a place as text to a hundredth of a degree, 18.5°N 122°W."""
    return f"{degrees(round(place[0], 2), 'NS')} {degrees(round((place[1] + 180.0) % 360.0 - 180.0, 2), 'EW')}"
