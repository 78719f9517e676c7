"""The evaluation as a whole: against its parts, its order of models, and its refusals."""

import itertools
import json

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification import (
    area_mean,
    city_wasserstein,
    evaluate_fields,
    grid_artefacts,
    kinetic_energy_spectrum,
    log_spectral_distance,
    pixel_errors,
    power_spectrum,
    semivariogram,
    tails,
    time_moment_errors,
)
from atmoloss.verification.metrics import METRICS
from tests.verification.conftest import TIMES, axes, band_limited, field, xarray

LATITUDE, LONGITUDE = axes("half a step", 36)
EVERY_DAY = TIMES[0] + np.arange(24) * np.timedelta64(1, "D")
FEW = {"n_bootstrap": 50, "n_samples": 200}


def dataset(seed=0, n=24, white=3e-6):
    power = np.where(np.arange(30) > 0, 1e-10, 0)
    draw = np.random.default_rng(seed)
    fields = {}
    for i, name in enumerate(("divergence", "vorticity")):
        values = band_limited(power, LATITUDE, LONGITUDE, seed=10 * seed + i, n_times=n)
        values = values + white * draw.normal(size=values.shape)
        fields[name] = field(values, LATITUDE, LONGITUDE, name=name, times=EVERY_DAY)
    return xarray.Dataset(fields)


@pytest.fixture(scope="module")
def truth():
    return dataset()


@pytest.fixture(scope="module")
def models(truth):
    noise = np.random.default_rng(5).normal(size=(24, 36, 72)) * 2e-5
    return {"half": truth / 2, "noise": truth + noise}


@pytest.fixture(scope="module")
def evaluation(truth, models):
    attributes = {name: {"units": "s-1"} for name in truth}
    for model, name in itertools.product(models.values(), attributes):
        model[name].attrs = attributes[name]
    return evaluate_fields(truth, models, block_days=2, **FEW)


def test_every_score_is_that_of_its_function(truth, models, evaluation):
    for (label, model), name in itertools.product(models.items(), ("divergence", "vorticity")):
        a, b = model[name], truth[name]

        def value(metric, label=label, name=name):
            return evaluation.score(name, metric, label).value

        errors = pixel_errors(a, b).mean()
        assert value("rmse") == pytest.approx(float(errors["mse"]) ** 0.5)
        assert value("mae") == pytest.approx(float(errors["mae"]))
        assert value("ssim") == pytest.approx(float(errors["ssim"]))
        spectra = [power_spectrum(f).mean("time") for f in (a, b)]
        first = evaluation.settings["unresolved_from_degree"]
        assert first == 9.0  # a quarter of 180 / 5 degrees
        assert value("log_spectral_distance") == pytest.approx(float(log_spectral_distance(*spectra, first)))
        sums = [float(s.sel(degree=slice(first, None)).sum()) for s in spectra]
        assert value("unresolved_power") == pytest.approx(sums[0] / sums[1])
        gammas = [semivariogram(f, b, (1000.0,), n_samples=200) for f in (a, b)]
        assert value("semivariogram") == pytest.approx(float(abs(np.log(gammas[0] / gammas[1]))[0]))
        (low, middle, high), result = tails(b, (0.1, 50, 99.9)).values, tails(a).values
        scale = 1e-3 * 100  # the bins of the whole evaluation span all data sets
        assert value("lower_tail") == pytest.approx(100 * (result[0] - low) / (low - middle), abs=10 * scale)
        assert value("upper_tail") == pytest.approx(100 * (result[1] - high) / (high - middle), abs=10 * scale)
        assert value("city_wasserstein") == pytest.approx(float(city_wasserstein(a, b).mean()))
        maps = time_moment_errors(a, b)
        assert value("mean_map") == pytest.approx(float(maps["mean"]))
        assert value("std_map") == pytest.approx(float(maps["std"]))
        for metric, number in {"grid_scale_power": "grid_scale_power", "peak_2": "peak_2", "peak_4": "peak_4"}.items():
            assert value(metric) == pytest.approx(grid_artefacts(a, b)[number])
    energies = [kinetic_energy_spectrum(**{n: d[n] for n in d}).mean("time") for d in (models["half"], truth)]
    result = evaluation.score("kinetic_energy", "log_spectral_distance", "half").value
    assert result == pytest.approx(float(log_spectral_distance(*energies, 9)))
    assert result == pytest.approx(20 * np.log10(2))
    assert evaluation.score("kinetic_energy", "log_spectral_distance", "half").units == "dB"


