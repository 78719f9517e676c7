"""Publishing weights: one commit, only the files of the format, readable again; and every refusal in a sentence."""

import json
import shutil
from pathlib import Path

import pytest

from atmoloss import weights
from atmoloss.errors import WeightsError
from tests.hub_server import TOKEN, HubServer, files_of, run_with_hub

# The large file goes by plain HTTP as Git LFS does: Xet's own protocol has no stand-in here.
PLAIN = {"HF_HUB_DISABLE_XET": "1"}

DISTANCES = """
import json, sys
import torch
from atmoloss import atmodist_distance, load_extractor
a, b = (3e-5 * torch.sin(f * torch.arange(2 * 2 * 32 * 32.0)).reshape(2, 2, 32, 32) for f in (1.0, 1.1))
for name, revision in json.loads(sys.argv[1]):
    extractor = load_extractor(name, revision)
    print(json.dumps([extractor.info.id, atmodist_distance(a, b, weights=extractor).tolist()]))
"""


@pytest.fixture
def server():
    with HubServer() as running:
        yield running


@pytest.fixture
def published(folder, tmp_path) -> Path:
    """A folder as training writes it, with something beside that is nobody's business."""
    path = Path(shutil.copytree(folder, tmp_path / "weights"))
    (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# tiny\n")
    scores = {"distance": {"value": 0.912, "interval": None}, "MSE of fields": {"value": 0.77, "interval": None}}
    sources = [{"name": "gfs", "split": "test", "n_times": 40, "lag_2afc": scores, "classes": None}]
    (path / "metrics.json").write_text(json.dumps({"sources": sources}))
    (path / "figures").mkdir()
    (path / "figures" / "lag_2afc.png").write_bytes(b"PNG")
    (path / "figures" / "draft.svg").write_text("<svg/>")
    (path / "checkpoint.pt").write_bytes(b"mine")
    return path


def test_pushed_weights_come_back(server, published, tmp_path) -> None:
    def push(repository: str) -> str:
        run = run_with_hub(
            server.endpoint, tmp_path / "cache", "-m", "atmoloss", "push", str(published), repository,
            HF_TOKEN=TOKEN, **PLAIN,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert TOKEN not in run.stdout + run.stderr
        return run.stdout

    out = push("owner/new")
    first = server.refs["owner/new", "main"]
    assert f"load_extractor('owner/new', revision='{first}')" in out
    names = {"config.json", "model.safetensors", "README.md", "metrics.json", "figures/lag_2afc.png", ".gitattributes"}
    assert server.commits[first].keys() == names
    for name, data in files_of(published).items():
        assert name not in names or server.commits[first][name] == data
    assert sum("/commit/" in path for path in server.requests) == 1

    config = json.loads((published / "config.json").read_text())
    (published / "config.json").write_text(json.dumps({**config, "name": "second"}))
    push("owner/new")  # the repository is there by now
    cases = json.dumps([[str(published), None], ["owner/new", None], ["owner/new", first]])
    run = run_with_hub(server.endpoint, tmp_path / "cache", "-c", DISTANCES, cases)
    assert run.returncode == 0, run.stderr
    local, new, old = (json.loads(line) for line in run.stdout.splitlines())
    assert new == local
    assert old == [local[0].replace("second", "tiny"), local[1]]
    assert all(d > 0 for d in local[1])
    # What came with the weights is all that a node without a connection needs to say how good they are.
    run = run_with_hub(server.endpoint, tmp_path / "cache", "-m", "atmoloss", "info", "owner/new", HF_HUB_OFFLINE="1")
    assert run.returncode == 0, run.stderr
    assert "gfs (test, 40 times): lag 2AFC 0.912, best baseline 0.770 (MSE of fields)" in run.stdout


PUSH = """
import json, os, sys
from atmoloss.cli import main
for folder, repository, token in json.loads(sys.argv[1]):
    os.environ["HF_TOKEN"] = token
    assert main(["push", folder, repository]) == 1
"""


def refusals(server: HubServer, tmp_path: Path, *cases: tuple[Path, str, str], **environment: str) -> list[str]:
    """Push folders to repositories with tokens; nothing may get there. Returns the line that each one says."""
    arguments = json.dumps([(str(folder), repository, token) for folder, repository, token in cases])
    run = run_with_hub(server.endpoint, tmp_path / "cache", "-c", PUSH, arguments, **environment, **PLAIN)
    assert run.returncode == 0, run.stderr
    lines = run.stderr.splitlines()
    assert len(lines) == len(cases)
    assert all(line.startswith("atmoloss: error: ") for line in lines)
    assert server.refs == {}
    return lines


def test_refusals(server, published, tmp_path) -> None:
    cut = Path(shutil.copytree(published, tmp_path / "cut"))
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-1])
    unknown, foreign, missing, damaged = refusals(
        server,
        tmp_path,
        (published, "owner/new", "hf_of_somebody_else"),
        (published, "another/new", TOKEN),
        (published, "owner/new", ""),
        (cut, "owner/new", TOKEN),
    )
    assert "refuses to write to 'owner/new' (401), expected a token" in unknown
    assert "refuses to write to 'another/new' (403)" in foreign
    assert "permission for 'another'" in foreign
    assert "found no Hugging Face token" in missing
    assert "truncated or altered" in damaged


def test_no_connection(server, published, tmp_path) -> None:
    (line,) = refusals(server, tmp_path, (published, "owner/new", TOKEN), HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in line
    assert server.requests == []
    server.endpoint = "http://127.0.0.1:9"
    (line,) = refusals(server, tmp_path, (published, "owner/new", TOKEN))
    assert "'owner/new' could not be written" in line


@pytest.mark.parametrize("name", ["new", "a/b/c", "./new", "/new", "owner/"])
def test_names_that_are_no_repository(name, folder, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        weights.push(folder, name)
    one_sentence(error.value, "push", repr(name), "expected a Hub repository")
