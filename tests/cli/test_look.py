"""Positions on a grid, and what is known of one, against independent reckonings."""

import numpy as np
import pytest

from atmoloss import load_predictor
from atmoloss.cli.look import Position, look, place_text
from atmoloss.errors import InputError
from atmoloss.verification.statistics.advection import motion
from atmoloss.verification.statistics.grid import grid_of

xarray = pytest.importorskip("xarray")

TIMES = np.datetime64("2026-05-01T00", "ns") + np.arange(4) * np.timedelta64(6, "h")


def field(latitude, longitude):
    """A field that has its latitude plus a thousandth of its longitude in each cell."""
    values = latitude[:, None] + longitude / 1000
    return xarray.DataArray(values, {"latitude": latitude, "longitude": longitude}, ("latitude", "longitude"))


REGION = field(np.arange(60.0, 20.0, -1.0), np.arange(-30.0, 18.0))
GLOBE = field(np.arange(87.5, -90.0, -5.0), np.arange(0.0, 360.0, 5.0))
REGION_GRID, GLOBE_GRID = (grid_of(f.expand_dims("time")) for f in (REGION, GLOBE))


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((60.0, -30.0), (0, 0)),
        ((60.4, -30.4), (0, 0)),
        ((56.6, -26.6), (0, 0)),
        ((56.4, -26.4), (1, 1)),
        ((50.0, 335.0), (2, 1)),
        ((20.6, 17.4), (9, 11)),
    ],
)
def test_the_position_that_holds_a_point(point, expected) -> None:
    position = Position.around(point, REGION_GRID, 4)
    assert (position.row, position.column) == expected
    nearest = REGION.sel(latitude=point[0], longitude=(point[1] + 180) % 360 - 180, method="nearest")
    assert nearest.item() in REGION.values[position.cells]


@pytest.mark.parametrize(
    ("longitude", "column"), [(0.0, 0), (-2.0, 0), (358.0, 0), (362.4, 0), (357.0, 17), (-8.0, 17)]
)
def test_columns_meet_on_a_globe(longitude, column) -> None:
    assert Position.around((0.0, longitude), GLOBE_GRID, 4).column == column


@pytest.mark.parametrize("point", [(61.0, 0.0), (20.0, 0.0), (40.0, -31.0), (40.0, 17.5), (40.0, 170.0)])
def test_points_outside_of_the_grid(point, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        Position.around(point, REGION_GRID, 4)
    one_sentence(error.value, f"--point: got {place_text(point)}", "expected", "60°N to 21°N, 30°W to 17°E")


def test_places_are_those_of_the_coordinates() -> None:
    position = Position(REGION_GRID, 4, 2, 3)
    assert position.centre == (50.5, -16.5)  # of rows 52 to 49°N and columns 18 to 15°W
    assert position.places(1.0, -0.5) == (46.5, -18.5)


def test_a_view_crosses_the_seam_and_stops_at_the_edge() -> None:
    view = Position(GLOBE_GRID, 4, 0, 0).view(GLOBE, 8)
    np.testing.assert_array_equal(view["longitude"], np.arange(-40.0, 60.0, 5.0))
    np.testing.assert_array_equal(view["latitude"], GLOBE["latitude"][:12])
    np.testing.assert_allclose(view, view["latitude"] + (view["longitude"] % 360) / 1000)
    view = Position(GLOBE_GRID, 4, 4, 9).view(GLOBE, 60)
    assert view.sizes == {"latitude": 36, "longitude": 72}  # each meridian once
    view = Position(REGION_GRID, 4, 9, 0).view(REGION, 8)
    assert (view["latitude"][0], view["latitude"][-1], view["longitude"][0], view["longitude"][-1]) == (
        32,
        21,
        -30,
        -19,
    )


@pytest.fixture(scope="module")
def fields():
    noise = np.random.default_rng(0).normal(size=(2, 4, 40, 48)) * 4e-5
    coords = {"time": TIMES, "latitude": REGION["latitude"], "longitude": REGION["longitude"]}
    dims = ("time", "latitude", "longitude")
    names = ("divergence", "vorticity")
    return xarray.Dataset({n: (dims, x.astype(np.float32)) for n, x in zip(names, noise, strict=True)}, coords)


def test_air_comes_from_where_the_advection_score_says(predicts, fields) -> None:
    position = Position(REGION_GRID, 4, 4, 5)
    winds = xarray.full_like(fields, 0.0).rename(divergence="u", vorticity="v")
    winds["u"][2, 16:20, 20:24], winds["v"][2, 16:20, 20:24] = 6.0, -3.0
    seen = look(load_predictor(predicts), position, fields, winds, "head", None)
    for read, hours in zip(seen.reads, (12, 6, 0), strict=True):
        assert read.hours == -hours
        moved = motion(np.full((1, 1), 6.0), np.full((1, 1), -3.0), np.array(position.centre[:1]), 4.0, hours)[0, 0]
        # Along parallels there, along a great circle here: after 290 km they are 7 km apart.
        assert read.air == pytest.approx(position.places(*-moved), abs=0.1)


@pytest.mark.parametrize("head", [None, 1])
def test_the_map_is_that_of_the_predictor_and_the_centroid_its_mean(predicts, fields, head) -> None:
    import torch

    predictor = load_predictor(predicts)
    seen = look(predictor, Position(REGION_GRID, 4, 4, 5), fields, None, "head", head)
    sequence = torch.from_numpy(fields.to_array().values).transpose(0, 1)[None, :3]
    maps = predictor.attention(sequence)[0, :, 4, 5].double().numpy()
    maps = maps[head] if head is not None else maps.mean(0)
    offset = 4.0 * np.arange(-2, 3)
    for read, weights in zip(seen.reads, maps, strict=True):
        np.testing.assert_allclose(read.map, weights, rtol=1e-5)
        latitude, longitude = 42.5 - offset[:, None], -8.5 + offset
        expected = [float((weights * axis).sum() / weights.sum()) for axis in (latitude, longitude)]
        assert read.centroid == pytest.approx(expected)
        assert read.air is None


def test_errors_are_shares_of_persistence_by_area(predicts, fields) -> None:
    import torch

    predictor = load_predictor(predicts)
    seen = look(predictor, Position(REGION_GRID, 4, 4, 5), fields, None, "head", None)
    sequence = torch.from_numpy(fields.to_array().values).transpose(0, 1)[None, :3]
    edges = np.sin(np.deg2rad(np.arange(60.5, 20.0, -1.0)))
    area = (edges[:-1] - edges[1:])[:, None]
    for name, guess in zip(("divergence", "vorticity"), predictor(sequence)[0].numpy(), strict=True):
        present, came = fields[name].values[-2:]
        expected = (area * (guess - came) ** 2).sum() / (area * (present - came) ** 2).sum()
        assert seen.errors()[name] == pytest.approx(expected, rel=1e-4)
        np.testing.assert_allclose(seen.predicted[name][0], guess, rtol=1e-5, atol=1e-10)
    assert seen.predicted["time"].values == TIMES[3:]
    assert look(predictor, seen.position, fields.isel(time=slice(3)), None, "head", None).errors() == {}


def test_places_as_text() -> None:
    assert place_text((18.0, 238.004)) == "18°N 122°W"
    assert place_text((-0.254, -180.0)) == "0.25°S 180°W"
