"""The command and its page: complete, self-contained, and the same scores as the functions."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from atmoloss.cli import main
from atmoloss.cli.report_fields import interpolate_to
from atmoloss.data import open_fields
from atmoloss.verification import evaluate_fields, report
from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report.tables import difference_table, score_table
from atmoloss.verification.results import Difference, Evaluation, Score
from tests.verification.conftest import TIMES, axes, band_limited, field, xarray

pytest.importorskip("matplotlib")
pytest.importorskip("h5netcdf")


def winds(n_rows=36, n=12):
    latitude, longitude = axes("half a step", n_rows)
    power = np.where(np.arange(16) > 0, 10.0, 0)
    times = TIMES[0] + np.arange(n) * np.timedelta64(1, "D")
    fields = {
        name: field(
            band_limited(power, latitude, longitude, seed=i, n_times=n), latitude, longitude, "m s-1", name, times
        )
        for i, name in enumerate("uv")
    }
    return xarray.Dataset(fields)


class Page(HTMLParser):
    """Collects tags, pictures and addresses; knows whether every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "action", "data")]
        if tag == "img":
            self.images.append(attrs)
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    data = winds()
    data.to_netcdf(path / "truth.nc", engine="h5netcdf")
    smoothed = (data + data.roll(longitude=1) + data.roll(longitude=-1)) / 3
    for name, model in (("a", smoothed), ("b", 1.1 * data)):
        for variable in model:
            model[variable].attrs = data[variable].attrs
        model.to_netcdf(path / f"{name}.nc", engine="h5netcdf")
    coarse = data.coarsen(latitude=4, longitude=4).mean()
    coarse.to_netcdf(path / "coarse.nc", engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def pages(folder, tmp_path_factory):
    """The report of two models and their input; model names that HTML and Markdown could trip over."""
    out = tmp_path_factory.mktemp("report")
    files = ["<A> & B|C=" + str(folder / "a.nc"), "x10=" + str(folder / "b.nc"), "--coarse", str(folder / "coarse.nc")]
    files += ["--variables", "vorticity"]
    assert (
        main(["report", str(folder / "truth.nc"), *files, "--output", str(out), "--draws", "50", "--block-days", "2"])
        == 0
    )
    return out


def test_the_page_needs_nothing_else(pages):
    text = (pages / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert "script" not in page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.images) == 5  # spectrum, distributions, cities, moments, example
    assert all(len(image["alt"]) > 20 for image in page.images)
    assert page.tags.count("table") == page.tags.count("caption") == 3
    assert 'name="viewport"' in text
    assert "@media print" in text
    assert "&lt;A&gt; &amp; B|C" in text
    assert "--block-days 2" in text  # the command
    assert not re.search(r"\bnan\b|\binf\b", re.sub(r"base64,[^\"]*", "", text))


def test_markdown_has_its_figures(pages):
    text = (pages / "report.md").read_text(encoding="utf-8")
    files = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(files) == 5
    assert all((pages / file).stat().st_size > 1000 for file in files)
    assert {(pages / "report_figures" / f.name) for f in (pages / "report_figures").iterdir()} == {
        pages / f for f in files
    }
    for row in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in row.splitlines()}
        assert len(columns) == 1, row


def test_the_numbers_are_those_of_the_function(pages, folder):
    result = json.loads((pages / "report.json").read_text())
    truth, a = (open_fields(folder / f"{name}.nc", "vorticity") for name in ("truth", "a"))
    settings = result["settings"]
    assert settings["unresolved_from_degree"] == pytest.approx(180 / 20)  # of the coarse grid of 20 degrees
    expected = evaluate_fields(truth, {"a": a}, unresolved_from=9, block_days=2, n_bootstrap=50)
    own = {(s["variable"], s["metric"]): s["value"] for s in result["scores"] if s["model"] == "<A> & B|C"}
    for s in expected.scores:
        if "tail" not in s.metric:  # whose bins span all models
            assert own[s.variable, s.metric] == pytest.approx(s.value, rel=1e-9), s
    assert settings["models"] == ["<A> & B|C", "x10", "coarse"]
    louder = [s for s in result["scores"] if (s["model"], s["metric"]) == ("x10", "unresolved_power")]
    assert [s["value"] for s in louder] == pytest.approx([1.21], rel=1e-3)


