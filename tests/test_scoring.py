"""Scores of forecasts: what one gets by hand, whatever the layout, and no more in memory than a part."""

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, atmodist_distance, atmodist_hours, fit_hours, scoring
from atmoloss.data import open_fields
from atmoloss.data.sample import SAMPLE_PATH
from atmoloss.errors import DataError, InputError
from atmoloss.hours import LagCurve
from atmoloss.scoring import score
from tests.labelled import GLOBE, HOUR, NAMES, REGION, analyses, forecasts

xr = pytest.importorskip("xarray")
dask = pytest.importorskip("dask")


def by_hand(forecast, analysis, weights, periodic):
    """The glue that a user would write: order both axes, find the analysis, weigh by the cosine, one pair at a time."""
    out = np.full((forecast.sizes["init_time"], forecast.sizes["lead_time"]), np.nan)
    for i, init in enumerate(forecast["init_time"].values):
        for j, lead in enumerate(forecast["lead_time"].values):
            pair = []
            for field in (forecast.sel(init_time=init, lead_time=lead), analysis.sel(time=init + lead)):
                east = field["longitude"] % 360 if periodic else (field["longitude"] + 180) % 360 - 180
                field = field.assign_coords(longitude=east).sortby("longitude").sortby("latitude", ascending=False)
                pair.append(torch.from_numpy(np.stack([field[n].values for n in NAMES])[None]))
            weight = torch.cos(torch.deg2rad(torch.from_numpy(field["latitude"].values.copy()))).float()
            out[i, j] = atmodist_distance(*pair, weights=weights, weight=weight, periodic=periodic)
    return out


def south_up(data):
    return data.isel(latitude=slice(None, None, -1))


def turned(data):
    return data.assign_coords(longitude=(data["longitude"] + 180) % 360 - 180).sortby("longitude")


@pytest.mark.parametrize("names", [("time", "prediction_timedelta"), ("time", "step"), ("init_time", "lead_time")])
@pytest.mark.parametrize("standard_name", [None, "time"], ids=["", "called time"])
@pytest.mark.parametrize("selected", [(0,), (1,), (0, 1)], ids=["one run", "one lead", "one field"])
def test_one_run_or_lead_that_is_selected_has_the_score_of_all(names, standard_name, selected, extractor):
    """Also where the start of the runs was the time of analyses, and still says so."""
    forecast = forecasts(2, 3).rename(init_time=names[0], lead_time=names[1])
    if standard_name:
        forecast[names[0]].attrs["standard_name"] = standard_name
    chosen = {names[k]: 1 for k in selected}
    expected = score(forecast, analyses(5), weights=extractor)
    got = score(forecast.isel(chosen), analyses(5), weights=extractor)
    assert got.dims == expected.isel(chosen).dims
    np.testing.assert_allclose(got.values, expected.isel(chosen).values, rtol=1e-6)
    where = score(forecast.isel(chosen), analyses(5), weights=extractor, spatial=True)
    assert float(where.min()) >= 0
    assert float(where.max()) > 0


