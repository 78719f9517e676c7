"""AtmoDist in a LightningModule, with mixed precision, an average of weights (EMA), and two processes (DDP).

python examples/frameworks/lightning_module.py --devices 2 (pip install lightning 'atmoloss[data]')
"""

import argparse

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader
from upscaling import Upscaling, pairs

from atmoloss import AtmoDistLoss


class UpscalingModule(lightning.LightningModule):
    """The loss is an attribute like any other: it moves with the module, and leaves no trace in its checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Upscaling()
        self.loss = AtmoDistLoss("winds", sharp=True)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch of coarse and fine winds."""
        coarse, fine = batch
        value = self.loss(self.network(coarse), fine)  # sums are float32 under autocast, too
        self.log("loss", value, prog_bar=True)
        return value

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """Log the loss of held-out winds, averaged over processes."""
        coarse, fine = batch
        self.log("val_loss", self.loss(self.network(coarse), fine), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return what updates the network; the loss has nothing to update."""
        return torch.optim.AdamW(self.network.parameters(), 1e-3)


def fit(devices: int, epochs: int, folder: str | None = None) -> lightning.Trainer:
    """Train on the bundled sample, and return the trainer with its metrics."""
    lightning.seed_everything(0)
    data = pairs()
    train, held_out = (torch.utils.data.Subset(data, part) for part in (range(60), range(60, len(data))))
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="auto", devices=devices, strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed", callbacks=[EMAWeightAveraging(decay=0.9)], default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loaders = DataLoader(train, batch_size=10, shuffle=True), DataLoader(held_out, batch_size=7)
    trainer.fit(UpscalingModule(), *loaders)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", help="of checkpoints")
    options = parser.parse_args()
    trainer = fit(**vars(options))
    if trainer.is_global_zero:
        print(f"val_loss={float(trainer.callback_metrics['val_loss']):.4f} processes={trainer.world_size}")
