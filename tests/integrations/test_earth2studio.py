"""earth2studio's protocol of a metric: coordinates in and out, its own functions on the result."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

from atmoloss import atmodist_distance
from atmoloss.errors import InputError
from atmoloss.integrations.earth2studio import AtmoDistMetric
from tests.integrations.page import blocks
from tests.labelled import GLOBE, fields

VARIABLES = ("div850", "vo850")


def coords(**outer):
    """Coordinates in the order of earth2studio's models."""
    latitude, longitude = GLOBE
    return OrderedDict(**outer, variable=np.array(["t2m", *VARIABLES]), lat=latitude, lon=longitude)


@pytest.fixture
def pair():
    """Forecasts of two members at three lead times, and analyses without members."""
    lead_time = np.arange(3) * np.timedelta64(6, "h")
    members = fields(GLOBE, 0, ensemble=np.arange(2), lead_time=np.arange(3)).to_array().values
    analyses = fields(GLOBE, 1, lead_time=np.arange(3)).to_array().values
    x, y = (np.moveaxis(np.concatenate([f[:1] * 0 + 280, f]), 0, -3) for f in (members, analyses))
    return (
        torch.from_numpy(x), coords(ensemble=np.arange(2), lead_time=lead_time),
        torch.from_numpy(y), coords(lead_time=lead_time),
    )  # fmt: skip


def expected(extractor):
    members = fields(GLOBE, 0, ensemble=np.arange(2), lead_time=np.arange(3))
    analyses = fields(GLOBE, 1, lead_time=np.arange(3))
    return torch.from_numpy(atmodist_distance(members, analyses, weights=extractor, weight="area").values)


def test_members_and_lead_times_stay(extractor, pair) -> None:
    values, out = AtmoDistMetric(VARIABLES, weights=extractor)(*pair)
    assert list(out) == ["ensemble", "lead_time"]
    torch.testing.assert_close(values, expected(extractor), rtol=1e-6, atol=0)


def test_further_dimensions_are_averaged_over(extractor, pair) -> None:
    metric = AtmoDistMetric(VARIABLES, ["ensemble"], weights=extractor)
    assert str(metric) == "ensemble_atmodist"
    values, out = metric(*pair)
    assert list(out) == list(metric.output_coords(pair[1])) == ["lead_time"]
    torch.testing.assert_close(values, expected(extractor).mean(0), rtol=1e-6, atol=0)


def test_dimensions_may_stand_in_any_order(extractor, pair) -> None:
    x, x_coords, y, y_coords = pair
    order = ["lat", "lead_time", "variable", "lon", "ensemble"]
    turned = x.permute([list(x_coords).index(d) for d in order])
    values, out = AtmoDistMetric(VARIABLES, weights=extractor)(
        turned, OrderedDict((d, x_coords[d]) for d in order), y, y_coords
    )
    assert list(out) == ["lead_time", "ensemble"]
    torch.testing.assert_close(values, expected(extractor).T, rtol=1e-6, atol=0)


def test_what_does_not_belong_together_is_refused(extractor, pair) -> None:
    x, x_coords, y, y_coords = pair
    metric = AtmoDistMetric(VARIABLES, weights=extractor)
    with pytest.raises(InputError, match="y_coords: got other values of lead_time"):
        metric(x, x_coords, y, y_coords | {"lead_time": np.arange(3)})
    with pytest.raises(InputError, match="x_coords: has no u10m"):
        AtmoDistMetric(("u10m", "v10m"), weights=extractor)(*pair)
    with pytest.raises(InputError, match="expected step as well"):
        AtmoDistMetric(VARIABLES, ["step"], weights=extractor)(*pair)
    with pytest.raises(InputError, match="x: got shape"):
        metric(x[0], x_coords, y, y_coords)


def test_the_code_of_the_page() -> None:
    names = {}
    (code,) = blocks("earth2studio", "python")
    exec(code, names)
    assert names["distance"].shape == (3,)
    assert list(names["distance_coords"]) == ["lead_time"]


@pytest.mark.integration
def test_the_protocol_and_a_mean_of_earth2studio(extractor, pair) -> None:
    statistics = pytest.importorskip("earth2studio.statistics", reason="make test-integrations installs earth2studio")
    metric = AtmoDistMetric(VARIABLES, weights=extractor)
    assert isinstance(metric, statistics.Metric)
    # What earth2studio computes of the result by the coordinates that came with it.
    values, out = statistics.mean(["ensemble"])(*metric(*pair))
    assert list(out) == ["lead_time"]
    torch.testing.assert_close(values, expected(extractor).mean(0), rtol=1e-6, atol=0)
