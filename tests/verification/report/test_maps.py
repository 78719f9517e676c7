"""The maps of a report show the numbers of the evaluation, on colour scales that are shared."""

import numpy as np
import pytest

from atmoloss.verification import evaluate_fields
from atmoloss.verification.report.maps import cities, example, moment_maps
from tests.verification.conftest import FEW

pytest.importorskip("matplotlib")


def meshes(figure):
    """Title → (values, limits) of the maps of a figure."""
    maps = {axes.get_title(): axes.collections[0] for axes in figure.axes if axes.get_title()}
    return {title: (mesh.get_array().reshape(-1), mesh.get_clim()) for title, mesh in maps.items()}


def test_moments_and_their_errors(drawn, evaluation):
    figure, _ = drawn(moment_maps)
    shown = meshes(figure)
    curves = evaluation.curves["vorticity"]
    assert len(shown) == 6
    for name, text in (("mean", "mean"), ("std", "standard deviation")):
        values = {d: curves[name].sel(dataset=d).values for d in ("truth", "half", "noise")}
        true, _ = shown[f"truth: {text}"]
        factor = true[0] / values["truth"].flat[0]
        assert np.log10(factor) == pytest.approx(round(np.log10(factor)))
        np.testing.assert_allclose(true, factor * values["truth"].ravel())
        errors = [shown[f"{model} − truth: {text}"] for model in ("half", "noise")]
        assert errors[0][1] == errors[1][1]  # one scale
        for (error, _), model in zip(errors, ("half", "noise"), strict=True):
            expected = (values[model] - values["truth"]).ravel()
            scale = error[0] / expected[0]
            np.testing.assert_allclose(error, scale * expected)
    assert shown["truth: mean"][1][0] == -shown["truth: mean"][1][1]  # 0 has the colour in the middle
    assert shown["truth: standard deviation"][1][0] > 0


def test_distances_at_cities(drawn, evaluation):
    figure, plot = drawn(cities)
    curves = evaluation.curves["vorticity"]
    top = figure.axes[-2]
    for line, model in zip(top.lines, ("half", "noise"), strict=True):
        values = np.sort(curves["wasserstein"].sel(model=model))
        np.testing.assert_allclose(line.get_ydata(), values * line.get_ydata()[0] / values[0])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 151))
    for axes, model in zip(figure.axes[:2], ("half", "noise"), strict=True):
        points = axes.collections[0]
        distances = curves["wasserstein"].sel(model=model)
        np.testing.assert_allclose(points.get_array(), distances * points.get_array()[0] / distances[0])
        east = curves["city_longitude"].values
        np.testing.assert_allclose((points.get_offsets()[:, 0] - east + 180) % 360, 180)
        low, high = axes.get_xlim()
        assert low - 1 < points.get_offsets()[:, 0].min() <= points.get_offsets()[:, 0].max() < high + 6
    assert "150 cities" in plot.caption


def test_the_example_is_a_part_of_the_middle_time(drawn, truth, models):
    shown = meshes(drawn(example)[0])
    assert list(shown) == ["truth", "half", "noise"]
    # 50 by 80 degrees around 45° N, 40° W, in units of 10⁻⁴ s⁻¹.
    expected = truth["vorticity"][12].isel(latitude=slice(3, 13), longitude=slice(56, 72)).values
    true, limits = shown["truth"]
    np.testing.assert_allclose(true, 1e4 * expected.ravel())
    assert shown["half"][1] == shown["noise"][1] == limits
    np.testing.assert_allclose(shown["half"][0], true / 2)


def test_a_small_region_is_shown_as_a_whole(drawn, truth, models):
    box = {"latitude": slice(60, 20), "longitude": slice(230, 270)}
    result = evaluate_fields(truth.sel(box), {"m": models["half"].sel(box)}, **FEW)
    true, _ = meshes(drawn(example, of=result)[0])["truth"]
    np.testing.assert_allclose(true, 1e4 * truth["vorticity"][12].sel(box).values.ravel())
