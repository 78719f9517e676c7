"""Folding of batch norm and gains changes nothing but what it says."""

import pytest
import torch
from torch import nn

from atmoloss.folding import fold_batch_norm, fold_gains
from atmoloss.networks import Encoder
from tests.test_networks import CONFIGURATIONS, configurations
from tests.tolerances import assert_close


@configurations
@pytest.mark.parametrize("periodic", [False, True])
def test_folding_changes_nothing(arguments, periodic, randomise) -> None:
    encoder = randomise(Encoder(**arguments))
    encoder.set_periodic(periodic)
    before = {n: t.clone() for n, t in encoder.state_dict().items()}
    folded = fold_batch_norm(encoder)
    x = torch.randn(2, encoder.in_channels, 40, 48)
    for (name, a), b in zip(folded(x).items(), encoder(x).values(), strict=True):
        assert_close(a, b, torch.float32)
        assert b.abs().max() > 0.1, name
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert all(torch.equal(t, before[n]) for n, t in encoder.state_dict().items())
    again = fold_batch_norm(folded)
    assert torch.equal(list(again(x).values())[-1], list(folded(x).values())[-1])


@pytest.mark.parametrize("arguments", [a for n, a in CONFIGURATIONS.items()])
def test_folded_gains_scale_the_features(arguments, randomise) -> None:
    encoder = fold_batch_norm(randomise(Encoder(**arguments))).requires_grad_(False)
    gains = {n: torch.rand(c) + 0.2 for n, c in list(encoder.channels.items())[:-1]}  # the last stage has none
    x = torch.randn(2, encoder.in_channels, 40, 48)
    expected = {n: f * gains[n][:, None, None] if n in gains else f for n, f in encoder(x).items()}
    fold_gains(encoder, gains)
    for name, features in encoder(x).items():
        assert_close(features, expected[name], torch.float32)


@pytest.mark.parametrize("channels", [(4, 4), (4, 6)])
def test_folded_gains_of_zero_leave_the_stages_behind_alone(channels, randomise) -> None:
    encoder = randomise(Encoder(stage_channels=channels, blocks_per_stage=1, stem_pool=False, downsample="blur"))
    encoder = fold_batch_norm(encoder).requires_grad_(False)
    x = torch.randn(2, 2, 16, 16)
    expected = encoder(x)
    fold_gains(encoder, {"stage1": torch.tensor([0.0, 1.0, 0.0, 2.0])})
    got = encoder(x)
    assert got["stage1"][:, [0, 2]].abs().max() <= 1e-5 * expected["stage1"].abs().max()
    assert_close(got["stage2"], expected["stage2"], torch.float32)
