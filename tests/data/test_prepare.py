"""atmoloss prepare: what is written, restarts, refusals, and training from it."""

import dataclasses
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from atmoloss.cli import main
from atmoloss.data import open_fields
from atmoloss.data.plan import PrepareOptions
from atmoloss.data.prepare import prepare
from atmoloss.data.sources import open_source
from atmoloss.data.store import PROGRESS, is_store, read_store
from atmoloss.errors import DataError
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from tests.data.conftest import LONG, SMALL, START, assert_solid_body, random_winds, save_v2

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
zarr = pytest.importorskip("zarr", minversion="3")


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_holds_what_open_fields_gives(winds_file, prepared):
    want = open_fields(winds_file)
    assert len(prepared.record["shard_bytes"]["vorticity"]) == 6
    assert prepared.variables == ("divergence", "vorticity")
    stored = prepared.fields(prepared.variables)
    np.testing.assert_array_equal(stored[:, 0], want["divergence"].values)
    np.testing.assert_array_equal(stored[:, 1], want["vorticity"].values)
    for axis, values in (("time", prepared.times), ("latitude", prepared.latitude), ("longitude", prepared.longitude)):
        np.testing.assert_array_equal(values, want[axis].values)
    np.testing.assert_array_equal(prepared.fields(["vo"])[3, 0], want["vorticity"].values[3])


