"""One training step: the discriminator, the generator, and the rule that balances them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from atmoloss.training.distributed import SINGLE_PROCESS, ProcessGroup

from . import measures
from .config import SrganConfig
from .content import ContentLoss
from .models import Discriminator, Generator, adversarial_loss, discriminator_loss
from .trainer import means

# Of the discriminator's loss (ln 2 is a coin): below the first the generator, above the second the discriminator
# takes one more step. From Stengel et al.'s code, kept by Hoffmann & Lessig.
TOO_GOOD, TOO_BAD = 0.46, 0.6


class Gan:
    """Both networks, their optimizers, and a step of either stage.

    Args:
        config: of the run.
        content: its content loss.
        group: the processes that share every batch.
    """

    def __init__(self, config: SrganConfig, content: ContentLoss, group: ProcessGroup = SINGLE_PROCESS) -> None:
        self.config, self.content, self.group = config, content, group
        torch.manual_seed(config.seed)
        channels = len(config.variables)
        self.generator = _place(
            Generator(in_channels=channels, channels=config.generator_channels, blocks=config.generator_blocks), group
        )
        self.discriminator = None
        if config.adversarial_weight:
            self.discriminator = _place(
                Discriminator(
                    config.patch_size,
                    in_channels=channels,
                    channels=config.discriminator_channels,
                    dense=config.discriminator_dense,
                ),
                group,
            )
        self._wrapped_generator = group.wrap(self.generator)
        self._wrapped_discriminator = None if self.discriminator is None else group.wrap(self.discriminator)
        self.start_optimizers()

    def start_optimizers(self) -> None:
        """Give both networks a new Adam: at the start, and after pretraining."""
        self.optimizers = {
            name: torch.optim.Adam(network.parameters(), self.config.learning_rate, eps=1e-8)
            for name, network in self._networks().items()
        }

    def _networks(self) -> dict[str, nn.Module]:
        networks: dict[str, nn.Module] = {"generator": self.generator}
        if self.discriminator is not None:
            networks["discriminator"] = self.discriminator
        return networks

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""
        return {
            name: {"network": network.state_dict(), "optimizer": self.optimizers[name].state_dict()}
            for name, network in self._networks().items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        for name, network in self._networks().items():
            network.load_state_dict(state[name]["network"])
            self.optimizers[name].load_state_dict(state[name]["optimizer"])

    def pretrain(self, coarse: Tensor, fine: Tensor) -> dict[str, float]:
        """Lower the MSE of normalised fields by one step."""
        generated = self._wrapped_generator(coarse)
        error = measures.mse(generated, fine).mean()
        numbers = means(self.group, mse=error)
        self._descend("generator", error)
        return numbers

    def train(self, coarse: Tensor, fine: Tensor, step: int) -> dict[str, float]:
        """Take one step of the second stage; ``step`` counts from 1 in it.

        One step of the discriminator, one of the generator, and one more of whichever the discriminator's loss of
        that batch says.

        Returns:
            Means over processes of the losses, and how many additional steps were taken.
        """
        for optimizer in self.optimizers.values():
            optimizer.param_groups[0]["lr"] = self.config.rate_at(step)
        generated = self._wrapped_generator(coarse)
        if self.discriminator is None:
            return self._generator_step(generated, fine, step)
        loss = self._discriminator_step(generated.detach(), fine)
        numbers = self._generator_step(generated, fine, step)
        if loss < TOO_GOOD:
            self._generator_step(self._wrapped_generator(coarse), fine, step)
        elif loss > TOO_BAD:
            with torch.no_grad():
                generated = self.generator(coarse)
            self._discriminator_step(generated, fine)
        more = {"generator_again": float(loss < TOO_GOOD), "discriminator_again": float(loss > TOO_BAD)}
        return {**numbers, "discriminator": loss, **more}

    def _generator_step(self, generated: Tensor, fine: Tensor, step: int) -> dict[str, float]:
        content = self.content(generated, fine, step).mean()
        parts = {"content": content, "mse": measures.mse(generated.detach(), fine).mean()}
        loss = content
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            parts["adversarial"] = adversarial_loss(self.discriminator(generated))
            loss = loss + self.config.adversarial_weight * parts["adversarial"]
        numbers = means(self.group, **parts)
        self._descend("generator", loss)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(True)
        return numbers

    def _discriminator_step(self, generated: Tensor, fine: Tensor) -> float:
        assert self._wrapped_discriminator is not None
        true_logits, generated_logits = self._wrapped_discriminator(torch.cat((fine, generated))).chunk(2)
        loss = discriminator_loss(true_logits, generated_logits)
        number = means(self.group, discriminator=loss)["discriminator"]
        self._descend("discriminator", loss)
        return number

    def _descend(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[name].step()


def _place(network: Any, group: ProcessGroup) -> Any:
    return network.to(group.device, memory_format=torch.channels_last)
