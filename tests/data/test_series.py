"""A variable of several files as one series; what stays lazy; missing values; what is derived from winds."""

import json

import numpy as np
import pytest

from atmoloss.cli import main
from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.errors import DataError
from tests.data.conftest import assert_same, winds, write
from tests.training.conftest import drifting_winds

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


def test_several_files(tmp_path):
    pytest.importorskip("dask")
    data = winds(4)
    for part in range(2):
        data.isel(time=slice(2 * part, 2 * part + 2)).to_netcdf(tmp_path / f"{part}.nc", engine="h5netcdf")
    want = open_fields(data)
    assert_same(open_fields(tmp_path / "*.nc"), want)
    both = open_fields([tmp_path / "0.nc", tmp_path / "1.nc"])
    assert both["vorticity"].chunks is None  # small: read as a single file is
    assert_same(both, want)


def test_files_that_name_and_order_their_axes_differently(tmp_path):
    data = winds(6)
    want = open_fields(data)
    write(data.isel(time=slice(0, 2)), tmp_path / "a.nc")
    turned = data.isel(time=slice(2, 4), latitude=slice(None, None, -1)).rename(latitude="lat", longitude="lon")
    turned = turned.rename(time="valid_time", u10="10u", v10="10v")
    write(turned.assign_coords(expver=("valid_time", ["0001"] * 2), number=0), tmp_path / "b.nc")
    for number in (4, 5):  # without a dimension of time
        write(data.isel(time=number), tmp_path / f"c{number}.nc")
    assert_same(open_fields(tmp_path / "*.nc"), want)
    assert_same(open_fields(sorted(tmp_path.glob("*.nc"), reverse=True)), want)


def test_variables_in_files_of_their_own(tmp_path):
    data = winds(4)
    for name in data.data_vars:
        for half in (slice(0, 2), slice(2, 4)):
            write(data[[name]].isel(time=half), tmp_path / f"{name}_{half.start}.nc")
    assert_same(open_fields(tmp_path), open_fields(data))


def test_overlap_in_time(tmp_path, one_sentence):
    pytest.importorskip("zarr", minversion="3")
    data = winds(6)
    first = write(data.isel(time=slice(0, 4)), tmp_path / "a.nc")
    second = write(data.isel(time=slice(2, 6)), tmp_path / "b.nc")
    assert_same(open_fields([second, first]), open_fields(data))
    store = prepare([first, second], tmp_path / "store", PrepareOptions(time_chunk=2, shard_bytes=1), workers=0)
    np.testing.assert_array_equal(store.fields(["vorticity"])[:, 0], open_fields(data)["vorticity"].values)
    other = data.isel(time=slice(2, 6)).copy(deep=True)
    other["u10"][1, 3, 5] += 0.5
    second = write(other, tmp_path / "c.nc")
    for options in ({}, {"missing": "ignore"}):
        with pytest.raises(DataError) as error:
            open_fields([first, second], "u10", **options)
        one_sentence(error.value, "2026-03-01T18", "occurs more than once in 'u10', in", "a.nc and", "c.nc")
    open_fields([first, second], "v10")


def test_large_variables_stay_lazy(tmp_path, monkeypatch):
    pytest.importorskip("dask")
    data = winds(5)
    data.to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    monkeypatch.setattr("atmoloss.data.series._EAGER_BYTES", 1000)
    monkeypatch.setattr("atmoloss.data.parts.BLOCK_BYTES", 8 * 19 * 36 * 2)
    lazy = open_fields(tmp_path / "w.nc", missing="ignore")
    assert lazy["divergence"].chunks[0] == (2, 2, 1)
    assert_same(lazy, open_fields(data))


def test_irregular_grid_needs_stored_fields():
    gaussian = winds(latitude=[85.8, 80.3, 74.7, 69.2, 63.0, 58.1, 10.0])
    with pytest.raises(DataError, match=r"'divergence' cannot be derived from u10, v10: latitude"):
        open_fields(gaussian)
    assert open_fields(gaussian, "u10")["u10"].shape == (3, 7, 36)


