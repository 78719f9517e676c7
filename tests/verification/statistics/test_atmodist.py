"""The distance at each time is that of the functions, of whichever bundled weights fit."""

import numpy as np
import pytest

from atmoloss import atmodist_distance, atmodist_hours, load_extractor
from atmoloss.data.sample import open_sample
from atmoloss.errors import InputError
from atmoloss.verification.statistics.atmodist import atmodist_of
from atmoloss.verification.statistics.grid import Grid, grid_of, standardise_axes

pytest.importorskip("h5netcdf")


@pytest.fixture(scope="module")
def winds():
    """The sample every 12 hours, at 10 m and 1°; 64 by 64 points."""
    return open_sample(("u", "v")).isel(time=slice(None, 8, 2), longitude=slice(64))


def grid(data) -> Grid:
    return grid_of(standardise_axes(next(iter(data.data_vars.values()))))


def test_winds_are_compared_by_the_weights_of_winds_and_by_area(winds):
    rolled = winds.copy(data={name: np.roll(field, 1, 0) for name, field in winds.items()})
    made = atmodist_of(winds, grid(winds))
    assert made.describe() == {"weights": load_extractor("winds").info.id}
    result = made.of_times({"truth": winds, "same": winds, "rolled": rolled})
    expected = atmodist_distance(rolled, winds, weights="winds", weight="area")
    assert list(result) == ["same", "rolled"]
    np.testing.assert_array_equal(result["same"], 0)
    np.testing.assert_allclose(result["rolled"], expected, rtol=1e-5)


def test_hours_are_those_of_the_function(winds):
    pair = {"truth": winds.isel(time=[0]), "m": winds.isel(time=[1]).assign_coords(time=winds["time"][:1])}
    made = atmodist_of(winds, grid(winds), hours=True)
    assert made.metric == "atmodist_hours"
    expected = atmodist_hours(pair["m"], pair["truth"], weights="winds")  # both know grid and level by themselves
    np.testing.assert_allclose(made.of_times(pair)["m"], expected, rtol=1e-5)
    assert 6 < expected < made.describe()["limit"]
    assert atmodist_of(winds, grid(winds), hours=True, level="850 hPa").curve.level == "850 hPa"


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (("divergence", "vorticity"), "default"),
        (("u10", "v10"), "winds"),
        (("u", "v", "divergence", "vorticity"), "winds"),
        (("u", "vorticity"), None),
        (("t2m",), None),
    ],
)
def test_the_weights_of_the_variables_are_taken(winds, names, weights, one_sentence):
    fields = winds["u"].drop_attrs()
    data = fields.to_dataset(name=names[0]).assign(dict.fromkeys(names, fields))
    if weights is None:
        with pytest.raises(InputError) as error:
            atmodist_of(data, grid(data), level="10 m")
        one_sentence(error.value, "variables", "weights winds", "weights default")
    else:
        assert atmodist_of(data, grid(data), level="10 m").describe()["weights"].startswith(f"{weights}@")


def test_fields_too_small_for_the_weights_are_refused(winds, one_sentence):
    small = winds.isel(latitude=slice(5), longitude=slice(5))
    with pytest.raises(InputError) as error:
        atmodist_of(small, grid(small))
    one_sentence(error.value, "5x5", "at least")
