"""What every page for people keeps to: links lead somewhere, commands exist, terms are spelt out where first used."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from atmoloss.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/*.md",
        "examples/*/README.md",
        "benchmarks/*/README.md",
        "weights/*/README.md",
    )
    for path in ROOT.glob(pattern)
)
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


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


@pytest.mark.parametrize("page", PAGES)
def test_the_lag_2afc_is_spelt_out_where_it_first_stands(page: str) -> None:
    first = re.search(r"lag\s+2AFC", TEXT[page], re.IGNORECASE)
    if first:
        assert re.match(r"\s\(two-alternative\s+forced\s+choice", TEXT[page][first.end() :])


def test_code_of_the_page_on_scores_runs() -> None:
    """As it stands, block after block; what it says of the result holds."""
    pytest.importorskip("h5netcdf")
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", TEXT["docs/score.md"], re.DOTALL):
        exec(code, names)
    assert names["by_lead"].dims == ("lead_time",)
    assert float(names["by_lead"][0]) == 0
    assert (names["by_lead"].diff("lead_time") > 0).all()
    assert names["where"].sizes == {"latitude": 68, "longitude": 196}
    assert names["found"].indices[0].tolist()[:1] == [20]


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
