"""The statistic through WeatherBench-X's own aggregation: over space, by lead time, and variable by variable."""

import numpy as np
import pytest

from atmoloss import atmodist_distance
from atmoloss.errors import InputError
from tests.integrations.page import blocks
from tests.labelled import GLOBE, forecasts

aggregation = pytest.importorskip(
    "weatherbenchX.aggregation",
    reason="WeatherBench-X is not on PyPI: pip install git+https://github.com/google-research/weatherbenchX",
)
pytestmark = pytest.mark.integration

NAMES = ("divergence", "vorticity")


@pytest.fixture
def pair():
    """Predictions and targets (init_time, lead_time, latitude, longitude), as its loaders give them: south first."""
    predictions = forecasts(grid=GLOBE).isel(latitude=slice(None, None, -1))
    targets = predictions.copy(data={n: np.roll(predictions[n].values, 5, -1) for n in NAMES})
    return dict(predictions), dict(targets)


def aggregated(statistic, predictions, targets, dims=("latitude", "longitude")):
    from weatherbenchX import weighting
    from weatherbenchX.metrics import base

    metrics = {"d": statistic}
    values = base.compute_unique_statistics_for_all_metrics(metrics, predictions, targets)
    aggregator = aggregation.Aggregator(reduce_dims=dims, weigh_by=[weighting.GridAreaWeighting()])
    return aggregator.aggregate_statistics(values).metric_values(metrics)


def test_the_mean_over_space_is_close_to_the_distance(extractor, pair) -> None:
    import xarray as xr

    from atmoloss.integrations.weatherbenchx import AtmoDistStatistic

    statistic = AtmoDistStatistic(NAMES, weights=extractor)
    result = aggregated(statistic, *pair)["d.atmodist"]
    assert result.dims == ("init_time", "lead_time")
    whole = atmodist_distance(*map(xr.Dataset, pair), weights=extractor, weight="area")
    np.testing.assert_allclose(result, whole, rtol=0.05)
    maps = statistic.compute(*pair)["atmodist"]
    assert maps.dims == pair[0]["vorticity"].dims
    assert maps["latitude"].equals(pair[0]["vorticity"]["latitude"])
    assert (statistic.compute(pair[0], pair[0])["atmodist"] == 0).all()


def test_by_lead_time_and_by_variable(extractor, pair) -> None:
    from atmoloss.integrations.weatherbenchx import AtmoDistStatistic

    predictions, targets = pair
    statistic = AtmoDistStatistic(NAMES, weights=extractor, per_variable=True)
    result = aggregated(statistic, *pair, dims=("init_time", "latitude", "longitude"))
    assert set(result) == {"d.atmodist", "d.divergence", "d.vorticity"}
    assert all(part.dims == ("lead_time",) for part in result.values())
    right = statistic.compute({**predictions, "vorticity": targets["vorticity"]}, targets)
    assert (right["vorticity"] == 0).all()
    assert right["divergence"].equals(right["atmodist"])


def test_the_code_of_the_page(pair) -> None:
    names = {}
    (code,) = blocks("WeatherBench-X", "python")
    exec(code, names)
    winds = ("10m_u_component_of_wind", "10m_v_component_of_wind")
    fields = [{w: 1e5 * f[n].assign_attrs(units="m s-1") for w, n in zip(winds, NAMES, strict=True)} for f in pair]
    assert list(aggregated(names["metrics"]["d"], *fields)) == ["d.atmodist"]


def test_what_does_not_fit_is_refused(extractor, pair) -> None:
    from atmoloss.integrations.weatherbenchx import AtmoDistStatistic

    with pytest.raises(InputError, match="variables: got u, expected some of divergence, vorticity"):
        AtmoDistStatistic(["u"], weights=extractor).compute(*pair)
    names = {AtmoDistStatistic(NAMES, weights=extractor, **more).unique_name for more in ({}, {"level": 850})}
    assert len(names) == 2
