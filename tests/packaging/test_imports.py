"""What gets imported when, and how fast help answers. Each case runs in its own interpreter."""

import json
import resource
import subprocess
import sys

import pytest

HEAVY = {
    "dask", "h5netcdf", "h5py", "matplotlib", "pandas", "scipy", "torchmetrics", "torchvision", "tqdm",
    "xarray", "zarr", "onnx", "onnxscript", "onnxruntime",
}  # fmt: skip
HELP_SECONDS = 0.5  # of a core: what others do on the machine is not our fault


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after `code`."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(m for m in sys.modules if '.' not in m)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_the_public_names_load_torch_and_nothing_heavier() -> None:
    loaded = modules_after("import atmoloss\natmoloss.AtmoDistLoss")
    assert "torch" in loaded
    # Where tqdm is installed torch imports it by itself; only what we add counts.
    assert not (loaded - modules_after("import torch")) & HEAVY


@pytest.mark.parametrize("package", ["atmoloss", "atmoloss.evaluation"])
def test_the_package_alone_loads_no_torch(package: str) -> None:
    assert not modules_after(f"import {package}") & (HEAVY | {"torch"})


@pytest.mark.parametrize("module", ["atmoloss", "atmoloss.train"])
def test_help_loads_no_torch(module: str) -> None:
    loaded = modules_after(f"""
import runpy, sys
sys.argv = [{module!r}, "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
""")
    assert not loaded & (HEAVY | {"torch"})


def test_help_answers_quickly() -> None:
    seconds = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = subprocess.run([sys.executable, "-m", "atmoloss", "--help"], capture_output=True, text=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime)
        assert run.returncode == 0, run.stderr
        assert "usage: atmoloss" in run.stdout
    assert min(seconds) < HELP_SECONDS, seconds
