"""``atmoloss train``: its help, the order of its steps, and the token that it asks for first."""

import sys
from pathlib import Path

import pytest

from atmoloss import hub
from atmoloss.cli import main
from atmoloss.errors import WeightsError


def help_of_train(capsys) -> str:
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert not end.value.code
    return capsys.readouterr().out


def test_the_keys_of_the_configuration_are_asked_for_by_its_help_alone(monkeypatch, capsys) -> None:
    calls = []

    def keys_help() -> str:
        calls.append(1)
        return "keys of the configuration:\n  steps    100 % of them"

    monkeypatch.setattr("atmoloss.training.config.keys_help", keys_help)
    with pytest.raises(SystemExit):
        main(["--help"])
    with pytest.raises(SystemExit):
        main(["info", "--help"])
    assert main(["train"]) == 1  # no configuration
    assert calls == []
    capsys.readouterr()
    assert help_of_train(capsys).endswith("keys of the configuration:\n  steps    100 % of them\n")
    assert calls == [1]


def test_the_help_has_every_key(capsys) -> None:
    from dataclasses import fields

    from atmoloss.training import config

    text = help_of_train(capsys)
    words = set(text.split())
    assert {field.name for field in fields(config.TrainConfig)} <= words
    assert {f"sources.{field.name}" for field in fields(config.SourceConfig)} <= words


def test_what_figures_need_is_asked_for_before_the_training(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("atmoloss.training.lag.train", lambda *_, **__: pytest.fail("trained"))
    assert main(["train", "--data", "w.nc", "--output", str(tmp_path)]) == 1
    assert "'matplotlib' is needed here" in (said := capsys.readouterr().err)
    assert "pip install 'atmoloss[train]'" in said


@pytest.mark.parametrize("option", ["--steps 5", "--seed 1", "--recipe paper", "--variables u10,v10"])
def test_a_key_is_given_once(option, capsys) -> None:
    key, value = option.removeprefix("--").split()
    value = f'"{value}"' if key in ("recipe", "variables") else value
    assert main(["train", "--data", "w.nc", *option.split(), "--set", f"{key}={value}"]) == 1
    assert capsys.readouterr().err == (
        f"atmoloss: error: {key}: is given by --{key} and by --set, expected one of them\n"
    )


def test_the_token_is_asked_for_first_and_the_push_comes_last(monkeypatch, tmp_path, capsys) -> None:
    arguments = ["train", "--data", "w.nc", "--output", str(tmp_path / "run"), "--device", "cpu"]
    arguments += ["--push-to-hub", "owner/new"]
    steps: list[tuple[object, ...]] = []
    monkeypatch.setattr("atmoloss.training.lag.train", lambda config, output, **_: steps.append(("train", output)))
    monkeypatch.setattr(
        "atmoloss.training.publish.publish", lambda config, output, folder: steps.append(("publish", folder))
    )

    def no_token(repository: str) -> None:
        raise WeightsError("push: no token")

    monkeypatch.setattr(hub, "check_push", no_token)
    assert main(arguments) == 1
    assert capsys.readouterr().err == "atmoloss: error: push: no token\n"
    assert steps == []

    def push(folder: Path, repository: str) -> str:
        steps.append(("push", folder, repository))
        return "c" * 40

    monkeypatch.setattr(hub, "check_push", lambda repository: None)
    monkeypatch.setattr("atmoloss.weights.push", push)
    assert main(arguments) == 0
    folder = tmp_path / "run" / "weights"
    assert steps == [("train", tmp_path / "run"), ("publish", folder), ("push", folder, "owner/new")]
    assert f"revision='{'c' * 40}'" in capsys.readouterr().out
