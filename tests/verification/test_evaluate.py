"""The evaluation as a whole: every score against a reference, and what may not matter."""

import itertools

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from atmoloss import atmodist_distance, load_extractor
from atmoloss.verification import at_cities, evaluate_fields, kinetic_energy_spectrum, power_spectrum, semivariogram
from atmoloss.verification.metrics import METRICS
from tests.verification.conftest import FEW, GLOBE, xarray

AREA = np.cos(np.deg2rad(GLOBE[0]))[:, None] / np.cos(np.deg2rad(GLOBE[0])).sum() / 72  # exact for rows of one height


def area_mean(values):
    return (np.asarray(values) * AREA).sum((-2, -1))


def decibels(spectrum, reference):
    return float(np.sqrt(((10 * np.log10(spectrum / reference)) ** 2).mean()))


def test_every_score_is_what_its_definition_says(truth, models, evaluation):
    first = evaluation.settings["unresolved_from_degree"]
    assert first == 9.0  # a quarter of 180 / 5 degrees
    for (label, model), name in itertools.product(models.items(), ("divergence", "vorticity")):
        a, b = model[name], truth[name]
        spectra = [power_spectrum(f).mean("time").sel(degree=slice(first, None)) for f in (a, b)]
        gammas = [semivariogram(f, b, (1000.0,), n_samples=200) for f in (a, b)]
        cities = zip(at_cities(a).values.T, at_cities(b).values.T, strict=True)
        means, spreads = (a.mean("time") - b.mean("time"), a.std("time") - b.std("time"))
        expected = {
            "rmse": area_mean((a - b) ** 2).mean() ** 0.5,
            "mae": area_mean(abs(a - b)).mean(),
            "log_spectral_distance": decibels(*spectra),
            "unresolved_power": float(spectra[0].sum() / spectra[1].sum()),
            "semivariogram": float(abs(np.log(gammas[0] / gammas[1]))[0]),
            "city_wasserstein": np.mean([wasserstein_distance(x, y) for x, y in cities]),
            "wasserstein": wasserstein_distance(
                a.values.ravel(), b.values.ravel(), *(np.broadcast_to(AREA, a.shape).ravel(),) * 2
            ),
            "mean_map": area_mean(means**2) ** 0.5,
            "std_map": area_mean(spreads**2) ** 0.5,
        }
        for metric, value in expected.items():
            # Of the distribution a histogram is kept.
            relative = 2e-3 if metric == "wasserstein" else 1e-9
            assert evaluation.score(name, metric, label).value == pytest.approx(value, rel=relative), metric
        weights = np.broadcast_to(AREA, a.shape).ravel()
        (low, middle, high), (lowest, _, highest) = (
            np.quantile(f.values.ravel(), [0.001, 0.5, 0.999], weights=weights, method="inverted_cdf") for f in (b, a)
        )
        for metric, value in (
            ("lower_tail", 100 * (lowest - low) / (low - middle)),
            ("upper_tail", 100 * (highest - high) / (high - middle)),
        ):  # a bin of the histogram, a 4096th of the range, is 0.1 % of the distance from the median
            assert evaluation.score(name, metric, label).value == pytest.approx(value, abs=1.0), metric
    energies = [kinetic_energy_spectrum(**d).mean("time").sel(degree=slice(9, None)) for d in (models["half"], truth)]
    result = evaluation.score("kinetic_energy", "log_spectral_distance", "half")
    assert result.value == pytest.approx(decibels(*energies))
    assert result.value == pytest.approx(20 * np.log10(2))
    assert result.units == "dB"


def test_half_of_the_truth_and_noise_have_known_scores_and_intervals(evaluation):
    assert {s.metric for s in evaluation.scores} == METRICS.keys() - {"atmodist_hours"}
    for s in evaluation.scores:
        assert s.low <= s.value <= s.high, s
    half = {s.metric: s for s in evaluation.scores if (s.variable, s.model) == ("vorticity", "half")}
    assert half["unresolved_power"].value == pytest.approx(0.25)
    assert half["grid_scale_power"].value == pytest.approx(0.25)
    assert half["semivariogram"].value == pytest.approx(np.log(4))
    assert half["local_energy"].value == pytest.approx(np.log(4))
    assert half["local_energy_correlation"].value == pytest.approx(1)
    assert half["upper_tail"].value == pytest.approx(-50, abs=0.5)
    assert half["peak_2"].value == pytest.approx(1)
    assert half["peak_4"].value == pytest.approx(1)
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


