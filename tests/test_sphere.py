"""Regular grids and those that are not; longitudes that close."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.sphere import is_periodic, regular_step


@pytest.mark.parametrize("step", [0.1, 0.25, -1.5])
@pytest.mark.parametrize("rounding", [lambda x: x, lambda x: x.astype(np.float32), lambda x: np.round(x, 3)])
def test_the_step_of_a_regular_grid(step, rounding) -> None:
    assert regular_step(rounding(40 + step * np.arange(50)), "latitude") == pytest.approx(step, rel=1e-3)


def test_longitudes_across_the_date_line() -> None:
    longitude = (350 + np.arange(20.0)) % 360
    assert regular_step(longitude, "longitude") == 1.0
    assert regular_step((longitude + 180) % 360 - 180, "longitude") == 1.0
    with pytest.raises(InputError):
        regular_step(longitude, "latitude")


GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(64)[0]))
IRREGULAR = {
    "Gaussian": GAUSSIAN,
    "a missing row": np.delete(np.arange(10.0), 4),
    "NaN": np.array([0.0, 1, 2, np.nan, 4, 5]),
    "one value": np.ones(9),
    "too few": np.arange(4.0),
    "two dimensions": np.ones((5, 5)),
}


@pytest.mark.parametrize("values", IRREGULAR.values(), ids=IRREGULAR.keys())
def test_other_grids_are_refused(values, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        regular_step(values, "latitude")
    one_sentence(error.value, "latitude", "expected")


@pytest.mark.parametrize(("step", "closes"), [(1.0, True), (0.25, True), (-2.5, True), (0.7, False)])
def test_a_whole_circle_closes(step, closes) -> None:
    longitude = step * np.arange(int(360 / abs(step)))
    assert is_periodic(longitude) == closes
    assert is_periodic((longitude + 190) % 360) == closes
    assert not is_periodic(longitude[:-1])
    assert not is_periodic(step * np.arange(int(360 / abs(step)) + 1))  # the first meridian twice
