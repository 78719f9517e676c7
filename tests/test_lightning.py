"""A test of the whole package: the loss in a LightningModule, inference mode first, then mixed precision."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from atmoloss import AtmoDistLoss

lightning = pytest.importorskip("lightning", reason="lightning is not installed; make test-integrations brings it")
pytestmark = pytest.mark.integration


class Module(lightning.LightningModule):
    def __init__(self, extractor, **options) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.register_buffer("scale", extractor.normalization.std.clone())
        self.loss = AtmoDistLoss(extractor, **options)
        self.values = []
        self.under_inference_mode = False

    def forward(self, x):
        return self.conv(x / self.scale) * self.scale

    def validation_step(self, batch, _):
        self.under_inference_mode |= torch.is_inference_mode_enabled()
        return self.loss(self(batch[0]), batch[1])

    def training_step(self, batch, _):
        value = self.loss(self(batch[0]), batch[1])
        self.values.append(value.detach())
        return value

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-2)


def fit(module, precision, batches, tmp_path):
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.validate(module, batches, verbose=False)
    assert module.under_inference_mode
    trainer.fit(module, batches, batches)
    return torch.stack(module.values)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_validate_then_fit(precision, every_extractor, draw_for, tmp_path) -> None:
    x = draw_for(every_extractor, 8, 32, 32, seed=1)
    batches = DataLoader(TensorDataset(x, x), batch_size=2)
    module = Module(every_extractor)
    before = module.conv.weight.detach().clone()
    values = fit(module, precision, batches, tmp_path)
    single = fit(Module(every_extractor), "32-true", batches, tmp_path)
    assert (values / single - 1).abs().max() < (0.02 if precision == "bf16-mixed" else 1e-6)
    # Four steps of 1e-2 moved all of them, some back and forth; weight decay alone would be less than 1e-4.
    assert (module.conv.weight - before).abs().min() > 1e-4
