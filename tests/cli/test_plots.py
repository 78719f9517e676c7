"""What the pictures of ``atmoloss distance --plot`` show, read back from their axes."""

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss
from atmoloss.cli import plots
from atmoloss.data import open_fields
from tests.cli.conftest import TIMES, rows, write

pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(run, tmp_path, monkeypatch):
    """Run the command with ``--plot``; returns the axes and the printed table."""
    figures = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, *rest: figures.append(figure) or save(figure, *rest))

    def call(*arguments):
        code, out, err = run("distance", *arguments, "--plot", tmp_path / "picture.svg")
        assert (code, err) == (0, "")
        assert (tmp_path / "picture.svg").read_bytes().startswith(b"<?xml")
        return figures[-1].axes[0], rows(out)[1:]

    return call


def test_a_series(drawn, a, b):
    axes, table = drawn(a, b)
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), TIMES)
    np.testing.assert_allclose(line.get_ydata(), [float(row[1]) for row in table], rtol=1e-4)
    assert axes.get_ylim()[0] == 0 < max(line.get_ydata()) < axes.get_ylim()[1]
    assert axes.get_ylabel() == "distance"


def test_series_by_lead_time_have_a_band_each_where_there_is_an_interval(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, *_: figures.append(figure))
    series = {"a": np.array([[1.0, 2.0], [0.5, 1.5], [1.5, 3.0]]), "b": np.array([[2.0, 4.0], *[[np.nan] * 2] * 2])}
    plots.draw_series("", "", x=np.array([6.0, 12.0]), series=series, name="hours")
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_legend().texts] == ["a", "b"]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 2], [2, 4]]
    (band,) = axes.collections
    assert band.get_paths()[0].get_extents().get_points().tolist() == [[6, 0.5], [12, 3]]
    assert axes.get_ylim() == (0, pytest.approx(1.08 * 4))
    assert axes.get_ylabel() == "equivalent lag [h], mean over runs, 95 %"


def test_a_matrix(drawn, a, b):
    axes, table = drawn(a, b, "--matrix")
    values = np.array([row[1:] for row in table], float)
    np.testing.assert_allclose(axes.images[0].get_array(), values, rtol=1e-4)
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(t)[:16].replace("T", " ") for t in TIMES]


def test_a_map_shows_where_two_fields_differ_and_is_blank_where_one_has_no_value(drawn, extractor, tmp_path):
    a, b = (write(tmp_path / f"{i}.nc", TIMES[:1], seed=i) for i in (0, 1))
    axes, table = drawn(a, b)
    whole = axes.collections[0].get_array().reshape(40, 48)
    fields = [torch.from_numpy(open_fields(path).to_array().values).transpose(0, 1) for path in (a, b)]
    expected = AtmoDistLoss(extractor, mse_weight=0.0).spatial(*fields)
    np.testing.assert_allclose(whole, expected[0, 0], rtol=1e-4, atol=1e-5 * float(expected.max()))
    when, _, value = axes.get_title().partition(": ")
    assert (when, float(value)) == ("2026-05-01T00:00", pytest.approx(float(table[0][1]), rel=1e-3))
    np.testing.assert_array_equal(axes.get_xlim(), (-30.5, 17.5))
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(a) as data:
        holes = data.load()
    holes["u"][0, 10:20, 5:9] = np.nan
    holes.to_netcdf(tmp_path / "holes.nc", engine="h5netcdf")
    axes, _ = drawn(tmp_path / "holes.nc", b, "--missing", "ignore")
    values = axes.collections[0].get_array().reshape(40, 48).filled(np.nan)
    assert np.isnan(values[10:20, 5:9]).all()
    assert np.isfinite(values[30:, 20:]).all()
