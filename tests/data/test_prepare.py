"""atmoloss prepare: what is written, restarts, refusals, and training from it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atmoloss.cli import main
from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import open_source, source_from_dataset
from atmoloss.data.splits import split_by_date
from atmoloss.data.store import PROGRESS, is_store, read_store
from atmoloss.errors import DataError, MissingDependencyError

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
zarr = pytest.importorskip("zarr", minversion="3")

START = np.datetime64("2026-01-01T00", "ns")
SMALL = PrepareOptions(time_chunk=4, space_chunk=16, shard_bytes=2 * 4 * 4 * 40 * 48)  # 8 times a shard


def winds(n_times=44, step=3, globe=False):
    rng = np.random.default_rng(0)
    latitude = 58.0 - np.arange(40) if not globe else 78.0 - 4 * np.arange(40)
    longitude = 10.0 + np.arange(48) if not globe else 7.5 * np.arange(48)
    shape = (n_times, 40, 48)
    fields = {
        name: (("time", "latitude", "longitude"), rng.normal(3, 8, shape).astype(np.float32), {"units": "m s-1"})
        for name in ("u10", "v10")
    }
    coords = {"time": START + step * np.timedelta64(1, "h") * np.arange(n_times)}
    return xr.Dataset(fields, {**coords, "latitude": latitude, "longitude": longitude})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "winds.nc"
    winds().to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    return prepare(source, tmp_path_factory.mktemp("made") / "store", SMALL, workers=0)


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_holds_what_open_fields_gives(source, made):
    want = open_fields(source)
    assert len(made.record["shard_bytes"]["vorticity"]) == 6
    assert made.variables == ("divergence", "vorticity")
    stored = made.fields(made.variables)
    np.testing.assert_array_equal(stored[:, 0], want["divergence"].values)
    np.testing.assert_array_equal(stored[:, 1], want["vorticity"].values)
    for axis, values in (("time", made.times), ("latitude", made.latitude), ("longitude", made.longitude)):
        np.testing.assert_array_equal(values, want[axis].values)
    np.testing.assert_array_equal(made.fields(["vo"])[3, 0], want["vorticity"].values[3])


def test_is_an_ordinary_zarr_store(source, made):
    want = open_fields(source)
    with xr.open_zarr(made.path) as data:
        assert data["vorticity"].attrs["units"] == "s-1"
        assert "run" in data.coords
        np.testing.assert_array_equal(data["time"].values, want["time"].values)
    again = open_fields(made.path)
    for name in want.data_vars:
        np.testing.assert_array_equal(again[name].values, want[name].values)
    group = zarr.open_group(made.path, mode="r")
    assert group.attrs["atmoloss"]["plan"] == made.record["plan"]
    assert group["divergence"].shards is not None


KILLED = """
import os, signal, sys
from atmoloss.data import prepare as module
from atmoloss.data.stored_fields import shard_path
from tests.data.test_prepare import SMALL
write, calls = module.write_shard, []
def dies(root, variable, sharding, shard, fields):
    size = write(root, variable, sharding, shard, fields)
    calls.append(shard)
    if len(calls) == 6:  # two variables: in the third shard, half of it written
        path = shard_path(root, variable, shard)
        os.truncate(path, size // 2)
        path.with_suffix(".0.partial").write_bytes(b"of zarr")
        os.kill(os.getpid(), signal.SIGKILL)
    return size
module.write_shard = dies
module.prepare(sys.argv[1], sys.argv[2], SMALL, workers=0)
"""


def test_restart_after_kill_9(source, made, tmp_path, one_sentence, request):
    out = tmp_path / "store"
    run = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out)], cwd=request.config.rootpath)
    assert run.returncode == -9
    done = sorted(p.name for p in (out / PROGRESS).glob("0*.json"))
    assert done == ["000000.json", "000001.json"]
    assert list(out.rglob("*.partial"))
    assert is_store(out)
    for reader in (read_store, lambda path: open_source(str(path), "a", ("vorticity",))):
        with pytest.raises(DataError, match="not complete") as error:
            reader(out)
        one_sentence(error.value, str(out), "run the same atmoloss prepare again")
    with pytest.raises(DataError):  # nor is it a Zarr group for anybody else
        open_fields(out)
    finished = {p: p.stat() for shard in "01" for p in out.glob(f"*/c/{shard}/0/0") if p.parts[-5] != "time"}
    assert len(finished) == 4

    with pytest.raises(DataError, match="unfinished store of another source, other options"):
        prepare(source, out, dataclasses.replace(SMALL, time_chunk=2), workers=0)
    again = prepare(source, out, SMALL, workers=0)
    for path, before in finished.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert again.record == made.record
    assert files(out) == files(made.path)


def test_needs_zarr_3(source, tmp_path, monkeypatch, one_sentence):
    monkeypatch.setattr(zarr, "__version__", "2.18.7")
    with pytest.raises(MissingDependencyError, match=r"got version 2\.18\.7") as error:
        prepare(source, tmp_path / "store", SMALL, workers=0)
    one_sentence(error.value, "zarr >= 3")
    assert not (tmp_path / "store").exists()


def test_a_complete_store_is_left_alone(source, made):
    before = files(made.path)
    assert prepare(source, made.path, SMALL, workers=0).record == made.record
    assert files(made.path) == before
    with pytest.raises(DataError, match="made of something else"):
        prepare(source, made.path, dataclasses.replace(SMALL, every=6), workers=0)


def test_kills_before_the_plan_and_after_the_metadata(source, made, tmp_path, monkeypatch):
    from atmoloss.data import prepare as module

    def die(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "create_variable", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, SMALL, workers=0)
    assert is_store(out)
    with monkeypatch.context() as patch:
        # Not shutil.rmtree itself, which zarr calls too.
        patch.setattr(module, "shutil", SimpleNamespace(rmtree=die, disk_usage=shutil.disk_usage))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, out, SMALL, workers=0)
    (out / PROGRESS / "plan.json").unlink()
    assert prepare(source, out, SMALL, workers=0).record == made.record
    assert files(out) == files(made.path)


def test_dates_every_level_and_a_chosen_wind(tmp_path):
    data = winds()
    upper = data.rename(u10="u", v10="v").expand_dims(level=[500, 850]).copy()
    upper["u"] = upper["u"] + 2 * upper["level"] * np.cos(np.deg2rad(upper["latitude"]))
    both = xr.merge([data, upper])
    both["level"].attrs["units"] = "hPa"
    both.to_netcdf(tmp_path / "both.nc", engine="h5netcdf")
    options = dataclasses.replace(SMALL, dates=("2026-01-02/2026-01-03",), every=6)
    low = prepare(tmp_path / "both.nc", tmp_path / "low", dataclasses.replace(options, winds=("u10", "v10")), workers=0)
    want = open_fields(data).sel(time=slice("2026-01-02T00", "2026-01-03T18", 2))
    np.testing.assert_array_equal(low.times, want["time"].values)
    np.testing.assert_allclose(low.fields(["vorticity"])[:, 0], want["vorticity"].values, atol=1e-11)
    high = prepare(tmp_path / "both.nc", tmp_path / "high", dataclasses.replace(options, level=850.0), workers=0)
    want = open_fields(both, level=850).sel(time=want["time"].values)
    np.testing.assert_allclose(high.fields(["vorticity"])[:, 0], want["vorticity"].values, atol=1e-11)
    assert open_source(str(high.path), "a", ("vorticity",), 850.0).level == "850"
    with pytest.raises(DataError, match="level: got 500"):
        open_source(str(high.path), "a", ("vorticity",), 500.0)
    with pytest.raises(DataError, match="could be derived from"):
        prepare(tmp_path / "both.nc", tmp_path / "x", options, workers=0)
    np.testing.assert_array_equal(open_fields(high.path, level=850)["run"].values, 0)


def test_forecast_runs_keep_their_run(tmp_path):
    data = winds(8)
    runs = xr.concat([data, data + 1], "forecast_reference_time")
    runs = runs.rename(time="step").assign_coords(
        step=("step", np.arange(8) * 3, {"units": "hours"}),
        forecast_reference_time=START + np.arange(2) * np.timedelta64(12, "h"),
    )
    for name, unit in (("u10", "m s-1"), ("v10", "m s-1")):
        runs[name].attrs["units"] = unit
    runs.to_netcdf(tmp_path / "runs.nc", engine="h5netcdf")
    made = prepare(tmp_path / "runs.nc", tmp_path / "store", SMALL, workers=0)
    want = open_fields(runs)
    np.testing.assert_array_equal(made.run, np.repeat([0, 1], 8))
    np.testing.assert_array_equal(made.times, want["time"].values)
    np.testing.assert_allclose(made.fields(["divergence"])[:, 0], want["divergence"].values, atol=1e-11)


def test_refusals(source, tmp_path, one_sentence):
    gaps = winds()
    gaps["u10"][30, 5, 5] = np.nan
    gaps.to_netcdf(tmp_path / "gaps.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="are missing, expected none") as error:
        prepare(tmp_path / "gaps.nc", tmp_path / "a", SMALL, workers=0)
    one_sentence(error.value, "times 24 to 31")
    with pytest.raises(DataError, match="none of the 44 times"):
        prepare(source, tmp_path / "b", dataclasses.replace(SMALL, dates=("2020-01-01/2020-01-02",)), workers=0)
    assert not (tmp_path / "b").exists()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="expected a new folder"):
        prepare(source, tmp_path / "c", SMALL, workers=0)
    with pytest.raises(DataError, match="holds divergence, vorticity"):
        open_source(str(prepare(source, tmp_path / "d", SMALL, workers=0).path), "a", ("u10",))
    for wrong in ({"every": 0}, {"time_chunk": 0}, {"winds": ("u",)}, {"variables": ()}):
        with pytest.raises(DataError):
            dataclasses.replace(SMALL, **wrong)


@pytest.mark.parametrize("globe", [False, True])
def test_training_sees_the_same_batches_from_disk(tmp_path, globe):
    winds(globe=globe).to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    made = prepare(tmp_path / "w.nc", tmp_path / "store", SMALL, workers=0)
    lazy = open_source(str(made.path), "a", ("divergence", "vorticity"))
    memory = open_source(str(tmp_path / "w.nc"), "a", ("divergence", "vorticity"))
    assert isinstance(memory.values, np.ndarray)
    assert not isinstance(lazy.values, np.ndarray)
    assert lazy.periodic == globe
    assert lazy.sha256() == open_source(str(made.path), "b", ("divergence", "vorticity")).sha256()
    assert lazy.sha256() != open_source(str(made.path), "b", ("vorticity", "divergence")).sha256()
    spec = SequenceSpec(n_times=3, n_classes=8, base_step=3, patch_sizes=(16, 24), batch_size=4)
    read = lazy.values.bytes_read
    sets = [
        SequenceDataset(split_by_date([s], ["2026-01-03/2026-01-03"], [])["train"], spec, seed=5, length=8)
        for s in (lazy, memory)
    ]
    assert lazy.values.bytes_read == read  # splitting reads nothing
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(sets[0], batch_size=None, num_workers=1, multiprocessing_context=context)
        for a, b in zip(loader, (sets[1][i] for i in range(8)), strict=True):
            assert torch.equal(a.fields, b.fields)
            assert torch.equal(a.hours, b.hours)


def test_an_altered_store_is_seen(tmp_path, made):
    store = Path(shutil.copytree(made.path, tmp_path / "store"))

    def sha256() -> str:
        return open_source(str(store), "a", ("divergence", "vorticity")).sha256()

    whole = sha256()
    shards = sorted(p for p in store.glob("*/c/*/0/0"))
    for path in shards:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1  # one bit
        path.write_bytes(data)
        assert sha256() != whole
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    assert sha256() == whole
    shards[0].unlink()
    with pytest.raises(DataError, match="is missing from the prepared store"):
        sha256()


def test_a_store_is_not_put_on_another_grid(made):
    with pytest.raises(DataError, match=r"grid: got 1 for a, expected None"):
        open_source(str(made.path), "a", ("divergence",), grid=1.0)


def test_a_running_scheduler(source, made, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        there = prepare(source, tmp_path / "store", SMALL, scheduler=cluster.scheduler_address)
    assert there.record == made.record
    assert files(there.path) == files(made.path)


@pytest.mark.slow  # starts processes that import torch
def test_a_local_cluster_on_the_command_line(source, made, tmp_path, capsys):
    pytest.importorskip("distributed")
    out = tmp_path / "store"
    code = main(["prepare", str(source), str(out), "--workers", "2", "--time-chunk", "4", "--space-chunk", "16"])
    assert code == 0
    assert "divergence, vorticity; 44 times from 2026-01-01T00:00 to 2026-01-06T09:00; 40x48" in capsys.readouterr().out
    np.testing.assert_array_equal(read_store(out).fields(made.variables)[:], made.fields(made.variables)[:])


def test_the_command(source, tmp_path, capsys):
    out = tmp_path / "store"
    arguments = ["prepare", str(source), str(out), "--workers", "0", "--variables", "u10", "--every", "6h"]
    assert main([*arguments, "--dates", "2026-01-01/2026-01-02"]) == 0
    assert "u10; 8 times" in capsys.readouterr().out
    assert read_store(out).attributes(["u10"])[0]["units"] == "m s-1"
    assert main(["prepare", str(source), str(tmp_path / "x"), "--workers", "0", "--dates", "May"]) == 1
    assert "expected" in capsys.readouterr().err


def test_train_from_a_store(source, made, tmp_path):
    pytest.importorskip("tqdm")
    from atmoloss.training.config import make_config
    from atmoloss.training.lag import train

    losses = {}
    for name, path in (("memory", source), ("store", made.path)):
        config = make_config(
            {
                "sources": [{"name": "winds", "path": str(path)}],
                "validation": ["2026-01-06/2026-01-06"],
                "encoder_options": {"stage_channels": [4, 6], "blocks_per_stage": 1},
                "patch_sizes": [16],
                "n_times": 3,
                "n_classes": 8,
                "batch_size": 2,
                "steps": 2,
                "workers": 0,
                "log_every": 1,
                "validation_patches": 1,
            }
        )
        train(config, tmp_path / name)
        lines = [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [x["loss"] for x in lines if "loss" in x]
    assert losses["store"] == losses["memory"]
    assert len(losses["store"]) == 2


def test_source_from_dataset_still_reads_into_memory(source):
    assert isinstance(source_from_dataset(open_fields(source), "a").values, np.ndarray)
