"""``atmoloss convert-keras``: what it says, and that the weights can be used."""

import dataclasses
from pathlib import Path

import pytest

from tests.cli.conftest import rows


@pytest.mark.parametrize("scales", [{}, {"stage3": 0.125}])
def test_convert_keras(run, monkeypatch, info, tmp_path, scales):
    calls = []

    def convert(source, destination, name):
        calls.append((str(source), str(destination), name))
        return dataclasses.replace(info, name=name, layer_scales=scales)

    monkeypatch.setattr("atmoloss.keras_import.convert_keras", convert)
    code, out, err = run("convert-keras", "source", tmp_path / "new", "--name", "published")
    assert (code, err) == (0, "")
    assert calls == [("source", str(tmp_path / "new"), "published")]
    assert f"wrote published@{info.sha256[:8]} to {tmp_path / 'new'}" in out
    assert ("scale='none'" in out) == (not scales)
    assert ("stage3 0.125" in out) == bool(scales)


def test_a_converted_checkpoint_is_usable(run, tmp_path, a, b):
    pytest.importorskip("h5py")
    original = Path(__file__).parents[1] / "parity" / "small" / "tiny_n1"
    code, out, _ = run("convert-keras", original, tmp_path / "converted")
    assert code == 0
    assert "tiny_n1@" in out
    assert run("info", tmp_path / "converted")[0] == 0
    code, _, err = run("distance", a, b, "--weights", tmp_path / "converted")
    assert code == 1
    assert "scale" in err
    code, out, _ = run("distance", a, b, "--weights", tmp_path / "converted", "--scale", "none")
    assert code == 0
    assert len(rows(out)) == 5


def test_convert_keras_of_nothing(fails, tmp_path):
    assert str(tmp_path) in fails("convert-keras", tmp_path, tmp_path / "new")
