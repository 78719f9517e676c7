"""The configuration of an inpainting run: that of ``srgan.config``, and what is particular here."""

from __future__ import annotations

import dataclasses

from srgan.config import ContentConfig

from atmoloss.errors import ConfigError
from atmoloss.training.config_reading import check_choice, check_lowest


@dataclasses.dataclass(frozen=True)
class InpaintingConfig(ContentConfig):
    """Everything that decides what an inpainting run computes. The defaults are the published values.

    Attributes:
        box_size: rows and columns of the box in the centre of the patch.
        compare: what the content loss sees: ``"box"``, the box alone (published); ``"field"``, the box pasted into
            the truth, so that the encoder sees what is around it, times patch area over box area.
        stage_channels: of the autoencoder; patches must be a multiple of 2 ** (stages + 1).
        blocks: residual blocks of the autoencoder.
        l2: of the sum of all squared kernels, added to the loss.
        gradient_clip: largest norm of the gradient of each tensor on its own.
        epoch_steps: steps after which the plateau rule looks at their mean loss; 0: there is no such rule.
        plateau_patience: epochs in a row without a new lowest loss after which the rate becomes a tenth of what it was.
        plateau_threshold: by how much the loss must be lower to be new.
        lowest_rate: what the rule does not go below.
    """

    name: str = "inpainting"
    patch_size: int = 160
    batch_size: int = 128
    mse_weight: float = 0.1
    box_size: int = 40
    compare: str = "box"
    stage_channels: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 6
    l2: float = 1e-3
    gradient_clip: float = 5.0
    epoch_steps: int = 0
    plateau_patience: int = 6
    plateau_threshold: float = 0.04
    lowest_rate: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, compare=("box", "field"))
        check_lowest(self, box_size=1, blocks=1, l2=0, epoch_steps=0, plateau_patience=1, lowest_rate=0)
        stride = 2 ** (len(self.stage_channels) + 1)
        if len(self.stage_channels) < 2 or self.patch_size % stride:
            raise ConfigError(
                f"patch_size: got {self.patch_size} for {len(self.stage_channels)} stages, expected a multiple of "
                f"{stride} and at least two stages"
            )
        if self.box_size > self.patch_size - 2:
            raise ConfigError(f"box_size: got {self.box_size}, expected at most {self.patch_size - 2}")
        if self.epoch_steps and self.final_steps:
            raise ConfigError(f"final_steps: got {self.final_steps}, expected 0 where epoch_steps is not")

    @property
    def content_size(self) -> int:
        """Rows and columns of what the content loss compares."""
        return self.box_size if self.compare == "box" else self.patch_size
