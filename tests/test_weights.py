"""The weights folder: found, verified, strict; the Hub is a local HTTP server."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from atmoloss import weights
from atmoloss.errors import WeightsError
from atmoloss.extractor import load_extractor
from tests.hub_server import HubServer, files_of, run_with_hub


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del config[key]
        else:
            config[key] = value
    path.write_text(json.dumps(config))


def test_a_folder_gives_the_extractor_that_was_saved(folder, extractor, draw) -> None:
    loaded = load_extractor(folder)
    x = draw()
    for name, f in extractor(x).items():
        assert torch.equal(loaded(x)[name], f), name
    assert loaded.info.id == f"tiny@{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()[:8]}"
    assert loaded.info.channel_names == ("divergence", "vorticity")
    assert loaded.info.layer_scales == extractor.info.layer_scales
    assert load_extractor(str(folder)).info == loaded.info
    files = {p.name for p in folder.iterdir()}
    assert files == {"config.json", "model.safetensors"}  # no temporary file left, nothing pickled


def test_bundled_names_come_first(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "__file__", str(tmp_path / "site/atmoloss/weights.py"))
    monkeypatch.chdir(tmp_path)
    assert weights.bundled() == {}
    shutil.copytree(folder, tmp_path / "default")  # a folder in the working directory is no rival
    beside = tmp_path / "site/weights/default"
    shutil.copytree(folder, beside)
    assert weights.bundled() == {"default": beside}
    inside = tmp_path / "site/atmoloss/weights/default"
    shutil.copytree(folder, inside)
    assert weights.resolve("default") == inside
    assert weights.resolve("./default").resolve() == (tmp_path / "default").resolve()


@pytest.mark.parametrize("name", ["no-such-name", "./no/folder", "/no/folder", "a/b/c", "~/no-such-folder"])
def test_unknown_names(name, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        load_extractor(name)
    one_sentence(error.value, "weights", name, "expected a bundled name")


def test_a_folder_without_config(tmp_path, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        load_extractor(tmp_path)
    one_sentence(error.value, "weights", str(tmp_path), "expected a weights folder")


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-7] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def resaved(change):
    """Alter the tensors and write a hash that fits them."""

    def alter(folder: Path) -> None:
        info, tensors = weights.load(folder)
        change(tensors)
        weights.save(folder, info, tensors)

    return alter


def wrong_shape(tensors) -> None:
    tensors["encoder.stem.weight"] = torch.zeros(4, 3, 5, 5)


def rename_gain(tensors) -> None:
    tensors["gain.stage9"] = tensors.pop("gain.stage4")


def shorten_gain(tensors) -> None:
    tensors["gain.stage4"] = tensors["gain.stage4"][:3]


ENCODER = {"stage_channels": [4, 6, 8, 8], "blocks_per_stage": [1, 1, 1, 1], "stem_kernel": 5}
ALTERATIONS = {
    "truncated": (truncate, "truncated or altered"),
    "one bit": (flip_a_bit, "truncated or altered"),
    "no tensors": (lambda f: (f / "model.safetensors").unlink(), "cannot be read"),
    "no hash": (lambda f: edit(f, sha256=None), "truncated or altered"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "format version"),
    "newer format": (lambda f: edit(f, format_version=3), "format version 3, expected 1 or 2"),
    "no format": (lambda f: edit(f, format_version=None), "format version None, expected 1 or 2"),
    "missing key": (lambda f: edit(f, encoder=None), "encoder"),
    "unknown key": (lambda f: edit(f, colour="blue"), "colour"),
    "unknown encoder argument": (lambda f: edit(f, encoder={"depth": 3}), "depth"),
    "removed encoder argument": (lambda f: edit(f, encoder={"context": 32}), "context = 32 in .*commit 8a98d61"),
    "removed argument at rest": (lambda f: edit(f, encoder={"unit_features": False}), "no effect there: remove"),
    "removed head": (lambda f: edit(f, head={"kind": "difference"}), 'kind = "difference" in .*commit 8a98d61'),
    "bad encoder argument": (lambda f: edit(f, encoder={"downsample": "twice"}), "downsample"),
    "unknown normalization": (lambda f: edit(f, normalization={"mean": [0, 0]}), "normalization"),
    "another stem": (lambda f: edit(f, encoder=ENCODER), "do not fit"),
    "missing tensor": (resaved(lambda t: t.pop("encoder.stem.weight")), "encoder.stem.weight|stem.weight"),
    "extra tensor": (resaved(lambda t: t.update({"encoder.x": torch.zeros(1)})), "x"),
    "wrong shape": (resaved(wrong_shape), "do not fit"),
    "gain of no stage": (resaved(rename_gain), "stage9"),
    "gain too short": (resaved(shorten_gain), "stage4"),
    "channels": (lambda f: edit(f, channels=[{"name": "divergence", "units": "s-1"}]), "channels"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_weights_are_refused(name, copied, one_sentence) -> None:
    alter, words = ALTERATIONS[name]
    alter(copied)
    with pytest.raises(WeightsError, match=words) as error:
        load_extractor(copied)
    one_sentence(error.value, "weights")


# --- the Hub ---------------------------------------------------------------------------------------------

LOAD = """
import json, sys
import torch
from atmoloss import load_extractor
from atmoloss.errors import WeightsError
x = 3e-5 * torch.sin(torch.arange(2 * 32 * 32.0)).reshape(1, 2, 32, 32)
for name, revision in json.loads(sys.argv[1]):
    try:
        extractor = load_extractor(name, revision)
        print(json.dumps([extractor.info.id, float(extractor(x)["stage4"].double().sum())]))
    except WeightsError as error:
        print(json.dumps(["WeightsError", str(error)]))
