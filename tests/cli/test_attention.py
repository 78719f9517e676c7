"""``atmoloss attention``: what it prints, whatever the layout of a file, and what it refuses."""

import argparse
import math

import numpy as np
import pytest
import torch

from atmoloss import load_predictor
from atmoloss.cli.attention import _point, _time
from atmoloss.data import open_fields
from tests.cli.conftest import TIMES, rows, write

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
WHERE = ("--time", "2026-05-01T12", "--point", "42N,9W")


def table_of(out):
    """Rows of the table as dicts; a place is two words."""
    names = ("hours", "time", "weight", "north", "east", "km", "bearing", "air", "from")
    return [dict(zip(names, row, strict=False)) for row in rows(out)[1:]]


def test_what_is_printed_is_the_map_of_the_predictor(run, predicts, a):
    code, out, err = run("attention", predicts, a, *WHERE)
    assert (code, err) == (0, "")
    assert out.startswith("# What the prediction at 42.5°N 8.5°W reads: attention, mean of the heads; weights next@")
    fields = torch.from_numpy(open_fields(a).to_array().values).transpose(0, 1)
    maps = load_predictor(predicts).attention(fields[None, :3])[0, :, 4, 5].mean(0)
    table = table_of(out)
    assert [(row["hours"], row["time"]) for row in table] == [
        (hours, str(time)[:16]) for hours, time in zip(("-12", "-6", "0"), TIMES[:3], strict=True)
    ]
    offset = torch.arange(-2.0, 3.0)
    for row, weights in zip(table, maps, strict=True):
        assert float(row["weight"]) == pytest.approx(float(weights.sum()), abs=6e-4)
        south, east = ((weights.sum(axis) @ offset / weights.sum()).item() for axis in (1, 0))
        # On a plane that touches the Earth there, good to a percent over some hundred km.
        north, east = -4 * south * 111.2, 4 * east * 111.2 * math.cos(math.radians(42.5 - 2 * south))
        assert float(row["km"]) == pytest.approx(math.hypot(north, east), rel=0.02, abs=1.0)
        turned = float(row["bearing"].rstrip("°")) - math.degrees(math.atan2(east, north))
        assert abs((turned + 180) % 360 - 180) < 3
    winds = open_fields(a, ("u", "v")).isel(time=2, latitude=slice(16, 20), longitude=slice(20, 24)).mean()
    for row, hours in zip(table, (12, 6, 0), strict=True):
        assert float(row["air"]) == pytest.approx(3.6 * hours * float(np.hypot(winds["u"], winds["v"])), abs=0.6)
    upwind = math.degrees(math.atan2(-winds["u"], -winds["v"])) % 360
    assert float(table[0]["from"].rstrip("°")) == pytest.approx(upwind, abs=0.6)
    assert table[2]["from"] == "-"
    assert "persistence: divergence " in out.splitlines()[-1]


@pytest.mark.parametrize("options", [("--method", "rollout"), ("--method", "gradient"), ("--head", "1")])
def test_methods_and_heads(run, predicts, a, options):
    code, out, _ = run("attention", predicts, a, *WHERE, *options)
    assert code == 0
    fields = torch.from_numpy(open_fields(a).to_array().values).transpose(0, 1)[None, :3]
    predictor = load_predictor(predicts)
    method, head = ("head", 1) if options[0] == "--head" else (options[1], 0)
    expected = predictor.attention(fields, method)[0, head, 4, 5].sum((1, 2)).tolist()
    assert [float(row["weight"]) for row in table_of(out)] == pytest.approx(expected, abs=6e-4)


def test_the_orientation_of_a_file_does_not_matter(run, predicts, tmp_path, a):
    with xarray.open_dataset(a) as data:
        data.isel(latitude=slice(None, None, -1)).to_netcdf(tmp_path / "south_up.nc", engine="h5netcdf")
    assert run("attention", predicts, tmp_path / "south_up.nc", *WHERE) == run("attention", predicts, a, *WHERE)


def test_the_seam_of_a_globe_does_not_matter(run, predicts, tmp_path):
    first = write(tmp_path / "first.nc", latitude=np.arange(87.5, -90.0, -5.0), longitude=np.arange(0.0, 360.0, 5.0))
    with xarray.open_dataset(first) as data:
        turned = data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude").load()
    turned.to_netcdf(tmp_path / "turned.nc", engine="h5netcdf")
    answers = [
        run("attention", predicts, path, "--time", "2026-05-01T12", "--point", "2.5N,0E", "--method", method)
        for method in ("head", "rollout")
        for path in (first, tmp_path / "turned.nc")
    ]
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
    assert answers[0][0] == 0