KILLED = """
import os, signal, sys
from atmoloss.data import prepare as module
from atmoloss.data.stored_fields import shard_path
from tests.data.conftest import SMALL
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


def test_restart_after_kill_9(winds_file, prepared, tmp_path, one_sentence, request):
    out = tmp_path / "store"
    run = subprocess.run([sys.executable, "-c", KILLED, str(winds_file), str(out)], cwd=request.config.rootpath)
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
        prepare(winds_file, out, dataclasses.replace(SMALL, time_chunk=2), workers=0)
    again = prepare(winds_file, out, SMALL, workers=0)
    for path, before in finished.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert again.record == prepared.record
    assert files(out) == files(prepared.path)


def test_a_complete_store_is_left_alone(winds_file, prepared):
    before = files(prepared.path)
    assert prepare(winds_file, prepared.path, SMALL, workers=0).record == prepared.record
    assert files(prepared.path) == before
    with pytest.raises(DataError, match="made of something else"):
        prepare(winds_file, prepared.path, dataclasses.replace(SMALL, every=6), workers=0)


def test_kills_before_the_plan_and_after_the_metadata(winds_file, prepared, tmp_path, monkeypatch):
    from atmoloss.data import prepare as module

    def die(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(module, "create_variable", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(winds_file, out, SMALL, workers=0)
    assert is_store(out)
    with monkeypatch.context() as patch:
        # Not shutil.rmtree itself, which zarr calls too.
        patch.setattr(module, "shutil", SimpleNamespace(rmtree=die, disk_usage=shutil.disk_usage))
        with pytest.raises(KeyboardInterrupt):
            prepare(winds_file, out, SMALL, workers=0)
    (out / PROGRESS / "plan.json").unlink()
    assert prepare(winds_file, out, SMALL, workers=0).record == prepared.record
    assert files(out) == files(prepared.path)


def test_forecast_runs_keep_their_run(tmp_path):
    data = random_winds(8)
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


def test_refusals(winds_file, tmp_path, one_sentence):
    gaps = random_winds()
    gaps["u10"][30, 5, 5] = np.nan
    gaps.to_netcdf(tmp_path / "gaps.nc", engine="h5netcdf")
    with pytest.raises(DataError, match="are missing, expected none") as error:
        prepare(tmp_path / "gaps.nc", tmp_path / "a", SMALL, workers=0)
    one_sentence(error.value, "times 24 to 31")
    with pytest.raises(DataError, match="none of the 44 times"):
        prepare(winds_file, tmp_path / "b", dataclasses.replace(SMALL, dates=("2020-01-01/2020-01-02",)), workers=0)
    assert not (tmp_path / "b").exists()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="expected a new folder"):
        prepare(winds_file, tmp_path / "c", SMALL, workers=0)
    with pytest.raises(DataError, match="holds divergence, vorticity"):
        open_source(str(prepare(winds_file, tmp_path / "d", SMALL, workers=0).path), "a", ("u10",))


def test_a_running_scheduler(winds_file, prepared, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        there = prepare(winds_file, tmp_path / "store", SMALL, scheduler=cluster.scheduler_address)
    assert there.record == prepared.record
    assert files(there.path) == files(prepared.path)


@pytest.mark.slow  # starts processes that import torch
def test_a_local_cluster_on_the_command_line(winds_file, prepared, tmp_path, capsys):
    pytest.importorskip("distributed")
    out = tmp_path / "store"
    code = main(["prepare", str(winds_file), str(out), "--workers", "2", "--time-chunk", "4", "--space-chunk", "16"])
    assert code == 0
    assert "divergence, vorticity; 44 times from 2026-01-01T00:00 to 2026-01-06T09:00; 40x48" in capsys.readouterr().out
    np.testing.assert_array_equal(read_store(out).fields(prepared.variables)[:], prepared.fields(prepared.variables)[:])


def test_the_command(winds_file, tmp_path, capsys):
    out = tmp_path / "store"
    arguments = ["prepare", str(winds_file), str(out), "--workers", "0", "--variables", "u10", "--every", "6h"]
    assert main([*arguments, "--dates", "2026-01-01/2026-01-02"]) == 0
    assert "u10; 8 times" in capsys.readouterr().out
    assert read_store(out).attributes(["u10"])[0]["units"] == "m s-1"
    assert main(["prepare", str(winds_file), str(tmp_path / "x"), "--workers", "0", "--dates", "May"]) == 1
    assert "expected" in capsys.readouterr().err


def tiny_run(path, **source):
    return make_config(
        {
            "sources": [{"name": "winds", "path": str(path), **source}],
            "variables": ["u10", "v10"],
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


def losses(folder):
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [x["loss"] for x in lines if "loss" in x]


def test_training_from_a_store_is_training_from_its_source(winds_file, tmp_path):
    pytest.importorskip("tqdm")
    store = prepare(winds_file, tmp_path / "store", dataclasses.replace(SMALL, variables=("u10", "v10")), workers=0)
    for name, path in (("memory", winds_file), ("lazy", store.path)):
        train(tiny_run(path), tmp_path / name)
    assert losses(tmp_path / "lazy") == losses(tmp_path / "memory")
    assert len(losses(tmp_path / "lazy")) == 2


def test_training_beside_missing_values(holes, tmp_path):
    train(tiny_run(holes / "holes.nc", missing="ignore"), tmp_path / "run")  # to its end, validation included
    assert np.isfinite(losses(tmp_path / "run")).all()
    (filled,) = open_sources(tiny_run(holes / "holes.nc", missing=2))
    assert filled.values[0, 0, 39, 47] == 2


def test_missing_values_are_refused_filled_or_kept(holes, tmp_path):
    path, options = holes / "holes.nc", ["--variables", "u10,v10", "--workers", "0"]
    assert main(["prepare", str(path), str(tmp_path / "refused"), *options]) == 1
    assert main(["prepare", str(path), str(tmp_path / "filled"), *options, "--missing", "-3"]) == 0
    assert (read_store(tmp_path / "filled").fields(["u10"])[0, 0, 30:, 40:] == -3).all()
    assert main(["prepare", str(path), str(tmp_path / "store"), *options, "--missing", "ignore"]) == 0
    kept = read_store(tmp_path / "store").fields(["u10"])[:, 0]
    assert np.isnan(kept[:, 30:, 40:]).all()
    want = open_fields(path, "u10", missing="ignore")["u10"].values
    np.testing.assert_array_equal(kept, want)
    np.testing.assert_array_equal(open_fields(tmp_path / "store", "u10", missing="ignore")["u10"].values, want)


@pytest.fixture(scope="module")
def served(folders):
    """The same folders over HTTP."""
    pytest.importorskip("aiohttp")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folders))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_weatherbench_prepared(folders, tmp_path):
    options = PrepareOptions(level=500.0, dates=("1959-01-02/1959-01-05",), every=12, time_chunk=2, shard_bytes=1)
    made = prepare(f"file://{folders}/wb2.zarr", tmp_path / "store", options, workers=0)
    assert len(made.times) == 8
    assert made.times[0] == np.datetime64("1959-01-02")
    assert_solid_body(open_fields(made.path, level=500), 1 + np.arange(4, 20, 2), 0.5)


def test_arco_needs_dates_that_are_filled(folders, tmp_path, one_sentence):
    with pytest.raises(DataError, match="are missing") as error:
        prepare(folders / "arco.zarr-v3", tmp_path / "store", PrepareOptions(level=850.0), workers=0)
    one_sentence(error.value, "u_component_of_wind", "expected none")


def test_arco_single_level_prepared(folders, tmp_path):
    options = PrepareOptions(winds=("u10", "v10"), dates=("1940-01-01/1940-01-01",), every=6, time_chunk=2)
    made = prepare(folders / "arco.zarr-v3", tmp_path / "store", options, workers=0)
    assert len(made.times) == 4
    assert_solid_body(open_fields(made.path), 1 + np.arange(12, 36, 6), 0.01)


@pytest.mark.parametrize("kind", ["http", "memory"])
def test_arco_by_url(arco, folders, kind, tmp_path, request):
    if kind == "http":
        url = request.getfixturevalue("served") + "/arco.zarr-v3"
    else:
        url = "memory://atmoloss-test-arco.zarr-v3"
        save_v2(arco, url, {"time": 1}, "hours since 1900-01-01")
    options = PrepareOptions(level=850.0, dates=("1940-01-01/1940-01-01",), every=6, time_chunk=2)
    made = prepare(url, tmp_path / "store", options, workers=0)
    assert_solid_body(open_fields(made.path, level=850), 1 + np.arange(12, 36, 6), 0.85)


def test_only_chosen_times_and_one_level_are_read(folders, monkeypatch, tmp_path):
    # A chunk of the real store is 154 MB: one that is read in vain costs seconds.
    from zarr.storage import LocalStore

    keys, get = [], LocalStore.get

    async def spy(self, key, *args, **kwargs):
        keys.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocalStore, "get", spy)
    options = PrepareOptions(level=850.0, dates=("1940-01-01/1940-01-01",), every=12, time_chunk=2)
    prepare(folders / "arco.zarr-v3", tmp_path / "store", options, workers=0)
    chunks = [k for k in keys if k.rsplit("/", 1)[-1].count(".") == 3]
    assert set(chunks) == {f"{LONG[c]}/{t}.0.0.0" for c in "uv" for t in (12, 24)}
    assert len(chunks) == 6  # the plan looks at the first time
