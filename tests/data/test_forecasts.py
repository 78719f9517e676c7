"""Forecasts of several runs: what is chosen, what belongs together, and what the commands make of them."""

import csv

import numpy as np
import pytest
import torch

from atmoloss import atmodist_distance
from atmoloss.cli import main
from atmoloss.data import open_fields
from atmoloss.data.forecasts import choose, lead_hours, matching
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.errors import DataError, InputError

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

DAY, HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")
START = np.datetime64("2026-07-01T00", "ns")
LEADS = np.array([0, 12, 24, 36])


def fields(times, error=None, seed=0):
    """Winds of random waves that depend on the valid time alone, plus an error as large as asked for, m/s."""
    latitude, longitude = 60.0 - np.arange(32), -20.0 + np.arange(40)
    hours = ((times - START) / HOUR).astype(int)
    waves = np.deg2rad(longitude) * 6 + np.deg2rad(latitude)[:, None] * 9
    rng = np.random.default_rng(seed)
    winds = {}
    for i, name in enumerate(("u10", "v10")):
        values = 8 * np.sin(waves + 0.2 * hours[:, None, None] + i)
        if error is not None:
            values = values + error[:, None, None] * rng.normal(size=values.shape)
        winds[name] = (("time", "latitude", "longitude"), values.astype(np.float32), {"units": "m s-1"})
    return xr.Dataset(winds, {"time": times, "latitude": latitude, "longitude": longitude})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Analyses every 12 hours; forecasts of four daily runs, whose error grows, one a time and one a run and step."""
    path = tmp_path_factory.mktemp("forecasts")
    fields(START + 12 * HOUR * np.arange(8)).to_netcdf(path / "analysis.nc", engine="h5netcdf")
    starts = np.repeat(START + DAY * np.arange(4), len(LEADS))
    leads = np.tile(LEADS, 4)
    flat = fields(starts + leads * HOUR, error=leads / 24, seed=1)
    flat = flat.assign_coords(
        forecast_reference_time=("time", starts), step=("time", leads, {"units": "hours", "long_name": "lead"})
    )
    flat.to_netcdf(path / "forecasts.nc", engine="h5netcdf")
    other = flat + 0.1
    for name in flat.data_vars:
        other[name].attrs = flat[name].attrs
    nested = (
        other.drop_vars(["step", "time", "forecast_reference_time"]).coarsen(time=4).construct(time=("init", "step"))
    )
    nested = nested.assign_coords(init_time=("init", starts[::4]), lead_time=("step", LEADS * HOUR))
    nested.to_netcdf(path / "nested.nc", engine="h5netcdf")
    return path


def test_coordinates_of_a_result(files):
    flat, nested = (open_fields(files / f"{name}.nc", "u10") for name in ("forecasts", "nested"))
    for name in ("time", "run", "init_time", "lead_time"):
        assert flat[name].dims == ("time",)
        np.testing.assert_array_equal(flat[name].values, nested[name].values)
    np.testing.assert_array_equal(flat["init_time"].values + flat["lead_time"].values, flat["time"].values)
    assert "init_time" not in open_fields(files / "analysis.nc", "u10").coords


def test_a_prepared_store_keeps_the_runs(files, tmp_path):
    pytest.importorskip("zarr", minversion="3")
    store = prepare(files / "forecasts.nc", tmp_path / "store", PrepareOptions(("u10",), time_chunk=2), workers=0)
    again, want = open_fields(store.path, "u10"), open_fields(files / "forecasts.nc", "u10")
    for name in ("u10", "time", "run", "init_time", "lead_time"):
        np.testing.assert_array_equal(again[name].values, want[name].values)


def test_choice(files, one_sentence):
    data = open_fields(files / "forecasts.nc", "u10")
    run = choose(data, "2026-07-02T00", None, "A")
    assert np.unique(run["init_time"].values) == START + DAY
    np.testing.assert_array_equal(lead_hours(run), LEADS)
    assert choose(data, "2026-07-02", 12, "A")["time"].values == [START + 36 * HOUR]
    assert choose(data, None, 36, "A").sizes["time"] == 4
    for run, lead, kind, words in (
        ("2026-08-01", None, DataError, ("--run: got 2026-08-01", "2026-07-01T00:00 to 2026-07-04T00:00")),
        ("yesterday", None, InputError, ("--run: got 'yesterday'", "2026-07-10T00")),
        (None, 7, DataError, ("--lead: got 7 h", "0, 12, 24, 36 h")),
    ):
        with pytest.raises(kind) as error:
            choose(data, run, lead, "A")
        one_sentence(error.value, *words)
    with pytest.raises(DataError, match="analysis: does not say when its forecasts started"):
        choose(open_fields(files / "analysis.nc", "u10"), None, 24, "analysis")


def test_what_belongs_together(files):
    analysis, flat, nested = (open_fields(files / f"{n}.nc", "u10") for n in ("analysis", "forecasts", "nested"))
    first, second = matching(flat, analysis)
    assert len(first) == 4 + 4 + 4 + 2  # of the last run two fields have no analysis
    np.testing.assert_array_equal(flat["time"].values[first], analysis["time"].values[second])
    assert [list(x) for x in matching(analysis, flat)] == [list(second), list(first)]
    few = nested.isel(time=[7, 2, 9])
    first, second = matching(flat, few)
    assert sorted(first) == [2, 7, 9]
    for name in ("time", "init_time"):
        np.testing.assert_array_equal(flat[name].values[first], few[name].values[second])


@pytest.fixture
def run(capsys, folder):
    def call(verb, *arguments):
        more = ["--weights", str(folder)] if verb == "distance" else []
        code = main([verb, *map(str, arguments), *more])
        out, err = capsys.readouterr()
        return code, [line.split() for line in out.splitlines() if not line.startswith("#")], err

    return call


def expected(files, folder):
    """Lead and distance of every forecast that has an analysis, written out."""
    forecasts, analysis = (open_fields(files / f"{name}.nc") for name in ("forecasts", "analysis"))
    out = []
    for i, time in enumerate(forecasts["time"].values):
        (k,) = np.nonzero(analysis["time"].values == time)
        if len(k):
            pair = [torch.from_numpy(d.isel(time=[j]).to_array().values).transpose(0, 1) for d, j in
                    ((forecasts, i), (analysis, k[0]))]  # fmt: skip
            out.append((lead_hours(forecasts)[i], float(atmodist_distance(*pair, weights=folder))))
    return np.array(out)


def test_distance_by_lead_time(run, files, folder, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    want = expected(files, folder)
    for a, b in (("forecasts.nc", "analysis.nc"), ("analysis.nc", "forecasts.nc")):
        code, table, err = run(
            "distance", files / a, files / b, "--csv", tmp_path / "d.csv", "--plot", tmp_path / "d.png"
        )
        assert (code, err) == (0, "")
        assert table[0] == ["lead", "[h]", "mean", "distance", "number"]
        assert [(row[0], row[2]) for row in table[1:]] == [("0", "4"), ("12", "4"), ("24", "3"), ("36", "3")]
        means = [want[want[:, 0] == lead, 1].mean() for lead in LEADS]
        np.testing.assert_allclose([float(row[1]) for row in table[1:]], means, rtol=1e-3, atol=1e-6)
        assert means == sorted(means)
        header, *rows = csv.reader((tmp_path / "d.csv").open(encoding="utf-8"))
        assert header == ["initial time", "lead [h]", "valid time", "distance"]
        assert rows[5][:3] == ["2026-07-02T00:00", "12", "2026-07-02T12:00"]
        np.testing.assert_allclose([float(row[3]) for row in rows], want[:, 1], rtol=1e-3, atol=1e-6)
        colours = np.unique(image.imread(tmp_path / "d.png").reshape(-1, 4), axis=0)
        assert len(colours) > 2  # more than ink on paper: curves


def test_distance_of_a_run_or_a_lead_time(run, files):
    files = files / "forecasts.nc", files / "analysis.nc"
    _, table, _ = run("distance", *files, "--run", "2026-07-03T00")
    assert [row[:3] for row in table[1:]] == [
        ["2026-07-03T00:00", str(lead), str(START + 2 * DAY + lead * HOUR)[:16]] for lead in LEADS
    ]
    _, table, _ = run("distance", *files[::-1], "--lead", "24")
    assert [row[0] for row in table[1:]] == [f"2026-07-0{day}T00:00" for day in (1, 2, 3)]
    _, table, _ = run("distance", files[0], files[0].with_name("nested.nc"))
    assert [row[2] for row in table[1:]] == ["4"] * 4  # of the same run and time
    code, table, _ = run("distance", files[0], "--matrix", "--run", "2026-07-03")
    assert code == 0
    assert len(table) == 5
    code, _, err = run("distance", *files, "--lead", "7")
    assert code == 1
    assert err.startswith("atmoloss: error: --lead: got 7 h")


def test_the_files_of_data_md(run):
    from pathlib import Path

    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("../shared/data is absent")
    a, b = (data / f"gfs_0p25_japan_10m_{name}2026_train.nc" for name in ("forecasts_", ""))
    code, table, _ = run("distance", a, b, "--run", "2026-07-10T00")
    assert code == 0
    assert [row[1] for row in table[1:]] == [str(3 * i) for i in range(25)]
    assert float(table[1][3]) == 0 < float(table[5][3]) < float(table[-1][3])
