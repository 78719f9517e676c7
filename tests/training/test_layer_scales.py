"""Layer scales make feature distances as large as the squared error."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError, InputError
from atmoloss.heads import MetricHead, PretextModel, PublishedHead, build_head
from atmoloss.networks import Encoder
from atmoloss.training.config import TrainConfig, make_config
from atmoloss.training.layer_scales import fit_equal_layers, fit_layer_scale, fit_layers, lag_curves, source_curves
from atmoloss.training.loop import open_sources
from atmoloss.training.weights_folder import head_gains


def test_scales_make_stages_and_their_sum_equal_the_mse():
    mse = np.linspace(0.5, 1.5, 16)
    curves = {"stage1": 0.2 * mse, "stage2": 3.0 * mse, "mse": mse}
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1)
    gap = {n: c.copy() for n, c in curves.items()}
    for c in gap.values():
        c[::2] = np.nan  # a source with every other lag
    chosen = fit_layers(PretextModel(encoder, MetricHead(encoder.channels, 8)), {"a": curves, "b": gap})
    assert chosen["layer_scales"] == pytest.approx({"stage1": 5.0, "stage2": 1 / 3})
    total = sum(chosen["layers"][n] * chosen["layer_scales"][n] * curves[n] for n in chosen["layers"])
    np.testing.assert_allclose(total, mse)
    head = PublishedHead(encoder.channels, 8, (16, 16), encoder.strides["stage2"])
    assert fit_layers(PretextModel(encoder, head), {"a": curves})["layers"] == {"stage2": 1.0}


def test_stages_of_an_encoder_without_a_distance_count_equally():
    mse = np.linspace(0.5, 1.5, 16)
    curves = {"low_pass": 0.7 * mse, "stage1": 0.2 * mse, "stage2": 3.0 * mse, "mse": mse}
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False, low_pass=4)
    chosen = fit_equal_layers(encoder, {"a": curves})
    parts = {n: chosen["layers"][n] * chosen["layer_scales"][n] * curves[n] for n in chosen["layers"]}
    np.testing.assert_allclose([parts["stage1"], parts["stage2"]], [mse / 2, mse / 2])


def test_low_pass_takes_its_share_of_the_distance_and_nothing_of_the_head():
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False, low_pass=4)
    model = PretextModel(encoder, build_head({"kind": "metric", "n_classes": 8}, encoder))
    assert list(head_gains(model)) == ["stage1", "stage2"]
    mse = np.linspace(0.5, 1.5, 16)
    curves = {"low_pass": 0.7 * mse, "stage1": 0.2 * mse, "stage2": 3.0 * mse, "mse": mse}
    chosen = fit_layers(model, {"a": curves}, 0.3)
    parts = {n: chosen["layers"][n] * chosen["layer_scales"][n] * curves[n] for n in chosen["layers"]}
    np.testing.assert_allclose(parts["low_pass"], 0.3 * mse)
    np.testing.assert_allclose(sum(parts.values()), mse)
    without = fit_layers(model, {"a": curves})
    assert list(without["layers"]) == ["stage1", "stage2"]
    assert without["layer_scales"] == chosen["layer_scales"]


def test_curves_are_means_over_the_pairs_of_each_lag(extractor):
    rng = np.random.default_rng(0)
    times = np.datetime64("2026-01-01", "ns") + np.arange(12) * np.timedelta64(3, "h")
    source = FieldSource(
        "a", ("divergence", "vorticity"), rng.normal(0, 4e-5, (12, 2, 16, 16)).astype(np.float32), times,
        np.zeros(12, int), np.arange(16.0)[::-1], np.arange(16.0), 1.0, "850",
    )  # fmt: skip
    spec = TrainConfig(n_times=3, n_classes=4, patch_sizes=(16,), batch_size=2, base_step=3, mirror=False)
    curves = lag_curves(extractor, source, spec)
    assert curves.keys() == {*extractor.stages, "mse"}
    differences = {name: [[] for _ in range(4)] for name in curves}
    data = SequenceDataset([source], spec, seed=0, length=32)
    for fields, hours in (data[i] for i in range(32)):
        for sequence, at in zip(fields, hours.tolist(), strict=True):
            for i, j in itertools.combinations(range(3), 2):
                pair = extractor.normalization(sequence[[i, j]])
                for name, f in {**extractor.encode(pair), "mse": pair}.items():
                    differences[name][(at[j] - at[i]) // 3 - 1].append(float((f[0] - f[1]).double().square().mean()))
    for name, curve in curves.items():
        np.testing.assert_allclose(curve, [np.mean(values) for values in differences[name]], rtol=1e-5)  # of float32


def test_sources_that_set_no_scale(raw_config):
    config = make_config(raw_config)
    (source,) = open_sources(config)
    untrained = dataclasses.replace(source, name="untrained", weight=0.0)
    with pytest.raises(ConfigError, match="no held-out source has a sequence"):
        source_curves(None, [untrained, source.select(np.arange(len(source.times)) < 1)], config)


@pytest.mark.parametrize(
    ("content", "mse", "says"),
    [
        ([1.0, 2.0], [1.0], "two equal shapes"),
        ([], [], "two equal shapes"),
        ([1.0, 0.0], [1.0, 1.0], "not all zero"),
        ([1.0, math.nan], [1.0, 1.0], "finite"),
    ],
)
def test_curves_that_say_nothing_of_a_scale(content, mse, says, one_sentence):
    with pytest.raises(InputError) as error:
        fit_layer_scale(content, mse)
    one_sentence(error.value, "content, mse", says, "expected")


def test_a_scale_is_fitted_to_the_upper_half_of_the_lags():
    content, mse = np.array([9.0, 9.0, 1.0, 2.0, 3.0]), np.array([0.0, 5.0, 2.5, 4.0, 7.5])
    expected, *_ = np.linalg.lstsq(content[2:, None], mse[2:], rcond=None)
    assert fit_layer_scale(content, mse) == pytest.approx(float(expected[0]))
