"""What stands beside the package: workflows, templates and recipe are well formed, and agree with the package."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from atmoloss._version import __version__
from atmoloss.cli import VERBS, build_parser

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_little_and_run_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert set(job.get("needs", "").split()) <= workflow["jobs"].keys()
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v1)", step.get("uses", "a/b@v1"))
            script = step.get("run", "true")
            assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
            for target in re.findall(r"\bmake ([a-z-]+)", script):
                assert f"\n{target}:" in makefile


def test_ci_covers_every_python_from_the_oldest_and_both_ends_of_the_versions() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    pythons = jobs["newest"]["strategy"]["matrix"]["python"]
    assert pythons[0] == oldest
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]
    assert [step["run"] for step in jobs["oldest"]["steps"] if "run" in step] == ["make test-oldest"]


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_templates(name: str) -> None:
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    assert {part["type"] for part in form["body"]} <= {"markdown", "textarea"}
    asked = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(asked)) == len(asked)


def test_the_version_stands_once_and_is_repeated_rightly() -> None:
    assert read("CITATION.cff")["version"] == __version__
    assert read("conda/recipe.yaml")["context"]["version"] == __version__
    assert json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))["version"] == __version__


def test_the_recipe_requires_what_the_package_does() -> None:
    recipe = read("conda/recipe.yaml")
    names = {"torch": "pytorch"}  # as conda-forge calls it

    def pairs(requirements: list[str]) -> set[tuple[str, str]]:
        split = (re.fullmatch(r"([\w-]+) ?>=(.*)", line) for line in requirements)
        return {(names.get(match[1], match[1]), match[2]) for match in split if match}

    expected = pairs([*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"])
    assert pairs(recipe["requirements"]["run"]) == expected
    (command,) = recipe["build"]["python"]["entry_points"]
    assert command.split(" = ") == ["atmoloss", PROJECT["scripts"]["atmoloss"]]


def test_links_of_the_page_at_pypi_are_absolute() -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook = module.PageOfPyPI(str(ROOT), {})
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    metadata: dict[str, Any] = {"urls": {"Repository": "https://github.com/o/r/"}}
    hook.update(metadata)
    page = metadata["readme"]["text"]
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) == len(re.findall(r"\]\(([^)\s]+)\)", readme))
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert f"](https://github.com/o/r/raw/v{__version__}/docs/figures/distance_vs_lag.png)" in page
    assert f"](https://github.com/o/r/blob/v{__version__}/docs/losses.md)" in page
    assert "](https://arxiv.org/abs/2202.01897)" in page

    nowhere: dict[str, Any] = {}  # a repository that nobody named is not made up
    hook.update(nowhere)
    assert nowhere["readme"] == {"content-type": "text/markdown", "text": readme}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_verb_and_option(shell: str) -> None:
    shtab = pytest.importorskip("shtab")
    script = shtab.complete(build_parser(), shell)
    assert all(verb.replace("_", "-") in script for verb in VERBS)
    assert "--push-to-hub" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
