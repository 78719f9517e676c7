"""What gets imported when, and how fast help answers. Each case runs in its own interpreter."""

import json
import resource
import subprocess
import sys

import pytest

from atmoloss.cli import VERBS

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


@pytest.mark.parametrize("package", ["atmoloss", "atmoloss.verification"])
def test_the_package_alone_loads_no_torch(package: str) -> None:
    assert not modules_after(f"import {package}") & (HEAVY | {"torch"})


@pytest.mark.parametrize(
    "words",
    [["atmoloss"], ["atmoloss.train"], *(["atmoloss", verb.replace("_", "-")] for verb in VERBS)],
    ids=" ".join,
)
def test_help_loads_no_torch(words: list[str]) -> None:
    loaded = modules_after(f"""
import runpy, sys
sys.argv = {[*words, "--help"]!r}
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
""")
    assert not loaded & (HEAVY | {"numpy", "torch"})


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


WITHOUT_EXTRAS = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
"""
EXTRAS = HEAVY - {"torchvision"} | {"fsspec", "ducc0", "cfgrib", "eccodes", "tensorboard", "distributed", "numcodecs"}
LOOKS = {
    "hasattr": "import atmoloss\nassert all(hasattr(atmoloss, name) for name in atmoloss.__all__)",
    "getmembers": "import atmoloss, inspect\nassert set(atmoloss.__all__) <= dict(inspect.getmembers(atmoloss)).keys()",
    "help": "import atmoloss, pydoc\nassert 'AtmoDistMetric' in pydoc.render_doc(atmoloss)",
    "help of the metric": "import atmoloss, pydoc\nassert 'update' in pydoc.render_doc(atmoloss.AtmoDistMetric)",
    "star": "from atmoloss import *\nassert AtmoDistLoss and AtmoDistMetric and load_extractor",
    "signature": "import atmoloss, inspect\n[inspect.signature(getattr(atmoloss, n)) for n in atmoloss.__all__]",
    "use": "import atmoloss, torch\nx = 4e-5 * torch.randn(2, 2, 32, 32)\nassert atmoloss.AtmoDistLoss()(x, x) == 0",
    "the error": """
import atmoloss
try:
    atmoloss.AtmoDistMetric()
except ImportError as error:
    assert "pip install 'atmoloss[metrics]'" in str(error), error
else:
    raise AssertionError("the metric was made without torchmetrics")
""",
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_a_core_install_can_be_looked_at(look: str) -> None:
    """No extra is there; the names are, and using one says which extra it needs."""
    code = WITHOUT_EXTRAS.format(extras=EXTRAS) + look
    run = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
