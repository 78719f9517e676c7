"""``write_report``: what it writes, where, and what it refuses before any work."""

import json
import re

import pytest

from atmoloss.errors import InputError
from atmoloss.verification import evaluate_fields, report
from atmoloss.verification.metrics import METRICS
from atmoloss.verification.report import output_page, write_report
from tests.verification.conftest import FEW

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def written(truth, models, tmp_path_factory):
    """The report of two models with names that HTML and file systems could trip over."""
    named = {"<A> & B|C": models["half"], "x/10": models["noise"]}
    evaluation = evaluate_fields(truth, named, block_days=2, **FEW)
    output = tmp_path_factory.mktemp("report") / "a page.html"
    paths = write_report(evaluation, output, title="A & B", sources=[("truth", "t.nc")], command="atmoloss report --x")
    return evaluation, paths


def test_the_page_has_every_part_of_every_variable(written):
    _, paths = written
    text = re.sub(r"base64,[^\"]*", "", paths["html"].read_text(encoding="utf-8"))
    assert paths["html"].name == "a page.html"
    # Of both fields spectrum, distributions, cities, moments and example, of the kinetic energy the spectrum.
    assert text.count("<figure>") == 11
    assert text.count("<table>") == 3 + 3 + 2 + 2
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text)[:4] == ["Divergence", "Vorticity", "Kinetic energy", "AtmoDist"]
    assert "&lt;A&gt; &amp; B|C, x/10 against the truth: 24 times" in text
    assert all(f"<dt>{m.label}</dt>" in text for name, m in METRICS.items() if name != "atmodist_hours")
    assert "12 blocks of 2 d (50 draws" in text
    assert "from degree 9, wavelengths below 4.45e+03 km" in text
    assert "<dt>truth</dt><dd>t.nc</dd>" in text
    assert "<code>atmoloss report --x</code>" in text
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_figures_and_numbers_are_files_beside_it(written):
    evaluation, paths = written
    assert paths["figures"].name == "a page_figures"
    of_fields = {"spectrum": "svg", "distribution": "svg", "cities": "svg", "moments": "png", "example": "png"}
    names = {f"{kind}_{v}.{end}" for kind, end in of_fields.items() for v in ("divergence", "vorticity")}
    assert {path.name for path in paths["figures"].iterdir()} == names | {"spectrum_kinetic_energy.svg"}
    assert json.loads(paths["json"].read_text()) == evaluation.to_dict()


def test_kinetic_energy_has_tables_and_a_spectrum(truth):
    evaluation = evaluate_fields(truth, {"a": 2 * truth, "b": truth}, **FEW)
    parts = [part(evaluation, "kinetic_energy") for part in report.PARTS]
    scores, differences, spectrum = (part for part in parts if part is not None)
    assert [len(table.rows) for table in (scores, differences)] == [2, 2]
    assert ("4.00 [4.00, 4.00]", False) in scores.rows[1]
    assert spectrum.file == "spectrum_kinetic_energy.svg"


def test_a_folder_gets_a_page_of_the_usual_name(tmp_path):
    assert output_page(tmp_path) == tmp_path / "report.html"
    assert output_page(tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "report.html"
    assert output_page(tmp_path / "page.HTM") == tmp_path / "page.HTM"
    assert list(tmp_path.iterdir()) == []  # nothing is made yet


def test_places_that_cannot_be_written_to_are_refused(tmp_path, one_sentence):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for output in (tmp_path / "file" / "such" / "r.html", tmp_path / "folder.html"):
        with pytest.raises(InputError) as error:
            output_page(output)
        one_sentence(error.value, "output", "expected NAME.html or a folder")
