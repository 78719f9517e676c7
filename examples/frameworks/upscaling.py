"""What both examples train: a network that makes 1° winds of their means over 4×4 cells, on the bundled sample."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from atmoloss.data.sample import open_sample


def pairs() -> TensorDataset:
    """Return coarse and fine winds in m/s, (27 × 3, 2, 16, 16) and (27 × 3, 2, 64, 64)."""
    winds = torch.from_numpy(open_sample(("u", "v")).to_array().values).transpose(0, 1)  # (27, 2, 64, 192)
    fine = torch.cat(winds.split(64, dim=-1))
    return TensorDataset(F.avg_pool2d(fine, 4), fine)


class Upscaling(nn.Module):
    """Winds in m/s in and out; the network between sees numbers near 1."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, 2, 3, padding=1),
        )  # fmt: skip

    def forward(self, coarse: Tensor) -> Tensor:
        """Return (N, 2, 4 H, 4 W) of (N, 2, H, W)."""
        smooth = F.interpolate(coarse, scale_factor=4, mode="bilinear")
        return smooth + 5 * self.net(smooth / 10)
