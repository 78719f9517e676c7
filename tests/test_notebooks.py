"""A test of the whole package: the tutorials run from a clone alone, and their outputs are those of their code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.test_readme import rows_in

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
SPEC = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
assert SPEC
assert SPEC.loader
execute = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(execute)

NAMES = ["score", "gan", "own_variables", "similar", "attention"]
QUICK = {"score", "similar"}  # seconds; the others train
MAX_BYTES = 250_000


def read(name: str) -> NotebookNode:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    nbformat.validate(notebook)
    return notebook


def kinds(notebook: NotebookNode) -> dict[str, list[str]]:
    """Cell of code → what its outputs are: streams by name, data by their types."""
    return {
        cell.id: [out.get("name") or ", ".join(sorted(out.get("data", [out.output_type]))) for out in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def test_there_is_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_small_and_those_of_the_code(name: str) -> None:
    notebook = read(name)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MAX_BYTES
    assert notebook.metadata.code_sha256 == execute.digest(notebook), "run make notebooks"
    made = kinds(notebook)
    assert {out for outs in made.values() for out in outs}.isdisjoint({"error", "stderr"})  # nor a warning
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert ("image/png, text/plain" in made[cell.id]) == ("plt.show()" in cell.source), cell.id
            assert "print(" not in cell.source or "stdout" in made[cell.id], cell.id
            assert all(len(line) <= 120 for line in cell.source.splitlines()), cell.id


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_described(name: str) -> None:
    drawn = [cell for cell in read(name).cells if "plt.show()" in cell.source]
    assert drawn
    assert all(len(cell.metadata["mystnb"]["image"]["alt"]) > 40 for cell in drawn)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_runs_from_a_clone_alone_and_makes_the_same_kinds_of_output(name: str) -> None:
    notebook = read(name)
    assert kinds(execute.execute(notebook)) == kinds(notebook)


def test_the_table_of_a_winter_is_that_of_the_benchmark() -> None:
    page = FOLDER.parents[1] / "benchmarks" / "downstream" / "results" / "own_variables.md"
    vorticity, pressure = map(rows_in, page.read_text(encoding="utf-8").split("\n## ")[1:])
    cell = next(c for c in read("own_variables").cells if c.id == "a-winter")
    assert rows_in(cell.source) == {name: [pressure[name][0], vorticity[name][0]] for name in pressure}


def test_other_code_has_another_digest() -> None:
    notebook = read(NAMES[0])
    cell = next(c for c in notebook.cells if c.cell_type == "code")
    cell.source += "\n"
    assert execute.digest(notebook) != notebook.metadata.code_sha256


@pytest.mark.parametrize(
    ("code", "message"), [("1 / 0", "ZeroDivisionError"), ("open('left', 'w').close()", "left behind: left")]
)
def test_what_fails_or_leaves_files_is_an_error(code: str, message: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    with pytest.raises(Exception, match=message):
        execute.execute(notebook)


def test_times_of_a_training_are_taken_out() -> None:
    log = "step 2 of 4: loss 1.5, seconds_per_step 0.31\nstep 4 of 4: winds 0.9\n"
    output = nbformat.v4.new_output("stream", text=log)
    execute.trim(output)
    assert output.text == "step 2 of 4: loss 1.5\nstep 4 of 4: winds 0.9\n"