def test_a_file_of_the_channels_that_ends_at_the_present(run, predicts, tmp_path, a):
    open_fields(a).isel(time=slice(3)).drop_vars("run").to_netcdf(tmp_path / "channels.nc", engine="h5netcdf")
    code, out, err = run("attention", predicts, tmp_path / "channels.nc", *WHERE)
    assert (code, err) == (0, "")
    assert rows(out)[0] == ["hours", "valid", "time", "weight", "centroid", "km", "bearing"]
    assert out.splitlines()[-1] == "# FILE ends here: what came is not known"
    with_winds = table_of(run("attention", predicts, a, *WHERE)[1])
    assert [row["weight"] for row in table_of(out)] == [row["weight"] for row in with_winds]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--time", "2026-05-01T13"], ["--time: got 2026-05-01T13:00", "4 from 2026-05-01T00:00 to 2026-05-01T18:00"]),
        (["--time", "2026-05-01"], ["no field of 2026-04-30T12:00 and 2026-04-30T18:00", "3 fields, 6 h apart"]),
        (["--point", "18N,122W"], ["--point: got 18°N 122°W", "60°N to 21°N, 30°W to 17°E"]),
        (["--head", "4"], ["--head: got 4", "from 0 to 3"]),
        (["--channel", "speed"], ["--channel: got 'speed'", "divergence, vorticity"]),
        (["--plot", "nowhere/at/all.png"], ["--plot"]),
        (["--plot", "picture.xyz"], [".png"]),
        (["--run", "2026-05-01T00"], ["does not say when its forecasts started"]),
    ],
)
def test_what_is_refused(fails, predicts, a, options, words):
    message = fails("attention", predicts, a, *WHERE, *options)
    assert "expected" in message
    for word in words:
        assert word in message


def test_weights_that_predict_nothing(fails, folder, a):
    assert "no head that predicts" in fails("attention", folder, a, *WHERE)


def test_a_missing_step_and_missing_values(fails, run, predicts, tmp_path, a):
    with xarray.open_dataset(a) as data:
        data = data.load()
    data.isel(time=[0, 2, 3]).to_netcdf(tmp_path / "gap.nc", engine="h5netcdf")
    assert "no field of 2026-05-01T06:00, expected" in fails("attention", predicts, tmp_path / "gap.nc", *WHERE)
    data["u"][0, 3, 4] = np.nan
    data.to_netcdf(tmp_path / "hole.nc", engine="h5netcdf")
    assert "are missing" in fails("attention", predicts, tmp_path / "hole.nc", *WHERE)
    assert "missing or infinite" in fails("attention", predicts, tmp_path / "hole.nc", *WHERE, "--missing", "ignore")


def test_forecasts_of_several_runs_are_chosen_from(fails, run, predicts, tmp_path, a):
    with xarray.open_dataset(a) as data:
        data = data.load()
    starts = TIMES[:1] + np.array([0, 6], "timedelta64[h]")
    leads = np.arange(4) * np.timedelta64(6, "h")
    second = data.copy(data={name: -field.values for name, field in data.items()})
    both = xarray.concat([data, second], "reference_time").rename(time="step").transpose("reference_time", "step", ...)
    both = both.assign_coords(reference_time=starts, step=leads)
    both["reference_time"].attrs["standard_name"] = "forecast_reference_time"
    both["step"].attrs["standard_name"] = "forecast_period"
    both.to_netcdf(tmp_path / "runs.nc", engine="h5netcdf")
    assert "several runs" in fails("attention", predicts, tmp_path / "runs.nc", *WHERE)
    assert run("attention", predicts, tmp_path / "runs.nc", *WHERE, "--run", "2026-05-01T00") == run(
        "attention", predicts, a, *WHERE
    )


def test_a_head_belongs_to_the_method_head(run, predicts, a):
    with pytest.raises(SystemExit, match="2"):
        run("attention", predicts, a, *WHERE, "--method", "rollout", "--head", "0")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("18N,122W", (18, -122)),
        ("18,-122", (18, -122)),
        ("33.5s, 151.25e", (-33.5, 151.25)),
        ("-18,238", (-18, 238)),
        ("52.5°N,0°E", (52.5, 0)),
    ],
)
def test_points(text, expected):
    assert _point(text) == expected


@pytest.mark.parametrize(
    "text", ["18N", "18N,122W,3", "122W,18N", "-18S,3E", "91N,0E", "N,E", "18N 122W", "1e1,2", "1,361"]
)
def test_texts_that_are_no_points(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"got .* expected latitude and longitude"):
        _point(text)


def test_times():
    assert [_time(t) for t in ("2026-05-01", "2026-05-01T06", "2026-05-01T06:30")] == [
        "2026-05-01T00:00",
        "2026-05-01T06:00",
        "2026-05-01T06:30",
    ]
    for text in ("today", "2026-05", "2026-05-01 06", "2026-05-01T06:30:00"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a date and hour"):
            _time(text)
