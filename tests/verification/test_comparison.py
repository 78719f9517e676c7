"""What follows from the data sets of a comparison."""

import pytest

from atmoloss.verification.comparison import wind_pair


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
