"""What is written to a weights folder is the distance that was trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from atmoloss import load_extractor
from atmoloss.errors import ConfigError
from atmoloss.heads import MetricHead, PretextModel
from atmoloss.networks import Encoder
from atmoloss.training.config import make_config
from atmoloss.training.layer_scales import fit_layer_scale, lag_curves
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_model, fit_normalization
from atmoloss.training.weights_folder import head_gains, load_model, load_pretext, write_encoder, write_weights


def test_gains_make_plain_differences_the_trained_distance():
    torch.manual_seed(0)
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False).eval()
    model = PretextModel(encoder, MetricHead(encoder.channels, 8))
    with torch.no_grad():
        for p in model.head.log_weights.values():
            p.normal_()
    a, b = encoder(torch.randn(3, 2, 16, 16)), encoder(torch.randn(3, 2, 16, 16))
    gains = head_gains(model)
    plain = sum(((a[n] - b[n]) * gains[n][:, None, None]).square().mean((1, 2, 3)) for n in a)
    torch.testing.assert_close(plain, model.head.distance(a, b))


@pytest.mark.parametrize("head", ["metric", "published"])
def test_a_folder_gives_back_the_model_and_its_distance(head, raw_config, tmp_path):
    more = {"head": head, "ranking_weight": float(head == "metric"), "license": "CC0-1.0", "mse_weight": 0.1}
    config = make_config({**raw_config, **more})
    sources = open_sources(config)
    model = build_model(config)
    with torch.no_grad():
        for p in model.parameters():  # no gain is 1
            p.add_(0.1 * torch.rand(p.shape))
    normalization = fit_normalization(config, sources)
    info, _ = write_weights(config, model.eval(), normalization, sources, sources, tmp_path / "weights")

    again = load_pretext(tmp_path / "weights")
    assert again is not None
    assert not again.training
    expected = model.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in again.state_dict().items() if t.is_floating_point())

    extractor = load_extractor(tmp_path / "weights")
    assert extractor.info == info
    assert (info.license, info.mse_weight, info.patch_sizes, info.grid_spacings) == ("CC0-1.0", 0.1, (16,), (1.0,))
    fields = torch.from_numpy(sources[0].values[:6, :, :16, :16])
    a, b = extractor(fields[:3]), extractor(fields[3:])
    if head == "metric":
        trained = model.head.distance(*(model.encoder(normalization(f)) for f in (fields[:3], fields[3:])))
        plain = sum((a[n] - b[n]).square().mean((1, 2, 3)) for n in a)
        torch.testing.assert_close(plain, trained, rtol=1e-4, atol=0)  # batch norm is folded: float32 in another order
    else:
        expected = model.encoder(normalization(fields[:3]))
        torch.testing.assert_close(a["stage2"], expected["stage2"], rtol=1e-4, atol=1e-5)


def test_an_encoder_that_learned_no_lag_has_scales_of_lags_of_four_days(raw_config, tmp_path):
    short = {"base_step": 6, "n_times": 2, "n_classes": 2, "ranking_weight": 0.0, "mse_weight": 0.1}
    config = make_config({**raw_config, **short})
    sources = open_sources(config)
    encoder = build_model(config).encoder.eval()
    normalization = fit_normalization(config, sources)
    info = write_encoder(config, encoder, normalization, sources, sources, tmp_path / "weights")
    extractor = load_extractor(tmp_path / "weights")
    assert (extractor.info, info.mse_weight, info.head) == (info, 0.1, None)
    curves = lag_curves(extractor, sources[0], dataclasses.replace(config, n_classes=16))
    assert len(curves["mse"]) * 6 == 96
    for stage, scale in info.layer_scales.items():
        assert scale == pytest.approx(fit_layer_scale(curves[stage], curves["mse"]))


def test_a_run_without_a_checkpoint_has_no_model(raw_config, tmp_path, one_sentence):
    with pytest.raises(ConfigError) as error:
        load_model(make_config(raw_config), tmp_path)
    one_sentence(error.value, "output", str(tmp_path), "no checkpoint yet")
