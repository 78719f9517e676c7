"""``python -m atmoloss.train`` is ``atmoloss train``, which torchrun can start."""

import runpy
import sys

import pytest


def test_arguments_and_exit_code_are_those_of_the_verb(monkeypatch) -> None:
    calls = []
    monkeypatch.setattr("atmoloss.cli.main", lambda arguments: calls.append(arguments) or 3)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", "--output", "run"])
    monkeypatch.delitem(sys.modules, "atmoloss.train", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("atmoloss.train", run_name="__main__")
    assert end.value.code == 3
    assert calls == [["train", "--resume", "--output", "run"]]
