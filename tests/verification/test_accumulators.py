"""The sums behind all scores: by block, of lazy data as of others, and the curves that are made of them."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification import accumulators, at_cities, power_spectrum
from atmoloss.verification.accumulators import accumulate
from atmoloss.verification.comparison import Options, compare
from tests.verification.conftest import FEW


@pytest.fixture(scope="module")
def comparison(truth, models):
    return compare(truth, models, Options(block_days=5, **FEW))


@pytest.fixture(scope="module")
def sums(comparison):
    return accumulate(comparison)


def test_sums_are_of_the_times_of_each_block(comparison, sums, truth, models):
    noise = sums["vorticity"]["noise"]
    spectrum = power_spectrum(models["noise"]["vorticity"]).values
    for block in range(5):
        times = slice(5 * block, 5 * block + 5)
        np.testing.assert_allclose(noise["spectrum"][block], spectrum[times].sum(0), rtol=1e-12)
        np.testing.assert_allclose(noise["map"][block], models["noise"]["vorticity"][times].sum("time"), rtol=1e-12)
    np.testing.assert_array_equal(noise["cities"], at_cities(models["noise"]["vorticity"]))  # not summed
    assert "mse" not in sums["vorticity"]["truth"]
    assert set(sums["kinetic_energy"]["noise"]) == {"spectrum"}
    assert sums["AtmoDist"]["truth"] == {}
    assert sums["AtmoDist"]["noise"]["atmodist_distance"].shape == (5,)


def test_lazy_data_in_parts_give_the_same(comparison, sums, truth, models, monkeypatch):
    pytest.importorskip("dask")
    lines = []
    monkeypatch.setattr(accumulators, "_CHUNK_CELLS", 7 * 36 * 72)
    lazy = compare(truth.chunk(time=5), {n: m.chunk(time=7) for n, m in models.items()}, comparison.options)
    result = accumulate(lazy, lines.append)
    assert lines == ["7 of 24 times", "14 of 24 times", "21 of 24 times", "24 of 24 times"]
    for variable, datasets in sums.items():
        for name, expected in datasets.items():
            assert result[variable][name].keys() == expected.keys()
            for key, values in expected.items():
                np.testing.assert_allclose(result[variable][name][key], values, rtol=1e-12, err_msg=key)


def test_missing_values_are_refused(truth, models, one_sentence):
    holes = compare(truth, {"m": models["half"].where(truth.latitude < 80)}, Options(**FEW))
    with pytest.raises(InputError) as error:
        accumulate(holes)
    one_sentence(error.value, "m: ", "missing")


def test_curves_keep_area_means(truth, evaluation):
    curves = evaluation.curves["vorticity"]
    area = np.cos(np.deg2rad(truth["latitude"]))
    square = float((truth["vorticity"] ** 2).weighted(area).mean())
    assert float(curves["spectrum"].sel(dataset="truth").sum()) == pytest.approx(square, rel=0.01)
    width = float(np.diff(curves["bin"])[0])
    np.testing.assert_allclose(curves["density"].sum("bin") * width, 1)


def test_curves_have_maps_ratios_and_places(truth, models, evaluation):
    curves = evaluation.curves["vorticity"]
    np.testing.assert_allclose(
        curves["mean"].sel(dataset="noise"), models["noise"]["vorticity"].mean("time"), rtol=1e-9
    )
    np.testing.assert_allclose(curves["std"].sel(dataset="truth"), truth["vorticity"].std("time"), rtol=1e-9)
    np.testing.assert_array_equal(curves["example"].sel(dataset="truth"), truth["vorticity"][12])
    assert curves["example_time"] == truth["time"][12]
    np.testing.assert_allclose(curves["spectrum_ratio"].sel(model="half")[:, 1:], 0.25)
    assert curves.sizes["city"] == 150
    assert curves["wasserstein"].dims == ("model", "city")
    assert "wasserstein" not in evaluation.curves["kinetic_energy"]
