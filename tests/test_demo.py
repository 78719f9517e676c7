"""A test of the whole package: the examples run, print what they promise, and leave their pictures."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("h5netcdf")
pytestmark = pytest.mark.xdist_group("demo")  # one process makes what all of them look at


def run(script: str, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    pytest.importorskip("matplotlib")
    return run("demo.py", "--quick", cwd=folder), folder / "demo-output"


def test_the_distance_grows_with_lag_and_orders_lags_better_than_mse_and_mae(demo) -> None:
    out, _ = demo
    table = {row[0]: [float(x) for x in row[1:]] for row in re.findall(r"^ +(\d+) +(\S+) +(\S+) +(\S+)$", out, re.M)}
    assert [int(lag) for lag in table] == list(range(6, 97, 6))
    assert table["96"] == [1.0, 1.0, 1.0]
    atmodist, mse, mae = (list(column) for column in zip(*table.values(), strict=True))
    assert atmodist[0] < 0.5 * mse[0] < mae[0]
    assert atmodist[0] < atmodist[3] < atmodist[7] < atmodist[-1]
    shares = [float(x) for x in re.search(r"^2AFC +(\S+) +(\S+) +(\S+)$", out, re.M).groups()]
    assert shares[0] > 0.85
    assert shares[0] > max(shares[1:]) + 0.05


def test_training_gains_over_interpolation(demo) -> None:
    out, _ = demo
    _, mse, atmodist = out.split("Training with ")
    assert mse.startswith("MSE")
    assert atmodist.startswith("AtmoDistLoss")
    for part in (mse, atmodist):
        losses = [float(x) for x in re.findall(r"test loss (\S+)", part)]
        assert len(losses) >= 4
        assert losses[-1] < 0.99 * losses[0]  # the network starts as interpolation; 80 steps gain 2 % and 4 %


def test_a_training_is_bounded_by_time(monkeypatch, tmp_path, capsys) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(EXAMPLES)
    demo = importlib.import_module("demo")
    monkeypatch.setattr(demo, "SECONDS", 0.0)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--steps", "7", "--output", str(tmp_path)])
    demo.main()
    out = capsys.readouterr().out
    assert out.count("stopped after 1 of 7 steps: 0 s are over") == 2
    assert {path.name for path in tmp_path.glob("*.png")} >= {"training.png", "super_resolution.png"}


def test_pictures_are_written_and_named(demo) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    out, folder = demo
    for name in ("distance_vs_lag.png", "super_resolution.png", "training.png"):
        assert f"demo-output/{name}" in out
        image = plt.imread(folder / name)
        assert len(np.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 10  # curves or fields, not a bare frame


def test_quickstart(tmp_path) -> None:
    out = run("quickstart.py", cwd=tmp_path)
    assert [line.split(":")[0] for line in out.splitlines()] == ["6 h", "48 h", "loss"]