def test_winds_give_the_kinetic_energy(truth):
    winds = truth.rename(divergence="u10", vorticity="v10") * 1e5
    result = evaluate_fields(winds, {"m": 2 * winds}, **FEW)
    assert result.settings["energy_from"] == {"u": "u10", "v": "v10"}
    assert result.score("kinetic_energy", "unresolved_power", "m").value == pytest.approx(4)


def test_one_time_has_no_interval(truth, models):
    one = {"time": [3]}
    result = evaluate_fields(truth.isel(one), {"m": models["noise"].isel(one)}, **FEW)
    assert all(np.isnan(s.low) and np.isnan(s.high) for s in result.scores)
    assert np.isnan(result.score("vorticity", "std_map", "m").value)


def test_models_on_a_part_of_the_globe_are_compared_there_alone(truth, models):
    box = {"latitude": slice(60, 20), "longitude": slice(230, 320)}
    result = evaluate_fields(truth, {"m": models["half"].sel(box)}, **FEW)
    expected = evaluate_fields(truth.sel(box), {"m": models["half"].sel(box)}, **FEW)
    assert result.settings["spectrum"] == "planar"
    assert 0 < result.settings["n_cities"] < 60
    assert result.score("vorticity", "unresolved_power", "m").value == pytest.approx(0.25)
    assert [s.value for s in result.scores] == pytest.approx([s.value for s in expected.scores], nan_ok=True)
    ocean = {"latitude": slice(-20, -60), "longitude": slice(220, 270)}
    notes = evaluate_fields(truth.sel(ocean), {"m": models["half"].sel(ocean)}, **FEW).notes
    assert notes[-1] == "No city of the list lies on the grid."


def test_the_atmodist_distance_is_a_score_with_interval_and_difference(truth, models, evaluation):
    for label, model in models.items():
        expected = atmodist_distance(model, truth, weights="default", weight="area")
        result = evaluation.score("AtmoDist", "atmodist_distance", label)
        assert result.value == pytest.approx(float(expected.mean()), rel=1e-5)
        assert result.low < result.value < result.high
    (difference,) = (d for d in evaluation.differences if d.variable == "AtmoDist")
    distances = [evaluation.score("AtmoDist", "atmodist_distance", m).value for m in ("half", "noise")]
    assert difference.value == pytest.approx(distances[0] - distances[1])
    assert evaluation.settings["atmodist"] == {"weights": load_extractor().info.id}


def test_variables_of_no_weights_have_no_distance_and_a_line_says_so(truth, models):
    one = {name: data[["vorticity"]].isel(time=[0]) for name, data in {"truth": truth, **models}.items()}
    result = evaluate_fields(one.pop("truth"), one, **FEW)
    assert "AtmoDist" not in result.curves
    assert result.settings["atmodist"] is None
    (note,) = (n for n in result.notes if n.startswith("No AtmoDist distance"))
    assert "weights winds" in note
    assert "weights default" in note
    unasked = evaluate_fields(truth.isel(time=[0]), {"half": models["half"].isel(time=[0])}, atmodist=None, **FEW)
    assert unasked.settings["atmodist"] is None
    assert not any("AtmoDist" in n for n in unasked.notes)


def test_an_unknown_option_is_refused(truth, models):
    with pytest.raises(TypeError, match="blocks"):
        evaluate_fields(truth, models, blocks=3)


@pytest.mark.filterwarnings("error")
def test_a_model_that_is_zero_everywhere(truth):
    """Nothing to take a logarithm of: infinite scores without warnings; the truth itself is ideal."""
    result = evaluate_fields(truth, {"zero": xarray.zeros_like(truth), "truth again": truth}, **FEW)
    assert result.score("vorticity", "log_spectral_distance", "zero").value == np.inf
    assert result.score("vorticity", "unresolved_power", "zero").value == 0
    assert result.score("vorticity", "upper_tail", "zero").value == pytest.approx(-100, abs=1)
    for s in result.scores:
        if s.model == "truth again":
            assert s.value == pytest.approx(METRICS[s.metric].ideal, abs=1e-9)
