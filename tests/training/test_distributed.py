"""Two processes, by torch.distributed.run on this machine, do what one does; and end well when one is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss.errors import ConfigError
from atmoloss.extractor import Extractor
from atmoloss.lag_2afc.baselines import absolute_distances
from atmoloss.lag_2afc.triples import measure_source
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config
from atmoloss.training.distributed import ProcessGroup, init_process_group
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from atmoloss.training.model import freeze_batch_norm
from atmoloss.training.sequence_trainer import BatchStream
from tests.training.conftest import log_of

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")


def launch(*arguments: object, processes: int = 2, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start processes on a free port; what they print is merged into one stream."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, str(WORKER), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=cwd,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], seconds: float = 1500) -> tuple[int, str]:
    """Wait for the end; a hang is a failure, and leaves nothing behind."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # torch.distributed.run ends its processes, too
        output, _ = process.communicate(timeout=200)
        pytest.fail(f"still running after {seconds} s:\n{output}")
    return process.returncode, output


@pytest.fixture
def exact(raw_config) -> dict:
    """A run that does not depend on how its batches are divided: batch norm on fixed statistics."""
    return {**raw_config, "freeze_batch_norm_after": 0, "validation_patches": 3, "validate_every": 3}


def state_of(folder: Path, step: int) -> dict[str, torch.Tensor]:
    state = runs.load_checkpoint(folder)
    assert state is not None
    assert state["step"] == step
    return state["model"]


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


def numbers_of(folder: Path) -> list[dict[str, float]]:
    """Lines of the log as flat numbers."""
    return [{**line.pop("validation_2afc", {}), **line} for line in log_of(folder)]


def test_two_processes_give_what_one_gives(exact, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(exact))
    process = launch("train", tmp_path / "config.json", tmp_path / "two")
    train(make_config(exact), tmp_path / "one")
    code, output = finish(process)
    assert code == 0, output
    assert [p.name for p in (tmp_path / "two").iterdir()] == ["as-seen-by-0"]  # process 1 wrote nothing
    two = tmp_path / "two" / "as-seen-by-0"
    # Float32 sums in another order, six steps: 3e-8 measured. A half batch alone gives 1e-3, see below.
    assert largest_difference(state_of(tmp_path / "one", 6), state_of(two, 6)) < 1e-6
    expected = numbers_of(tmp_path / "one")
    assert [line["step"] for line in expected] == [2, 3, 4, 6, 6]
    assert "winds" in expected[1]
    for mine, theirs in zip(expected, numbers_of(two), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-5)


def test_half_a_batch_gives_other_weights(exact, tmp_path):
    train(make_config(exact), tmp_path / "whole")
    train(make_config({**exact, "batch_size": 2}), tmp_path / "half")
    assert largest_difference(state_of(tmp_path / "whole", 6), state_of(tmp_path / "half", 6)) > 1e-4


def test_a_run_is_continued_by_another_number_of_processes(exact, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(exact))
    stopped = launch("train", tmp_path / "config.json", tmp_path / "run", "--stop-after", 4)
    train(make_config(exact), tmp_path / "whole")
    assert finish(stopped)[0] != 0
    folder = tmp_path / "run" / "as-seen-by-0"
    state_of(folder, 4)
    copy = tmp_path / "by-two" / "as-seen-by-0"
    copy.mkdir(parents=True)
    for name in (runs.RECORD, runs.CHECKPOINT, runs.METRICS):
        (copy / name).write_bytes((folder / name).read_bytes())
    process = launch("train", tmp_path / "config.json", tmp_path / "by-two", "--resume")
    train(make_config(exact), folder, resume=True)
    code, output = finish(process)
    assert code == 0, output
    for resumed in (folder, copy):
        assert largest_difference(state_of(tmp_path / "whole", 6), state_of(resumed, 6)) < 1e-6


def test_running_statistics_are_those_of_the_whole_batch(raw_config, tmp_path):
    raw = {**raw_config, "steps": 1}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    process = launch("train", tmp_path / "config.json", tmp_path / "two")
    train(make_config(raw), tmp_path / "one")
    code, output = finish(process)
    assert code == 0, output
    one, two = state_of(tmp_path / "one", 1), state_of(tmp_path / "two" / "as-seen-by-0", 1)
    # After one step from the same weights the first layer's inputs are the same; those of one process alone
    # have another mean.
    torch.testing.assert_close(two["encoder.stem_bn.running_mean"], one["encoder.stem_bn.running_mean"])
    assert one["encoder.stem_bn.running_mean"].abs().max() > 1e-5


