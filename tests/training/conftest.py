from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atmoloss.training import checkpoint as runs

xr = pytest.importorskip("xarray")


def drifting_winds(n_times: int = 48, step: int = 6, seed: int = 0, start: str = "2026-01-01") -> xr.Dataset:
    """Smooth random winds that forget themselves over about two days, on a small regional grid."""
    rng = np.random.default_rng(seed)
    shape = (40, 48)

    def smooth(x: np.ndarray) -> np.ndarray:
        k = np.hypot(*np.meshgrid(np.fft.fftfreq(shape[1]), np.fft.fftfreq(shape[0])))
        return np.fft.ifft2(np.fft.fft2(x) * np.exp(-((k / 0.08) ** 2))).real * 40

    fields = {}
    for name in ("u10", "v10"):
        state, rho = smooth(rng.standard_normal(shape)), np.exp(-step / 36)
        series = []
        for _ in range(n_times):
            state = rho * state + np.sqrt(1 - rho**2) * smooth(rng.standard_normal(shape))
            series.append(state)
        attrs = {"units": "m s-1", "standard_name": "eastward_wind" if name == "u10" else "northward_wind"}
        fields[name] = (("time", "latitude", "longitude"), np.array(series, np.float32), attrs)
    times = np.datetime64(start, "ns") + np.arange(n_times) * np.timedelta64(step, "h")
    coords = {"time": times, "latitude": 50.0 - np.arange(shape[0]), "longitude": 10.0 + np.arange(shape[1])}
    return xr.Dataset(fields, coords)


@pytest.fixture(scope="session")
def winds_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "winds.nc"
    drifting_winds().to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def raw_config(winds_file: Path) -> dict:
    return {
        "name": "tiny",
        "sources": [{"name": "winds", "path": str(winds_file)}],
        "validation": ["2026-01-09/2026-01-10"],
        "test": ["2026-01-11/2026-01-12"],
        "encoder_options": {"stage_channels": [4, 6], "blocks_per_stage": 1},
        "patch_sizes": [16],
        "n_times": 3,
        "n_classes": 16,
        "batch_size": 4,
        "steps": 6,
        "workers": 0,
        "log_every": 2,
        "validate_every": 6,
        "checkpoint_every": 2,
        "validation_patches": 1,
        "ranking_weight": 1.0,
    }


def weights_of(folder: Path) -> dict:
    """Return what the last checkpoint of a run holds of the model."""
    state = runs.load_checkpoint(folder)
    assert state is not None
    return state["model"]


@contextlib.contextmanager
def interrupted_after(step: int) -> Iterator[None]:
    """Let Ctrl-C come right after the checkpoint of a step."""

    def save_and_stop(folder, state, save=runs.save_checkpoint):
        save(folder, state)
        if state["step"] == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", save_and_stop)
        yield


def log_of(folder: Path) -> list[dict]:
    """Return the lines of a run's log, without the speed."""
    lines = [json.loads(line) for line in (folder / runs.METRICS).read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]


def scalars(cloud_units="kg m-2", temperature_units="degC", n_times=48):
    """Two scalars, by names and in units that people use."""
    data = drifting_winds(n_times)
    out = data.rename(u10="2m_temperature", v10="cloud").drop_attrs()
    for name, units in (("2m_temperature", temperature_units), ("cloud", cloud_units)):
        out[name].attrs = {"units": units} if units else {}
    out["cloud"].attrs["standard_name"] = "atmosphere_mass_content_of_cloud_liquid_water"
    return out


@pytest.fixture
def scalar_config(raw_config: dict, tmp_path: Path) -> dict:
    """A short run on them."""
    scalars().to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    sources = [{"name": "a", "path": str(tmp_path / "scalars.nc")}]
    return {**raw_config, "sources": sources, "variables": ["t2m", "cloud"], "steps": 2, "validate_every": 2}
