"""What the picture of ``atmoloss attention --plot`` shows, read back from its axes."""

import hypothesis
import numpy as np
import pytest
from hypothesis.extra.numpy import arrays

from atmoloss.cli import attention_plot
from atmoloss.data import open_fields
from tests.cli.conftest import write

pytest.importorskip("matplotlib")
WHERE = ("--time", "2026-05-01T12", "--point", "42N,9W")


@pytest.fixture
def drawn(run, predicts, tmp_path, monkeypatch):
    """Run the command with ``--plot``; returns the axes of the maps and of the key."""
    figures = []
    save = attention_plot.save
    monkeypatch.setattr(attention_plot, "save", lambda figure, *rest: figures.append(figure) or save(figure, *rest))

    def call(path, *options):
        code, out, err = run("attention", predicts, path, *options, "--plot", tmp_path / "map.png")
        assert (code, err) == (0, "")
        assert out.endswith(f"# wrote {tmp_path / 'map.png'}\n")
        assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
        axes = figures[-1].axes
        return [ax for ax in axes[:6] if ax.get_title()], axes[5]

    return call


def field_of(ax):
    return ax.collections[0].get_array()


def test_fields_and_maps_then_what_was_predicted_and_came(drawn, a):
    maps, key = drawn(a, *WHERE)
    assert [ax.get_title() for ax in maps[3:]] == ["predicted for\n2026-05-01 18:00", "came at\n2026-05-01 18:00"]
    ago, shares = zip(*(ax.get_title().split("\n")[1].split(", ") for ax in maps[:3]), strict=True)
    assert ago == ("12 h before", "6 h before", "now")
    assert sum(int(share.split()[0]) for share in shares) == pytest.approx(100, abs=2)
    # Twelve cells around those of the position: three positions, one more than the radius.
    part = open_fields(a)["vorticity"][:, 4:32, 8:36].values
    for ax, values in zip([*maps[:3], maps[4]], part, strict=True):
        shown = field_of(ax).reshape(28, 28)
        np.testing.assert_allclose(shown / shown.max(), values / values.max(), rtol=1e-5, atol=1e-6)
        assert ax.get_xlim() == (-22, 5)
        assert ax.get_ylim() == (29, 56)
    assert len({ax.collections[0].get_clim() for ax in maps}) == 1
    words = " ".join(text.get_text() for text in key.get_legend().get_texts())
    assert key.get_legend().get_title().get_text() == "vorticity"
    assert "4x4 cells" in words
    assert "way of the air in 6 h" in words


def test_arrows_are_ways_of_the_air(drawn, a):
    maps, _ = drawn(a, *WHERE)
    arrows = [ax.texts for ax in maps]
    assert [len(texts) for texts in arrows] == [1, 1, 0, 0, 0]
    starts = np.array([texts[0].xyann for texts in arrows[:2]])
    assert [texts[0].xy for texts in arrows[:2]] == [(-8.5, 42.5)] * 2
    wind = open_fields(a, ("u", "v")).isel(time=2, latitude=slice(16, 20), longitude=slice(20, 24)).mean()
    # Upwind, and of twelve hours twice as far as of six.
    np.testing.assert_allclose((starts[0] - starts[1]) / (starts[1] - (-8.5, 42.5)), 1.0, atol=0.1)
    assert (np.sign(starts[1] - (-8.5, 42.5)) == -np.sign([wind["u"], wind["v"]])).all()

    (quiver,) = (c for c in maps[0].collections if hasattr(c, "U"))
    winds = open_fields(a, ("u", "v")).isel(time=0)
    for i in (0, 40, 90):
        x, y = quiver.XY[i]
        here = winds.sel(latitude=y, longitude=x)
        assert quiver.V[i] == pytest.approx(float(here["v"]) * 6 * 3.6 / 111.19, rel=1e-3)
        assert quiver.U[i] == pytest.approx(float(here["u"]) * 6 * 3.6 / 111.19 / np.cos(np.deg2rad(y)), rel=1e-3)


def test_without_winds_coasts_and_what_came(drawn, tmp_path, a):
    open_fields(a).isel(time=slice(3)).drop_vars("run").to_netcdf(tmp_path / "channels.nc", engine="h5netcdf")
    maps, key = drawn(tmp_path / "channels.nc", *WHERE, "--no-coastlines", "--channel", "divergence")
    assert len(maps) == 4
    assert key.get_legend().get_title().get_text() == "divergence"
    assert not any("air" in text.get_text() for text in key.get_legend().get_texts())
    assert not any(hasattr(c, "U") for ax in maps for c in ax.collections)
    lines = [len(ax.lines) for ax in maps]
    assert lines == [2, 2, 2, 1]  # the centroid and the place, the place alone
    with_coasts, _ = drawn(tmp_path / "channels.nc", *WHERE)
    assert [len(ax.lines) for ax in with_coasts] == [n + 2 for n in lines]


def test_a_view_across_the_seam_of_a_globe(drawn, tmp_path):
    globe = write(tmp_path / "globe.nc", latitude=np.arange(87.5, -90.0, -5.0), longitude=np.arange(0.0, 360.0, 5.0))
    maps, _ = drawn(globe, "--time", "2026-05-01T12", "--point", "2.5N,0E")
    assert maps[0].get_xlim() == (-60, 75)
    values = open_fields(globe)["vorticity"][0].values
    rows = slice(16 - 12, 16 + 16)
    expected = np.concatenate((values[rows, -12:], values[rows, :16]), 1)
    shown = field_of(maps[0]).reshape(28, 28)
    np.testing.assert_allclose(shown / shown.max(), expected / expected.max(), rtol=1e-5, atol=1e-6)


@hypothesis.given(arrays(np.float64, (5, 5), elements={"min_value": 0.0, "max_value": 1.0}))
def test_half_of_a_map_is_held_by_no_fewer_positions(weights):
    hypothesis.assume(weights.sum() > 1e-6)
    inside = attention_plot._half(weights)
    assert weights[inside].sum() >= weights.sum() / 2 * (1 - 1e-9)
    least = weights[inside].min()
    assert weights[weights > least].sum() < weights.sum() / 2 * (1 + 1e-9)


def test_the_frame_of_positions_is_their_edges():
    inside = np.zeros((5, 5), bool)
    inside[2, 1:3] = True
    edges = np.arange(6.0)
    segments = {tuple(map(tuple, s)) for s in attention_plot._frame(inside, edges, 10 * edges).get_segments()}
    above_and_below = {((10.0 * j, y), (10.0 * j + 10, y)) for j in (1, 2) for y in (2.0, 3.0)}
    assert segments == above_and_below | {((x, 2.0), (x, 3.0)) for x in (10.0, 30.0)}
