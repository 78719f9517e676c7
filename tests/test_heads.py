"""Pretext heads: the metric head is the distance that ships, the published one reads both encodings."""

import math

import numpy as np
import pytest
import torch

from atmoloss import functional
from atmoloss.errors import InputError
from atmoloss.extractor import Extractor
from atmoloss.heads import MetricHead, PretextModel, PublishedHead, build_head
from atmoloss.networks import Encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from tests.conftest import TINY
from tests.tolerances import assert_close

CHANNELS = {"stage1": 4, "stage2": 6, "stage3": 8, "stage4": 8}


@pytest.fixture
def metric_head() -> MetricHead:
    head = MetricHead(CHANNELS, 23)
    for parameter in head.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return head


def test_metric_head_distance_against_numpy(metric_head, encoder) -> None:
    x, y = torch.randn(2, 3, 2, 40, 33)
    with torch.no_grad():
        a, b = encoder(x), encoder(y)
        got = metric_head.distance(a, b)
    expected = np.zeros(3)
    for name, w in metric_head.log_weights.items():
        mean = ((a[name].numpy() - b[name].numpy()).astype(np.float64) ** 2).mean((2, 3))
        expected += mean @ np.exp(w.detach().double().numpy())
    assert_close(got, expected, torch.float32)
    with torch.no_grad():
        assert torch.equal(metric_head(a, b), metric_head(b, a))


def test_metric_head_starts_with_equal_weights_that_sum_to_one() -> None:
    weights = torch.cat(list(MetricHead(CHANNELS, 5).weights().values()))
    assert_close(weights, torch.full((26,), 1 / len(CHANNELS)) / torch.tensor([4] * 4 + [6] * 6 + [8] * 16), 1e-5)


def test_metric_head_logits_are_gaussians_of_the_log_distance(metric_head) -> None:
    distance = torch.tensor([0.02, 0.7, 3.0])
    deviation = metric_head.log_widths.detach().exp()
    normal = torch.distributions.Normal(metric_head.means.detach(), deviation)
    expected = normal.log_prob(distance.log()[:, None]) + 0.5 * math.log(2 * math.pi)
    assert_close(metric_head.logits(distance), expected, torch.float32)


def test_metric_head_pairs_of_sequences(metric_head, encoder) -> None:
    x = torch.randn(2 * 4, 2, 32, 32)
    with torch.no_grad():
        features = encoder(x)
        got = metric_head.pair_distances(features, 4)
        for b in range(2):
            for k, (i, j) in enumerate([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]):
                first, second = ({n: f[4 * b + t][None] for n, f in features.items()} for t in (i, j))
                assert_close(got[b, k], metric_head.distance(first, second)[0], torch.float32)


def test_metric_head_of_equal_fields_is_finite(metric_head, encoder) -> None:
    x = torch.randn(2, 2, 32, 32, requires_grad=True)
    features = encoder(x)
    logits = metric_head(features, {n: f.detach() for n, f in features.items()})
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 7]))
    gradients = torch.autograd.grad(loss, [x, *metric_head.parameters()])
    assert all(torch.isfinite(g).all() for g in gradients)
    assert gradients[0].abs().max() == 0


def test_gains_of_the_extractor_make_the_trained_distance(metric_head, encoder, info) -> None:
    """√(w·C) per channel turns a plain mean over channels into the head's weighted sum."""
    gains = {n: (w.detach() * len(w)).sqrt() for n, w in metric_head.weights().items()}
    extractor = Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info, gains)
    x, y = torch.randn(2, 2, 2, 32, 32)
    got = functional.content_distance(extractor.encode(x), extractor.encode(y), dict.fromkeys(CHANNELS, 1.0))
    with torch.no_grad():
        assert_close(got, metric_head.distance(encoder(x), encoder(y)), torch.float32)


def test_published_head_reads_order_and_position(randomise) -> None:
    head = randomise(PublishedHead(CHANNELS, 23, (48, 40), 16, width=5))
    a, b = torch.rand(2, 2, 8, 3, 3).unbind()
    with torch.no_grad():
        logits = head({"stage4": a}, {"stage4": b})
        assert logits.shape == (2, 23)
        assert (logits - head({"stage4": b}, {"stage4": a})).abs().max() > 1e-3
        assert (logits - head({"stage4": a.flip(-1)}, {"stage4": b.flip(-1)})).abs().max() > 1e-3
    assert head.pred.in_features == 2 * 2 * 5
    assert head.pred.bias is None


def test_published_head_refuses_another_size(randomise, one_sentence) -> None:
    head = randomise(PublishedHead(CHANNELS, 23, (48, 40), 16, width=5))
    with pytest.raises(InputError) as error:
        head({"stage4": torch.rand(1, 8, 6, 3)}, {"stage4": torch.rand(1, 8, 6, 3)})
    one_sentence(error.value, "fields", "expected 20", "[48, 40]")


@pytest.mark.parametrize(
    "architecture",
    [
        {"kind": "metric", "n_classes": 7},
        {"kind": "published", "n_classes": 7, "input_size": [32, 48], "width": 16},
    ],
)
def test_heads_are_rebuilt_from_their_architecture(architecture) -> None:
    encoder = Encoder(**TINY)
    head = build_head(architecture, encoder)
    assert head.architecture == architecture
    build_head(head.architecture, encoder).load_state_dict(head.state_dict())
    assert PretextModel(encoder, head)(*torch.randn(2, 3, 2, 32, 48)).shape == (3, 7)


def test_unknown_head(one_sentence) -> None:
    with pytest.raises(InputError) as error:
        build_head({"kind": "linear"}, Encoder(**TINY))
    one_sentence(error.value, "head", "'linear'", "expected 'metric' or 'published'")


@pytest.mark.parametrize("kind", [{"kind": "metric"}, {"kind": "published", "input_size": [32, 32]}])
def test_heads_read_what_is_trained_and_no_low_pass(kind) -> None:
    encoder = Encoder(**TINY, low_pass=4).eval()
    head = build_head({**kind, "n_classes": 7}, encoder).eval()
    x, y = torch.randn(2, 3, 2, 32, 32)
    with torch.no_grad():
        a, b = encoder(x), encoder(y)
        logits = head(a, b)
        stages = [{n: f for n, f in features.items() if n != "low_pass"} for features in (a, b)]
        assert len(stages[0]) == len(a) - 1
        assert torch.equal(head(*stages), logits)
