"""The bundled sample: small, real, readable like any other file, and of dates that weights were tested on."""

import numpy as np
import pytest

from atmoloss.data import open_fields
from atmoloss.data.sample import MARGIN, SAMPLE_PATH, open_sample
from atmoloss.data.sources import source_from_dataset

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")


@pytest.fixture(scope="module")
def winds():
    return open_sample(("u", "v"))


def test_the_file_is_small_and_says_where_it_comes_from() -> None:
    assert SAMPLE_PATH.stat().st_size < 1e6
    with xarray.open_dataset(SAMPLE_PATH) as stored:
        assert stored.attrs["Conventions"].startswith("CF-")
        assert "NOAA" in stored.attrs["credit"]
        assert "public domain" in stored.attrs["license"]
        assert {stored[name].attrs["units"] for name in ("u10", "v10")} == {"m s-1"}
        assert stored["u10"].encoding["dtype"] == np.int16


def test_three_patches_every_six_hours_of_the_test_dates(winds) -> None:
    assert dict(winds.sizes) == {"time": 27, "latitude": 64, "longitude": 192}
    assert (np.diff(winds["time"].values) == np.timedelta64(6, "h")).all()
    assert winds["time"].values[0] == np.datetime64("2026-04-30")
    assert winds["time"].values[-1] == np.datetime64("2026-05-06T12")
    assert (winds["latitude"].values == np.arange(70.0, 6.0, -1.0)).all()
    assert (winds["longitude"].values == np.arange(-150.0, 42.0)).all()


def test_winds_look_like_winds(winds) -> None:
    for field in winds.data_vars.values():
        assert 10 < float(abs(field).max()) < 50
        assert 3 < float(field.std()) < 8
    # Trade winds blow from the east, north of the equator from the northeast.
    trades = winds.sel(latitude=slice(20, 10), longitude=slice(-60, -30)).mean()
    assert float(trades["u"]) < -3
    assert float(trades["v"]) < 0


def test_divergence_and_vorticity_are_those_of_the_winds(winds) -> None:
    derived = open_sample()
    assert list(derived.data_vars) == ["divergence", "vorticity"]
    # Second-order differences of a smooth mean field, on a sphere, written out.
    mean = winds.mean("time").astype(np.float64)
    cos = np.cos(np.deg2rad(mean["latitude"]))
    metres = np.deg2rad(1.0) * 6.371e6
    expected = (mean["v"].differentiate("longitude") - (mean["u"] * cos).differentiate("latitude")) / (cos * metres)
    found = derived["vorticity"].mean("time")
    inner = {"latitude": slice(1, -1), "longitude": slice(1, -1)}
    correlation = np.corrcoef(expected[inner].values.ravel(), found[inner].values.ravel())[0, 1]
    assert correlation > 0.97


def test_the_margin_holds_the_one_sided_differences() -> None:
    whole = open_fields(SAMPLE_PATH)
    assert whole.sizes["latitude"] == 64 + 2 * MARGIN
    spread = whole["vorticity"].std("time")
    # One-sided differences multiply the rounding of the winds: the outermost column is noisier.
    assert float(spread[:, 0].mean()) > 1.1 * float(spread[:, MARGIN : MARGIN + 8].mean())


def test_it_is_a_source_for_sampling() -> None:
    source = source_from_dataset(open_sample(), "sample")
    assert source.values.shape == (27, 2, 64, 192)
    assert source.grid_spacing == 1.0
    assert not source.periodic
