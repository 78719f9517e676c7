"""Fields as dinosaur and neuralgcm write them, through ``score``: Gaussian grid, longitude before latitude, σ levels,
and times since the start.
"""

import numpy as np
import pytest

import atmoloss
from tests.integrations.page import blocks

pytest.importorskip("dinosaur", reason="make test-integrations installs dinosaur")
pytestmark = pytest.mark.integration

START = np.datetime64("2026-05-01T00", "ns")
LEADS = 6 * np.arange(3) * np.timedelta64(1, "h").astype("timedelta64[ns]")


@pytest.fixture
def states():
    """Winds at T42 on three σ levels, (time, level, longitude, latitude), as the dycore's own writer lays them out."""
    from dinosaur import coordinate_systems, sigma_coordinates, spherical_harmonic, xarray_utils

    coords = coordinate_systems.CoordinateSystem(
        spherical_harmonic.Grid.T42(), sigma_coordinates.SigmaCoordinates.equidistant(3)
    )

    def draw(seed, times):
        rng = np.random.default_rng(seed)
        shape = (len(times), *coords.nodal_shape)
        data = {name: (8 * rng.standard_normal(shape)).astype(np.float32) for name in ("u", "v")}
        return xarray_utils.data_to_xarray(data, coords=coords, times=times)

    return draw


def test_score_by_lead_time(states) -> None:
    analysis = states(1, START + LEADS)
    names = {"atmoloss": atmoloss, "output": states(0, LEADS), "analysis": analysis}
    (code,) = blocks("neuralgcm and dinosaur", "python")
    exec(code, names)
    forecast, scores = names["forecast"], names["distance"]
    assert forecast["u"].dims == ("prediction_timedelta", "level", "lon", "lat")
    sigma = float(forecast["level"][1])
    assert names["start"] == START
    assert scores.dims == ("prediction_timedelta",)
    assert scores.attrs["periodic_longitude"] == "yes"
    # By hand: one level, north at the top, longitude along rows.
    tensors = [
        np.stack([d[n].isel(level=1).transpose(..., "lat", "lon").values[:, ::-1] for n in ("u", "v")], 1)
        for d in (forecast, analysis)
    ]
    assert analysis["lat"][0] < 0
    weight = np.cos(np.deg2rad(analysis["lat"].values[::-1]))
    by_hand = atmoloss.atmodist_distance(*tensors, weights="winds", weight=weight, periodic=True)
    np.testing.assert_allclose(scores.values, by_hand, rtol=1e-5)
    same = atmoloss.score(forecast, states(0, START + LEADS), level=sigma)
    np.testing.assert_array_equal(same, 0)