@pytest.mark.parametrize("victim", [0, 1])
def test_a_lost_process_ends_the_run_with_one_sentence_and_a_checkpoint(victim, raw_config, winds_file, tmp_path):
    raw = {**raw_config, "steps": 12, "validate_every": 12, "checkpoint_every": 5, "workers": 1}
    settings = [f"{k}={json.dumps(v)}" for k, v in raw.items() if k not in ("sources", "encoder_options")]
    settings.append("encoder_options={stage_channels=[4, 6], blocks_per_stage=1}")
    arguments = ["train", "--data", winds_file, "--output", tmp_path / "run"]
    process = launch("lose", victim, 8, *arguments, *[a for text in settings for a in ("--set", text)], cwd=tmp_path)
    code, output = finish(process)
    assert code != 0
    said = [line for line in output.splitlines() if line.startswith("atmoloss: error:")]
    assert len(said) == 1, output
    assert "another process of the run is gone" in said[0]
    assert "--resume" in said[0]
    config = make_config(runs.read_record(tmp_path / "run")["config"])
    state = runs.load_checkpoint(tmp_path / "run")
    assert state is not None
    assert state["step"] == 5
    train(config, tmp_path / "run", resume=True)
    state_of(tmp_path / "run", 12)
    assert [line["step"] for line in numbers_of(tmp_path / "run")] == [*range(2, 14, 2), 12]


@pytest.mark.parametrize(
    ("kind", "place", "says"),
    [
        ("RuntimeError", "record", "DistributedError: training: process 0 failed with RuntimeError: no luck"),
        ("KeyboardInterrupt", "open", "DistributedError: training: another process of the run is gone"),
    ],
)
def test_whatever_process_0_raises_ends_the_others_at_once(kind, place, says, raw_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(raw_config))
    # Process 0 stays alive until the other one has ended: nothing but the error itself can tell it.
    code, output = finish(launch("fail", tmp_path / "config.json", tmp_path, kind, place))
    assert code == 0, output
    assert f"process 0: {kind}: no luck" in output
    assert f"process 1: {says}" in output


@pytest.mark.parametrize("size", [1, 2, 4])
def test_processes_share_every_batch_without_duplicates(size, raw_config):
    config = make_config({**raw_config, "subset_steps": 2, "subset_batches": 1})
    sources = open_sources(config)
    for step in (0, 1, 2, 5):
        fields, hours = BatchStream(config, sources)[step]
        shares = [BatchStream(config, sources, ProcessGroup(rank, size))[step] for rank in range(size)]
        assert all(len(h) == config.batch_size // size for _, h in shares)
        # Together they are the batch of one process, each row once.
        rows = torch.cat([f for f, _ in shares])
        owners = torch.tensor([[torch.equal(row, other) for other in rows] for row in fields])
        assert (owners.sum(1) == 1).all()
        assert (owners.sum(0) == 1).all()
        assert sorted(torch.cat([h for _, h in shares]).tolist()) == sorted(hours.tolist())


def test_a_batch_that_cannot_be_shared_equally_is_refused(raw_config, tmp_path, one_sentence):
    with pytest.raises(ConfigError) as error:
        train(make_config(raw_config), tmp_path / "run", group=ProcessGroup(0, 3))
    one_sentence(error.value, "batch_size", "4", "multiple of the 3 processes")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [2, 3, 7])
def test_shares_of_the_validation_add_up(size, raw_config):
    (source,) = open_sources(make_config(raw_config))

    def tally(part: tuple[int, int]):
        measures = {"d": lambda patch: absolute_distances(patch["fields"].flatten(1))}
        return measure_source(source, measures, size=16, max_lag=48, part=part).get("d")

    whole = tally((0, 1))
    parts = [t for t in (tally((i, size)) for i in range(size)) if t is not None]
    assert len(parts) == min(size, 9)  # 3 x 3 patches of 16 cover 40 x 48 points
    np.testing.assert_array_equal(sum(t.right for t in parts), whole.right)
    np.testing.assert_array_equal(sum(t.total for t in parts), whole.total)


def test_synchronised_batch_norm_is_frozen_like_any(randomise, info, draw):
    # What a GPU run trains; the layers themselves compute on CPUs only with fixed statistics.
    encoder = randomise(Encoder(**info.encoder))
    plain = Extractor(encoder, LogNormalization(**info.normalization), info)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in synchronised.modules())
    extractor = Extractor(synchronised, LogNormalization(**info.normalization), info)
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in extractor.modules())
    for name, f in plain(draw()).items():
        assert torch.equal(extractor(draw())[name], f)
    freeze_batch_norm(synchronised.train())
    assert not any(m.training for m in synchronised.modules() if isinstance(m, torch.nn.SyncBatchNorm))


@pytest.mark.parametrize(("device", "words"), [("mps", "expected cpu or cuda"), ("cuda", "no GPU of its own")])
def test_devices_that_cannot_be_shared(device, words, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=words), init_process_group(device):
        pass


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_process_group("cpu") as group:
        assert group == ProcessGroup(0, 1, "cpu")
        assert group.is_main
