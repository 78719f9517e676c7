"""Grids: what covers the globe and how, the area of rows, and fields brought to standard axes."""

import numpy as np
import pytest

from atmoloss.errors import InputError
from atmoloss.verification.statistics.grid import Field, standardise_axes
from tests.verification.conftest import TIMES, axes, field, grid_at, noise, xarray


@pytest.mark.parametrize(
    ("rows", "geometry", "missing"),
    [
        ("both poles", "CC", (False, False)),
        ("no south pole", "CC", (False, True)),
        ("no poles", "CC", (True, True)),
        ("half a step", "F1", (False, False)),
        ("Gaussian", "GL", (False, False)),
    ],
)
def test_globes_are_recognised(rows, geometry, missing):
    latitude, longitude = axes(rows)
    grid = grid_at(latitude, longitude)
    assert (grid.geometry, grid.missing_poles, grid.periodic) == (geometry, missing, True)
    near = grid_at(latitude.astype(np.float32), longitude.astype(np.float32) - 180)  # rounded, other convention
    assert (near.geometry, near.missing_poles) == (geometry, missing)
    # A row more is missing, or a column: no globe.
    assert grid_at(latitude[2:-2], longitude).geometry is None
    region = grid_at(latitude, longitude[:-1])
    assert (region.geometry, region.periodic) == (None, False)


def test_rows_have_the_area_of_their_bands():
    areas = grid_at(np.linspace(90, -90, 19), np.arange(0.0, 360, 10)).row_weights
    assert areas.sum() == pytest.approx(1.0, abs=1e-15)
    # A cap from 85 degrees to the pole, and a band from 5 S to 5 N: 2πa²(1 − sin 85°), 2πa²·2 sin 5° of 4πa².
    assert areas[0] == pytest.approx((1 - np.sin(np.deg2rad(85))) / 2, rel=1e-13)
    assert areas[9] == pytest.approx(np.sin(np.deg2rad(5)), rel=1e-13)
    region = grid_at(np.arange(60.0, 15.0, -10.0), np.arange(6.0)).row_weights
    assert region[1] / region[3] == pytest.approx(
        (np.sin(np.deg2rad(55)) - np.sin(np.deg2rad(45))) / (np.sin(np.deg2rad(35)) - np.sin(np.deg2rad(25)))
    )


def test_means_weigh_area():
    latitude, longitude = axes("half a step", 90)
    values = np.stack([np.ones((90, 180)), np.broadcast_to(latitude[:, None] > 30, (90, 180)) * 1.0])
    assert grid_at(latitude, longitude).means(values) == pytest.approx([1, 0.25])  # (1 − sin 30°) / 2


def test_a_grid_says_what_it_is():
    assert str(grid_at(*axes("both poles", 18))) == "19 × 36 points, 10° × 10°, 90°N to 90°S, 0° to 350°E"
    assert str(grid_at(np.arange(40.0, 30, -2), np.arange(-30.0, -10, 4))).endswith("40°N to 32°N, 30°W to 14°W")
    assert grid_at(*axes("both poles", 180)).spacing_km == pytest.approx(6371 * np.pi / 180)


def test_axes_come_in_one_order():
    latitude, longitude = axes("half a step", 10)
    expected = field(noise(2, shape=(10, 20)), latitude, longitude)
    turned = expected.isel(latitude=slice(None, None, -1)).assign_coords(longitude=(longitude + 180) % 360 - 180)
    result = standardise_axes(turned.sortby("longitude").transpose("longitude", "time", "latitude"))
    assert result.dims == ("time", "latitude", "longitude")
    np.testing.assert_array_equal(result["latitude"], latitude)
    assert (np.diff(result["longitude"]) > 0).all()
    shift = int((result["longitude"][0] % 360) / 18)
    np.testing.assert_array_equal(result, np.roll(expected, -shift, axis=2))
    one = standardise_axes(expected.isel(time=0))  # a time of its own
    np.testing.assert_array_equal(one, expected[:1])


def test_results_go_back_to_xarray():
    data = Field.of(field(noise(3), *axes("half a step", 64)))
    out = data.wrap(np.arange(6.0).reshape(3, 2), "band", ["a", "b"], units=data.units(2), long_name="what")
    assert out.sel(band="b").values.tolist() == [1, 3, 5]
    assert out.attrs == {"units": "(s-1)2", "long_name": "what"}
    np.testing.assert_array_equal(out["time"], TIMES[:3])
    assert Field(data.array.assign_attrs(units="1")).units(2) == "1"


def test_refusals(one_sentence):
    f = field(noise(), *axes("half a step", 64))
    for wrong, words in (
        (f.values, ("ndarray", "xarray.DataArray")),
        (f.rename(latitude="y"), ("(time, latitude, longitude)",)),
        (f.isel(latitude=slice(4)), ("'latitude': 4", "5 rows")),
        (f.isel(time=slice(0)), ("at least 1 time",)),
        (f.assign_coords(latitude=np.r_[f.latitude[1:], f.latitude[:1]]), ("latitude",)),
    ):
        with pytest.raises(InputError) as error:
            standardise_axes(wrong, "model")
        one_sentence(error.value, "model", *words)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError) as error:
            Field.of(xarray.where(f.latitude > 88, bad, f).transpose(*f.dims), "model").values  # noqa: B018
        one_sentence(error.value, "model", "128 of 8192 values")