def test_known_answers_and_intervals(evaluation):
    assert len({s.metric for s in evaluation.scores}) == len(METRICS)
    for s in evaluation.scores:
        assert s.low <= s.value <= s.high, s
    half = {s.metric: s for s in evaluation.scores if (s.variable, s.model) == ("vorticity", "half")}
    assert half["unresolved_power"].value == pytest.approx(0.25)
    assert half["semivariogram"].value == pytest.approx(np.log(4))
    assert half["upper_tail"].value == pytest.approx(-50, abs=0.5)
    assert half["peak_2"].value == pytest.approx(1)
    # The noise has the same spread everywhere: what happens in other blocks changes little.
    noise = evaluation.score("vorticity", "rmse", "noise")
    assert noise.value == pytest.approx(2e-5, rel=0.01)
    assert noise.high - noise.low < 0.02 * noise.value


def test_differences_are_paired_and_of_distances_from_the_ideal(evaluation):
    for d in evaluation.differences:
        values = [evaluation.score(d.variable, d.metric, m).value for m in (d.model, d.other)]
        distance = METRICS[d.metric].from_ideal(np.array(values))
        assert d.value == pytest.approx(float(distance[0] - distance[1]), abs=1e-15)
        assert d.low <= d.value <= d.high
    assert {(d.model, d.other) for d in evaluation.differences} == {("half", "noise")}


def test_json_holds_scores_and_curves_without_nan(evaluation):
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    back = json.loads(text)
    assert len(back["scores"]) == len(evaluation.scores)
    spectrum = back["curves"]["vorticity"]["data"]["spectrum"]
    assert spectrum["dims"] == ["dataset", "degree"]
    assert spectrum["units"] == "(s-1)2"
    assert len(back["curves"]["vorticity"]["coordinates"]["city"]) == 150


def test_nothing_depends_on_the_order_of_axes_and_the_common_times_count(truth, models):
    turned = models["half"].isel(latitude=slice(None, None, -1), time=slice(None, 20))
    turned = turned.assign_coords(longitude=(turned.longitude + 180) % 360 - 180).sortby("longitude")
    parts = [
        evaluate_fields(truth.isel(time=slice(2, None)), {"m": model}, **FEW)
        for model in (turned, models["half"].isel(time=slice(None, 20)))
    ]
    assert parts[0].settings["n_times"] == 18
    for a, b in zip(parts[0].scores, parts[1].scores, strict=True):
        assert (a.variable, a.metric) == (b.variable, b.metric)
        assert a.value == pytest.approx(b.value, rel=1e-9)


def test_lazy_data_give_the_same(truth, models):
    pytest.importorskip("dask")
    eager = evaluate_fields(truth, {"m": models["noise"]}, **FEW)
    lazy = evaluate_fields(truth.chunk(time=5), {"m": models["noise"].chunk(time=7)}, **FEW)
    assert [s.value for s in lazy.scores] == pytest.approx([s.value for s in eager.scores], rel=1e-12)


def test_winds_give_the_kinetic_energy(truth):
    winds = truth.rename(divergence="u10", vorticity="v10") * 1e5
    result = evaluate_fields(winds, {"m": 2 * winds}, **FEW)
    assert result.settings["energy_from"] == {"u": "u10", "v": "v10"}
    assert result.score("kinetic_energy", "unresolved_power", "m").value == pytest.approx(4)


def test_a_region_and_a_band_without_spectra(truth, models):
    box = {"latitude": slice(60, 20), "longitude": slice(230, 320)}
    region = evaluate_fields(truth.sel(box), {"m": models["half"].sel(box)}, **FEW)
    assert region.settings["spectrum"] == "planar"
    assert 0 < region.settings["n_cities"] < 60
    assert region.score("vorticity", "unresolved_power", "m").value == pytest.approx(0.25)
    band = {"latitude": slice(70, -70)}
    result = evaluate_fields(truth.sel(band), {"m": models["half"].sel(band)}, **FEW)
    assert result.settings["spectrum"] is None
    assert any("No spectra" in note for note in result.notes)
    assert "rmse" in {s.metric for s in result.scores}
    assert "log_spectral_distance" not in {s.metric for s in result.scores}


def test_one_time_has_no_interval(truth, models):
    one = {"time": [3]}
    result = evaluate_fields(truth.isel(one), {"m": models["noise"].isel(one)}, **FEW)
    assert all(np.isnan(s.low) and np.isnan(s.high) for s in result.scores)
    assert np.isnan(result.score("vorticity", "std_map", "m").value)
    assert any("no intervals" in note for note in result.notes)


