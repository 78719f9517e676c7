"""What every page for people keeps to: links lead somewhere, commands exist, terms are spelt out where first used.

``make docs`` builds the site of the pages, and takes every warning for an error.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import atmoloss
import atmoloss.data
import atmoloss.verification
from atmoloss.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CODE_OF_CONDUCT.md",
        "docs/*.md",
        "docs/tutorials/*.ipynb",
        "examples/*/README.md",
        "benchmarks/*/README.md",
        "weights/*/README.md",
    )
    for path in ROOT.glob(pattern)
)


def text_of(page: str) -> str:
    """Text of a page; of a notebook that of its text cells."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if not page.endswith(".ipynb"):
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


TEXT = {page: text_of(page) for page in PAGES}


def anchors(text: str) -> set[str]:
    """Anchors that the headings of a page have, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", TEXT[page]):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


RESULTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*/results/*.md"))


@pytest.mark.parametrize("page", [*PAGES, *RESULTS])
def test_every_row_belongs_to_a_table(page: str) -> None:
    """Rows without a head, after an empty line, are shown as they are typed."""
    prose = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for rows in re.findall(r"(?:^\|.*\n?)+", prose, re.MULTILINE):
        assert re.fullmatch(r"\|(?: ?:?-+:? ?\|)+", rows.splitlines()[1]), rows[:80]


@pytest.mark.parametrize("page", PAGES)
def test_the_lag_2afc_is_spelt_out_where_it_first_stands(page: str) -> None:
    first = re.search(r"lag\s+2AFC", TEXT[page], re.IGNORECASE)
    if first:
        assert re.match(r"\s\(two-alternative\s+forced\s+choice", TEXT[page][first.end() :])


def run_code(page: str) -> dict[str, Any]:
    """Run the Python of a page as it stands, block after block, and return what it names."""
    pytest.importorskip("h5netcdf")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT[page], re.DOTALL):
        exec(code, names)
    return names


def test_code_of_the_page_on_the_loss_runs() -> None:
    names = run_code("docs/loss.md")
    assert names["prediction"].grad.isfinite().all()
    assert names["value"] > 0
    assert names["matrix"].shape == (8, 8)
    # Of a network on normalised fields the loss is of order 1, and the same without the way to physical units.
    loss, target = names["loss"], names["fields"][1:]
    value = float(loss(names["forecast"], target))
    assert 0.1 < value < 10
    assert max(float(p.grad.abs().max()) for p in names["network"].parameters()) > 0
    assert names["score"] > 0
    steps = {int(state["step"]) for state in names["optimizer"].state.values()}
    assert steps == {len(names["train"]) // 4}  # batches of two, two at a time
    plain = atmoloss.AtmoDistLoss(sharp=True, normalization=None)
    assert float(plain(names["output"], loss.normalization(target))) == pytest.approx(value, rel=1e-3)


def test_code_of_the_page_on_scores_runs() -> None:
    names = run_code("docs/score.md")
    assert names["by_lead"].dims == ("lead_time",)
    assert float(names["by_lead"][0]) == 0
    assert (names["by_lead"].diff("lead_time") > 0).all()
    assert names["where"].sizes == {"latitude": 68, "longitude": 196}
    assert float(names["where"].mean()) == pytest.approx(
        float(names["distance"].isel(init_time=0, lead_time=2)), rel=0.2
    )
    assert names["found"].indices[0].tolist()[:1] == [20]
    assert names["matrix"].dims == ("time", "other_time")


def test_code_of_the_page_on_verification_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands; the blurred fields have less power, and the page is there."""
    for extra in ("matplotlib", "scipy"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    names = run_code("docs/verification.md")
    assert names["spectrum"].value > 1
    assert names["distance"].value > 0
    assert (tmp_path / "report.html").is_file()


def verbs() -> dict[str, set[str]]:
    """Verb → its options."""
    (subparsers,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name: set(verb._option_string_actions) for name, verb in subparsers.choices.items()}


def commands(text: str) -> list[str]:
    """Lines of code and code within lines that call something, continued lines joined, comments cut off."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = re.findall(r"^ {4}(.*)$", joined, re.MULTILINE) + re.findall(r"`([^`]+)`", joined)
    return [re.split(r"\s+#\s", line)[0].replace("\n", " ").strip() for line in lines]


def missing_in(command: str, known: dict[str, set[str]]) -> list[str]:
    """Verbs, options, scripts and modules that a command names and that are not there."""
    missing = []
    called = re.search(r"(?:\batmoloss |-m atmoloss\.)([a-z][a-z-]*)\b(.*)", command)
    if called and not command.startswith(("pip", "import", "from")):
        verb, rest = called.groups()
        missing += [f"verb {verb}"] if verb not in known else []
        missing += [option for option in re.findall(r"--[a-z][a-z-]*", rest) if option not in known.get(verb, {option})]
    for script in re.findall(r"python (?:-m pytest )?([\w/]+\.py)\b", command):
        missing += [] if (ROOT / script).is_file() else [script]
    for module in re.findall(r"python -m ((?:srgan|inpainting)\.\w+)", command):
        missing += [] if (ROOT / "examples" / f"{module.replace('.', '/')}.py").is_file() else [module]
    for target in re.findall(r"^make ([a-z-]+)", command):
        missing += [] if f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8") else [f"target {target}"]
    for test in re.findall(r"\b(tests/[\w/]+(?:\.py)?)", command):
        missing += [] if (ROOT / test).exists() or test.endswith("test_x.py") else [test]
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page: str) -> None:
    known = verbs()
    assert [(c, missing) for c in commands(TEXT[page]) if (missing := missing_in(c, known))] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    known = verbs()
    text = "    atmoloss train my.toml --stepps 4\nand `make nothing`, `python benchmarks/no.py`, `atmoloss fly a.nc`\n"
    assert [missing_in(c, known) for c in commands(text)] == [
        ["--stepps"],
        ["target nothing"],
        ["benchmarks/no.py"],
        ["verb fly"],
    ]


@pytest.mark.parametrize("page", PAGES)
def test_no_words_that_only_the_developers_know(page: str) -> None:
    prose = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|\S+\.md", "", TEXT[page])
    found = re.findall(r"\b(?:teachers?|arms?|checkerboards?|break-even|[Ii]ssue \d+|DESIGN\.md|DATA\.md)\b", prose)
    assert not found


RUNS = {
    page: block for page in PAGES if (block := "".join(re.findall(r"<!-- runs -->\n\n((?: {4}.*\n)+)", TEXT[page])))
}


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNS)
def test_commands_marked_as_running_run_from_a_clone_alone(page: str, tmp_path: Path) -> None:
    """Those of a block under the comment ``runs``, without the data that lie beside a repository."""
    (tmp_path / "atmoloss").symlink_to(ROOT / "atmoloss")
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("runs", "*.nc"))
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    commands = textwrap.dedent(RUNS[page])
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_commands_marked_as_running() -> None:
    pages = {"docs/scale.md", "docs/training.md", "examples/inpainting/README.md", "examples/srgan/README.md"}
    assert pages <= RUNS.keys()


PUBLIC = {
    "atmoloss": atmoloss.__all__,
    "atmoloss.data": atmoloss.data.__all__,
    # Of its sub-packages and functions only what the module itself re-exports.
    "atmoloss.verification": re.findall(r" as (\w+)$", inspect.getsource(atmoloss.verification), re.MULTILINE),
}


@pytest.mark.parametrize("name", [f"{module}.{name}" for module, names in PUBLIC.items() for name in names])
def test_the_reference_has_every_public_name_and_its_docstring(name: str) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "api").glob("*.rst")))
    assert re.search(rf"^\.\. auto(class|function):: {re.escape(name)}$", text, re.MULTILINE)
    module, _, last = name.rpartition(".")
    assert inspect.getdoc(getattr(__import__(module, fromlist=[last]), last))


def test_the_site_has_every_page_in_its_navigation() -> None:
    """Sphinx finds pages that no table of contents has; GitHub's readers need the links of the list as well."""
    text = TEXT["docs/index.md"]
    trees = "".join(re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL))
    inside = {re.sub(r"^docs/|\.(md|ipynb)$", "", page) for page in PAGES if page != "docs/index.md"}
    named = set(re.findall(r"<(?:\.\./)?([^>]+)>", trees))
    assert inside <= named
    linked = {re.sub(r"\.(md|rst|ipynb)$", "", link).removeprefix("../") for link in re.findall(r"\]\(([^)#]+)", text)}
    assert named <= linked
