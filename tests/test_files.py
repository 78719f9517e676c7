"""A file is whole or not there."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atmoloss.files import json_text, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
        max_leaves=60,
    )
)
def test_json_text_is_the_same_json(value) -> None:
    assert json.loads(json_text(value)) == value


def test_json_text_gives_what_fits_a_line_of_its_own() -> None:
    text = json_text({"numbers": list(range(100)), "table": [{"a": 1, "b": [1, 2]}] * 9, "word": "σ"})
    lines = text.splitlines()
    assert lines[1].startswith(' "numbers": [0, 1, 2,')
    assert lines[3] == '  {"a": 1, "b": [1, 2]},'
    assert lines[-2:] == [' "word": "σ"', "}"]
