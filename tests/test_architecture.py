"""``docs/architecture.md`` is what the code is: its files, their layers, and who imports whom."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "atmoloss"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def layers_of_page() -> dict[str, int]:
    """File → number of the section whose table names it."""
    sections = re.findall(r"^### (\d+)\. .*?\n(.*?)(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    named = [(f, int(number)) for number, text in sections for f in re.findall(r"^\| `(.*?)` \|", text, re.MULTILINE)]
    assert len({file for file, _ in named}) == len(named), "a file stands in the page twice"
    return dict(named)


def file_of(module: str) -> str | None:
    """File of a module of the package, by its dotted name."""
    path = module.removeprefix("atmoloss").removeprefix(".").replace(".", "/")
    return next((f for f in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if f in FILES), None)


def imports_of(source: str) -> Iterator[str]:
    """Files of the package that a module imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            # What is imported is a module of the package, or a name in one.
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.append(full if file_of(full) else str(node.module))
        for name in names:
            if name.partition(".")[0] == "atmoloss":
                yield file_of(name) or pytest.fail(f"no module {name}")


IMPORTS = {file: set(imports_of(path.read_text(encoding="utf-8"))) for file, path in FILES.items()}


def wrong_imports(imports: dict[str, set[str]]) -> list[str]:
    """Imports from a layer further down in the page; files that it does not name are another test's concern."""
    layer = layers_of_page()
    pairs = [(a, b) for a, others in imports.items() for b in sorted(others) if a in layer and b in layer]
    return [f"{a} imports {b}" for a, b in pairs if layer[b] > layer[a]]


def test_every_file_stands_in_the_page_and_no_other() -> None:
    assert set(layers_of_page()) == set(FILES)


WITHOUT_BEHAVIOUR = {"__init__.py", "__main__.py", "_version.py", "data/sequence_spec.py"}
# Of several modules together; CONTRIBUTING names those of the whole package.
WHOLE = {"architecture", "arguments", "demo", "docs", "export", "golden", "lightning", "modes", "notebooks", "readme"}


def test_every_file_has_its_tests_and_every_file_of_tests_a_file() -> None:
    tests = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    # In integrations/ stand also programs that need no file of ours.
    apart = ("benchmarks/", "examples/", "integrations/", "packaging/", "parity/")
    names = {f: f.removesuffix("/__init__.py") if f.endswith("/__init__.py") else f for f in FILES}
    of_package = {f: f"{name}/test_{Path(name).name}.py" for f, name in names.items() if name != f}
    of_file = {f: (Path(f).parent / f"test_{Path(f).name}").as_posix() for f in FILES}
    missing = [f for f in FILES if of_file[f] not in tests and f not in WITHOUT_BEHAVIOUR and f not in of_package]
    assert missing == []
    known = {*of_file.values(), *of_package.values(), *(f"test_{name}.py" for name in WHOLE)}
    assert sorted(t for t in tests - known if not t.startswith(apart)) == []


def test_no_file_imports_from_a_later_layer() -> None:
    assert not wrong_imports(IMPORTS)


def test_no_files_import_each_other_in_a_circle() -> None:
    graphlib.TopologicalSorter(IMPORTS).prepare()  # raises CycleError, which names the files


def test_what_breaks_the_rule_is_found() -> None:
    """In a function, under TYPE_CHECKING, as a module of a package or as a name."""
    for statement in (
        "from atmoloss.data import sources",
        "from atmoloss import AtmoDistLoss",
        "import atmoloss.cli.info",
    ):
        source = f"if TYPE_CHECKING:\n    def f():\n        {statement}\n"
        assert len(wrong_imports({"loss.py": set(imports_of(source))})) == 1


def test_files_that_the_page_names_exist() -> None:
    named = set(re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)`", PAGE))
    assert not [path for path in named if not (PACKAGE / path).is_file() and not (ROOT / path).is_file()]


def test_dotted_names_of_the_page_are_defined_where_it_says() -> None:
    """``module.name`` and ``module.Class.name``."""
    rooms = {file.partition("/")[0].removesuffix(".py") for file in FILES}
    names = {n for n in re.findall(r"`((?:\w+\.)+\w+)`", PAGE) if n.split(".")[0] in rooms and not n.endswith(".py")}
    assert "training.lag.LagTrainer" in names
    for name in names:
        parts = name.split(".")
        split = max(end for end in range(len(parts)) if file_of(".".join(["atmoloss", *parts[:end]])))
        text = FILES[str(file_of(".".join(["atmoloss", *parts[:split]])))].read_text(encoding="utf-8")
        assert split, name
        assert [part for part in parts[split:] if not re.search(rf"\b{part}\b", text)] == [], name
