from __future__ import annotations

import dataclasses
import itertools
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from atmoloss.cli import main
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.networks import Encoder
from atmoloss.training import checkpoint as runs
from atmoloss.training.card import describe_data, metadata, public_path
from atmoloss.training.config import SourceConfig, TrainConfig, make_config, read_config
from atmoloss.training.lag import train
from atmoloss.training.publish import publish

ROOT = Path(__file__).resolve().parents[2]


def source(name: str, first: str, days: int) -> FieldSource:
    times = np.datetime64(first, "ns") + np.arange(days) * np.timedelta64(24, "h")
    return FieldSource(
        name, ("u",), np.zeros((days, 1, 2, 3), np.float32), times, np.zeros(days, int),
        np.array([1.0, 0.5]), np.array([0.0, 0.5, 1.0]), 2.0, "850",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3", True),
        ("/data/ERA5_winds.nc", True),
        ("/data/era-5.zarr", True),
        ("/data/gfs.nc", False),
        ("/data/camera51.nc", False),
    ],
)
def test_era5_is_attributed_as_its_licence_asks(path, says):
    fields = source("a", "2022-12-30", 4)
    (entry,) = describe_data([SourceConfig("a", path)], [fields], {"a": "0" * 64})
    wanted = "Contains modified Copernicus Climate Change Service information 2022–2023. Neither the European"
    assert entry["attribution"].startswith(wanted) == says
    assert ("CC-BY" in entry["license"]) == says
    assert entry["dates"] == "2022-12-30/2023-01-02"
    assert (entry["share"], entry["grid_spacing"], entry["n_times"], entry["level"]) == (2.0, 0.5, 4, "850")
    own = SourceConfig("a", path, license="mine", attribution="ours")
    (entry,) = describe_data([own], [fields], {"a": "0" * 64})
    assert (entry["license"], entry["attribution"]) == ("mine", "ours")


def test_paths_for_others():
    assert public_path("/home/me/winds.nc") == "winds.nc"
    assert public_path("s3://bucket/winds.zarr") == "s3://bucket/winds.zarr"


@pytest.mark.parametrize(
    ("license", "said"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ('My "own": 1', {"license": "other", "license_name": 'My "own": 1'}),
        ("", {"license": "other", "license_name": "not-stated"}),
    ],
)
def test_the_header_is_what_the_hub_reads(license, said, info):
    scores = {"distance": {"value": 0.91234}}
    sources = [{"split": s, "name": "gfs", "dates": "2026", "lag_2afc": scores} for s in ("validation", "test")]
    info = dataclasses.replace(info, license=license)
    card = ModelCard(metadata(info, {"sources": sources}) + "\n# x\n")
    data = card.data.to_dict()
    assert {key: data[key] for key in data if key.startswith("license")} == said
    assert data["library_name"] == "atmoloss"
    (result,) = card.data.eval_results  # of test dates alone
    assert (result.dataset_split, result.metric_type, result.metric_value) == ("test", "lag_2afc", 0.912)


def test_terms_of_the_data_may_change_after_training(raw_config, tmp_path):
    raw = {**raw_config, "steps": 2, "checkpoint_every": 1}
    train(make_config(raw), tmp_path / "run")
    raw["sources"] = [{**raw["sources"][0], "license": "CC0", "attribution": "Somebody."}]
    train(make_config(raw), tmp_path / "run", resume=True)
    raw["sources"] = [{**raw["sources"][0], "weight": 2.0}]
    with pytest.raises(ConfigError, match="sources is"):
        train(make_config(raw), tmp_path / "run", resume=True)


def test_the_card_says_where_it_comes_from_and_its_command_gives_the_same_weights(
    raw_config, winds_file, tmp_path, monkeypatch
):
    raw = {**raw_config, "steps": 3, "validate_every": 3}
    raw["sources"] = [{**raw["sources"][0], "license": "CC0-1.0", "attribution": "Drawn by chance."}]
    config = make_config(raw)
    train(config, tmp_path / "run")
    assert main(["train", "--output", str(tmp_path / "run"), "--publish", str(tmp_path / "weights")]) == 0
    card = (tmp_path / "weights" / "README.md").read_text()
    record = runs.read_record(tmp_path / "run")
    line = next(line for line in card.splitlines() if line.startswith("- winds, share 1: winds.nc, "))
    assert "32 times of 2026-01-01/2026-01-08" in line
    assert f"sha256 of all values {record['data']['winds'][:12]}" in line
    assert line.endswith("CC0-1.0. Drawn by chance.")
    assert "validation 2026-01-09/2026-01-10; test 2026-01-11/2026-01-12" in card
    assert ModelCard(card).data.license == "apache-2.0"
    for section in ("Model details", "Uses", "Limitations", "Evaluation", "Training data", "Training", "Citation"):
        assert f"\n## {section}\n" in card
    metrics = json.loads((tmp_path / "weights" / "metrics.json").read_text())
    assert metrics["config"] == json.loads(json.dumps({**record["config"], "sources": metrics["config"]["sources"]}))

    (command,) = (line.split() for line in card.splitlines() if line.startswith("    atmoloss train "))
    assert command == ["atmoloss", "train", "metrics.json", "--output", "runs/tiny"]
    (tmp_path / "weights" / "winds.nc").symlink_to(winds_file)
    monkeypatch.chdir(tmp_path / "weights")
    train(read_config(Path(command[2])), Path(command[4]))
    first, again = (runs.load_checkpoint(folder) for folder in (tmp_path / "run", Path(command[4])))
    assert all(torch.equal(first["model"][k], again["model"][k]) for k in first["model"])