@pytest.mark.parametrize("grid", [GLOBE, REGION], ids=["globe", "region"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", [lambda d: d, south_up, turned, lambda d: d.transpose(..., "init_time")])
def test_score_is_what_one_gets_by_hand(grid, dtype, change, extractor):
    forecast, analysis = forecasts(2, 2, grid, dtype=dtype), analyses(3, grid, dtype=dtype)
    expected = by_hand(forecast, analysis, extractor, periodic=grid is GLOBE)
    got = score(change(forecast), analysis, weights=extractor)
    np.testing.assert_allclose(got.transpose("init_time", "lead_time").values, expected, rtol=2e-5)
    got = score(forecast, change(analysis.expand_dims(init_time=1)).isel(init_time=0), weights=extractor)
    np.testing.assert_allclose(got.values, expected, rtol=2e-5)


@pytest.mark.parametrize("level", [850.0, 500.0])
def test_the_level_asked_for_is_compared(level, extractor):
    levels = {"level": [850.0, 500.0]}
    forecast, analysis = forecasts(2, 2, **levels), analyses(3, **levels)
    for data in (forecast, analysis):
        data["level"].attrs["units"] = "hPa"
    got = score(forecast, analysis, level=level, weights=extractor)
    expected = by_hand(forecast.sel(level=level), analysis.sel(level=level), extractor, periodic=False)
    np.testing.assert_allclose(got.values, expected, rtol=2e-5)
    assert got.attrs["level"] == f"{level:g} hPa"
    with pytest.raises(DataError, match="level: got None"):
        score(forecast, analysis, weights=extractor)


@pytest.mark.parametrize("names", [("time", "prediction_timedelta"), ("time", "step"), ("init_time", "lead_time")])
def test_dimensions_and_coordinates_are_those_of_the_forecast(names, extractor, tmp_path):
    forecast = forecasts(2, 3, number=[0, 1]).rename(init_time=names[0], lead_time=names[1])
    got = score(forecast, analyses(), weights=extractor)
    assert got.dims == (*names, "number")
    np.testing.assert_array_equal(got["valid_time"].values, (forecast[names[0]] + forecast[names[1]]).values)
    member = score(forecast.isel(number=1), analyses(), weights=extractor)
    assert (got.sel(number=0) != member).all()
    xr.testing.assert_allclose(got.sel(number=1), member, rtol=1e-6)
    assert got.attrs["weights"] == extractor.info.id
    assert (got.attrs["area_weights"], got.attrs["periodic_longitude"]) == ("cosine of latitude", "no")
    got.to_netcdf(tmp_path / "score.nc", engine="h5netcdf")
    xr.testing.assert_allclose(xr.load_dataarray(tmp_path / "score.nc", engine="h5netcdf"), got)


def test_a_series_of_valid_times_and_one_array_with_channels(extractor):
    other = analyses(4).assign_coords(time=analyses(4)["time"] + 6 * HOUR) * 0.9
    got = score(other, analyses(), weights=extractor)
    assert got.dims == ("time",)
    assert "valid_time" not in got.coords
    as_array = [data.to_dataarray("channel").transpose("time", ..., "channel") for data in (other, analyses())]
    xr.testing.assert_allclose(score(*as_array, weights=extractor), got)


def test_files_and_one_file_for_each_run(extractor, tmp_path):
    forecast, analysis = forecasts(2, 3), analyses()
    analysis.to_netcdf(tmp_path / "analysis.nc", engine="h5netcdf")
    forecast.to_netcdf(tmp_path / "forecast.nc", engine="h5netcdf")
    expected = score(forecast, analysis, weights=extractor)
    got = score(tmp_path / "forecast.nc", str(tmp_path / "analysis.nc"), weights=extractor)
    xr.testing.assert_allclose(got, expected)
    runs = [tmp_path / f"run{i}.nc" for i in range(2)]
    for i, path in enumerate(runs):
        forecast.isel(init_time=i).to_netcdf(path, engine="h5netcdf")
    got = score(runs, analysis, weights=extractor)
    assert got.dims == ("init_time", "lead_time")
    np.testing.assert_allclose(got.values, expected.values, rtol=1e-6)
    np.testing.assert_array_equal(got["valid_time"].values, expected["valid_time"].values)


def test_each_analysis_is_encoded_once_and_kept_no_longer_than_needed(extractor, monkeypatch):
    encoded, kept = [], []
    features, take = AtmoDistLoss.features, scoring._Analyses.take
    monkeypatch.setattr(AtmoDistLoss, "features", lambda self, *a: encoded.append(1) or features(self, *a))
    monkeypatch.setattr(scoring._Analyses, "take", lambda self, k: (take(self, k), kept.append(len(self._features)))[0])
    score(forecasts(8, 3, number=[0, 1]), analyses(10), weights=extractor)
    assert len(encoded) == 10
    assert max(kept) <= 3  # the valid times that a run shares with the next


def in_chunks(data, chunks, loaded):
    """Return fields in dask chunks, the number of whose values is noted when they are read."""

    def note(values):
        loaded.append(values.size)
        return values

    return data.chunk(chunks).map(lambda f: f.copy(data=f.data.map_blocks(note, dtype=f.dtype, meta=f.data._meta)))


def test_dask_reads_each_chunk_once_and_one_at_a_time(extractor, monkeypatch):
    """The peak is the largest number of values that one call to dask computes."""
    of_forecast, of_analysis = [], []
    chunks = {"init_time": 1, "lead_time": 2, "number": 2, "latitude": -1, "longitude": -1}
    cells = REGION[0].size * REGION[1].size
    forecast = in_chunks(forecasts(3, 4, number=[0, 1, 2, 3]), chunks, of_forecast)
    analysis = in_chunks(analyses(6), {"time": 2}, of_analysis)
    peaks = []

    def get(graph, keys, **options):
        start = len(of_forecast), len(of_analysis)
        out = dask.get(graph, keys, **options)
        peaks.append([sum(part[s:]) for part, s in zip((of_forecast, of_analysis), start, strict=True)])
        return out

    with dask.config.set(scheduler=get):
        got = score(forecast, analysis, weights=extractor)
    assert max(n for n, _ in peaks) == 2 * (2 * 2) * cells  # one chunk of both variables
    assert max(n for _, n in peaks) == 2 * 2 * cells
    assert sum(of_forecast) == 2 * (3 * 4 * 4) * cells
    assert sum(of_analysis) == 2 * 6 * cells
    xr.testing.assert_allclose(got, score(forecast.compute(), analysis.compute(), weights=extractor))


def test_what_is_missing_is_nan_and_said_once(extractor):
    forecast, analysis = forecasts(2, 4), analyses(4)
    analysis = analysis.where(analysis["time"] != analysis["time"][2])
    forecast = forecast.where((forecast["init_time"] != forecast["init_time"][1]) | (forecast["lead_time"] > 0 * HOUR))
    sentence = r"score: 2 of 5 valid times .* no analysis and 1 fields .*; they are NaN"
    with pytest.warns(UserWarning, match=sentence) as said:
        got = score(forecast, analysis, weights=extractor)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert got.isnull().values.tolist() == [[False, False, True, False], [True, True, False, True]]


def test_hours_are_those_of_atmodist_hours_and_weigh_all_points_alike():
    week = xr.open_dataset(SAMPLE_PATH, engine="h5netcdf").isel(longitude=slice(0, 64), latitude=slice(0, 64)).load()
    ahead = week.isel(time=slice(2, 6)).assign_coords(time=week["time"].values[:4])
    got = score(south_up(ahead), week, units="hours")
    states = [torch.from_numpy(open_fields(d, ("u", "v")).to_dataarray().values).transpose(0, 1) for d in (ahead, week)]
    expected = atmodist_hours(
        states[0], states[1][:4], grid_spacing=1.0, level="10 m", weights="winds", uncertainty=True
    )
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(got[name].values, values, rtol=1e-5)
    assert got.attrs["area_weights"] == "none"
    assert got["hours"].attrs["units"] == "h"
    own = fit_hours(states[1], week["time"].values, weights="winds")
    assert (score(ahead, week, units="hours", curve=own)["hours"] != got["hours"]).any()


@pytest.mark.parametrize("change", [lambda d: d, south_up, turned])
def test_maps_lie_on_the_grid_of_the_forecast(change, extractor):
    forecast, analysis = forecasts(1, 2, GLOBE), analyses(2, GLOBE)
    changed = change(forecast)
    got = score(changed, analysis, weights=extractor, spatial=True)
    assert got.dims == ("init_time", "lead_time", "latitude", "longitude")
    for axis in ("latitude", "longitude"):
        np.testing.assert_array_equal(got[axis].values, changed[axis].values)
    loss = AtmoDistLoss(extractor, mse_weight=0.0, periodic=True)
    run = forecast.isel(init_time=0)
    tensors = [torch.from_numpy(d.to_dataarray().values).transpose(0, 1) for d in (run, analysis)]
    expected = loss.spatial(*tensors)[:, 0]
    got = got.isel(init_time=0).assign_coords(longitude=got["longitude"] % 360)
    got = got.sortby("longitude").sortby("latitude", ascending=False)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-6)
    whole = score(changed, analysis, weights=extractor).isel(init_time=0)
    by_area = got.weighted(np.cos(np.deg2rad(got["latitude"]))).mean(("latitude", "longitude"))
    np.testing.assert_allclose(by_area.values, whole.values, rtol=0.1)


def test_progress(extractor, capsys):
    pytest.importorskip("tqdm")
    score(forecasts(1, 2), analyses(), weights=extractor, progress=True)
    assert "score: 100%" in capsys.readouterr().err


CURVE = LagCurve((6, 12, 18), (1, 2, 3), (2, 3, 4), (3, 4, 5), (27, 24))


def holed(data):
    return data.where((data["latitude"] < 50) | (data["longitude"] > 0))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f, a: (f, a, {"units": "days"}), InputError, ("units", "'days'")),
        (lambda f, a: (f, a, {"units": "hours", "spatial": True}), InputError, ("spatial",)),
        (lambda f, a: (f, a, {"curve": CURVE}), InputError, ("curve", "units='distance'")),
        (lambda f, a: (f, a, {"units": "hours"}), InputError, ("grid_spacing, level", "tiny@")),
        (lambda f, a: (f, f, {}), DataError, ("analysis", "several forecast runs")),
        (lambda f, a: (f, a.isel(latitude=slice(1, None)), {}), DataError, ("forecast and analysis", "one grid")),
        (lambda f, a: (f, a.assign_coords(time=a["time"] + HOUR), {}), DataError, ("no time in common",)),
        (lambda f, a: (f, a.convert_calendar("noleap"), {}), DataError, ("calendars", "noleap")),
        (lambda f, a: (holed(f), a, {}), DataError, ("forecast: lacks", "2026-05-01T00:00")),
        (lambda f, a: (f, holed(a), {}), DataError, ("analysis: lacks", "2026-05-01T00:00")),
        (lambda f, a: (f[["vorticity"]], a, {}), DataError, ("'divergence'", "vorticity")),
        (lambda f, a: (f["vorticity"].rename(None), a, {}), InputError, ("forecast", "without a name")),
        (lambda f, a: (f.drop_vars("init_time"), a, {}), DataError, ("time",)),
        (lambda f, a: (f["vorticity"].values, a, {}), InputError, ("forecast: got ndarray", "a path")),
        (lambda f, a: (f, a, {"spatial": "no"}), InputError, ("spatial: got 'no'", "True, False")),
    ],
)
def test_wrong_inputs(call, error, words, extractor, one_sentence):
    forecast, analysis, options = call(forecasts(2, 2), analyses(4))
    with pytest.raises(error) as raised:
        score(forecast, analysis, weights=extractor, **options)
    one_sentence(raised.value, *words, "expected")
