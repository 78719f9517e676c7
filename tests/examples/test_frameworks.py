"""The examples for Lightning and accelerate, run as they are; they live in environments of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "examples" / "frameworks"
pytestmark = pytest.mark.integration


def test_lightning_with_two_processes(tmp_path) -> None:
    """Mixed precision, an average of weights, DDP; checkpoints hold the network alone."""
    pytest.importorskip("lightning", reason="make test-integrations installs lightning")
    root = str(FOLDER.parents[1])
    done = subprocess.run(
        [sys.executable, FOLDER / "lightning_module.py", "--devices", "2", "--epochs", "1", "--folder", tmp_path],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes=2" in done.stdout
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(checkpoint, weights_only=False)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"network"}


def test_accelerate_accumulates(monkeypatch) -> None:
    """Four batches of two make the step of one batch of eight."""
    accelerate = pytest.importorskip("accelerate", reason="make test-integrations installs accelerate")
    monkeypatch.syspath_prepend(str(FOLDER))
    from accelerate_gan import train
    from upscaling import Upscaling, pairs

    data = torch.utils.data.Subset(pairs(), range(8))
    steps = [
        train(accelerate.Accelerator(gradient_accumulation_steps=n, cpu=True), data, 8 // n, rate=0.1).state_dict()
        for n in (1, 4)
    ]
    torch.manual_seed(0)
    start = Upscaling().state_dict()
    for name, before in start.items():
        whole, parts = (step[name] - before for step in steps)
        assert whole.norm() > 0
        assert (parts - whole).norm() < 1e-3 * whole.norm(), name
