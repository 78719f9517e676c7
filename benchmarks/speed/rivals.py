"""What a user could pick instead, each a function of (prediction, target), (N, 2, H, W) normalised fields, to a scalar.

``naive_port`` is the measure of all: the published network as most ports run it (in training precision, two passes,
batch norm as it was trained, parameters that still want a gradient).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.networks import Encoder, build_encoder

Loss = Callable[[Tensor, Tensor], Tensor]


def published_encoder(seed: int = 0) -> Encoder:
    """Return ``resnet_small`` with random weights, whose times are those of trained ones."""
    torch.manual_seed(seed)
    return build_encoder("resnet_small").eval()


class NaivePort(nn.Module):
    """Mean squared difference of the last stage, with nothing done about speed."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(self.encoder(prediction)["stage4"], self.encoder(target)["stage4"])


class VGG16(nn.Module):
    """Perceptual loss on relu3_3 of VGG16 (Johnson et al. 2016), random weights, frozen; channels_last, one dtype."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 2
        for channels, count in ((64, 2), (128, 2), (256, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
                width = channels
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers[:-1]).to(dtype, memory_format=torch.channels_last).requires_grad_(False)
        self.dtype = dtype

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x.to(self.dtype).contiguous(memory_format=torch.channels_last))
        return out.float()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            goal = self.features(target)
        return F.mse_loss(self.features(prediction), goal)


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """1 − SSIM (Wang et al. 2004) with 11 × 11 means, σ 1.5, for fields of unit variance: a range of 6."""
    offsets = torch.arange(-5.0, 6.0, device=prediction.device, dtype=prediction.dtype)
    line = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    channels = prediction.shape[1]
    kernel = (torch.outer(line, line) / line.sum() ** 2).expand(channels, 1, 11, 11)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    a, b = mean(prediction), mean(target)
    va, vb = mean(prediction.square()) - a.square(), mean(target.square()) - b.square()
    covariance = mean(prediction * target) - a * b
    c1, c2 = (0.01 * 6) ** 2, (0.03 * 6) ** 2
    value = (2 * a * b + c1) * (2 * covariance + c2) / ((a.square() + b.square() + c1) * (va + vb + c2))
    return 1 - value.mean()


def installed() -> dict[str, Loss]:
    """Return the losses of other packages that this environment has; see README.md for one that has them all."""
    out: dict[str, Loss] = {}
    if importlib.util.find_spec("lpips"):
        import lpips

        # random weights: the times are those of trained ones, and nothing is downloaded
        net = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).eval().requires_grad_(False)
        out["lpips.LPIPS (vgg)"] = lambda p, t: net(_rgb(p), _rgb(t)).mean()
    if importlib.util.find_spec("piq"):
        import piq

        out["piq.multi_scale_ssim"] = lambda p, t: (
            1 - piq.multi_scale_ssim(_unit(p), _unit(t), data_range=1.0, kernel_size=3)  # 5 needs 65 cells
        )
        out["piq.ssim"] = lambda p, t: 1 - piq.ssim(_unit(p), _unit(t), data_range=1.0)
    if importlib.util.find_spec("torchmetrics"):
        from torchmetrics.functional.image import structural_similarity_index_measure

        out["torchmetrics ssim"] = lambda p, t: 1 - structural_similarity_index_measure(p, t, data_range=6.0)
    return out


def _rgb(x: Tensor) -> Tensor:
    """Repeat the first of two channels: such packages know three only."""
    return torch.cat((x, x[:, :1]), 1)


def _unit(x: Tensor) -> Tensor:
    return (0.5 + x / 12).clamp(0, 1)
