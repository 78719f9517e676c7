"""What plots share: units, colours, and files that are the same each time."""

import numpy as np
import pytest

from atmoloss.verification.report.drawing import drawn_from, panels, pretty_units, raised, readable, style, to_plot

pytest.importorskip("matplotlib")


def test_units_for_people():
    assert raised(-5) == "⁻⁵"
    assert pretty_units("s-1") == "s⁻¹"
    assert pretty_units("(m s-1)2") == "(m s⁻¹)²"
    assert pretty_units("(s-1)-1") == "(s⁻¹)⁻¹"


@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        ([3e-5, np.nan], "s-1", (1e5, "10⁻⁵ s⁻¹")),
        ([-2e4], "Pa", (1e-4, "10⁴ Pa")),
        ([0.01, 9999.0], "K", (1.0, "K")),
        ([0.0], "1", (1.0, "")),
        ([1e-3], "1", (1e3, "10⁻³")),
        ([], "m", (1.0, "m")),
    ],
)
def test_readable_values(values, units, expected):
    factor, unit = readable(values, units)
    assert (factor, unit) == (pytest.approx(expected[0]), expected[1])


def test_every_data_set_has_a_look_of_its_own():
    models = [f"m{i}" for i in range(6)]
    looks = [style(models, name) for name in ("truth", *models)]
    assert len({look["color"] for look in looks}) == 7
    assert len({str(look.get("linestyle")) for look in looks}) == 7
    assert style([*models, "seventh"], "seventh") == style(models, "m0")


@pytest.mark.parametrize(("file", "start"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_a_picture_is_of_the_type_of_its_name_and_the_same_again(evaluation, file, start):
    @drawn_from("spectrum")
    def draw(evaluation, variable):
        figure, axes = panels(1, 2, 2.0)
        axes[0, 1].plot([1, 2, 3])
        return to_plot(figure, file, "caption", "alt")

    first, second = draw(evaluation, "vorticity"), draw(evaluation, "vorticity")
    assert first == second
    assert first.data.startswith(start)


def test_nothing_is_drawn_of_a_curve_that_is_not_there(evaluation):
    assert drawn_from("wasserstein")(pytest.fail)(evaluation, "kinetic_energy") is None
