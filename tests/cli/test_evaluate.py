"""``atmoloss evaluate``: what it prints and writes, and which data it takes."""

import json

import pytest

from atmoloss.data import open_fields
from atmoloss.data.sources import source_from_dataset
from atmoloss.extractor import load_extractor
from atmoloss.lag_2afc.evaluate import evaluate_source, open_winds
from tests.training.conftest import drifting_winds

pytest.importorskip("h5netcdf")
pytest.importorskip("scipy")
FEW = ["--patch", "16", "--patches", "2", "--max-lag", "24"]


@pytest.fixture(scope="module")
def winds(tmp_path_factory):
    """The same winds of four days in a file, and in a group of another file."""
    path = tmp_path_factory.mktemp("winds")
    data = drifting_winds(16)
    data.to_netcdf(path / "plain.nc", engine="h5netcdf")
    data.to_netcdf(path / "grouped.nc", group="/analysis", engine="h5netcdf")
    return path


def sources(path):
    return json.loads(path.read_text(encoding="utf-8"))["sources"]


def test_each_file_is_evaluated_on_its_own(run, winds, folder, tmp_path):
    file = winds / "plain.nc"
    code, out, err = run("evaluate", folder, file, file, *FEW, "--json", tmp_path / "e.json")
    assert (code, err) == (0, "")
    first, second = sources(tmp_path / "e.json")
    assert first == second
    extractor = load_extractor(folder)
    source = source_from_dataset(open_fields(file, extractor.info.channel_names), "plain.nc")
    expected = evaluate_source(
        extractor, None, source, open_winds(str(file), None, source), size=16, max_lag=24, limit=2
    )
    assert first["lag_2afc"] == json.loads(json.dumps(expected["lag_2afc"]))
    assert out.count("plain.nc: 16 times, 1°, 2026-01-01/2026-01-04") == 2
    assert f"  {'distance':40s} {first['lag_2afc']['distance']['value']:.3f}   too few days" in out


def test_the_winds_of_a_group_are_baselines_too(run, winds, folder, tmp_path):
    for name, group in (("plain", []), ("grouped", ["--group", "/analysis"])):
        assert run("evaluate", folder, winds / f"{name}.nc", *FEW, *group, "--json", tmp_path / f"{name}.json")[0] == 0
    plain, grouped = (sources(tmp_path / f"{name}.json")[0]["lag_2afc"] for name in ("plain", "grouped"))
    assert {"MSE of fields", "MSE of winds"} <= plain.keys()
    assert grouped == plain


def test_dates_and_baselines_are_chosen(run, winds, folder, tmp_path):
    options = [*FEW, "--no-baselines", "--dates", "2026-01-02/2026-01-03", "--json", tmp_path / "e.json"]
    assert run("evaluate", folder, winds / "plain.nc", *options)[0] == 0
    (source,) = sources(tmp_path / "e.json")
    assert (source["n_times"], source["dates"]) == (8, "2026-01-02/2026-01-03")
    assert set(source["lag_2afc"]) == {"distance", *(f"stage{i} alone" for i in range(1, 5))}


def test_refusals(fails, winds, folder):
    file = winds / "plain.nc"
    assert "has 0 times in the given dates" in fails("evaluate", folder, file, "--dates", "2030-01-01/2030-01-02")
    assert "--json: got 'no/such.json'" in fails("evaluate", folder, file, "--json", "no/such.json")
