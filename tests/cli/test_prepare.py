"""``atmoloss prepare``: how its options reach the store, and what it says of it."""

import numpy as np
import pytest

from atmoloss.cli import build_parser
from atmoloss.data.store import read_store

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
pytest.importorskip("zarr", minversion="3")


@pytest.fixture
def prepare(run):
    return lambda *arguments: run("prepare", *arguments, "--workers", "0")


def test_the_store_is_what_was_asked_for(prepare, a, tmp_path):
    code, out, err = prepare(
        a, tmp_path / "store", "--variables", "u", "--every", "12h", "--dates", "2026-05-01/2026-05-01"
    )
    assert (code, err) == (0, "")
    store = read_store(tmp_path / "store")
    assert store.shape == (2, 40, 48)
    with xr.open_dataset(a) as data:
        expected = data["u"].values[[0, 2]].astype(np.float32)
    np.testing.assert_array_equal(store.fields(["u"])[:, 0], expected)
    line = f"{tmp_path / 'store'}: u; 2 times from 2026-05-01T00:00 to 2026-05-01T12:00; 40x48 points; 0.0 MB\n"
    assert out == line


@pytest.mark.parametrize("winds", [[], ["--winds", "u,v"]])
def test_a_group_and_the_winds_of_it(prepare, a, tmp_path, winds):
    with xr.open_dataset(a) as data:
        data.load().to_netcdf(tmp_path / "grouped.nc", group="/analysis", engine="h5netcdf")
    for source, group in ((a, []), (tmp_path / "grouped.nc", ["--group", "/analysis"])):
        assert prepare(source, tmp_path / source.stem, *group, *winds)[0] == 0
    fields = [read_store(tmp_path / name).fields(["vorticity"])[:] for name in ("a", "grouped")]
    np.testing.assert_array_equal(*fields)
    assert np.abs(fields[0]).max() > 1e-6


def test_options_of_the_file_system_and_of_the_cluster_are_passed_on(monkeypatch, run, a, tmp_path):
    calls = []

    def prepare(*arguments, **options):
        calls.append((arguments, options))
        raise OSError("that is enough")

    monkeypatch.setattr("atmoloss.data.prepare.prepare", prepare)
    options = ["--storage", "token=anon", "--storage", "query=a=b", "--scheduler", "tcp://x:1", "--grid", "1.5"]
    options += ["--time-chunk", "4", "--space-chunk", "16", "--level", "850"]
    assert run("prepare", a, tmp_path / "out", *options) == (1, "", "atmoloss: error: that is enough\n")
    (((source, out, plan), given),) = calls
    assert (source, out) == (str(a), str(tmp_path / "out"))
    assert given["storage_options"] == {"token": "anon", "query": "a=b"}
    assert (given["scheduler"], given["workers"], given["progress"]) == ("tcp://x:1", None, False)
    assert (plan.grid, plan.time_chunk, plan.space_chunk, plan.level) == (1.5, 4, 16, 850.0)
    assert (plan.variables, plan.missing, plan.winds) == (("divergence", "vorticity"), "error", ())


@pytest.mark.parametrize(("text", "hours"), [("6", 6), ("6h", 6), ("12 H", 12)])
def test_hours(text, hours):
    assert build_parser().parse_args(["prepare", "a", "b", "--every", text]).every == hours


def test_dates_that_are_none_are_refused(prepare, a, tmp_path):
    code, out, err = prepare(a, tmp_path / "store", "--dates", "May")
    assert (code, out) == (1, "")
    assert "expected" in err
    assert not (tmp_path / "store").exists()
