"""Publishing weights: one commit, only the files of the format, readable again; and every refusal in a sentence."""

import argparse
import json
import shutil
from pathlib import Path

import pytest

from atmoloss import hub
from atmoloss.errors import WeightsError
from atmoloss.training import main as train_command
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
    (path / "metrics.json").write_text("{}")
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


def refused(server: HubServer, tmp_path: Path, folder: Path, repository: str, **environment: str) -> str:
    before = dict(server.refs)
    run = run_with_hub(
        server.endpoint, tmp_path / "cache", "-m", "atmoloss", "push", str(folder), repository, **environment, **PLAIN
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("atmoloss: error: ")
    assert server.refs == before
    return line


def test_refusals_of_the_hub(server, published, tmp_path) -> None:
    line = refused(server, tmp_path, published, "owner/new", HF_TOKEN="hf_of_somebody_else")
    assert "refuses to write to 'owner/new' (401), expected a token" in line
    line = refused(server, tmp_path, published, "another/new", HF_TOKEN=TOKEN)
    assert "refuses to write to 'another/new' (403)" in line
    assert "permission for 'another'" in line
    asked = len(server.requests)
    assert "found no Hugging Face token" in refused(server, tmp_path, published, "owner/new")
    line = refused(server, tmp_path, published, "owner/new", HF_TOKEN=TOKEN, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in line
    assert len(server.requests) == asked


def test_unreachable_and_damaged(server, published, tmp_path) -> None:
    data = (published / "model.safetensors").read_bytes()
    (published / "model.safetensors").write_bytes(data[:-1])
    assert "truncated or altered" in refused(server, tmp_path, published, "owner/new", HF_TOKEN=TOKEN)
    (published / "model.safetensors").write_bytes(data)
    server.endpoint = "http://127.0.0.1:9"
    line = refused(server, tmp_path, published, "owner/new", HF_TOKEN=TOKEN)
    assert "'owner/new' could not be written" in line


@pytest.mark.parametrize("name", ["new", "a/b/c", "./new", "/new", "owner/"])
def test_names_that_are_no_repository(name, folder, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        hub.push(folder, name)
    one_sentence(error.value, "push", repr(name), "expected a Hub repository")


def test_train_asks_for_the_token_first_and_pushes_last(monkeypatch, tmp_path, capsys) -> None:
    from atmoloss.training.arguments import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(
        ["--data", "w.nc", "--output", str(tmp_path / "run"), "--device", "cpu", "--push-to-hub", "owner/new"]
    )
    done: list[tuple[object, ...]] = []
    monkeypatch.setattr(train_command, "train", lambda config, output, **_: done.append(("train", output)))
    monkeypatch.setattr(train_command, "publish", lambda config, output, folder: done.append(("export", folder)))

    def no_token(repository: str) -> None:
        raise WeightsError("push: no token")

    monkeypatch.setattr(hub, "check_push", no_token)
    with pytest.raises(WeightsError, match="no token"):
        train_command.run(arguments)
    assert done == []

    def push(folder: Path, repository: str) -> str:
        done.append(("push", folder, repository))
        return "c" * 40

    monkeypatch.setattr(hub, "check_push", lambda repository: None)
    monkeypatch.setattr(hub, "push", push)
    assert train_command.run(arguments) == 0
    folder = tmp_path / "run" / "weights"
    assert done == [("train", tmp_path / "run"), ("export", folder), ("push", folder, "owner/new")]
    assert f"revision='{'c' * 40}'" in capsys.readouterr().out
