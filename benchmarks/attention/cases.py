"""What predictions are scored on: sequences of held-out dates, the winds at their present, and the cells that count."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from trainings import REPOSITORY

sys.path.append(str(REPOSITORY / "benchmarks" / "forecast"))

import forecaster
from fluid.make import PRESENT
from fluid.score import REACH

from atmoloss.data.sequences import rows_inside
from atmoloss.data.sources import FieldSource, open_source
from atmoloss.data.spectral import synthesise_wind
from atmoloss.errors import require
from atmoloss.training.config import SourceConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class Cases:
    """Sequences of one source, the last field of each being the one that is predicted.

    Attributes:
        source: whose grid and channels they have.
        fields: (T, F + 1, C, H, W), physical units.
        times: of the present, the last field but one, (T,).
        weight: of the cells in a score, (H, W).
    """

    source: FieldSource
    fields: Tensor
    times: np.ndarray
    weight: Tensor

    @property
    def before(self) -> Tensor:
        """What is read, (T, F, C, H, W)."""
        return self.fields[:, :-1]

    @property
    def present(self) -> Tensor:
        """What persistence predicts, (T, C, H, W)."""
        return self.fields[:, -2]

    @property
    def truth(self) -> Tensor:
        """What is predicted, (T, C, H, W)."""
        return self.fields[:, -1]


def cases_of(source: FieldSource, config: TrainConfig, most: int) -> Cases:
    """Return the sequences of a source, evenly thinned to at most so many; of a run of the fluid the middle one."""
    step = config.base_step
    hours = range(-step * (config.n_times - 2), step + 1, step)
    found = forecaster.cases_of(source, hours)
    times = found.times - np.timedelta64(step, "h")
    kept = np.arange(len(times))
    if not source.periodic:
        kept = kept[(times - times.astype("datetime64[D]")) == np.timedelta64(PRESENT, "h")]
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, min(most, len(kept))).round().astype(int))]
    fields = torch.from_numpy(np.asarray(found.values[kept], np.float32))
    return Cases(source, fields.unflatten(1, (config.n_times, -1)), times[kept], cell_weight(source, config))


def cell_weight(source: FieldSource, config: TrainConfig) -> Tensor:
    """Return the area of the cells inside the latitudes of the training; of the fluid, 1 where every shift reaches."""
    height, width = len(source.latitude), len(source.longitude)
    if source.periodic:
        rows = rows_inside(source, config.latitude_band) * np.cos(np.radians(source.latitude))
        return torch.from_numpy(rows)[:, None].expand(height, width)
    inner = torch.zeros(height, width, dtype=torch.float64)
    inner[REACH:-REACH, REACH:-REACH] = 1.0
    return inner


@functools.lru_cache(maxsize=2)
def _winds(path: str, name: str, level: float | None) -> FieldSource:
    return open_source(path, name, ("u", "v"), level)


def winds_of(cases: Cases, sources: Sequence[SourceConfig]) -> tuple[Tensor, Tensor]:
    """Return u and v at the present, each (T, H, W), m/s; of ERA5, whose file has none, those of the vorticity."""
    config = next(s for s in sources if s.name == cases.source.name)
    if config.name.startswith("era5"):
        return rotational_wind(cases.present[:, 0])
    winds = _winds(config.path, config.name, config.level)
    u, v = torch.from_numpy(winds.values[np.searchsorted(winds.times, cases.times)]).unbind(1)
    return u, v


def rotational_wind(vorticity: Tensor) -> tuple[Tensor, Tensor]:
    """Return u and v of the flow without divergence that has a vorticity, (T, H, W) with both poles, s⁻¹."""
    height, width = vorticity.shape[-2:]
    lmax = min(height - 2, (width - 1) // 2)
    maps = vorticity.double().numpy()[:, None]
    analyse = functools.partial(require("ducc0", "data").sht.analysis_2d, spin=0, lmax=lmax, geometry="CC", nthreads=1)
    series = np.concatenate([analyse(map=one) for one in maps])
    nothing = np.zeros_like(series)
    u, v = (
        synthesise_wind(np.concatenate(pair, 1), lmax, height, width) for pair in ((series, nothing), (nothing, series))
    )
    return torch.from_numpy(u), torch.from_numpy(v)
