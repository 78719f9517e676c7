"""From a run to a weights folder that a loss and an evaluation can use, whatever the variables."""

from __future__ import annotations

import json

import pytest
import torch

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.cli import main
from atmoloss.training.card import FIGURES
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.publish import publish


@pytest.mark.parametrize(
    "change",
    [
        {"variables": ["u10", "v10"]},
        {"variables": ["u10"]},
        {"precision": "bfloat16", "workers": 1},
        {"encoder": "resnet_small", "patch_sizes": [32]},
        {"ranking_weight": 0.0, "n_times": 2, "patch_sizes": [16, 24]},
    ],
    ids=["winds", "one scalar", "bfloat16", "published encoder", "pairs, two sizes"],
)
def test_command_trains_and_publishes_any_variables(change, raw_config, winds_file, tmp_path, capsys):
    raw = {**raw_config, **change, "steps": 4, "n_times": change.get("n_times", 3)}
    settings = [f"{k}={json.dumps(v)}" for k, v in raw.items() if k not in ("sources", "variables", "encoder_options")]
    settings.append("encoder_options={stage_channels=[4, 6], blocks_per_stage=1}")
    arguments = ["train", "--data", str(winds_file), "--output", str(tmp_path / "run"), "--device", "cpu"]
    for text in settings:
        arguments += ["--set", text]
    if "variables" in change:
        arguments += ["--variables", ",".join(change["variables"])]
    assert main(arguments) == 0
    folder = tmp_path / "run" / "weights"
    names = tuple(change.get("variables", ("divergence", "vorticity")))
    extractor = load_extractor(folder)
    assert extractor.info.channel_names == names
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in extractor.modules())
    std = torch.tensor(extractor.info.normalization["std"])[:, None, None]
    value = AtmoDistLoss(folder)(std * torch.randn(2, len(names), 32, 32), std * torch.randn(2, len(names), 32, 32))
    assert torch.isfinite(value)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["weights"] == extractor.info.id
    assert {s["split"] for s in metrics["sources"]} == {"validation", "test"}
    scores = metrics["sources"][-1]["lag_2afc"]
    assert {"distance", "random weights", "MSE of winds, mean of 4x4", "SSIM of fields"} <= scores.keys()
    assert {path.name for path in (folder / "figures").iterdir()} == {f"{name}.png" for name in FIGURES}
    card = (folder / "README.md").read_text()
    assert extractor.info.id in card
    assert str(tmp_path) not in card + (folder / "metrics.json").read_text()


def test_units_and_names_reach_the_weights_and_the_card(scalar_config, tmp_path, capsys):
    config = make_config(scalar_config)
    train(config, tmp_path / "run")
    publish(config, tmp_path / "run", tmp_path / "weights")
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["channels"] == [
        {"name": "t2m", "standard_name": "air_temperature", "units": "K"},
        {"name": "cloud", "standard_name": "atmosphere_mass_content_of_cloud_liquid_water", "units": "kg m-2"},
    ]
    assert "t2m (K), cloud (kg m-2)" in (tmp_path / "weights" / "README.md").read_text()
    capsys.readouterr()
    assert main(["info", str(tmp_path / "weights")]) == 0
    assert "cloud, kg m-2" in capsys.readouterr().out


def test_published_weights_are_evaluated_by_the_command(raw_config, winds_file, tmp_path, capsys):
    config = make_config({**raw_config, "steps": 2})
    train(config, tmp_path / "run")
    publish(config, tmp_path / "run", tmp_path / "w")
    capsys.readouterr()
    report = tmp_path / "report.json"
    arguments = ["evaluate", str(tmp_path / "w"), str(winds_file), "--patch", "16", "--json", str(report)]
    assert main([*arguments, "--dates", "2026-01-11/2026-01-12"]) == 0
    out = capsys.readouterr().out
    assert "lag 2AFC" in out
    assert "top-1" in out
    entry = json.loads(report.read_text())["sources"][0]
    assert entry["n_times"] == 8
    assert entry["lag_2afc"]["distance"]["interval"] is None  # of two days
    assert "too few days" in out
    assert {"top1", "top3", "mae_hours", "per_lag"} <= entry["classes"].keys()
    assert main([*arguments, "--dates", "2030-01-01/2030-01-02"]) == 1
    assert "expected at least 3" in capsys.readouterr().err
