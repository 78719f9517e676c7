"""Coastlines lie where the coasts are, whatever longitudes a map has."""

import numpy as np
import pytest

from atmoloss.verification.report.coastlines import coastlines, draw_coastlines

pytest.importorskip("matplotlib")


def drawn(west: float, east: float, south: float, north: float) -> np.ndarray:
    """Points (N, 2) of the coast inside a map."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set(xlim=(west, east), ylim=(south, north))
    draw_coastlines(axes, west, east)
    assert axes.get_xlim() == (west, east)
    assert axes.get_ylim() == (south, north)
    x, y = axes.lines[0].get_data() if axes.lines else (np.empty(0), np.empty(0))
    inside = (x >= west) & (x <= east) & (y >= south) & (y <= north)
    return np.stack((x[inside], y[inside]), 1)


def test_the_lines_are_whole_and_on_the_globe():
    lines = coastlines()
    assert sum(map(len, lines)) > 5000
    for line in lines:
        assert len(line) >= 2
        assert np.abs(line[:, 1]).max() < 90
        assert np.abs(np.diff(line[:, 0])).max() < 10  # no jump to the other side of a map


@pytest.mark.parametrize("turn", [-360, 0, 360])
@pytest.mark.parametrize(
    ("west", "east", "south", "north"),
    [(-12, 5, 49, 60), (160, 210, 55, 75), (110, 155, -45, -10), (-90, -75, 20, 32)],
    ids=["Britain", "Bering Strait", "Australia", "Florida"],
)
def test_a_coast_is_the_same_in_every_convention(turn, west, east, south, north):
    points = drawn(west, east, south, north)
    assert len(points) > 20
    again = drawn(west + turn, east + turn, south, north)
    np.testing.assert_allclose(np.sort(again[:, 0]) - turn, np.sort(points[:, 0]), atol=1e-9)


@pytest.mark.parametrize("west", [-180, 0, -30, 100])
def test_a_globe_has_every_coast_once(west):
    points = drawn(west, west + 359.99, -90, 90)
    assert len(points) == pytest.approx(sum(map(len, coastlines())), rel=0.002)


def test_open_ocean_and_land_have_none():
    assert len(drawn(-140, -125, -45, -30)) == 0
    assert len(drawn(60, 75, 50, 62)) == 0


def test_known_capes():
    """Cape of Good Hope, Cape Horn, Cape Comorin, North Cape: as near as a scale of 1:110m has them."""
    points = drawn(-180, 180, -90, 90)
    for longitude, latitude in ((18.5, -34.3), (-67.3, -55.6), (77.5, 8.1), (25.8, 71.1)):
        assert np.hypot(*(points - (longitude, latitude)).T).min() < 0.7
