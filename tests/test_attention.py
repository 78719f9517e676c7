"""Neighbourhood attention against its formula, written out position by position in float64."""

import math

import pytest
import torch

from atmoloss.attention import (
    AttentionBlock,
    NeighbourhoodAttention,
    Readout,
    channel_norm,
    neighbourhood_attention,
    sinusoids,
)
from atmoloss.errors import InputError
from tests.tolerances import TOLERANCES, assert_close

RADIUS = 2
SIDE = 2 * RADIUS + 1


def by_position(query, key, value, bias, key_offsets, value_offsets, periodic):
    """The formula, one query after the other, by lists of what each may read."""
    _, heads, _, height, width = query.shape
    output, weights = torch.zeros_like(query), query.new_zeros(len(query), heads, height, width, *bias.shape[1:])
    for head in range(heads):
        for i in range(height):
            for j in range(width):
                seen = [
                    (f, n, i + n // SIDE - RADIUS, j + n % SIDE - RADIUS)
                    for f in range(bias.shape[1])
                    for n in range(SIDE**2)
                ]
                seen = [s for s in seen if 0 <= s[2] < height and (periodic or 0 <= s[3] < width)]
                q = query[:, head, :, i, j]
                keys = [key[:, f, head, :, r, c % width] + key_offsets[head, f, n] for f, n, r, c in seen]
                logits = [(q * k).sum(1) + bias[head, f, n] for k, (f, n, _, _) in zip(keys, seen, strict=True)]
                share = torch.stack(logits, 1).softmax(1)
                for k, (f, n, r, c) in enumerate(seen):
                    weights[:, head, i, j, f, n] = share[:, k]
                    found = value[:, f, head, :, r, c % width] + value_offsets[head, f, n]
                    output[:, head, :, i, j] += share[:, k, None] * found
    return output, weights


def draw(height: int, width: int, frames: int = 1, dtype=torch.float64) -> list[torch.Tensor]:
    query = torch.randn(2, 2, 3, height, width, dtype=dtype)
    key, value = torch.randn(2, 2, frames, 2, 3, height, width, dtype=dtype)
    bias, *offsets = torch.randn(2, frames, SIDE**2, 7, dtype=dtype).split((1, 3, 3), -1)
    return [query, key, value, bias[..., 0], *offsets]


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("size", [(4, 6), (3, 7), (4, 3), (1, 1)])  # also narrower than the window
def test_values_and_gradients_are_those_of_the_formula(size, frames, periodic) -> None:
    inputs = [t.requires_grad_() for t in draw(*size, frames)]
    got, expected = (f(*inputs, periodic) for f in (neighbourhood_attention, by_position))
    slopes = [torch.randn_like(t) for t in expected]
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, torch.float64)
    for a, b in zip(
        torch.autograd.grad(got, inputs, slopes), torch.autograd.grad(expected, inputs, slopes), strict=True
    ):
        assert_close(a, b, TOLERANCES[torch.float64].gradient, scale=1.0 + float(b.abs().max()))  # may all be zero


@pytest.mark.parametrize("periodic", [False, True])
def test_the_map_is_what_the_output_used(periodic) -> None:
    query, key, value, *offsets = draw(7, 8, 2)
    output, weights = neighbourhood_attention(query, key, value, *offsets, periodic)
    assert weights.shape == (2, 2, 7, 8, 2, SIDE**2)
    assert_close(weights.sum((-2, -1)), torch.ones(2, 2, 7, 8), torch.float64)
    changed = value.clone()
    changed[:, 1, :, :, 4, 5] += 1.0  # one position of one frame: the output moves by the weight given to it
    moved = neighbourhood_attention(query, key, changed, *offsets, periodic)[0] - output
    for i, j in ((4, 5), (2, 3), (6, 6), (4, 0)):
        south, east = 4 - i + RADIUS, 5 - j + RADIUS
        inside = 0 <= south < SIDE and 0 <= east < SIDE
        weight = weights[:, :, i, j, 1, south * SIDE + east] if inside else torch.zeros(2, 2, dtype=torch.float64)
        assert_close(moved[:, :, :, i, j], weight[:, :, None].expand(2, 2, 3), torch.float64, scale=1.0)


def test_positions_outside_take_no_weight() -> None:
    _, weights = neighbourhood_attention(*draw(5, 6))
    corner = weights[:, :, 0, 0, 0].unflatten(-1, (SIDE, SIDE))
    assert corner[..., :RADIUS, :].abs().max() == corner[..., :RADIUS].abs().max() == 0
    assert corner[..., RADIUS:, RADIUS:].min() > 0


def test_periodic_maps_shift_with_the_field_and_others_do_not() -> None:
    query, key, value, *offsets = draw(5, 8)
    rolled = [t.roll(3, -1) for t in (query, key, value)]
    for periodic in (True, False):
        output, weights = neighbourhood_attention(query, key, value, *offsets, periodic)
        shifted, map_shifted = neighbourhood_attention(*rolled, *offsets, periodic)
        equal = torch.allclose(shifted, output.roll(3, -1)) and torch.allclose(map_shifted, weights.roll(3, 3))
        assert equal == periodic


