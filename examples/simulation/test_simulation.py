"""Run by `make test-sim` in its own environment; not part of `make test`, which has no JAX."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import coefficients
import ducc0
import numpy as np
import pytest
import simulate
import xarray as xr
from atmosphere import MEAN_SURFACE_PRESSURE, Atmosphere
from checkpoint import Workspace
from schedule import TRUNCATIONS, SimulationError, plan

LMAX = 21
DAYS = 4
ARGUMENTS = ["--truncation", str(LMAX), "--days", str(DAYS), "--spin-up-days", "1", "--quiet"]
# Float32 transforms: what the core, ducc0 and pyshtools agreed to when the file of the bundled weights was made.
TRANSFORM = 5e-7


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let all processes of the tests share what XLA compiles: a day takes half a minute to compile, one to run."""
    import jax

    folder = str(tmp_path_factory.mktemp("compiled"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    jax.config.update("jax_compilation_cache_dir", folder)


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a run that nothing interrupted."""
    path = tmp_path_factory.mktemp("run") / "run.nc"
    assert simulate.main([str(path), *ARGUMENTS]) == 0
    return path


@pytest.fixture(scope="session")
def atmosphere() -> Atmosphere:
    return Atmosphere(LMAX, 30)


@pytest.fixture(scope="session")
def last_state(output: Path, atmosphere: Atmosphere):
    """Return the state at the end of the uninterrupted run."""
    return _workspace(output).load_state(atmosphere.at_rest(0))[0]


def _workspace(output: Path) -> Workspace:
    folder = output.with_name(output.name + ".work")
    return Workspace(folder, simulate.identity(simulate.parse([str(output), *ARGUMENTS])))


def _unpack(dataset: xr.Dataset, name: str) -> np.ndarray:
    scale = dataset[f"{name}_scale"].values.astype(float)[dataset["l"].values]
    return (dataset[f"{name}_re"].values + 1j * dataset[f"{name}_im"].values) * scale


def _on_gaussian_grid(alm: np.ndarray) -> np.ndarray:
    """Synthesise by ducc0 on the core's grid, in the core's order: (longitude, latitude from the south)."""
    nlat = TRUNCATIONS[LMAX].latitudes
    grid = ducc0.sht.synthesis_2d(
        alm=alm[None].astype(complex), spin=0, lmax=LMAX, mmax=LMAX, ntheta=nlat, nphi=2 * nlat, geometry="GL"
    )
    return grid[0][::-1].T


def _on_own_grid(atmosphere: Atmosphere, field) -> np.ndarray:
    """Synthesise by the core, without the spare degree LMAX + 1 that its divergence fills and the file leaves out."""
    grid = atmosphere.coords.horizontal
    return np.asarray(grid.to_nodal(grid.clip_wavenumbers(field)))


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# Which days and steps


def test_default_plan_is_that_of_the_shared_file():
    stages = [dataclasses.astuple(stage) for stage in plan(85, 119)]
    assert stages == [(42, 30, -78, -8), (85, 15, -8, 21), (85, 20, 21, 119)]


@pytest.mark.parametrize("truncation", sorted(TRUNCATIONS))
@pytest.mark.parametrize("days", [1, 30])
def test_plan_has_no_gaps(truncation: int, days: int):
    run = [day for stage in plan(truncation, days) for day in stage.days]
    first = -70 if truncation <= 42 else -78
    assert run == list(range(first, days))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--truncation", "63", "--step", "30"], "got 30 min, but T63 is stable only up to 20 min"),
        (["--truncation", "85", "--step", "7"], "got 7 min, expected a divisor of 180"),
        (["--truncation", "106"], "got 106, expected one of"),
        (["--days", "0"], "expected at least 1"),
        (["--start", "yesterday"], "expected a date"),
    ],
)
def test_impossible_options_are_refused_in_one_sentence(tmp_path, capsys, arguments, message):
    assert simulate.main([str(tmp_path / "x.nc"), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Coefficients


def test_conversion_agrees_with_ducc0(last_state, atmosphere):
    for field in (last_state.vorticity[7], last_state.divergence[7]):
        alm = coefficients.from_core(np.asarray(field), LMAX)
        own = _on_own_grid(atmosphere, field)
        assert _relative(_on_gaussian_grid(alm), own) < TRANSFORM


def test_packing_rounds_to_half_a_step_and_never_overflows():
    degree, order = coefficients.degrees_orders(LMAX)
    rng = np.random.default_rng(0)
    series = (rng.standard_normal((9, len(degree))) + 1j * rng.standard_normal((9, len(degree)))) * 1e-6
    series[:, order == 0] = series[:, order == 0].real
    series[:, degree == 0] = 0  # vorticity and divergence have no global mean
    series[0, degree == 20] = 0
    series[0, (degree == 20) & (order == 0)] = 1e-2  # 10000 times its degree: 100 steps an rms would not fit
    real, imaginary, scale = coefficients.pack(series.astype(np.complex64), LMAX)
    error = (real + 1j * imaginary) * scale.astype(float)[degree] - series
    assert np.abs(error.real / scale[degree]).max() < 0.501  # float32 of the series
    assert np.abs(error.imag / scale[degree]).max() < 0.501
    rms = np.sqrt(np.mean(np.abs(series[:, degree == 10]) ** 2) / 2)
    assert scale[10] == pytest.approx(rms / 100, rel=1e-5)


# The written file


def test_file_has_what_the_shared_file_has(output: Path):
    with xr.open_dataset(output, decode_times=False) as dataset:
        assert {name: (v.dims, str(v.dtype)) for name, v in dataset.variables.items()} == {
            "time": (("time",), "int32"),
            "l": (("coef",), "int16"),
            "m": (("coef",), "int16"),
            "sigma": ((), "float32"),
            "check_lat": (("check_lat",), "float32"),
            "check_lon": (("check_lon",), "float32"),
            **{f"{q}_scale": (("wavenumber",), "float32") for q in ("vor", "div")},
            **{f"{q}_{part}": (("time", "coef"), "int16") for q in ("vor", "div") for part in ("re", "im")},
            **{f"check_{q}": (("check_lat", "check_lon"), "float32") for q in ("vor", "div")},
        }
        assert dataset.time.attrs["units"] == "hours since 2001-01-01 00:00:00"
        np.testing.assert_array_equal(dataset.time, np.arange(0, 24 * DAYS + 1, 3))
        assert set(dataset.attrs) == {
            *("title", "Conventions", "source", "truncation", "convention", "ordering", "packing", "level"),
            *("earth_radius_m", "note"),
        }


def test_check_values_agree_with_ducc0(output: Path):
    with xr.open_dataset(output) as dataset:
        latitude, longitude = dataset.check_lat.values.astype(float), dataset.check_lon.values.astype(float)
        grid = np.meshgrid(np.deg2rad(90.0 - latitude), np.deg2rad(longitude), indexing="ij")
        points = np.stack([x.ravel() for x in grid], axis=1)
        for name in ("vor", "div"):
            alm = _unpack(dataset, name)[:1]
            value = ducc0.sht.synthesis_general(alm=alm, spin=0, lmax=LMAX, mmax=LMAX, loc=points, epsilon=1e-9)
            assert _relative(dataset[f"check_{name}"].values.ravel(), value[0]) < TRANSFORM


def test_last_instant_is_the_state_of_the_core(output: Path, last_state, atmosphere):
    with xr.open_dataset(output) as dataset:
        for name, field in (("vor", last_state.vorticity[7]), ("div", last_state.divergence[7])):
            own = _on_own_grid(atmosphere, field)
            read = _on_gaussian_grid(_unpack(dataset, name)[-1])
            # Packing: 0.29 % of the rms over all times; the last of these days has more than its share.
            assert np.std(read - own) < 0.005 * np.std(own)


def test_atmoloss_reads_it(output: Path, tmp_path: Path):
    python = os.environ.get("ATMOLOSS_PYTHON")
    if python is None:
        pytest.skip("ATMOLOSS_PYTHON names no Python with atmoloss; make test-sim sets it")
    code = (
        "import sys, numpy as np; from atmoloss.data import open_fields\n"
        "fields = open_fields(sys.argv[1], grid=5.0)\n"
        "np.savez(sys.argv[2], **{k: fields[k].values for k in ('vorticity', 'divergence')})"
    )
    subprocess.run([python, "-c", code, str(output), str(tmp_path / "read.npz")], check=True)
    read = np.load(tmp_path / "read.npz")
    with xr.open_dataset(output) as dataset:
        for key, name in (("vorticity", "vor"), ("divergence", "div")):
            alm = _unpack(dataset, name)[-1:]
            grid = ducc0.sht.synthesis_2d(alm=alm, spin=0, lmax=LMAX, mmax=LMAX, ntheta=37, nphi=72, geometry="CC")
            assert _relative(read[key][-1], grid[0]) < TRANSFORM


# Stopping and continuing


KILLED = """
import os, signal, sys
import checkpoint, simulate
save_day = checkpoint.Workspace.save_day
def dies(self, day, *series):
    save_day(self, day, *series)
    if day == 1:  # between the fields of a day and the state at its end
        os.kill(os.getpid(), signal.SIGKILL)
checkpoint.Workspace.save_day = dies
simulate.main(sys.argv[1:])
"""


def test_killed_run_continues_to_the_same_file(output: Path, tmp_path: Path):
    path = tmp_path / "killed.nc"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), *ARGUMENTS], cwd=Path(simulate.__file__).parent)
    assert killed.returncode == -signal.SIGKILL
    reached = tmp_path / "killed.nc.work" / "day00001.npz"
    assert reached.exists()
    assert not path.exists()
    # What a kill while writing leaves behind must not be read.
    (reached.parent / "checkpoint.npz.part").write_bytes(b"half")
    assert simulate.main([str(path), *ARGUMENTS]) == 0
    with xr.open_dataset(path) as continued, xr.open_dataset(output) as whole:
        xr.testing.assert_identical(continued, whole)


def test_kill_between_fields_and_state_repeats_the_day(output: Path, tmp_path: Path, monkeypatch):
    path = tmp_path / "run.nc"

    def stop(workspace, day, truncation, flow):
        if day == 2:
            raise KeyboardInterrupt
        save(workspace, day, truncation, flow)

    save = Workspace.save_state
    monkeypatch.setattr(Workspace, "save_state", stop)
    assert simulate.main([str(path), *ARGUMENTS]) == 130
    monkeypatch.undo()
    assert simulate.main([str(path), *ARGUMENTS]) == 0
    with xr.open_dataset(path) as continued, xr.open_dataset(output) as whole:
        xr.testing.assert_identical(continued, whole)


def test_run_is_not_continued_with_another_seed(output: Path, capsys):
    before = output.read_bytes()
    assert simulate.main([str(output), *ARGUMENTS, "--seed", "1"]) == 1
    assert "seed 0 (now 1)" in capsys.readouterr().err
    assert output.read_bytes() == before


# The atmosphere


def test_mass_is_kept(last_state, atmosphere):
    # float32 of a log pressure near 0: 1e-7 a point; the sum over the grid is no better.
    assert atmosphere.surface_pressure(last_state) == pytest.approx(MEAN_SURFACE_PRESSURE, rel=1e-6)
    heavier = last_state.replace(log_surface_pressure=last_state.log_surface_pressure.at[0, 0, 0].add(0.01))
    assert atmosphere.surface_pressure(heavier) > MEAN_SURFACE_PRESSURE * 1.002
    fixed = atmosphere.with_fixed_mass(heavier)
    assert atmosphere.surface_pressure(fixed) == pytest.approx(MEAN_SURFACE_PRESSURE, rel=1e-6)


def test_interpolated_rest_is_rest_over_the_finer_orography(atmosphere):
    """The surface pressure of an atmosphere at rest is known at both truncations."""
    fine = Atmosphere(31, 30)

    def log_pressure(state):
        return np.asarray(fine.coords.horizontal.to_nodal(state.log_surface_pressure))

    coarse_rest, _ = atmosphere.at_rest(0)
    moved, _ = fine.interpolated(atmosphere, coarse_rest)
    expected = log_pressure(fine.at_rest(0)[0])
    uncorrected = log_pressure(fine.padded(atmosphere, coarse_rest))
    # The correction assumes a lapse rate that the isothermal state does not have: a few per cent of it remain.
    assert np.abs(log_pressure(moved) - expected).max() < 0.05 * np.abs(uncorrected - expected).max()


def test_flow_that_blew_up_is_reported(atmosphere):
    with pytest.raises(SimulationError, match="T21 with a step of 30 min blew up on day 3"):
        simulate.check_flow(np.full((8, 44, 23), np.nan), atmosphere, 3)
