"""The curves of a report show the numbers of the evaluation."""

import numpy as np
import pytest

from atmoloss.verification import evaluate_fields
from atmoloss.verification.report.figures import distances_and_tails, spectrum
from tests.verification.conftest import FEW

pytest.importorskip("matplotlib")


def lines(axes):
    return {line.get_label(): line.get_xydata().T for line in axes.lines if not line.get_label().startswith("_")}


def test_spectra_and_their_ratios(drawn, evaluation):
    figure, plot = drawn(spectrum)
    left, right = figure.axes
    curves = evaluation.curves["vorticity"].isel(degree=slice(1, None))
    assert list(lines(left)) == ["truth", "half", "noise"]
    for name, (degree, power) in lines(left).items():
        np.testing.assert_array_equal(degree, np.arange(1, 36))
        np.testing.assert_array_equal(power, curves["spectrum"].sel(dataset=name))
    for name, (_, ratio) in lines(right).items():
        np.testing.assert_array_equal(ratio, curves["spectrum_ratio"].sel(model=name, bound="value"))
    assert left.get_xlabel() == "spherical-harmonic degree"
    assert "(s⁻¹)²" in left.get_ylabel()
    assert "from 9" in plot.caption
    assert len(left.texts) == 0


def test_the_kinetic_energy_has_slopes_beside_it(drawn):
    figure, plot = drawn(spectrum, "kinetic_energy")
    assert [text.get_text() for text in figure.axes[0].texts] == ["−3", "−5/3"]
    assert plot.caption.startswith("Time-mean kinetic-energy spectrum of the wind")


def test_semivariogram_and_histogram(drawn, evaluation):
    figure, _ = drawn(distances_and_tails)
    left, right = figure.axes
    curves = evaluation.curves["vorticity"]
    for name, (lag, gamma) in lines(left).items():
        np.testing.assert_array_equal(lag, [1000])
        np.testing.assert_array_equal(gamma, curves["semivariogram"].sel(dataset=name))
    assert list(lines(right)) == ["truth", "half", "noise"]
    for values, density in lines(right).values():  # 4096 bins are drawn as 128
        assert len(values) == 128
        assert np.nansum(density) * np.diff(values)[0] == pytest.approx(1)
    assert right.get_xlabel() == "vorticity [10⁻⁴ s⁻¹]"


def test_a_histogram_alone_where_no_distance_fits_in(drawn, truth, models):
    result = evaluate_fields(truth, {"m": models["half"]}, lags_km=(), **FEW)
    figure, plot = drawn(distances_and_tails, of=result)
    (axes,) = figure.axes
    assert list(lines(axes)) == ["truth", "m"]
    assert plot.caption.startswith("Area-weighted histogram")
    assert distances_and_tails(result, "kinetic_energy") is None