"""


@pytest.fixture
def hub(folder, tmp_path):
    """owner/tiny on a local server: ``main``, and ``v1`` with another name."""
    old = Path(shutil.copytree(folder, tmp_path / "v1"))
    edit(old, name="tiny-v1")
    with HubServer() as server:
        server.add("owner/tiny", "v1", files_of(old))
        server.add("owner/tiny", "main", files_of(folder))
        yield server


def load_from(endpoint: str, cache: Path, cases, **environment: str):
    run = run_with_hub(endpoint, cache, "-c", LOAD, json.dumps(cases), **environment)
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture
def expected(folder):
    x = 3e-5 * torch.sin(torch.arange(2 * 32 * 32.0)).reshape(1, 2, 32, 32)
    extractor = load_extractor(folder)
    return extractor.info.sha256[:8], float(extractor(x)["stage4"].double().sum())


def test_hub_then_offline(hub, expected, tmp_path, one_sentence) -> None:
    endpoint, requests = hub.endpoint, hub.requests
    digest, value = expected
    cache = tmp_path / "cache"
    cases = [["owner/tiny", None], ["owner/tiny", "v1"], ["owner/tiny", "v9"], ["owner/none", None]]
    main, v1, *missing = load_from(endpoint, cache, cases)
    assert main[0] == f"tiny@{digest}"
    assert v1[0] == f"tiny-v1@{digest}"
    assert main[1] == v1[1] == pytest.approx(value, rel=1e-6)
    for (kind, message), words in zip(missing, (("owner/tiny", "v9"), ("owner/none", "main")), strict=True):
        assert kind == "WeightsError"
        one_sentence(ValueError(message), "weights", *words)
    assert any("/resolve/v1/" in r for r in requests)

    # Offline, as on a node of a cluster: the cache answers, nothing is asked.
    asked = len(requests)
    cases = [
        ["owner/tiny", None],
        ["owner/tiny", "v1"],
        ["owner/tiny", hub.refs["owner/tiny", "v1"]],
        ["owner/new", None],
    ]
    *cached, (kind, message) = load_from(endpoint, cache, cases, HF_HUB_OFFLINE="1")
    assert cached == [main, v1, v1]
    assert kind == "WeightsError"
    one_sentence(ValueError(message), "weights", "owner/new")
    assert len(requests) == asked


def test_a_damaged_hub_cache_is_refused(hub, tmp_path) -> None:
    cache = tmp_path / "cache"
    load_from(hub.endpoint, cache, [["owner/tiny", None]])
    (tensors_file,) = cache.glob("hub/models--owner--tiny/snapshots/*/model.safetensors")
    data = tensors_file.read_bytes()
    blob = tensors_file.resolve()
    blob.chmod(0o644)
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    # Unreachable without HF_HUB_OFFLINE, too: the cache is used, and verified.
    ((kind, message),) = load_from("http://127.0.0.1:9", cache, [["owner/tiny", None]])
    assert kind == "WeightsError"
    assert "truncated or altered" in message


def test_both_files_come_from_one_commit(hub, folder, tmp_path) -> None:
    # Somebody pushes other weights between the two downloads.
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    info, tensors = weights.load(other)
    weights.save(other, info, {name: t + 1 for name, t in tensors.items()})
    first = hub.refs["owner/tiny", "main"]
    hub.after_config = lambda: hub.add("owner/tiny", "main", files_of(other))
    ((name, _),) = load_from(hub.endpoint, tmp_path / "cache", [["owner/tiny", None]])
    assert hub.refs["owner/tiny", "main"] != first
    assert name == load_extractor(folder).info.id
    ((name, _),) = load_from(hub.endpoint, tmp_path / "cache", [["owner/tiny", None]])
    assert name == load_extractor(other).info.id


def test_the_list_is_of_what_is_bundled() -> None:
    found = {summary.name: summary for summary in weights.list_weights()}
    assert found.keys() == weights.bundled().keys()
    winds = found["winds"]
    assert winds.variables == ("u [m s-1]", "v [m s-1]")
    assert (1.0, "10 m") in winds.hours
    assert {"10 m", "850 hPa"} <= set(winds.levels)
    assert 1.0 in winds.grid_spacings
    size = (weights.bundled()["winds"] / "model.safetensors").stat().st_size
    assert winds.megabytes == pytest.approx(size / 2**20, rel=0.1)
