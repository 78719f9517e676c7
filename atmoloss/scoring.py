"""Score forecasts against analyses: xarray in, xarray out."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from atmoloss import checks
from atmoloss.arrays import Weights, area_weight, channel_names, device_of
from atmoloss.data.alignment import on_grid_of
from atmoloss.data.calendars import calendar_of
from atmoloss.data.forecasts import has_runs
from atmoloss.data.gridded import Files, GriddedFields, gridded, opened
from atmoloss.data.reading import read_fields
from atmoloss.data.sources import describe_level
from atmoloss.data.times import valid_times, with_time_deltas
from atmoloss.distance import distance_of
from atmoloss.errors import DataError, InputError, number, option, require
from atmoloss.hours import LagCurve, curve_for
from atmoloss.loss import AtmoDistLoss, Features

if TYPE_CHECKING:
    import xarray as xr


def score(
    forecast: Any,
    analysis: Any,
    *,
    weights: Weights = "winds",
    level: float | None = None,
    units: Literal["distance", "hours"] = "distance",
    curve: LagCurve | None = None,
    spatial: bool = False,
    progress: bool = False,
) -> Any:
    """Return how far each field of a forecast is from the analysis of its valid time.

    Variables, levels, units and times are recognised as by :func:`atmoloss.data.open_fields`; latitude may ascend or
    descend and longitude start anywhere. Fields that close in longitude wrap around. Points count by the cosine of
    latitude, but all the same with ``units="hours"``, as in the curves of distance against lag. The attributes of the
    result say so. The forecast is read part by part (dask chunk, chunk of its file, or field); the features of an
    analysis are kept until the last forecast of its valid time has been compared.

    Args:
        forecast: ``Dataset`` or ``DataArray`` with initial and lead times under any of their usual names
            (``init_time`` × ``lead_time``, ``time`` × ``step`` or ``prediction_timedelta``, …), or with valid times;
            or a path, as ``open_fields`` takes it. Further dimensions, such as members of an ensemble, stay.
        analysis: the same, of one field for each valid time, on the same grid.
        weights: bundled name, weights folder, Hub repository, or an ``Extractor``, which computes where it is.
        level: hPa for pressure, else the level's own number; ``None`` takes the only one.
        units: ``"distance"`` for the distance of :func:`atmoloss.atmodist_distance`, or ``"hours"`` for how many hours
            apart two analyses are that differ as much, see :func:`atmoloss.atmodist_hours`.
        curve: of :func:`atmoloss.fit_hours`, for hours by your own analyses.
        spatial: return maps of where fields differ, on the forecast's grid; their means are close to the distance.
        progress: show a bar (extra ``train``).

    Returns:
        ``DataArray`` of float32 with the forecast's dimensions, but those of space and the level unless ``spatial``,
        and the coordinate ``valid_time``. For hours a ``Dataset`` of ``hours``, ``low``, ``high`` and ``beyond``,
        see :class:`~atmoloss.hours.Hours`. Of a path to files of one run each the dimensions are ``init_time`` and
        ``lead_time``. NaN where no analysis is there or either field is all missing; one warning says of how many
        valid times.

    Raises:
        DataError: variables, level, times, a common grid or any analysis not found, or fields with gaps.
        InputError: a bad argument, or hours of a grid or level without a curve.
        MissingDependencyError: xarray is not installed (extra ``data``).
    """
    in_hours = _checked(units, curve, spatial, level, progress)
    names = channel_names(weights)
    with opened(forecast, names, "forecast") as files, opened(analysis, names, "analysis") as truth:
        fields = _forecast(files, names, level)
        analyses = _analyses(truth, names, level, fields)
        device = device_of(weights)
        loss = distance_of(weights, device, {"periodic": fields.periodic})
        weight = None if in_hours else area_weight(fields.grid["latitude"].values).to(device)
        if in_hours:
            curve = curve_for(loss.extractor, fields.shape, fields.spacing, fields.level or None, curve)
        out: Any = _Comparison(fields, analyses, loss, weight).run(spatial, progress)
    if len(files) > 1:
        out = _by_run(out)
    if curve is not None:
        out = _in_hours(out, curve)
    return out.assign_attrs(_described(fields, loss, weight))


def _checked(units: str, curve: LagCurve | None, spatial: bool, level: float | None, progress: bool) -> bool:
    """Say whether hours are asked for, or refuse what does not go together."""
    require("xarray", "data")
    option("units", units, ("distance", "hours"))
    if level is not None:
        number("level", level, math.isfinite, "a number, or None")
    option("spatial", spatial, (True, False))
    option("progress", progress, (True, False))
    if units == "hours" and spatial:
        raise InputError("spatial: got True with units='hours', expected False; curves belong to whole fields")
    if units == "distance" and curve is not None:
        raise InputError("curve: got one with units='distance', expected None, or units='hours'")
    return units == "hours"


def _analyses(files: Files, names: Sequence[str], level: float | None, fields: GriddedFields) -> xr.Dataset:
    """Return analyses on the grid of a forecast, lazy where they are large or in dask chunks."""
    analyses = read_fields(files, names, level, missing="ignore")
    if has_runs(analyses):
        raise DataError("analysis: got several forecast runs, expected one field for each valid time")
    return on_grid_of(fields.grid, analyses, ("forecast", "analysis"))


def _forecast(files: Files, names: Sequence[str], level: float | None) -> GriddedFields:
    """Return the fields of a file with its own dimensions, those of several as one series in time."""
    if len(files) == 1:
        fields = gridded(files, names, level)
        return dataclasses.replace(fields, outer=with_time_deltas(fields.outer))
    series = read_fields(files, names, level, missing="ignore")
    return dataclasses.replace(gridded([[series]], names), level=describe_level(series, level))


def _by_run(out: Any) -> xr.DataArray:
    """Return a series of several forecast runs with the dimensions ``init_time`` and ``lead_time``."""
    if has_runs(out):
        out = (
            out.assign_coords(valid_time=("time", out["time"].values))
            .set_index(time=["init_time", "lead_time"])
            .unstack("time")
        )
    return out.drop_vars("run", errors="ignore")  # type: ignore[no-any-return]


def _in_hours(out: xr.DataArray, curve: LagCurve) -> xr.Dataset:
    lag = curve.equivalent_lag(torch.from_numpy(out.values))
    columns = {name: out.copy(data=values.numpy()) for name, values in lag._asdict().items()}
    for name in ("hours", "low", "high"):
        columns[name].attrs = {"units": "h"}
    columns["hours"].attrs["long_name"] = "hours between two analyses that differ as much as forecast and analysis"
    columns["beyond"].attrs = {"long_name": f"beyond {curve.limit:g} h, the largest lag that can be told"}
    return require("xarray", "data").Dataset(columns)  # type: ignore[no-any-return]


def _described(fields: GriddedFields, loss: AtmoDistLoss, weight: Tensor | None) -> dict[str, str]:
    """Return what was done, as attributes that every file format takes."""
    latitude, longitude = (fields.grid[axis].values for axis in ("latitude", "longitude"))
    return {
        "weights": loss.extractor.info.id,
        "level": fields.level or "not said",
        "area_weights": "none" if weight is None else "cosine of latitude",
        "periodic_longitude": "yes" if fields.periodic else "no",
        "compared_on": f"latitude {latitude[0]:g} to {latitude[-1]:g}, longitude {longitude[0]:g} to {longitude[-1]:g}",
    }


class _Analyses:
    """Features of analyses: each is encoded once, and let go after its last use; of their fields one chunk is held."""

    def __init__(self, data: xr.Dataset, encode: Callable[[Tensor], Features], uses: Counter[int]) -> None:
        self._data, self._encode, self._uses = data, encode, uses
        chunks = next(iter(data.data_vars.values())).chunksizes.get("time", (1,) * data.sizes["time"])
        self._ends = np.cumsum(chunks)
        self._block, self._values = -1, np.empty(0)
        self._features: dict[int, Features | None] = {}
        self.missing = 0

    def take(self, k: int) -> Features | None:
        """Return the features of the analysis of a number, ``None`` for one that is all missing."""
        if k not in self._features:
            values = self._read(k)
            present = _is_there(values, "analysis", self._data["time"].values[k])
            self._features[k] = self._encode(torch.from_numpy(values[None])) if present else None
            self.missing += not present
        self._uses[k] -= 1
        return self._features[k] if self._uses[k] else self._features.pop(k)

    def _read(self, k: int) -> np.ndarray:
        block = int(np.searchsorted(self._ends, k, side="right"))
        start = int(self._ends[block - 1]) if block else 0
        if block != self._block:
            part = self._data.isel(time=slice(start, int(self._ends[block]))).load()  # at once: channels share winds
            self._values = np.stack([field.values for field in part.data_vars.values()], axis=1)
            self._block = block
        return self._values[k - start]  # type: ignore[no-any-return]


class _Comparison:
    """Fields of a forecast, the analyses of their valid times, and the loss that compares them."""

    def __init__(self, fields: GriddedFields, analyses: xr.Dataset, loss: AtmoDistLoss, weight: Tensor | None) -> None:
        self._fields, self._loss, self._weight = fields, loss, weight
        self._valid, calendar = valid_times(fields.outer)
        if calendar != calendar_of(analyses):
            raise DataError(
                f"forecast and analysis: got times in the calendars {calendar} and {calendar_of(analyses)}, "
                "expected one"
            )
        known, wanted = (d.values.astype("datetime64[us]") for d in (analyses["time"], self._valid))
        place = np.searchsorted(known, wanted).clip(max=known.size - 1)
        place = np.where(known[place] == wanted, place, -1)
        if (place < 0).all():
            spans = [f"{t.size} from {t.min()} to {t.max()}" for t in (wanted, known)]
            raise DataError(
                f"forecast and analysis: have no time in common ({spans[0]}; {spans[1]}), expected valid times of the "
                "forecast among those of the analysis"
            )
        self._without = np.unique(wanted[place < 0]).size
        self._place, self._wanted = (
            self._valid.copy(data=values).broadcast_like(fields.outer).transpose(*fields.outer.dims).values
            for values in (place, wanted)
        )
        uses = Counter(self._place[self._place >= 0].tolist())
        self._analyses = _Analyses(analyses, lambda field: loss.features(field.to(self._device), weight), uses)

    @property
    def _device(self) -> torch.device:
        return device_of(self._loss.extractor)

    @torch.no_grad()
    def run(self, spatial: bool, progress: bool) -> xr.DataArray:
        """Return the distances, or maps of them on the forecast's own grid, float32."""
        outer, own = self._fields.outer, self._fields.own
        values = np.full((*outer.shape, *(own.shape if spatial else ())), np.nan, np.float32)
        blocks: Any = sorted(self._fields.blocks(), key=lambda index: self._wanted[tuple(index.values())].min())
        if progress:
            blocks = require("tqdm", "train").tqdm(blocks, desc="score", unit="block")
        lost = 0
        for index in blocks:
            part = values[(*index.values(), ...)]  # a view, of a single field, too
            place = self._place[tuple(index.values())]
            if (place < 0).all():
                continue
            fields = self._fields.read(index)
            for at in map(tuple, np.argwhere(place >= 0)):
                target = self._analyses.take(int(place[at]))
                present = _is_there(fields[at], "forecast", self._wanted[tuple(index.values())][at])
                lost += not present
                if present and target is not None:
                    part[at] = self._measure(fields[at], target, spatial)
        self._warn(lost)
        dims, coords = list(outer.dims), dict(outer.coords)
        if spatial:
            dims, coords = [*dims, *own.dims], {**own.coords, **coords}
        if "valid_time" not in coords and not any(_same(self._valid, c) for c in coords.values()):
            coords["valid_time"] = self._valid
        attrs = {"long_name": "AtmoDist distance from the analysis, a mean square", "units": "1"}
        out: xr.DataArray = require("xarray", "data").DataArray(values, coords, dims, "atmodist", attrs)
        return out.load()  # coordinates, before a file is closed

    def _measure(self, field: np.ndarray, target: Features, spatial: bool) -> np.ndarray | float:
        tensor = torch.from_numpy(field[None]).to(self._device)
        if spatial:
            return self._fields.on_own_grid(self._loss.spatial(tensor, target)[0, 0].cpu().numpy())
        return float(self._loss(tensor, target, self._weight))

    def _warn(self, lost: int) -> None:
        """Say once what was not there."""
        said = []
        if missing := self._without + self._analyses.missing:
            said.append(f"{missing} of {np.unique(self._wanted).size} valid times of the forecast have no analysis")
        if lost:
            said.append(f"{lost} fields of the forecast have no values")
        if said:
            warnings.warn(f"score: {' and '.join(said)}; they are NaN", stacklevel=checks.depth_of_user())


def _same(a: xr.DataArray, b: xr.DataArray) -> bool:
    return a.dims == b.dims and np.array_equal(a.values, b.values)


def _is_there(field: np.ndarray, argument: str, valid: np.datetime64) -> bool:
    """Say whether a field has values; one that lacks some of them is refused."""
    missing = int((~np.isfinite(field)).sum())
    if 0 < missing < field.size:
        raise DataError(
            f"{argument}: lacks {missing} of {field.size} values at {str(valid)[:16]}, expected all or none; fill them "
            "in, or select a region without gaps"
        )
    return missing == 0
