"""Cities: the list, the places on the grid, and distances of distributions."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from atmoloss.errors import InputError
from atmoloss.verification import at_cities, load_cities
from atmoloss.verification.statistics.cities import compare_cities, wasserstein
from tests.verification.conftest import axes, field


def test_the_list():
    cities = load_cities()
    assert cities.sizes["city"] == 150
    assert len(np.unique(cities["city"])) == 150
    assert int(cities["population"].min()) >= 1_000_000
    assert float(abs(cities["latitude"]).max()) < 66
    assert "GeoNames" in cities.attrs["source"]
    # Known places, of both hemispheres and both signs of longitude.
    for name, latitude, longitude in (("Mexico City", 19.4, -99.1), ("Sydney", -33.9, 151.2), ("Calgary", 51, -114.1)):
        place = cities.sel(city=name)
        assert float(place["latitude"]) == pytest.approx(latitude, abs=0.2)
        assert float(place["longitude"]) == pytest.approx(longitude, abs=0.2)
    assert int((cities["longitude"] < 0).sum()) > 30
    # Even over the globe rather than by population: no cell of 12 × 8 degrees holds many.
    cells = np.histogram2d(cities["longitude"], cities["latitude"], bins=(30, 15))[0]
    assert cells.max() <= 8


@pytest.mark.parametrize("west", [0, -180])
@pytest.mark.parametrize("rows", ["both poles", "half a step"])
def test_the_nearest_point_in_east_and_west(west, rows):
    latitude, longitude = axes(rows, 180)
    longitude = longitude + west
    cities = load_cities()
    turned = (longitude + 180) % 360 - 180
    east = at_cities(field(np.broadcast_to(turned, (len(latitude), 360)), latitude, longitude))
    north = at_cities(field(np.broadcast_to(latitude[:, None], (len(latitude), 360)), latitude, longitude))
    assert east.sizes["city"] == 150
    off = (east[0] - cities["longitude"] + 180) % 360 - 180
    assert float(abs(off).max()) <= 0.5
    assert float(abs(north[0] - cities["latitude"]).max()) <= 0.5


def test_only_cities_inside_a_region():
    latitude, longitude = np.arange(60.0, 20.0, -0.5), np.arange(-130.0, -60.0, 0.5)
    values = at_cities(field(np.zeros((80, 140)), latitude, longitude))
    assert 10 < values.sizes["city"] < 40
    assert {"Calgary", "Los Angeles"} <= set(values["city"].values)
    assert not {"Mexico City", "Sydney"} & set(values["city"].values)
    nowhere = at_cities(field(np.zeros((80, 140)), latitude - 80, longitude - 20))
    assert nowhere.sizes["city"] == 0


def test_missing_values_at_cities_are_refused(one_sentence):
    latitude, longitude = axes("half a step", 20)
    with pytest.raises(InputError) as error:
        at_cities(field(np.full((20, 40), np.nan), latitude, longitude))
    one_sentence(error.value, "field", "missing", "cities")


def test_shifted_distributions_are_as_far_as_the_shift():
    draw = np.random.default_rng(0)
    x, once = draw.normal(size=64), np.ones((64, 1))
    assert wasserstein(x + 0.7, x, once, once) == pytest.approx(0.7, rel=1e-12)
    # The order of times and their number do not matter.
    assert wasserstein(draw.permutation(x), x, once, once) == pytest.approx(0, abs=1e-12)
    expected = wasserstein_distance(2 * x, x[:40])
    assert wasserstein(2 * x, x[:40], once, once[:40]) == pytest.approx(expected, rel=1e-12)


def test_weights_count_as_repetitions():
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=30), draw.normal(size=20) * 2
    counts = draw.integers(0, 4, (30, 5)), draw.integers(0, 4, (20, 5))
    result = wasserstein(x, y, *counts)
    expected = [wasserstein_distance(np.repeat(x, counts[0][:, i]), np.repeat(y, counts[1][:, i])) for i in range(5)]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_better_means_nearer_by_more_than_a_tenth():
    a = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    b = np.array([1.2, 1.05, 0.95, 0.5, 0.0])
    assert compare_cities(a, b) == {"better": 1, "equal": 3, "worse": 1}
    assert compare_cities(b, a) == {"better": 1, "equal": 3, "worse": 1}
