"""The networks against the original TensorFlow code: one forward pass with weights of a stored recipe."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from srgan import measures, models

from atmoloss.errors import InputError
from tests.tolerances import assert_close

SMALL = Path(__file__).parents[1] / "parity" / "small"
TOLERANCE = 2e-5  # of the largest value; another padding or a wrong sub-pixel order is off by order one


def original_variables() -> dict[str, np.ndarray]:
    recipe = json.loads((SMALL / "srgan_variables.json").read_text())
    rng, out = np.random.RandomState(recipe["seed"]), {}
    for name, shape in recipe["variables"]:
        factor = 0.1 if name.endswith("bias") else np.sqrt(1 / np.prod(shape[:-1]))
        out[name] = (rng.standard_normal(shape) * factor).astype(np.float32)
    return out


def fill(module: torch.nn.Module, name: str, variables: dict[str, np.ndarray], cell: int = 1) -> None:
    """Load a layer; ``cell`` > 1: of a convolution whose channels become cells, (i, j, c) there and (c, i, j) here."""
    kernel, bias = (torch.from_numpy(variables[f"{name}/{part}"]) for part in ("weight", "bias"))
    kernel = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
    if cell > 1:
        kernel, bias = (x.unflatten(0, (cell * cell, -1)).transpose(0, 1).flatten(0, 1) for x in (kernel, bias))
    assert module.weight.shape == kernel.shape
    with torch.no_grad():
        module.weight.copy_(kernel)
        module.bias.copy_(bias)


@pytest.fixture(scope="module")
def original():
    with np.load(SMALL / "srgan.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    return {n: x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x for n, x in arrays.items()}


@pytest.fixture(scope="module")
def generator():
    variables, out = original_variables(), models.Generator()
    for name in ("in_conv", "mid_conv", "out_conv"):
        fill(getattr(out, name), f"generator/{name}", variables)
    for i, block in enumerate(out.blocks, 1):
        fill(block.conv1, f"generator/block_{i}a", variables)
        fill(block.conv2, f"generator/block_{i}b", variables)
    for i, conv in enumerate(out.up_convs, 1):
        fill(conv, f"generator/subpixel_conv{i}", variables, cell=2)
    return out.eval()


@pytest.fixture(scope="module")
def discriminator():
    variables, out = original_variables(), models.Discriminator(32)
    for i, conv in enumerate(out.convs, 1):
        fill(conv, f"discriminator/conv{i}", variables)
    fill(out.dense, "discriminator/fully_connected1", variables)
    fill(out.logit, "discriminator/fully_connected2", variables)
    return out.eval()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_parity_of_networks_and_losses(layout, original, generator, discriminator):
    hr, lr = (original[name].contiguous(memory_format=layout) for name in ("HR", "LR"))
    with torch.no_grad():
        sr = generator(lr)
        disc_hr, disc_sr = discriminator(hr), discriminator(sr)
    assert_close(sr, original["SR"], TOLERANCE)
    assert_close(disc_hr, original["disc_HR"], TOLERANCE)
    assert_close(disc_sr, original["disc_SR"], TOLERANCE)
    content = measures.mse(sr, hr)
    assert_close(content, original["content_loss"], TOLERANCE)
    assert_close(content.mean() + 1e-3 * models.adversarial_loss(disc_sr), original["g_loss"], TOLERANCE)
    assert_close(models.discriminator_loss(disc_hr, disc_sr), original["d_loss"], TOLERANCE)


def test_numbers_of_parameters():
    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(models.Generator()) == 1_534_850
    assert count(models.Discriminator(96)) == 10_611_201


def test_generator_starts_without_checkerboard():
    """Cells that come from one coarse cell are equal where a sub-pixel convolution made them."""
    generator = models.Generator(channels=8, blocks=1)
    x = torch.nn.functional.pixel_shuffle(generator.up_convs[0](torch.randn(1, 8, 6, 6)), 2)
    cells = x.unflatten(2, (6, 2)).unflatten(4, (6, 2))
    assert torch.equal(cells, cells[:, :, :, :1, :, :1].expand_as(cells))
    bound = np.sqrt(6 / (9 * 8 + 9 * 32))  # Glorot's, of the full kernel
    largest = generator.up_convs[0].weight.abs().max().item()
    assert 0.9 * bound < largest <= bound


@pytest.mark.parametrize("blocks", [1, 3])
def test_reach_is_where_influence_ends(blocks):
    generator = models.Generator(channels=4, blocks=blocks).double()
    for parameter in generator.parameters():  # all positive: nothing cancels
        parameter.data.abs_()
    size = 2 * generator.reach + 3
    coarse = torch.rand(1, 2, size, size, dtype=torch.float64, requires_grad=True)
    middle = size // 2
    generator(coarse)[..., 4 * middle : 4 * middle + 4, 4 * middle : 4 * middle + 4].sum().backward()
    seen = coarse.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    assert seen.min() == middle - generator.reach
    assert seen.max() == middle + generator.reach


def test_impossible_sizes(one_sentence):
    with pytest.raises(InputError) as error:
        models.Generator(blocks=0)
    one_sentence(error.value, "generator", "expected positive")
    with pytest.raises(InputError) as error:
        models.Discriminator(32, channels=(4, 0))
    one_sentence(error.value, "discriminator", "expected positive")
