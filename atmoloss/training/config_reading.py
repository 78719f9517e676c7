"""From plain values (TOML, JSON, the command line) to a configuration dataclass, and from its docstrings to help."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import os
import re
import textwrap
import tomllib  # type: ignore[import-not-found,unused-ignore]  # while mypy checks for Python 3.10
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atmoloss.errors import ConfigError

_T = TypeVar("_T")
_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def read_values(path: Path) -> dict[str, Any]:
    """Read the plain values of a TOML file or of the ``metrics.json`` of a weights folder.

    Relative source paths become absolute: they are relative to the folder of the file.

    Raises:
        ConfigError: neither TOML nor a ``metrics.json``.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = dict(json.loads(text)["config"]) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"config: {path} cannot be read: {error}") from error
    for source in values.get("sources", []):
        if isinstance(source, dict) and "://" not in str(source.get("path", "")):
            source["path"] = os.path.abspath(path.parent / str(source.get("path", "")))
    return values


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` texts from the command line; the value is TOML, or plain text.

    Raises:
        ConfigError: no ``=``.
    """
    out: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set: got {text!r}, expected key=value")
        try:
            out[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            out[key.strip()] = value
    return out


def build_dataclass(kind: type[_T], values: Mapping[str, Any], prefix: str = "") -> _T:
    """Build a dataclass from plain values, checking names and types; tuples of dataclasses are lists of tables.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of the wrong kind.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(fields)}"
            raise ConfigError(f"{prefix}{key}: is no key of the configuration; {expected}")
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{prefix}{name}: is missing")
    hints = get_type_hints(kind)
    return kind(**{key: _convert(prefix + key, hints[key], value) for key, value in values.items()})


def _convert(key: str, hint: Any, value: Any) -> Any:
    """Return a plain value as the type of its key."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and types.NoneType in get_args(hint):
            return None
        fitting = [kind for kind in get_args(hint) if _fits(kind, value)]
        if not fitting:
            raise ConfigError(f"{key}: got {value!r}, expected {_described_type(hint)}")
        return value if get_origin(fitting[0]) is Literal else fitting[0](value)
    if hint in _KINDS:
        if not _fits(hint, value):
            raise ConfigError(f"{key}: got {value!r}, expected {_described_type(hint)}")
        return hint(value)
    if get_origin(hint) is tuple:
        item, length = get_args(hint)[0], len(get_args(hint))
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}: got {value!r}, expected {_described_type(hint)}")
        if Ellipsis not in get_args(hint) and len(value) != length:
            raise ConfigError(f"{key}: got {value!r}, expected {length} values")
        return tuple(_convert(key, item, v) for v in value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: got {value!r}, expected a table")
    return build_dataclass(hint, value, f"{key}.") if _is_dataclass(hint) else dict(value)


def check_choice(config: Any, **allowed: Any) -> None:
    """Raise ``ConfigError`` where a key has none of the values allowed."""
    for key, values in allowed.items():
        if getattr(config, key) not in values:
            raise ConfigError(f"{key}: got {getattr(config, key)!r}, expected one of {', '.join(values)}")


def check_lowest(config: Any, **lowest: float) -> None:
    """Raise ``ConfigError`` where a key has less than its lowest value."""
    for key, low in lowest.items():
        if getattr(config, key) < low:
            raise ConfigError(f"{key}: got {getattr(config, key)}, expected at least {low}")


def _fits(kind: Any, value: Any) -> bool:
    """Say whether a value is of a plain type, or one of a ``Literal``; true and false are no numbers."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return kind in _KINDS and isinstance(value, _KINDS[kind][1]) and (kind is bool or not isinstance(value, bool))


def _is_dataclass(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


@dataclasses.dataclass(frozen=True)
class Key:
    """What a user may set: ``section`` (the first line of the class's docstring), name, type, default, meaning."""

    section: str
    name: str
    type: str
    default: str
    meaning: str


def describe_keys(kind: type) -> Iterator[Key]:
    """Describe the keys of a configuration dataclass, those of its bases first, from the docstrings of the classes.

    A key that several classes have is described by the first of them in the order of inheritance. Keys of dataclasses
    inside come last, as ``outer.inner``.
    """
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    nested = []
    for base in reversed(kind.__mro__):
        text = _own_docstring(base)
        section, meanings = text.partition("\n")[0], _meanings(text)
        owned = [n for n in inspect.get_annotations(base) if n in fields and _owner(kind, n) is base]
        for name in owned:
            yield Key(section, name, _described_type(hints[name]), _described_default(fields[name]), meanings[name])
            nested += [(name, arg) for arg in get_args(hints[name]) if _is_dataclass(arg)]
    for name, inner in nested:
        for key in describe_keys(inner):
            yield dataclasses.replace(key, name=f"{name}.{key.name}")


def _owner(kind: type, name: str) -> type:
    """Return the class whose docstring says what a key means."""
    return next(base for base in kind.__mro__ if name in _meanings(_own_docstring(base)))


def _own_docstring(kind: type) -> str:
    return inspect.cleandoc(kind.__dict__.get("__doc__") or "")


def _meanings(docstring: str) -> dict[str, str]:
    """Read the section ``Attributes:`` of a docstring: name to meaning, as plain text with single backticks."""
    out: dict[str, str] = {}
    attributes = docstring.partition("Attributes:\n")[2]
    for names, meaning in re.findall(r"^    ([a-z_, ]+\w): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
        plain = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``(.*?)``", lambda m: f"`{m[1] or m[2]}`", meaning)
        out |= dict.fromkeys(names.split(", "), " ".join(plain.split()))
    return out


def _described_type(hint: Any) -> str:
    arguments = get_args(hint)
    if hint in _KINDS:
        return _KINDS[hint][0]
    if get_origin(hint) is tuple:
        inner = _described_type(arguments[0])
        if _is_dataclass(arguments[0]):
            return "tables"
        if Ellipsis not in arguments:
            return f"a list of {len(arguments)} values"
        return f"a list of {inner.removeprefix('a ')}s"
    if get_origin(hint) is Literal:
        return ", ".join(map(repr, arguments))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described_type(a) for a in arguments if a is not types.NoneType)
    return "a table"


def _described_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "{}"
    if field.default is dataclasses.MISSING:
        return "must be given"
    return "none" if field.default is None else json.dumps(field.default)


def keys_as_text(kind: type) -> str:
    """Return the keys of a configuration dataclass for a terminal."""
    out, section = [], ""
    for key in describe_keys(kind):
        if key.section != section:
            section = key.section
            out.append(f"\n{section}")
        out.append(f"  {key.name} ({key.type}; {key.default})")
        out.append(textwrap.fill(key.meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(out).strip() + "\n"


def keys_as_markdown(kind: type) -> str:
    """Return the same as Markdown tables, one a section, for ``docs/training.md``."""
    out, section = "", ""
    for key in describe_keys(kind):
        if key.section != section:
            section = key.section
            out += f"\n**{section.rstrip('.')}**\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
        out += f"| `{key.name}` | {key.type} | `{key.default}` | {key.meaning} |\n"
    return out.strip() + "\n"
