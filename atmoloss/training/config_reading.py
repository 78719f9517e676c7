"""From plain values (TOML, JSON, the command line) to a configuration dataclass, and from its docstrings to help."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import os
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from atmoloss.errors import ConfigError
from atmoloss.removed import describe_removed

_T = TypeVar("_T")
_KINDS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def read_values(path: Path) -> dict[str, Any]:
    """Read the plain values of a TOML file or of the ``metrics.json`` of a weights folder; ``ConfigError`` for others.

    Relative source paths become absolute: they are relative to the folder of the file.
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
    """Read ``key=value`` texts from the command line, the value TOML or plain text; ``ConfigError`` without ``=``."""
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
    """Build a dataclass from plain values; tuples of dataclasses are lists of tables.

    ``ConfigError`` for an unknown key, a missing one, or a value of the wrong kind.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = {key: value for key, value in values.items() if key not in fields}
    if removed := describe_removed("config", unknown):
        raise ConfigError(f"config: has {removed}")
    for key in unknown:
        near = difflib.get_close_matches(key, fields, 1)
        expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(fields)}"
        raise ConfigError(f"{prefix}{key}: is no key of the configuration; {expected}")
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{prefix}{name}: is missing")
    hints = get_type_hints(kind)
    return kind(**{key: _convert(prefix + key, hints[key], value) for key, value in values.items()})


def _convert(key: str, hint: Any, value: Any) -> Any:
    """Return a plain value as the type of its key; true and false are no numbers."""
    arguments, origin = get_args(hint), get_origin(hint)
    if isinstance(value, (list, tuple)) and origin is tuple and (Ellipsis in arguments or len(value) == len(arguments)):
        return tuple(_convert(key, arguments[0], v) for v in value)
    if isinstance(value, Mapping) and dataclasses.is_dataclass(hint):
        return build_dataclass(hint, value, f"{key}.")  # type: ignore[arg-type]
    if isinstance(value, Mapping) and origin is Mapping:
        return dict(value)
    for kind in arguments if origin in (Union, types.UnionType) else (hint,):
        if (kind is types.NoneType and value is None) or (get_origin(kind) is Literal and value in get_args(kind)):
            return value
        if kind in _KINDS and isinstance(value, _KINDS[kind][1]) and (kind is bool or not isinstance(value, bool)):
            return kind(value)
    raise ConfigError(f"{key}: got {value!r}, expected {_described_type(hint)}")


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


@dataclasses.dataclass(frozen=True)
class Key:
    """What a user may set: ``section`` (the first line of the class's docstring), name, type, default, meaning."""

    section: str
    name: str
    type: str
    default: str
    meaning: str


def describe_keys(kind: type) -> list[Key]:
    """Describe the keys of a configuration dataclass, from the docstrings of the classes: those of its bases first.

    Of several descriptions the most derived counts. Keys of dataclasses inside come last, as ``outer.inner``.
    """
    hints = get_type_hints(kind)
    keys: dict[str, Key] = {}
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        for name, meaning in _meanings(text).items():
            keys.pop(name, None)  # its place is among the keys of the class that describes it
            default = _described_default(fields[name])
            keys[name] = Key(text.partition("\n")[0], name, _described_type(hints[name]), default, meaning)
    nested = [(name, inner) for name in keys for inner in get_args(hints[name]) if dataclasses.is_dataclass(inner)]
    inside = (dataclasses.replace(k, name=f"{name}.{k.name}") for name, inner in nested for k in describe_keys(inner))  # type: ignore[arg-type]
    return [*keys.values(), *inside]


def _meanings(docstring: str) -> dict[str, str]:
    """Read the section ``Attributes:`` of a docstring: name to meaning, as plain text with single backticks."""
    out: dict[str, str] = {}
    attributes = docstring.partition("Attributes:\n")[2]
    for name, meaning in re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
        plain = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`|``(.*?)``", lambda m: f"`{m[1] or m[2]}`", meaning)
        out[name] = " ".join(plain.split())
    return out


def _described_type(hint: Any) -> str:
    arguments, origin = get_args(hint), get_origin(hint)
    if hint in _KINDS:
        return _KINDS[hint][0]
    if origin is tuple and dataclasses.is_dataclass(arguments[0]):
        return "tables"
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} values"
    if origin is tuple:
        return f"a list of {_described_type(arguments[0]).removeprefix('a ')}s"
    if origin is Literal:
        return ", ".join(map(repr, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(_described_type(a) for a in arguments if a is not types.NoneType)
    return "a table"


def _described_default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return "{}"
    if field.default is dataclasses.MISSING:
        return "must be given"
    return "none" if field.default is None else json.dumps(field.default)
