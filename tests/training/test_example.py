"""The example that ``atmoloss train --example`` writes: it is read, it trains, and nothing is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from atmoloss.cli import main
from atmoloss.errors import ConfigError
from atmoloss.extractor import load_extractor
from atmoloss.training.config import read_config
from atmoloss.training.example import write_example

pytest.importorskip("h5netcdf")


def test_two_steps_of_the_example_make_weights(tmp_path: Path, capsys) -> None:
    assert main(["train", "--example", str(tmp_path / "ex")]) == 0
    command = capsys.readouterr().out.removeprefix("try: atmoloss ").split()
    run = ["--output", str(tmp_path / "run"), "--steps", "2", "--device", "cpu"]
    assert main([*command, *run, "--set", "batch_size=1", "--set", "validation_patches=1"]) == 0
    info = load_extractor(tmp_path / "run" / "weights").info
    assert info.channel_names == ("u", "v")
    assert set(info.layer_scales) == {"stage1", "stage2", "stage3", "stage4"}


def test_its_data_are_small_and_lie_beside_it(tmp_path: Path) -> None:
    config = read_config(write_example(tmp_path))
    (source,) = config.sources
    assert Path(source.path) == tmp_path / "winds.nc"
    assert Path(source.path).stat().st_size < 5e6


@pytest.mark.parametrize("name", ["example.toml", "winds.nc"])
def test_what_is_there_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"has {name} already; expected a folder without it"):
        write_example(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("other", [["c.toml"], ["--resume"], ["--steps", "4"], ["--output", "run"]])
def test_no_option_is_passed_over(tmp_path: Path, other: list[str], capsys) -> None:
    assert main(["train", "--example", str(tmp_path / "new"), *other]) == 1
    assert "expected --example DIR alone" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