def test_two_derivatives_by_finite_differences() -> None:
    inputs = [t.requires_grad_() for t in draw(3, 4)]
    assert torch.autograd.gradcheck(neighbourhood_attention, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(neighbourhood_attention, inputs, fast_mode=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_module_reads_other_frames_than_it_asks_for(memory_format) -> None:
    module = NeighbourhoodAttention(8, 2, RADIUS, frames=3).double().to(memory_format=memory_format)
    position = module.position_bias, module.position_key, module.position_value
    for table in position:
        torch.nn.init.normal_(table)
    x, read = torch.randn(2, 8, 5, 6, dtype=torch.float64), torch.randn(2, 3, 8, 5, 6, dtype=torch.float64)
    output, weights = module.with_map(x, read)
    query = module.query(x).unflatten(1, (2, 4))
    key, value = torch.stack([module.key_value(read[:, f]).unflatten(1, (2, 2, 4)) for f in range(3)], 1).unbind(2)
    query, key = (t / (t.square().sum(-3, keepdim=True) + 0.1).sqrt() for t in (query, key))
    bias, offsets, values = position
    offsets = offsets / (offsets.square().sum(-1, keepdim=True) + 0.1).sqrt()
    temperature = module.log_temperature.exp()[:, None, None, None]
    found, expected = by_position(temperature * query, key, value, bias, offsets, values, False)
    assert_close(weights, expected, torch.float64)
    assert_close(output, module.output(found.flatten(1, 2)), torch.float64)
    assert torch.equal(output, module(x, read))


def test_logits_stay_bounded() -> None:
    """However large the activations and the learned temperature: no head may become a single offset by overflow."""
    module = NeighbourhoodAttention(8, 2, RADIUS).double()
    module.log_temperature.data.fill_(50.0)
    x = 1e6 * torch.randn(1, 8, 5, 5, dtype=torch.float64)
    weights = module.with_map(x)[1]
    logits = weights[0, :, 2, 2].log()
    assert torch.isfinite(weights).all()
    assert (logits.amax() - logits.amin()) <= 400.2  # keys of what is read and of the offset


def test_derivatives_at_zero_are_finite() -> None:
    module = AttentionBlock(8, 2, RADIUS)
    x = torch.zeros(1, 8, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert torch.isfinite(slope).all()
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close(dtype) -> None:
    block, x = AttentionBlock(16, 2, RADIUS), torch.randn(2, 16, 6, 7)
    expected, weights = block.with_map(x)
    got, half_weights = block.with_map(x.to(dtype))
    assert got.dtype == dtype
    assert_close(got, expected, TOLERANCES[dtype].rounding)
    assert_close(half_weights, weights, TOLERANCES[dtype].gradient)


def test_a_block_is_two_residual_steps() -> None:
    block, x = AttentionBlock(8, 2, RADIUS).double(), torch.randn(2, 8, 4, 5, dtype=torch.float64)

    def norm(t):
        return (t - t.mean(1, keepdim=True)) / (t.var(1, unbiased=False, keepdim=True) + 0.1).sqrt()

    middle = x + block.attention(norm(x))
    expected = middle + block.contract(torch.nn.functional.gelu(block.expand(norm(middle))))
    output, weights = block.with_map(x)
    assert_close(output, expected, torch.float64)
    assert torch.equal(weights, block.attention.with_map(channel_norm(x))[1])
    assert_close(channel_norm(x), norm(x), torch.float64)
    readout = Readout(8).double()
    assert_close(readout(x), readout.conv(norm(x)).clamp_min(0), torch.float64)


@pytest.mark.parametrize("options", [{"heads": 3}, {"heads": 0}, {"radius": 0}, {"frames": 0}])
def test_wrong_options(options, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        NeighbourhoodAttention(8, **options)
    one_sentence(error.value, "attention", "got 8 channels", "expected")


def test_random_heads_look_everywhere() -> None:
    """No offset is preferred before training: the entropy of a map is near that of equal weights."""
    weights = NeighbourhoodAttention(16, 4, RADIUS).with_map(torch.randn(2, 16, 9, 9))[1]
    inner = weights[:, :, RADIUS:-RADIUS, RADIUS:-RADIUS, 0].mean((0, 2, 3))
    assert float(-(inner * inner.log()).sum(-1).min().detach()) > 0.97 * math.log(SIDE**2)


def test_positions_begin_as_waves_that_know_every_offset() -> None:
    waves = sinusoids(4, 16).double()
    assert_close(waves.T @ waves, 40.5 * torch.eye(16), torch.float32, scale=40.5)  # half of the 81 positions
    apart = torch.cdist(waves, waves) + 10 * torch.eye(81)
    assert apart.min() > 1
