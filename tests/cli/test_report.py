"""``atmoloss report``: the same scores as the function, a page for each lead time, and errors before the work."""

import csv
import json

import numpy as np
import pytest

from atmoloss import atmodist_hours
from atmoloss.cli import plots
from atmoloss.cli.report import split_by_lead
from atmoloss.data import open_fields
from atmoloss.errors import DataError
from atmoloss.verification import evaluate_fields
from tests.cli.conftest import TIMES, write

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
FEW = ["--variables", "u", "--draws", "5"]


def test_the_numbers_are_those_of_the_function(run, a, b, tmp_path):
    options = ["--unresolved-from", "40", "--block-days", "0.5", "--draws", "7", "--seed", "3"]
    page = tmp_path / "no" / "such" / "r.html"
    code, out, err = run("report", a, f"B={b}", "--output", page, "--variables", "u,v", "--title", "Winds", *options)
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"wrote {page.parent / name}" for name in ("r.html", "r.json", "r_figures")]
    truth, model = (open_fields(path, ("u", "v")) for path in (a, b))
    expected = evaluate_fields(truth, {"B": model}, unresolved_from=40, block_days=0.5, n_bootstrap=7, seed=3)
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(json.dumps(expected.to_dict()))
    text = page.read_text(encoding="utf-8")
    assert "<h1>Winds</h1>" in text
    assert "--block-days 0.5" in text  # the command
    assert f"<dt>B</dt><dd>{b}</dd>" in text


def test_a_group_is_read(run, a, tmp_path):
    with xr.open_dataset(a) as data:
        data.load().to_netcdf(tmp_path / "grouped.nc", group="/analysis", engine="h5netcdf")
    files = [tmp_path / "grouped.nc", f"M={tmp_path / 'grouped.nc'}"]
    assert run("report", *files, *FEW, "--output", tmp_path / "r.html", "--group", "/analysis")[0] == 0
    scores = json.loads((tmp_path / "r.json").read_text())["scores"]
    assert [score["value"] for score in scores if score["metric"] == "rmse"] == [0.0]


def test_times_with_missing_values_are_left_out_of_the_data_that_lack_them(run, a, tmp_path):
    with xr.open_dataset(a) as opened:
        data = opened.load()
    data["u"][1, 3, 4] = np.nan
    data["u"][2, 3, 4] = np.inf
    data.to_netcdf(tmp_path / "holes.nc", engine="h5netcdf")
    arguments = ["report", a, f"A={tmp_path / 'holes.nc'}", *FEW, "--output", tmp_path / "r.html", "--missing"]
    assert run(*arguments, "ignore")[0] == 0
    settings = json.loads((tmp_path / "r.json").read_text())["settings"]
    assert (settings["n_times"], settings["last_time"]) == (2, "2026-05-01T18:00")
    assert run(*arguments, "0")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["n_times"] == 4
    data["u"][:] = np.nan
    data.to_netcdf(tmp_path / "holes.nc", engine="h5netcdf")
    assert "--missing: A has missing values at all times" in run(*arguments, "ignore")[2]


def test_errors_come_before_the_work_and_in_one_line(run, fails, a, b, tmp_path):
    later = write(tmp_path / "later.nc", TIMES + np.timedelta64(1000, "D"))
    cases = [
        ([a, f"A={b}", "--output", a / "such" / "r.html"], "output"),
        ([a, f"A={b}", f"A={b}"], "'A' twice"),
        ([a, f"truth={b}"], "'truth' twice or reserved"),
        ([a, f"A={later}"], "time in common"),
        ([a, f"A={b}", "--block-days", "0"], "block_days"),
    ]
    for arguments, word in cases:
        assert word in fails("report", *arguments, "--variables", "u")


def forecasts(hours, n_runs=2):
    """Winds of runs from 00 and 06 UTC on, with errors of 1 m/s a day."""
    starts, leads = np.repeat(TIMES[:n_runs], len(hours)), np.tile(hours, n_runs) * np.timedelta64(1, "h")
    runs = np.repeat(np.arange(n_runs), len(hours))
    coords = {"time": starts + leads, "run": ("time", runs), "lead_time": ("time", leads)}
    return xr.Dataset({"u": ("time", np.arange(len(starts)))}, coords)


