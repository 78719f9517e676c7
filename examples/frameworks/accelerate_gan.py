"""AtmoDist as the content loss of a GAN with Hugging Face accelerate: gradients accumulate over several batches.

accelerate launch examples/frameworks/accelerate_gan.py (pip install accelerate 'atmoloss[data]')
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from upscaling import Upscaling, pairs

from atmoloss import AtmoDistLoss


def critic_network() -> nn.Module:
    """Return a network that says of each part of a field how real it looks."""
    return nn.Sequential(
        nn.Conv2d(2, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 1, 3),
    )  # fmt: skip


def train(accelerator: Accelerator, data: Dataset[tuple[Tensor, ...]], batch_size: int, rate: float) -> nn.Module:
    """Return the generator after one pass over the data."""
    torch.manual_seed(0)
    generator, critic = Upscaling(), critic_network()
    optimizers = [torch.optim.SGD(network.parameters(), rate) for network in (generator, critic)]
    loader = DataLoader(data, batch_size)
    generator, critic, optimizer_g, optimizer_d, loader = accelerator.prepare(generator, critic, *optimizers, loader)
    # Not prepared: it has no parameters, so there is nothing to wrap, to average or to save.
    content = AtmoDistLoss("winds", sharp=True).to(accelerator.device)
    for coarse, fine in loader:
        with accelerator.accumulate(generator, critic):
            # The generator first, so that both losses of every batch are by the critic of before the step.
            critic.requires_grad_(False)  # its gradient passes through and must not stay
            with accelerator.autocast():
                fake = generator(coarse)
                generator_loss = content(fake, fine) - 1e-3 * critic(fake / 10).mean()
            accelerator.backward(generator_loss)
            critic.requires_grad_(True)
            optimizer_g.step()
            optimizer_g.zero_grad()
            with accelerator.autocast():
                critic_loss = F.relu(1 - critic(fine / 10)).mean() + F.relu(1 + critic(fake.detach() / 10)).mean()
            accelerator.backward(critic_loss)
            optimizer_d.step()
            optimizer_d.zero_grad()
    accelerator.print(f"content and adversary: {generator_loss.item():.4f}")
    return accelerator.unwrap_model(generator)


if __name__ == "__main__":
    train(Accelerator(gradient_accumulation_steps=4, mixed_precision="bf16"), pairs(), batch_size=2, rate=1e-3)
