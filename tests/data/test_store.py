"""What is a prepared store, and what is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from atmoloss.data.store import is_store, read_store
from atmoloss.errors import DataError
from tests.data.conftest import SMALL


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


def test_what_a_store_says_of_itself(prepared):
    again = read_store(prepared.path)
    assert again.variables == SMALL.variables
    assert again.level is None
    assert again.calendar == "proleptic_gregorian"
    assert again.shape == (44, 40, 48)
    shards = [p for p in prepared.path.glob("*/c/*/0/0") if p.parts[-5] in SMALL.variables]
    assert again.nbytes == sum(p.stat().st_size for p in shards)
    np.testing.assert_array_equal(again.times, prepared.times)


def test_an_axis_that_is_cut_off_is_refused(prepared, tmp_path, one_sentence):
    store = Path(shutil.copytree(prepared.path, tmp_path / "store"))
    axis = store / "latitude" / "c" / "0"
    axis.write_bytes(axis.read_bytes()[:-8])
    with pytest.raises(DataError) as error:
        read_store(store)
    one_sentence(error.value, str(store), "latitude has 39 values, expected 40", "prepare the store again")