@pytest.mark.filterwarnings("error")
def test_a_model_that_is_zero_everywhere(truth):
    """Nothing to take a logarithm of: infinite scores without warnings, ``None`` in JSON."""
    result = evaluate_fields(truth, {"zero": 0 * truth, "truth again": truth}, **FEW)
    assert result.score("vorticity", "log_spectral_distance", "zero").value == np.inf
    assert result.score("vorticity", "unresolved_power", "zero").value == 0
    assert result.score("vorticity", "upper_tail", "zero").value == pytest.approx(-100, abs=1)
    assert "Infinity" not in json.dumps(result.to_dict(), allow_nan=False)
    for s in result.scores:
        if s.model == "truth again":
            assert s.value == pytest.approx(METRICS[s.metric].ideal, abs=1e-9)


def test_area_means_are_kept(truth, evaluation):
    curves = evaluation.curves["vorticity"]
    total = curves["spectrum"].sel(dataset="truth").sum()
    assert float(total) == pytest.approx(float(area_mean(truth["vorticity"] ** 2).mean()), rel=0.01)
    width = float(np.diff(curves["bin"])[0])
    np.testing.assert_allclose(curves["density"].sum("bin") * width, 1)


def test_refusals(truth, models, one_sentence):
    later = models["half"].assign_coords(time=truth.time + np.timedelta64(1, "h"))
    twice = xarray.concat([models["half"], models["half"]], "time")
    missing = models["half"].where(truth.latitude < 80)
    cases = [
        ({}, {}, ("models",)),
        ({"truth": truth}, {}, ("models", "'truth'")),
        ({"m": models["half"].drop_vars("vorticity")}, {}, ("m", "vorticity")),
        ({"m": later}, {}, ("m", "time in common")),
        ({"m": twice}, {}, ("m", "twice")),
        ({"m": models["half"].isel(longitude=slice(0, 4))}, {}, ("m", "5 columns")),
        ({"m": models["half"].isel(latitude=slice(None, None, 2))}, {}, ("truth and m", "one grid")),
        ({"m": models["half"].isel(longitude=slice(None, None, 2))}, {}, ("truth and m", "one grid")),
        ({"m": models["half"].assign_coords(longitude=LONGITUDE + 2)}, {}, ("truth and m", "one grid")),
        ({"m": models["half"].isel(latitude=slice(20)).assign_coords(latitude=LATITUDE[:20] - 1)}, {}, ("one grid",)),
        ({"m": missing}, {}, ("missing",)),
        ({"m": models["half"]}, {"unresolved_from": 400}, ("unresolved_from", "400")),
    ]
    for chosen, options, words in cases:
        with pytest.raises(InputError) as error:
            evaluate_fields(truth, chosen, **FEW, **options)
        one_sentence(error.value, *words)


PARTS = {
    "no south pole": {"latitude": slice(0, -1)},
    "no poles": {"latitude": slice(1, -1)},
    "a region": {"latitude": slice(4, 20), "longitude": slice(10, 40)},
    "across the seam": {"latitude": slice(4, 20), "longitude": np.arange(-12, 15)},
    "up to the seam": {"longitude": np.arange(-20, 0)},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("turned", [False, True])
def test_grids_that_differ_in_extent_are_compared_where_they_overlap(part, turned, truth, models):
    smaller = models["noise"].isel(PARTS[part])
    if turned:  # to −180 … 180, ascending latitude
        smaller = smaller.assign_coords(longitude=(smaller.longitude + 180) % 360 - 180).isel(
            latitude=slice(None, None, -1)
        )
    result = evaluate_fields(truth, {"whole": models["half"], "part": smaller}, n_bootstrap=2, n_samples=50)
    expected = evaluate_fields(
        truth.isel(PARTS[part]),
        {"whole": models["half"].isel(PARTS[part]), "part": models["noise"].isel(PARTS[part])},
        n_bootstrap=2, n_samples=50,
    )  # fmt: skip
    assert result.settings["grid"] == expected.settings["grid"]
    for mine, theirs in zip(result.scores, expected.scores, strict=True):
        assert mine.value == pytest.approx(theirs.value, rel=1e-9, nan_ok=True), mine
    rows, columns = (smaller.sizes[axis] for axis in ("latitude", "longitude"))
    (note,) = (text for text in result.notes if text.startswith("Compared on"))
    assert note == f"Compared on the {rows} × {columns} points that all have: truth has 36 × 72, whole has 36 × 72."
    assert not any(text.startswith("Compared on") for text in expected.notes)


def test_two_regions_are_compared_where_they_overlap(truth, models):
    west, east = (
        data.isel(longitude=np.arange(*span)) for data, span in ((truth, (-9, 9)), (models["half"], (-3, 20)))
    )
    result = evaluate_fields(west, {"m": east}, **FEW)
    expected = evaluate_fields(truth.isel(longitude=np.arange(-3, 9)), {"m": east.isel(longitude=slice(12))}, **FEW)
    assert result.settings["grid"] == expected.settings["grid"]
    assert [s.value for s in result.scores] == pytest.approx([s.value for s in expected.scores], nan_ok=True)
