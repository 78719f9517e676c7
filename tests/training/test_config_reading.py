"""From plain values to a dataclass, and from docstrings to help."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from atmoloss.errors import ConfigError
from atmoloss.training.config_reading import (
    Key,
    build_dataclass,
    check_choice,
    check_lowest,
    describe_keys,
    parse_overrides,
    read_values,
)


def test_overrides_are_toml_or_text():
    assert parse_overrides(["steps=5", "mirror=false", "patch_sizes=[32, 64]", "name=abc", "learning_rate=1e-3"]) == {
        "steps": 5,
        "mirror": False,
        "patch_sizes": [32, 64],
        "name": "abc",
        "learning_rate": 1e-3,
    }
    with pytest.raises(ConfigError, match="expected key=value"):
        parse_overrides(["steps"])


@dataclasses.dataclass(frozen=True)
class Inner:
    """One table.

    Attributes:
        size: of it, see :class:`atmoloss.data.Thing` and ``this``.
    """

    size: float
    kind: Literal["a", "b"] | float = "a"


@dataclasses.dataclass(frozen=True)
class Outer:
    """What is described.

    Attributes:
        tables: of another class,
            over two lines.
        pair: of numbers.
        extra: anything.
    """

    tables: tuple[Inner, ...] = ()
    pair: tuple[int, int] | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def test_plain_values_become_the_types_of_the_keys():
    built = build_dataclass(Outer, {"tables": [{"size": 2, "kind": 3}], "pair": None, "extra": {"a": [1]}})
    assert built == Outer((Inner(2.0, 3.0),), None, {"a": [1]})
    assert isinstance(built.tables[0].size, float)
    assert build_dataclass(Inner, {"size": 1.5, "kind": "b"}) == Inner(1.5, "b")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tables": [{"size": True}]}, "tables.size: got True, expected a number"),
        ({"tables": [{"size": 1, "kind": "c"}]}, "tables.kind: got 'c', expected 'a', 'b' or a number"),
        ({"tables": [{}]}, "tables.size: is missing"),
        ({"extra": [1]}, "extra: got [1], expected a table"),
        ({"tabels": []}, "tabels: is no key of the configuration; did you mean tables?"),
    ],
)
def test_other_values_are_refused(values, says):
    with pytest.raises(ConfigError) as error:
        build_dataclass(Outer, values)
    assert str(error.value) == says


def test_docstrings_become_help():
    assert describe_keys(Outer) == [
        Key("What is described.", "tables", "tables", "[]", "of another class, over two lines."),
        Key("What is described.", "pair", "a list of 2 values", "none", "of numbers."),
        Key("What is described.", "extra", "a table", "{}", "anything."),
        Key("One table.", "tables.size", "a number", "must be given", "of it, see `Thing` and `this`."),
    ]


def test_paths_of_sources_are_relative_to_the_file(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[[sources]]\npath = "a.nc"\n[[sources]]\npath = "/b.nc"\n[[sources]]\npath = "gs://c"\n'
    )
    paths = [source["path"] for source in read_values(tmp_path / "c.toml")["sources"]]
    assert paths == [str(tmp_path / "a.nc"), "/b.nc", "gs://c"]


def test_choices_and_lowest_values():
    inner = Inner(1.0, "b")
    check_choice(inner, kind=("a", "b"))
    check_lowest(inner, size=1)
    with pytest.raises(ConfigError, match="kind: got 'b', expected one of a, c"):
        check_choice(inner, kind=("a", "c"))
    with pytest.raises(ConfigError, match=r"size: got 1\.0, expected at least 2"):
        check_lowest(inner, size=2)
