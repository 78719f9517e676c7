"""The wheel: what is inside, and that it works alone in a new environment without network."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MAX_BYTES = 15 * 2**20

# One worker for the whole file, so that the wheel is built once.
pytestmark = pytest.mark.xdist_group("wheel")

OFFLINE_DISTANCE = """
import socket
def refuse(*args, **kwargs):
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse

import sys
from pathlib import Path
import torch
import atmoloss
from atmoloss import atmodist_distance

assert Path(sys.prefix).resolve() in Path(atmoloss.__file__).resolve().parents, atmoloss.__file__
torch.manual_seed(0)
a = torch.randn(2, 2, 64, 64) * 3e-5
print(*atmodist_distance(a, a.roll(1, -1)).tolist())
"""


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built as `make build` does: first the sdist, then the wheel from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (built,) = out.glob("*.whl")
    return built


def test_contents(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "atmoloss/verification/statistics/cities.csv",
        "atmoloss/verification/report/coastlines.txt",
        "atmoloss/verification/report/page.html",
        "atmoloss/verification/report/style.css",
        "atmoloss/py.typed",
        "atmoloss/weights/default/config.json",
        "atmoloss/weights/default/model.safetensors",
    } <= names
    assert not [n for n in names if not n.startswith(("atmoloss/", "atmoloss-"))]
    assert not [n for n in names if "/tests/" in n or "__pycache__" in n]
    assert wheel.stat().st_size < MAX_BYTES


def test_a_distance_from_the_wheel_without_network(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "new"
    venv.create(home, with_pip=False)  # this environment's pip installs into it: quicker, and offline
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)

    # torch and the other dependencies come from this environment. Its folders are appended behind the new
    # ones, and its .pth files (an editable atmoloss) are not read for folders added this way.
    (site_packages,) = home.glob("lib/python*/site-packages")
    parents = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "parent.pth").write_text("\n".join(sorted(parents)))

    env = os.environ | {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    distances = run(python, "-I", "-c", OFFLINE_DISTANCE, cwd=tmp_path, env=env).split()
    assert len(distances) == 2
    assert all(0 < float(d) < float("inf") for d in distances)