def test_kinetic_energy_has_tables_and_a_spectrum_that_is_the_same_again():
    data = winds()
    pictures = []
    for _ in range(2):
        evaluation = evaluate_fields(data, {"a": 2 * data, "b": data}, n_bootstrap=20, n_samples=50)
        parts = [part(evaluation, "kinetic_energy") for part in report.PARTS]
        scores, differences, spectrum = (part for part in parts if part is not None)
        assert [len(table.rows) for table in (scores, differences)] == [2, 2]
        assert ("4.00 [4.00, 4.00]", False) in scores.rows[1]
        pictures.append(spectrum.data)
    assert pictures[0] == pictures[1]


def test_interpolation_of_the_input_is_exact_for_what_is_linear():
    fine, coarse = (xarray.Dataset({"u": linear(*axes("half a step", n))}) for n in (36, 9))
    result = interpolate_to(coarse, fine)["u"]
    inner = abs(fine.latitude) <= 80
    # Linear in latitude; cos λ is interpolated along chords between columns that are 20 degrees apart.
    np.testing.assert_allclose(result.where(inner), fine["u"].where(inner), atol=1.6e-2 * 2)
    zonal = result - result.mean("longitude")
    assert float(abs(zonal.diff("longitude")).max()) < 2 * np.deg2rad(5) * 1.01  # no jump where the grid closes


def linear(latitude, longitude):
    values = latitude[:, None] / 90 + 2 * np.cos(np.deg2rad(longitude))
    return field(values, latitude, longitude, "m s-1", "u")


def test_errors_come_before_the_work_and_in_one_line(folder, tmp_path, capsys):
    truth, a = str(folder / "truth.nc"), str(folder / "a.nc")
    later = xarray.open_dataset(a).load()
    later = later.assign_coords(time=later.time + np.timedelta64(1000, "D"))
    later.to_netcdf(tmp_path / "later.nc", engine="h5netcdf")
    cases = [
        ([truth, f"A={a}", "--output", str(tmp_path / "later.nc" / "such" / "r.html")], "output"),
        ([truth, f"A={a}", f"A={a}"], "'A'"),
        ([truth, f"truth={a}"], "'truth'"),
        ([truth, f"A={tmp_path / 'later.nc'}"], "time in common"),
        ([truth, f"A={a}", "--coarse", str(tmp_path / "later.nc")], "time in common"),
        ([truth, f"A={a}", "--block-days", "0"], "block_days"),
    ]
    for arguments, word in cases:
        assert main(["report", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert word in err
    with pytest.raises(SystemExit) as exit_:
        main(["report", truth, "nonsense"])
    assert exit_.value.code == 2
    assert "NAME=FILE" in capsys.readouterr().err


def test_the_folders_of_the_output_are_made(folder, tmp_path):
    arguments = ["report", str(folder / "truth.nc"), f"A={folder / 'a.nc'}", "--variables", "vorticity", "--draws", "2"]
    for output, page in (("no/such/r.html", "no/such/r.html"), ("nor/this", "nor/this/report.html")):
        assert main([*arguments, "--output", str(tmp_path / output)]) == 0
        assert (tmp_path / page).is_file()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [2.5e-5, 0.004, 3.0, 7e5])
def test_only_units_of_a_field_have_powers_of_ten(metric, size):
    """Beside an ideal of 1 or 0 dB a value of 0.004 is not 4.00 in units of 10⁻³, nor is a difference of logarithms."""
    known = METRICS[metric]
    scores = [Score("u", metric, "a", size, 0.9 * size, 1.1 * size, known.units or "m s-1")]
    differences = [Difference("u", metric, "a", "b", -size, -1.1 * size, -0.9 * size, known.units or "m s-1")]
    settings = {"n_times": 12, "first_time": "", "last_time": ""}
    evaluation = Evaluation(tuple(scores), tuple(differences), {}, ("a",), settings, ())
    for table, sign in ((score_table(evaluation, "u"), 1), (difference_table(evaluation, "u"), -1)):
        (row,) = table.rows
        unit, printed = row[1][0], row[-1][0]
        power = re.match(r"10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+) ", unit)
        assert bool(power) == (known.units is None and size != 3.0)
        factor = 10.0 ** int(power[1].translate(_LOWERED)) if power else 1.0
        shown = re.fullmatch(r"(\S+) \[\S+, \S+\](?: ×10(\S+))?", printed)
        factor *= 10.0 ** int(shown[2].translate(_LOWERED)) if shown[2] else 1.0
        assert float(shown[1].replace("−", "-")) * factor == pytest.approx(sign * size, rel=5e-3)
        if known.scale != "difference":
            assert unit == ("ratio" if sign > 0 else "ln of ratio")


_LOWERED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
