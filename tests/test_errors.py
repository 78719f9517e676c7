"""Errors cross processes, and say how to install what is missing."""

import json
import pickle

import pytest

from atmoloss import errors


def test_errors_survive_pickle() -> None:
    """As they must, to cross from a worker process."""
    for kind in (errors.InputError, errors.WeightsError, errors.DistributedError, errors.MissingDependencyError):
        again = pickle.loads(pickle.dumps(kind("weight: got 1, expected 2")))
        assert type(again) is kind
        assert str(again) == "weight: got 1, expected 2"


def test_what_is_installed_is_imported() -> None:
    assert errors.require("json", "train") is json


def test_what_is_not_installed_is_named_with_its_extra(one_sentence) -> None:
    with pytest.raises(ImportError) as error:
        errors.require("atmoloss_nowhere", "train")
    assert isinstance(error.value, errors.AtmolossError)
    one_sentence(error.value, "'atmoloss_nowhere'", "No module named", "pip install 'atmoloss[train]'")