@pytest.mark.parametrize("split", ["none", "validation", "test"])
def test_cards_show_what_there_is(split, raw_config, tmp_path):
    held = {key: raw_config[key] if key == split else [] for key in ("validation", "test")}
    config = make_config({**raw_config, **held, "steps": 2, "patch_sizes": [16, 24]})
    train(config, tmp_path / "run")
    (tmp_path / "w" / "figures").mkdir(parents=True)
    (tmp_path / "w" / "figures" / "confusion.png").write_bytes(b"of an earlier run")
    publish(config, tmp_path / "run", tmp_path / "w")
    card = (tmp_path / "w" / "README.md").read_text()
    figures = sorted(p.stem for p in (tmp_path / "w" / "figures").iterdir())
    assert sorted(re.findall(r"\]\(figures/(\w+)\.png\)", card)) == figures
    assert ("lag_2afc" in figures) == (split != "none")
    assert "distance_vs_lag" in figures
    assert "\n\n\n" not in card
    assert "patches of 16 × 16 and 24 × 24 cells" in card
    assert ("None: nothing tells how good" in card) == (split == "none")
    assert "can be told to" in card
    assert (f"| {split} | winds |" in card) == (split != "none")
    assert ("Validation dates served" in card) == (split == "validation")
    lines = (tmp_path / "run" / runs.METRICS).read_text()
    assert ("validation_2afc" in lines) == (split == "validation")


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": 3}', "{"])
def test_other_json_is_no_configuration(content, tmp_path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "x.json")


def commands_of(card: Path) -> list[list[str]]:
    """Return the commands of a card, in their order, as lists of arguments."""
    section = card.read_text(encoding="utf-8").split("## Training\n")[1]
    (line,) = (line for line in section.splitlines() if line.startswith("    "))
    return [shlex.split(command) for command in line.split("&&")]


# What changes how a run is watched, or how fast it goes, but not its weights.
WATCHING = TrainConfig.MAY_DIFFER


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "weights").iterdir()))
def test_the_command_of_a_bundled_card_trains_its_weights(name, tmp_path, monkeypatch):
    metrics = json.loads((ROOT / "weights" / name / "metrics.json").read_text())
    commands = commands_of(ROOT / "weights" / name / "README.md")
    assert [command[:2] for command in commands] == [["atmoloss", "train"]] * len(commands)
    assert [" ".join(command) for command in commands] == metrics["commands"]
    stages = [read_config(ROOT / command[2]) for command in commands]
    assert [stage.steps for stage in stages] == metrics["steps"]
    trained, shipped = (
        dataclasses.asdict(c) for c in (stages[-1], read_config(ROOT / "weights" / name / "metrics.json"))
    )
    for config in (trained, shipped):
        config["sources"] = [{**s, "path": Path(s["path"]).name} for s in config["sources"]]
    assert {k: v for k, v in trained.items() if k not in WATCHING} == {
        k: v for k, v in shipped.items() if k not in WATCHING
    }
    assert stages[0].initial_weights == ""
    for before, after in itertools.pairwise(stages):
        assert after.initial_weights == f"runs/{before.name}/weights"

    if not (ROOT / "../shared/data").is_dir():
        pytest.skip("../shared/data, which the weights were trained on, is not there")
    assert all(Path(s.path).is_file() for stage in stages for s in stage.sources)
    small = {"batch_size": 2, "workers": 0, "validation": [], "test": [], "log_every": 1}
    settings = [f"{key}={json.dumps(value)}" for key, value in small.items()]
    (path,) = {s.path for s in stages[0].sources if s.name == "gfs-0.25deg-10m-japan"}
    settings.append(f"sources=[{{name='japan', path='{path}'}}]")
    options = ["--steps", "2", "--device", "cpu", *(a for text in settings for a in ("--set", text))]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main([*command[1:], *options]) == 0
    written = Path("runs") / name / "weights"
    assert json.loads((written / "metrics.json").read_text())["steps"] == [2] * len(commands)
    config, expected = (json.loads((f / "config.json").read_text()) for f in (written, ROOT / "weights" / name))
    assert Encoder(**config["encoder"]).architecture == Encoder(**expected["encoder"]).architecture
    for key in ("name", "channels", "head", "mse_weight", "patch_sizes", "base_step_hours", "license"):
        assert config[key] == expected[key]
