"""The log of a run: means, lines that are dropped, the bar and TensorBoard."""

from __future__ import annotations

import pytest

from atmoloss.training import checkpoint as runs
from atmoloss.training.config import MachineConfig, make_config
from atmoloss.training.lag import train
from atmoloss.training.progress import RunLog
from tests.training.conftest import log_of


def test_lines_are_means_since_the_line_before(tmp_path):
    run_log = RunLog(tmp_path, MachineConfig(log_every=2), 0, 5, ("loss",))
    for step, loss in enumerate([1.0, 2.0, 4.0, 8.0, 5.0], 1):
        run_log.add(step, {"loss": loss, **({"ranking": 0.5} if step == 3 else {})})
    run_log.write(5, {})  # nothing held out, no line
    run_log.close()
    assert (tmp_path / runs.METRICS).read_text().count('"seconds_per_step": ') == 3
    assert log_of(tmp_path) == [
        {"step": 2, "loss": 1.5},
        {"step": 4, "loss": 6.0, "ranking": 0.5},  # over the steps that have it
        {"step": 5, "loss": 5.0},  # the last step has a line, whatever log_every
    ]


def test_lines_of_steps_that_are_taken_again_are_dropped(tmp_path):
    kept = '{"step": 2, "loss": 1.0}\n{"step": 4, "validation_2afc": {"a": 0.5}}\n'
    (tmp_path / runs.METRICS).write_text(kept + '{"step": 6, "loss": 0.5}\n[]\n{"step": 8, "lo')
    RunLog(tmp_path, MachineConfig(), 4, 8, ("loss",)).close()
    assert (tmp_path / runs.METRICS).read_text() == kept


def test_bar_on_a_terminal_and_tensorboard(raw_config, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(make_config({**raw_config, "steps": 2, "tensorboard": True}), tmp_path / "run")
    assert "2/2" in capsys.readouterr().err
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    assert b"cross_entropy" in events.read_bytes()
