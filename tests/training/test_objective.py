"""What training minimises, against the head called pair by pair, and with encoders whose order is known."""

from __future__ import annotations

import pytest
import torch

from atmoloss.heads import MetricHead, PretextModel
from atmoloss.networks import Encoder
from atmoloss.training.config import TrainConfig
from atmoloss.training.objective import SequenceObjective


def test_objective_pairs_agree_with_the_head_called_pair_by_pair():
    torch.manual_seed(0)
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False).eval()
    head = MetricHead(encoder.channels, 8)
    x = torch.randn(2 * 4, 2, 16, 16)
    hours = torch.tensor([[0, 3, 9, 24], [0, 6, 12, 18]])
    features = encoder(x)
    pairs = head.pair_distances(features, 4)
    first, second = torch.triu_indices(4, 4, 1)
    for b in range(2):
        for p, (i, j) in enumerate(zip(first, second, strict=True)):
            a, c = ({n: f[4 * b + t][None] for n, f in features.items()} for t in (i, j))
            assert pairs[b, p].item() == pytest.approx(head.distance(a, c).item(), rel=1e-4)
    config = TrainConfig(n_times=4, ranking_weight=1.0)
    out = SequenceObjective(PretextModel(encoder, head), config)(x, hours, torch.Generator())
    classes = ((hours[:, second] - hours[:, first]) // 3 - 1).flatten()
    expected = torch.nn.functional.cross_entropy(head.logits(pairs).flatten(0, 1), classes)
    assert out["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0 <= out["ranking"] <= 1


def test_ranking_term_is_zero_for_ordered_and_large_for_reversed_sequences():
    class Fixed(torch.nn.Module):  # features that move steadily away from the first
        def forward(self, x):
            return {"stage1": x}

    head = MetricHead({"stage1": 1}, 8)
    scorer = SequenceObjective(PretextModel(Fixed(), head), TrainConfig(n_times=3, ranking_weight=1.0))

    def objective(x, hours):
        return scorer(x, hours, torch.Generator())

    steady = torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    hours = torch.tensor([[0, 3, 6]])
    assert objective(steady, hours)["ranking"] == 1.0
    back = torch.tensor([0.0, 3.0, 0.1]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    out = objective(back, hours)
    assert out["ranking"] == 0.0
    assert out["loss"] - out["cross_entropy"] > 5


def test_artefact_term_asks_that_patterns_are_farther_than_smooth_fields():
    class Fixed(torch.nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = sign

        def forward(self, x):  # roughness is seen (sign 1), or rewarded (−1)
            rough = (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3))
            return {"stage1": (10.0 + self.sign * rough).reshape(-1, 1, 1, 1)}

    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    waves = torch.sin(2 * torch.pi * (y + x) / 32).expand(6, 2, 32, 32).contiguous()
    hours = torch.tensor([[0, 3, 6], [0, 3, 6]])
    config = TrainConfig(n_times=3, artefact_weight=1.0)
    scorer = SequenceObjective(PretextModel(Fixed(1.0), MetricHead({"stage1": 1}, 8)), config)
    out = scorer(waves, hours, torch.Generator().manual_seed(0))
    assert out["artefacts"] == 1.0
    blind = SequenceObjective(PretextModel(Fixed(0.0), MetricHead({"stage1": 1}, 8)), config)
    assert blind(waves, hours, torch.Generator().manual_seed(0))["artefacts"] == 0.0


def test_detail_term_asks_that_misplaced_detail_is_nearer_than_none():
    class Fixed(torch.nn.Module):
        def __init__(self, sees_places):
            super().__init__()
            self.sees_places = sees_places

        def forward(self, x):  # everything and where it is, or how rough it is
            rough = (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3)).sqrt()
            return {"stage1": x if self.sees_places else rough.reshape(-1, 1, 1, 1)}

    fields = torch.randn(6, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    hours = torch.tensor([[0, 3, 6], [0, 3, 6]])

    def share(sees_places, coherence):
        config = TrainConfig(n_times=3, detail_weight=1.0, detail_coherence=coherence)
        head = MetricHead({"stage1": 2 if sees_places else 1}, 8)
        out = SequenceObjective(PretextModel(Fixed(sees_places), head), config)(
            fields, hours, torch.Generator().manual_seed(3)
        )
        return out["detail"].item(), (out["loss"] - out["cross_entropy"]).item()

    satisfied, cost = share(sees_places=False, coherence=0.0)
    assert satisfied == 1.0
    assert cost < 1e-3
    # The squared error prefers detail above a coherence of one half.
    satisfied, cost = share(sees_places=True, coherence=0.6)
    assert satisfied == 1.0
    assert cost > 1e-4  # but by little: the term wants more
