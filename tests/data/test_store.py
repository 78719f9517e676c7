"""What is a prepared store, and what is not."""

import json

import pytest

from atmoloss.data.store import is_store, read_store
from atmoloss.errors import DataError


def test_what_is_no_store(tmp_path):
    assert not is_store(tmp_path)
    assert not is_store("gs://bucket/x.zarr")
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match="no prepared store"):
        read_store(tmp_path)


def test_a_store_of_an_earlier_format(tmp_path, one_sentence):
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {"atmoloss": {"format": 1, "variables": ["u"]}}}))
    with pytest.raises(DataError, match="format 1, expected 2") as error:
        read_store(tmp_path)
    one_sentence(error.value, str(tmp_path), "prepare it again in a new folder")
