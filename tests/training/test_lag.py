"""What AtmoDist's training does beside taking steps: it learns, validates, and keeps to its schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atmoloss import load_extractor
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError
from atmoloss.heads import MetricHead, PretextModel
from atmoloss.lag_2afc.baselines import stage_measures
from atmoloss.lag_2afc.triples import measure_source
from atmoloss.networks import Encoder
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_model, freeze_batch_norm
from atmoloss.training.weights_folder import load_model, write_weights
from tests.training.conftest import log_of, weights_of


def test_learns_what_it_is_shown(raw_config, tmp_path):
    # The fields forget themselves with time: a trained distance must order them better than chance by far.
    raw = {**raw_config, "steps": 60, "validate_every": 60, "batch_size": 8, "learning_rate": 5e-3, "log_every": 10}
    train(make_config(raw), tmp_path / "run")
    lines = log_of(tmp_path / "run")
    losses = [line["cross_entropy"] for line in lines if "cross_entropy" in line]
    assert losses[-1] < 0.85 * np.log(16)  # what guessing one of 16 classes costs
    assert lines[-1]["validation_2afc"]["winds"] > 0.7


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_validation_measures_the_distance_that_ships(share, raw_config, tmp_path):
    raw = {**raw_config, "steps": 2, "low_pass_share": share, "validation_patches": 3}
    raw["encoder_options"] = {**raw["encoder_options"], "low_pass": 4}
    config = make_config(raw)
    train(config, tmp_path / "run")
    shown = log_of(tmp_path / "run")[-1]["validation_2afc"]["winds"]
    model, normalization, _ = load_model(config, tmp_path / "run")
    splits = split_by_date(open_sources(config), config.validation, config.test)
    info, _ = write_weights(config, model, normalization, [], splits["validation"], tmp_path / "weights")
    assert ("low_pass" in info.layers) == bool(share)
    measures = stage_measures(load_extractor(tmp_path / "weights"))
    (source,) = splits["validation"]
    tallies = measure_source(source, measures, size=16, max_lag=48, limit=3)
    assert shown == pytest.approx(tallies["distance"].share, abs=1e-9)
    others = [tally.share for name, tally in tallies.items() if name != "distance"]
    assert min(abs(shown - other) for other in others) > 1e-4  # they are told apart


def test_paper_recipe_trains_with_its_own_schedule(raw_config, tmp_path):
    raw = {
        "name": "paper",
        "recipe": "paper",
        "sources": raw_config["sources"],
        "encoder_options": {"stage_channels": [4, 6], "blocks_per_stage": 1},
        "patch_sizes": [32],
        "batch_size": 4,
        "steps": 6,
        "subset_steps": 2,
        "subset_batches": 1,
        "epoch_steps": 2,
        "workers": 0,
        "learning_rate": 0.01,
        "validation": ["2026-01-09/2026-01-10"],
        "checkpoint_every": 6,
    }
    config = make_config(raw)
    train(config, tmp_path / "run")
    state = runs.load_checkpoint(tmp_path / "run")
    assert state is not None
    assert state["scheduler"]["last_epoch"] == 2  # two looks at the mean loss, after the subset
    assert any(name.startswith("head.pred") for name in state["model"])


def test_fixed_batch_norm_keeps_its_statistics(raw_config, tmp_path):
    train(make_config({**raw_config, "steps": 4, "freeze_batch_norm_after": 2, "checkpoint_every": 2}), tmp_path / "a")
    after = weights_of(tmp_path / "a")
    train(make_config({**raw_config, "steps": 4}), tmp_path / "b")
    free = weights_of(tmp_path / "b")
    assert after["encoder.stem_bn.num_batches_tracked"] == 2
    assert free["encoder.stem_bn.num_batches_tracked"] == 4
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1)
    model = PretextModel(encoder, MetricHead(encoder.channels, 8)).train()
    freeze_batch_norm(model)
    model.train()  # until then
    assert all(m.training for m in model.modules())


OPTIONS = {
    "plain": {"ranking_weight": 0.0},
    "ranking": {"ranking_weight": 1.0},
    "artefacts": {"artefact_weight": 0.5},
    "detail": {"detail_weight": 0.5, "detail_coherence": 0.1},
    "low-pass": {"low_pass_share": 0.2, "encoder_options": {"low_pass": 8}},
    "pairs": {"n_times": 2},
    "no mirror": {"mirror": False},
    "sgd": {"optimizer": "sgd", "epoch_steps": 1},
    "subset": {"subset_steps": 1, "subset_batches": 1},
    "frozen batch norm": {"freeze_batch_norm_after": 1},
    "bfloat16": {"precision": "bfloat16"},
    "published encoder": {"encoder": "resnet_small", "encoder_options": {"stage_channels": [4, 6]}},
    "winds": {"variables": ["u", "v"], "encoder_options": {"stage_channels": [4, 6], "derivatives": True}},
}


@pytest.mark.parametrize("head", ["metric", "published"])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_with_every_head_or_is_refused(option, head, raw_config, tmp_path):
    raw = {**raw_config, "ranking_weight": 0.0, "steps": 2, "validate_every": 2, "head": head, **OPTIONS[option]}
    if head == "published" and option in ("ranking", "artefacts", "detail", "low-pass"):
        with pytest.raises(ConfigError, match=r"which would do nothing; expected .*, or head = 'metric'"):
            make_config(raw)
        return
    config = make_config(raw)
    train(config, tmp_path / "run")
    state = runs.load_checkpoint(tmp_path / "run")
    first = build_model(config).state_dict()
    moved = [n for n, t in state["model"].items() if t.is_floating_point() and not torch.equal(t, first[n])]
    assert {name.split(".")[0] for name in moved} == {"encoder", "head"}
    assert all(t.isfinite().all() for t in state["model"].values())
