"""Training by prediction: it learns, it measures as it says, and its weights are read by what comes after."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss import weights as weights_folder
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError, DataError
from atmoloss.training import checkpoint as runs
from atmoloss.training import lag, predict
from atmoloss.training.config import make_config
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_prediction, fit_normalization
from atmoloss.training.weights_folder import load_pretext
from tests.training.conftest import interrupted_after, log_of, weights_of


@pytest.fixture
def next_config(raw_config) -> dict:
    raw = {k: v for k, v in raw_config.items() if k not in ("n_classes", "ranking_weight")}
    options = {**raw["encoder_options"], "stage_channels": [4, 8], "attention": {"stage2": {"heads": 2, "radius": 1}}}
    head = {"width": 16, "heads": 2, "radius": 1}
    return {**raw, "pretext": "next", "base_step": 6, "n_times": 4, "encoder_options": options, "head_options": head}


def test_learns_to_predict_better_than_persistence(next_config, tmp_path):
    raw = {**next_config, "steps": 25, "validate_every": 25, "learning_rate": 1e-2}
    predict.train(make_config({**raw, "validation_patches": 4}), tmp_path / "run")
    assert log_of(tmp_path / "run")[-1]["validation_error"]["winds"] < 0.97


@pytest.mark.parametrize("mask", ["tokens", "box", "middle", "channel"])
def test_every_mask_trains_and_only_its_encoder_is_kept(mask, next_config, tmp_path):
    config = make_config({**next_config, "pretext": "masked", "mask": mask, "n_times": 3, "steps": 2})
    predict.train(config, tmp_path / "run")
    predict.publish(config, tmp_path / "run", tmp_path / "weights")
    info, tensors = weights_folder.load(tmp_path / "weights")
    assert info.head is None
    assert {name.partition(".")[0] for name in tensors} == {"encoder"}


def test_a_continued_run_is_the_one_that_was_not_interrupted(next_config, tmp_path):
    config = make_config(next_config)
    predict.train(config, tmp_path / "whole")
    with interrupted_after(4), pytest.raises(KeyboardInterrupt):
        predict.train(config, tmp_path / "parts")
    predict.train(config, tmp_path / "parts", resume=True)
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())


def test_weights_of_a_prediction_start_a_lag_training_and_are_features(next_config, raw_config, tmp_path):
    config = make_config(next_config)
    predict.train(config, tmp_path / "run")
    predict.publish(config, tmp_path / "run", tmp_path / "weights")
    info, tensors = weights_folder.load(tmp_path / "weights")
    assert info.format_version == 2
    assert info.head == {"kind": "space_time", "frames": 3, "width": 16, "blocks": 1, "heads": 2, "radius": 1}
    assert load_pretext(tmp_path / "weights") is None
    assert load_extractor(tmp_path / "weights").stages == ("stage1", "stage2")
    fields = torch.from_numpy(open_sources(config)[0].values[:4, :, :16, :16])
    whole, *stages = (
        AtmoDistLoss(tmp_path / "weights", layers=layers)(fields[:2], fields[2:])
        for layers in (None, ["stage1"], ["stage2"])
    )
    torch.testing.assert_close(whole, (stages[0] + stages[1]) / 2)
    (entry, tested) = json.loads((tmp_path / "weights" / "metrics.json").read_text())["sources"]
    assert (entry["split"], tested["split"]) == ("validation", "test")
    assert 0 < entry["damped"] <= 1
    started = {**raw_config, "encoder_options": next_config["encoder_options"], "steps": 1}
    lag.train(
        make_config({**started, "initial_weights": str(tmp_path / "weights"), "learning_rate": 1e-9}), tmp_path / "lag"
    )
    state = runs.load_checkpoint(tmp_path / "lag")
    weight = "encoder.stages.stage1.0.conv1.weight"
    assert torch.allclose(state["model"][weight], tensors[weight], atol=1e-6)
    assert np.allclose(state["normalization"]["mean"], info.normalization["mean"])


def test_errors_are_shares_of_persistence(next_config):
    config = make_config(next_config)
    (source,) = split_by_date(open_sources(config), config.validation, config.test)["train"]
    normalization = fit_normalization(config, [source])
    model = build_prediction(config)  # before training, it is persistence
    errors = predict.prediction_errors(model, normalization, source, config, 3)
    assert abs(errors["error"] - 1) < 1e-6
    batches = predict.SequenceDataset([source], config, seed=2**33, length=3)
    x, y = (torch.cat([normalization(batches[i].fields[:, t]) for i in range(3)]).double() for t in (2, 3))
    factor = (x * y).sum((0, 2, 3)) / (x * x).sum((0, 2, 3))
    damped = (y - factor[:, None, None] * x).square().sum() / (y - x).square().sum()
    assert abs(errors["damped"] - float(damped)) < 1e-6
    assert predict.prediction_errors(model, normalization, source.select(np.arange(3)), config, 3) == {}


def test_sequences_without_the_step_are_refused(next_config, tmp_path, one_sentence):
    with pytest.raises(DataError) as error:
        predict.train(make_config({**next_config, "base_step": 3}), tmp_path / "run")
    one_sentence(error.value, "4 times within 9 h", "multiples of 3 h")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pretext": "later"}, ("pretext", "'later'")),
        ({"pretext": "masked"}, ("mask", "''")),
        ({"mask": "box"}, ("mask", "'box'", "pretext = 'masked'")),
        ({"pretext": "masked", "mask": "channel", "variables": ["u10"]}, ("mask", "two or more")),
        ({"head": "metric"}, ("head", "'metric'", "'space_time'")),
        ({"n_classes": 5}, ("n_classes", "got 5", "expected 3")),
        ({"pretext": "lag", "n_classes": 5}, ("head", "head_options")),
    ],
)
def test_wrong_configurations(changed, words, next_config, one_sentence):
    with pytest.raises(ConfigError) as error:
        make_config({**next_config, **changed})
    one_sentence(error.value, *words, "expected")


def test_publishing_needs_a_checkpoint(next_config, tmp_path, one_sentence):
    config = make_config(next_config)
    runs.create_folder(tmp_path / "run", False)
    runs.write_record(tmp_path / "run", runs.describe(config, []))
    with pytest.raises(ConfigError) as error:
        predict.publish(config, tmp_path / "run", tmp_path / "weights")
    one_sentence(error.value, "output", "no checkpoint")
