"""Files of winds, and the command run with them."""

import numpy as np
import pytest

from atmoloss.cli import main

TIMES = np.datetime64("2026-05-01T00", "ns") + np.arange(4) * np.timedelta64(6, "h")


def write(path, times=TIMES, latitude=None, longitude=None, seed=0):
    """Write smooth random winds, which depend on time and place through the seed alone."""
    latitude = np.arange(60.0, 20.0, -1.0) if latitude is None else latitude
    longitude = np.arange(-30.0, 18.0) if longitude is None else longitude
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (2, len(times), 3, 1, 1))
    waves = np.deg2rad(longitude) * np.arange(2, 5)[:, None, None] * 2 + np.deg2rad(latitude)[:, None] * 5
    winds = 8 * np.sin(waves + phase).sum(2)
    dims = ("time", "latitude", "longitude")
    coords = {"time": times, "latitude": latitude, "longitude": longitude}
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    data = xarray.Dataset({n: (dims, w, {"units": "m s-1"}) for n, w in zip("uv", winds, strict=True)}, coords)
    data.to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def a(tmp_path):
    return write(tmp_path / "a.nc")


@pytest.fixture
def b(tmp_path):
    return write(tmp_path / "b.nc", seed=1)


@pytest.fixture
def run(capsys, folder):
    """Run the command with the tiny weights; returns exit code, standard output and standard error."""

    def call(*arguments):
        arguments = [str(x) for x in arguments]
        if arguments[0] == "distance" and "--weights" not in arguments:
            arguments += ["--weights", str(folder)]
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def fails(run):
    """Run the command, which must fail with one line; returns the line."""

    def call(*arguments, code=1):
        ended, out, err = run(*arguments)
        assert ended == code
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("atmoloss: error: ")
        return err

    return call


def rows(text):
    """Split the lines of a printed table; the first is its header."""
    return [line.split() for line in text.splitlines() if not line.startswith("#")]
