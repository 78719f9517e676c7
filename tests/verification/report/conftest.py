"""Figures as matplotlib has them, before they become files."""

import pytest


@pytest.fixture
def drawn(monkeypatch, evaluation):
    """Call a function that draws, of the shared evaluation or another; returns its figure and its plot."""

    def call(draw, variable="vorticity", of=evaluation):
        figures = []
        module = draw.__globals__ if not hasattr(draw, "__wrapped__") else draw.__wrapped__.__globals__
        to_plot = module["to_plot"]
        monkeypatch.setitem(module, "to_plot", lambda figure, *rest: figures.append(figure) or to_plot(figure, *rest))
        plot = draw(of, variable)
        return figures[-1], plot

    return call
