"""What follows from the data sets of a comparison: winds, degrees, distances, bins, notes."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification.comparison import Options, compare, wind_pair
from tests.verification.conftest import FEW, field, xarray


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("u850", "v850"), {"u": "u850", "v": "v850"}),
        (("v_80m", "t2m", "u_80m"), {"u": "u_80m", "v": "v_80m"}),
        (("uas", "vas"), {"u": "uas", "v": "vas"}),
        (("u850", "v500", "u500"), {"u": "u500", "v": "v500"}),
        (("u", "v", "vorticity500", "divergence500"), {"vorticity": "vorticity500", "divergence": "divergence500"}),
        (("u10", "v"), None),
        (("t", "sst"), None),
    ],
)
def test_the_two_winds_of_a_place_are_found(names, pair):
    assert wind_pair(names) == pair


def test_a_globe_has_all(truth, models):
    result = compare(truth, models, Options(**FEW))
    assert result.models == ("half", "noise")
    assert result.variables == ("divergence", "vorticity")
    np.testing.assert_array_equal(result.degree, np.arange(36))  # of 36 rows half a step off the poles
    assert result.unresolved_from == 9  # a quarter of 180 / 5 degrees
    assert result.lags.tolist() == [1000]  # shorter ones are less than a step
    assert result.units("vorticity", 2) == "(s-1)2"
    assert result.units("kinetic_energy") == "m2 s-2"
    low, high = (f([float(f(d["vorticity"])) for d in (truth, *models.values())]) for f in (np.min, np.max))
    assert result.edges["vorticity"][[0, -1]] == pytest.approx([low, high])


def test_hours_that_cannot_be_told_are_an_error_and_a_distance_is_left_out(truth, models, one_sentence):
    with pytest.raises(InputError) as error:
        compare(truth, models, Options(atmodist="hours", level="10 m", **FEW))  # of 5 degrees
    one_sentence(error.value, "grid_spacing, level", "5.0 and 10 m")
    with pytest.raises(InputError) as error:
        compare(truth, models, Options(atmodist="days", **FEW))
    one_sentence(error.value, "atmodist", "'days'", "'hours'")
    alone = truth[["vorticity"]]
    assert compare(alone, {"m": alone}, Options(**FEW)).atmodist is None
    with pytest.raises(InputError, match="divergence"):
        compare(alone, {"m": alone}, Options(atmodist="hours", **FEW))


def test_a_band_too_wide_for_a_plane_has_no_spectra(truth, models):
    band = {"latitude": slice(70, -70)}
    result = compare(truth.sel(band), {"m": models["half"].sel(band)}, Options(**FEW))
    assert result.degree is None
    assert result.winds is None
    assert result.notes[-1].startswith("No spectra: latitude")


def test_distances_longer_than_half_a_region_are_left_out():
    latitude, longitude = np.linspace(50, 40, 41), np.linspace(0, 20, 81)
    data = xarray.Dataset({"u": field(np.zeros((41, 81)), latitude, longitude)})
    result = compare(data, {"m": data}, Options(lags_km=(20.0, 50.0, 500.0, 600.0)))
    assert result.lags.tolist() == [50, 500]  # a step is 28 km, half of the height 570 km


@pytest.mark.parametrize(
    ("n_times", "days", "words"), [(1, 1, "there are no intervals"), (8, 1, "8 blocks"), (24, 1, "")]
)
def test_few_blocks_are_noted(truth, models, n_times, days, words):
    result = compare(truth.isel(time=slice(n_times)), models, Options(block_days=days))
    assert [words in note for note in result.notes] == [True] * bool(words)


def test_a_degree_that_the_spectrum_lacks_is_refused(truth, models, one_sentence):
    for degree in (0, 36, 400):
        with pytest.raises(InputError) as error:
            compare(truth, models, Options(unresolved_from=degree))
        one_sentence(error.value, "unresolved_from", str(degree), "35")
