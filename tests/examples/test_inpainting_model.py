"""The autoencoder against what is known of the original: its numbers of weights, sizes, and layers written out."""

import pytest
import torch
import torch.nn.functional as F
from inpainting.model import Autoencoder, UpBlock

from atmoloss.errors import InputError
from tests.tolerances import assert_close

EPSILON = 1.001e-5


@pytest.fixture(scope="module")
def published() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(160).eval()


def numbers(module: torch.nn.Module) -> int:
    """Count weights and running statistics, as Keras does."""
    return sum(t.numel() for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked"))


def test_numbers_of_the_original(published):
    assert numbers(published) == 3_021_632
    assert numbers(published.encoder) == 2_277_712
    assert numbers(published.decoder) == 743_920


def test_sizes_on_the_way_up(published):
    shapes = []
    hooks = [
        b.register_forward_hook(lambda _, __, y: shapes.append(tuple(y.shape[1:]))) for b in published.decoder.blocks
    ]
    with torch.no_grad():
        out = published(torch.randn(1, 2, 160, 160))
    for hook in hooks:
        hook.remove()
    assert out.shape == (1, 2, 160, 160)
    expected = [(64, 10, 10)] * 6 + [(64, 20, 20)] + [(32, 20, 20)] * 5 + [(32, 40, 40)]
    expected += [(16, 40, 40)] * 5 + [(16, 80, 80), (16, 160, 160)]
    assert shapes == expected


def test_the_middle_mixes_positions_alike_in_all_channels(published, randomise):
    """Dense layer over 25 positions with a statistic for each, written out position by position."""
    decoder = randomise(published.decoder)
    features = torch.rand(2, 128, 5, 5)
    seen = []
    hook = decoder.conv.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        decoder(features)
    hook.remove()
    norm = decoder.mix_bn
    for position in range(25):
        row, column = divmod(position, 5)
        y = (features.reshape(2, 128, 25) * decoder.mix.weight[position]).sum(-1) + decoder.mix.bias[position]
        y = (y - norm.running_mean[position]) / torch.sqrt(norm.running_var[position] + EPSILON)
        y = F.relu(y * norm.weight[position] + norm.bias[position])
        assert_close(seen[0][:, :, row, column], y, torch.float32)


def test_an_up_block_interpolates_between_cell_centres_before_both_branches(randomise):
    torch.manual_seed(1)
    block = randomise(UpBlock(3, 2)).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    # Keras' bilinear ×2: three quarters of the nearer, one quarter of the other, edges repeat.
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    for dim in (-2, -1):
        n = padded.shape[dim]
        before, here, after = (padded.narrow(dim, i, n - 2) for i in range(3))
        pairs = torch.stack((0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after), -1)
        padded = pairs.flatten(-2) if dim == -1 else pairs.movedim(-1, -2).flatten(-3, -2)
    expected = super(UpBlock, block).forward(padded)
    assert_close(block(x), expected, torch.float64)
    assert block(x).shape == (1, 2, 8, 8)


def test_initial_kernels_are_keras(published):
    kernel = published.decoder.out_conv.weight
    std = (2 / (64 * (16 + 2))) ** 0.5
    assert kernel.std().item() == pytest.approx(std, rel=0.05)  # of 2048 values
    assert kernel.abs().max() <= 2 * std / 0.8796
    assert published.decoder.mix.weight.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.1)
    assert (published.decoder.out_conv.bias == 0).all()


@pytest.mark.parametrize("size", [0, 48, 100])
def test_impossible_sizes(size, one_sentence):
    with pytest.raises(InputError) as error:
        Autoencoder(size)
    one_sentence(error.value, "size", str(size), "multiple of 32")