def test_lead_times_that_not_all_data_have_are_left_out():
    truth = xr.Dataset({"u": ("time", np.arange(4))}, {"time": TIMES})
    assert split_by_lead({"truth": truth}) == {None: {"truth": truth}}
    by_lead = split_by_lead({"truth": truth, "A": forecasts([0, 6, 12, 48]), "B": forecasts([6, 12, 48])})
    assert list(by_lead) == [6.0, 12.0]  # no truth at 48 h
    assert list(by_lead[12.0]["A"]["u"].values) == [2, 6]
    with pytest.raises(DataError, match="A, B have no lead time"):
        split_by_lead({"truth": truth, "A": forecasts([0, 12]), "B": forecasts([6, 18])})


@pytest.fixture
def two_runs(a, tmp_path):
    """Forecasts of two runs whose error is 1 m/s after 6 hours and 2 m/s after 12."""
    with xr.open_dataset(a) as opened:
        truth = opened.load()
    hours = np.tile([6, 12], 2)
    index = np.array([1, 2, 2, 3])
    data = (truth.isel(time=index) + xr.DataArray(hours / 6, dims="time")).transpose("time", ...)
    starts = truth["time"].values[index] - hours * np.timedelta64(1, "h")
    data = data.assign_coords(forecast_reference_time=("time", starts), step=("time", hours, {"units": "hours"}))
    for name in data:
        data[name].attrs = truth[name].attrs
    data.to_netcdf(tmp_path / "forecasts.nc", engine="h5netcdf")
    return tmp_path / "forecasts.nc"


def test_a_page_for_each_lead_time_and_a_table_of_all(run, a, two_runs, tmp_path):
    arguments = ["report", a, f"M={two_runs}", *FEW, "--output"]
    code, out, _ = run(*arguments, tmp_path / "all.html")
    assert code == 0
    assert sorted(p.name for p in tmp_path.glob("all*.html")) == ["all_006h.html", "all_012h.html"]
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'all_leads.csv'}"  # one wind has no AtmoDist distance to draw
    header, *rows = csv.reader((tmp_path / "all_leads.csv").open(encoding="utf-8"))
    assert header == ["lead [h]", "variable", "metric", "model", "value", "low", "high", "units"]
    errors = {row[0]: float(row[4]) for row in rows if row[2] == "rmse"}
    assert errors == {"6.0": pytest.approx(1, rel=1e-5), "12.0": pytest.approx(2, rel=1e-5)}
    assert "lead time 12 h" in (tmp_path / "all_012h.html").read_text(encoding="utf-8")
    assert run(*arguments, tmp_path / "one.html", "--lead", "12")[0] == 0
    assert {p.name for p in tmp_path.glob("one*")} == {"one.html", "one.json", "one_figures"}


def test_hours_are_tabulated_and_drawn_against_lead_times(run, fails, a, two_runs, tmp_path, monkeypatch):
    """The figure has the numbers of the table, which are those of ``atmodist_hours``; there is a curve at 1°."""
    drawn = {}
    monkeypatch.setattr(plots, "draw_series", lambda path, title, **shown: drawn.update(shown, path=path, title=title))
    few = ["--variables", "u,v", "--draws", "5", "--block-days", "0.25", "--hours"]
    arguments = ["report", a, f"M={two_runs}", *few, "--output", tmp_path / "r.html"]
    assert "grid_spacing, level" in fails(*arguments)  # u and v do not say their level
    code, out, _ = run(*arguments, "--hours-level", "10 m")
    assert code == 0
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'r_leads.svg'}"
    rows = csv.reader((tmp_path / "r_leads.csv").open(encoding="utf-8"))
    hours = [[float(x) for x in row[4:7]] for row in rows if row[1:4] == ["AtmoDist", "atmodist_hours", "M"]]
    np.testing.assert_array_equal(np.transpose(hours), drawn["series"]["M"])
    assert drawn["x"].tolist() == [6.0, 12.0]
    assert drawn["name"] == "hours"
    assert "weights winds@" in drawn["title"]
    truth, model = open_fields(a, ("u", "v")), open_fields(two_runs, ("u", "v"))
    own = model.isel(time=model["lead_time"].values == np.timedelta64(12, "h"))
    at = {"time": own["time"].values}
    own = own.reset_coords(drop=True).assign_coords(at)
    expected = atmodist_hours(own, truth.sel(at).reset_coords(drop=True), level="10 m", weights="winds")
    assert hours[1][0] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert "up to 30 h" in (tmp_path / "r_012h.html").read_text(encoding="utf-8")