@pytest.mark.parametrize("chunked", [False, True])
def test_missing_values(chunked):
    data = winds()
    data["u10"][1, 4:6, 2] = np.nan
    data = data.chunk(time=1) if chunked else data
    with pytest.raises(DataError, match=r"missing: 2 of 2052 values of 'u10'.*fill"):
        open_fields(data)
    with pytest.raises(DataError, match="missing: 2 of 2052"):
        open_fields(data, ("u10", "v10"))
    ignored = open_fields(data, "u10", missing="ignore")["u10"]
    assert np.isnan(ignored.values).sum() == 2
    assert "missing_count" not in ignored.attrs
    filled = open_fields(data, ("u10", "v10"), missing=0.5)
    assert filled["u10"].attrs["missing_count"] == 2
    assert filled["v10"].attrs["missing_count"] == 0
    np.testing.assert_array_equal(filled["u10"].values[1, 4:6, 2], 0.5)
    # A derivative is filled where its stencil meets a hole, never computed from the fill value.
    derived = open_fields(data, "vorticity", missing=0.0)["vorticity"]
    assert derived.attrs["missing_count"] > 2
    assert derived.values[1, 4, 2] == 0
    assert np.abs(derived.values).max() < 1e-4


@pytest.fixture
def run(capsys, folder):
    def call(*arguments):
        code = main([*map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_the_message_names_an_option_of_the_commands(run, holes, folder):
    code, _, err = run("distance", holes / "holes.nc", holes / "whole.nc", "--weights", folder)
    assert (code, err.count("\n")) == (1, 1)
    assert "--missing" in err


def test_missing_values_in_distance(run, holes, folder, tmp_path):
    options = ["--weights", folder, "--csv", tmp_path / "d.csv"]

    def values(a, b, *more):
        assert run("distance", holes / a, holes / b, *options, *more)[0] == 0
        return np.array([float(row.split(",")[1]) for row in (tmp_path / "d.csv").read_text().split("\n")[1:-1]])

    whole = values("whole.nc", "whole.nc", "--missing", "ignore")
    assert (whole == 0).all()
    np.testing.assert_allclose(values("holes.nc", "whole.nc", "--missing", "ignore"), 0, atol=1e-6)  # masked in both
    assert (values("holes.nc", "whole.nc", "--missing", "0") > 1e-5).all()
    assert run("distance", holes / "holes.nc", "--matrix", *options, "--missing", "0")[0] == 0
    code, _, err = run("distance", holes / "holes.nc", "--matrix", *options, "--missing", "ignore")
    assert (code, err.count("\n")) == (1, 1)
    assert "--missing: got 'ignore' with --matrix" in err
    single = tmp_path / "one.nc"
    xr.open_dataset(holes / "holes.nc").isel(time=[3]).to_netcdf(single, engine="h5netcdf")
    assert run("distance", single, single, *options, "--missing", "ignore", "--plot", tmp_path / "map.png")[0] == 0


def test_missing_values_in_evaluate(run, holes, folder, tmp_path):
    arguments = [
        "evaluate",
        folder,
        holes / "holes.nc",
        "--patch",
        "16",
        "--json",
        tmp_path / "e.json",
        "--no-baselines",
    ]
    assert run(*arguments)[0] == 1
    for missing in ("ignore", "0.5"):
        assert run(*arguments, "--missing", missing)[0] == 0
        (source,) = json.loads((tmp_path / "e.json").read_text())["sources"]
        assert np.isfinite(source["lag_2afc"]["distance"]["value"])  # a patch with a hole in it would give none
    large = [*arguments[:3], "--patch", "40", *arguments[5:]]
    code, _, err = run(*large, "--missing", "ignore")
    assert code == 1
    assert "every patch has missing values" in err


def test_missing_values_in_report(run, holes, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    some = drifting_winds(8)
    some["u10"][2, 3, 4] = np.nan
    some.to_netcdf(tmp_path / "some.nc", engine="h5netcdf")
    files = [holes / "whole.nc", f"M={tmp_path / 'some.nc'}", "--variables", "u10", "--draws", "10"]
    output = ["--output", tmp_path / "r.html"]
    assert run("report", *files, *output)[0] == 1
    assert run("report", *files, *output, "--missing", "0")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["n_times"] == 8
    assert run("report", *files, *output, "--missing", "ignore")[0] == 0
    assert json.loads((tmp_path / "r.json").read_text())["settings"]["n_times"] == 7
    code, _, err = run("report", holes / "holes.nc", files[1], *output, "--variables", "u10", "--missing", "ignore")
    assert code == 1
    assert "truth has missing values at all times" in err
