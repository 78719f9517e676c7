"""The space-time head: what it reads, what it starts as, and where its output may not differ."""

import pytest
import torch

from atmoloss.errors import InputError
from atmoloss.layers import same_padding
from atmoloss.networks import Encoder
from atmoloss.prediction import PredictionModel, SpaceTimeHead, build_prediction_head, upsample
from tests.tolerances import assert_close

ENCODER = {"stage_channels": (4, 8), "blocks_per_stage": 1, "stem_kernel": 3, "stem_pool": False, "downsample": "blur"}
HEAD = {"frames": 3, "width": 16, "blocks": 2, "heads": 2, "radius": 2}


@pytest.fixture
def model(randomise) -> PredictionModel:
    encoder = randomise(Encoder(**ENCODER))
    model = PredictionModel(encoder, build_prediction_head({"kind": "space_time", **HEAD}, encoder)).eval()
    torch.nn.init.normal_(model.head.increment.weight, std=0.1)
    for block in model.head.blocks:
        torch.nn.init.normal_(block.attention.position_bias)
    return model.double()


def set_periodic(model: PredictionModel, periodic: bool) -> None:
    for module in model.modules():
        if hasattr(module, "periodic"):
            module.periodic = periodic


def test_before_training_it_is_persistence() -> None:
    encoder = Encoder(**ENCODER)
    model = PredictionModel(encoder, SpaceTimeHead(8, 2, 4))
    sequence = torch.randn(2, 3, 2, 24, 20)
    assert torch.equal(model(sequence), sequence[:, -1])


@pytest.mark.parametrize("size", [(24, 20), (23, 19), (25, 22), (5, 3)])
def test_any_size_of_fields(model, size) -> None:
    predicted, maps = model.with_maps(torch.randn(2, 3, 2, *size, dtype=torch.float64))
    assert predicted.shape == (2, 2, *size)
    h, w = (-(-n // 4) for n in size)
    assert [m.shape for m in maps] == [(2, 2, h, w, 3, 25)] * 2
    for weights in maps:
        assert_close(weights.sum((-2, -1)), torch.ones(2, 2, h, w), torch.float64)


def test_the_architecture_builds_the_same_again(model) -> None:
    again = PredictionModel(Encoder(**ENCODER), build_prediction_head(model.head.architecture, model.encoder))
    again.load_state_dict(model.state_dict())
    assert again.head.architecture == {"kind": "space_time", **HEAD}


def test_the_order_of_the_frames_counts_and_all_are_read(model) -> None:
    sequence = torch.randn(1, 3, 2, 24, 24, dtype=torch.float64)
    plain = model(sequence)
    assert (model(sequence[:, [1, 0, 2]]) - plain).abs().max() > 1e-3
    for frame in range(3):
        changed = sequence.clone()
        changed[:, frame] = 0.0
        assert (model(changed) - plain).abs().max() > 1e-3


def test_maps_are_those_of_the_blocks(model) -> None:
    features, last = torch.randn(1, 3, 8, 6, 6, dtype=torch.float64), torch.randn(1, 2, 24, 24, dtype=torch.float64)
    seen = []
    for block in model.head.blocks:
        block.attention.query.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        block.attention.key_value.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].unflatten(0, (1, 3)))
        )
    _, maps = model.head(features, last)
    for block, weights, (x, read) in zip(model.head.blocks, maps, (seen[:2], seen[2:4]), strict=True):
        assert torch.equal(block.attention.with_map(x, read)[1], weights)


def test_periodic_predictions_shift_with_the_field(model) -> None:
    sequence = torch.randn(1, 3, 2, 16, 32, dtype=torch.float64)
    for periodic in (True, False):
        set_periodic(model, periodic)
        equal = torch.allclose(model(sequence.roll(4, -1)), model(sequence).roll(4, -1), atol=1e-9)
        assert equal == periodic


def test_interpolation_is_linear_and_meets_the_positions_of_the_encoder() -> None:
    """Stride 2 with "same" padding puts token i between cells 2i and 2i + 1, whatever the remainder of the size."""
    assert {same_padding(size, 4, 2)[0] for size in (16, 17)} == {1}
    ramp = (2 * torch.arange(6.0) + 0.5).expand(1, 1, 6, 6)
    up = upsample(ramp, False)
    assert_close(up[..., 1:-1], torch.arange(1.0, 11.0).expand(1, 1, 12, 10), torch.float32)
    wrapped = upsample(torch.tensor([[[[0.0, 4.0, 8.0]]]]), True)[0, 0, 0]
    assert_close(wrapped, torch.tensor([2.0, 1.0, 3.0, 5.0, 7.0, 6.0]), torch.float32)


@pytest.mark.parametrize("options", [{"frames": 0}, {"blocks": 0}, {"width": 0}])
def test_wrong_options(options, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        SpaceTimeHead(8, 2, 4, **options)
    one_sentence(error.value, "head", "expected")
    with pytest.raises(InputError) as error:
        SpaceTimeHead(8, 2, 6)
    one_sentence(error.value, "stride 6", "power of two")


def test_a_lag_head_does_not_predict(one_sentence) -> None:
    with pytest.raises(InputError) as error:
        build_prediction_head({"kind": "metric", "n_classes": 3}, Encoder(**ENCODER))
    one_sentence(error.value, "head", "'metric'", "expected 'space_time'")
