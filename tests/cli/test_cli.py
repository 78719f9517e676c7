"""The command as a whole: help, exit codes, errors and warnings in one line."""

import argparse
import importlib
import pkgutil
import subprocess
import sys

import pytest

import atmoloss
from atmoloss import cli
from atmoloss.cli import VERBS, build_parser, main

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
NAMES = [verb.replace("_", "-") for verb in VERBS]


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"atmoloss {atmoloss.__version__}\n"
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    for verb in NAMES:
        assert f"\n    {verb}" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("verb", NAMES)
def test_help_of_each_verb(capsys, monkeypatch, verb):
    monkeypatch.setenv("COLUMNS", "80")  # help is laid out for the terminal, however wide it is
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert text.startswith(f"usage: atmoloss {verb}")
    assert "options:" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("verb", NAMES)
def test_every_option_says_what_it_does_in_a_sentence(verb):
    (verbs,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for action in verbs.choices[verb]._actions:
        if action.help not in (argparse.SUPPRESS, "show this help message and exit"):
            assert action.help.endswith("."), action.dest
            assert action.help[0].isupper(), action.dest


def test_every_module_with_arguments_is_a_verb():
    modules = [module.name for module in pkgutil.iter_modules(cli.__path__)]
    with_arguments = {m for m in modules if hasattr(importlib.import_module(f"atmoloss.cli.{m}"), "add_arguments")}
    assert with_arguments == set(VERBS)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["info"], ["distance", "only-one.nc"], ["info", "x", "--no"]])
def test_wrong_usage_is_2(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: atmoloss" in capsys.readouterr().err


def test_a_missing_file_is_one_line(fails, a, tmp_path):
    assert "missing.nc" in fails("distance", a, tmp_path / "missing.nc")


@pytest.mark.parametrize("how", ["before", "after", "environment"])
def test_debug_shows_the_traceback(run, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("ATMOLOSS_DEBUG", "1")
    arguments = {"before": ["--debug", "info", "none"], "after": ["info", "none", "--debug"]}
    code, _, err = run(*arguments.get(how, ["info", "none"]))
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("atmoloss: error: weights: got 'none'")


def test_interrupted_is_130(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("atmoloss.cli.info.run", interrupt)
    code, _, err = run("info", "default")
    assert code == 130
    assert "Traceback" not in err


def test_a_defect_is_not_disguised(monkeypatch):
    def fail(_):
        raise ZeroDivisionError

    monkeypatch.setattr("atmoloss.cli.info.run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["info", "default"])


def test_warnings_are_one_line(run, tmp_path, a):
    """Winds a thousand times too strong: the warning about units."""
    with xarray.open_dataset(a) as data:
        (data * 1000).assign_attrs(data.attrs).map(lambda x: x.assign_attrs(units="m s-1")).to_netcdf(
            tmp_path / "strong.nc", engine="h5netcdf"
        )
    code, _, err = run("distance", a, tmp_path / "strong.nc")
    assert code == 0
    assert err.startswith("atmoloss: warning: ")
    assert err.count("\n") == 1


def test_a_broken_pipe_is_quiet(folder):
    command = [sys.executable, "-m", "atmoloss", "info", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.parametrize("verb", NAMES)
def test_help_is_text_alone(verb, capsys):
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    # A lone % in a help makes argparse format the option itself into it.
    assert "option_strings" not in capsys.readouterr().out
