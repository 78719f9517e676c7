"""The content loss of a run: a measure of ``measures`` or of a network's features, scaled to the size of the MSE."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss import AtmoDistLoss
from atmoloss.adjusted import AdjustedDifference
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import PartnerIndex, SequenceDataset
from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError, DataError
from atmoloss.extractor import Extractor, load_extractor
from atmoloss.lag_2afc.baselines import random_extractor
from atmoloss.normalization import LogNormalization
from atmoloss.training.layer_scales import fit_layer_scale

from . import measures
from .config import CONTENTS, ContentConfig

Measure = Callable[[Tensor, Tensor], Tensor]
"""Two normalised (N, C, H, W) to (N,)."""

_NEEDS_WEIGHTS = ("random-encoder", "atmodist")

_PLAIN: dict[str, Measure] = {
    "mse": measures.mse,
    "l1": measures.l1,
    "gradient": measures.gradient,
    "log-spectral": measures.log_spectral,
    "amse": measures.amse,
    "adjusted": AdjustedDifference(),
}
_LAST_FAL = 0.1  # share of the steps at the end that only see amplitudes (the value of the FACL code)


class Facl(nn.Module):
    """Fourier amplitude and correlation loss (Yan et al. 2024, arXiv:2410.23159): one of the two terms a step.

    The correlation term is drawn with a probability that falls linearly from 1 to 0 over the first 90 % of the
    steps: first where things are, then how strong.
    """

    def __init__(self, steps: int, seed: int) -> None:
        super().__init__()
        self.steps, self.seed = steps, seed

    def correlation_drawn(self, step: int) -> bool:
        """Say whether a step (1 … steps) sees the correlation term; a function of seed and step."""
        probability = max(0.0, 1 - (step - 1) / ((1 - _LAST_FAL) * self.steps))
        return bool(np.random.default_rng((self.seed, step)).random() < probability)

    def forward(self, prediction: Tensor, target: Tensor, step: int | None = None) -> Tensor:
        """Return (N,); without a step the mean of both terms."""
        if step is None:
            amplitude = measures.fourier_amplitude(prediction, target)
            return (amplitude + measures.fourier_correlation(prediction, target)) / 2
        if self.correlation_drawn(step):
            return measures.fourier_correlation(prediction, target)
        return measures.fourier_amplitude(prediction, target)


class RandomVgg(nn.Module):
    """Features of VGG16's convolutions (Simonyan & Zisserman 2014, arXiv:1409.1556) with random weights.

    ImageNet weights expect three colours and are no part of this project. He initialisation; every block's features
    (after its last ReLU) are divided by their root mean square on ``sample``, so that none drowns the others.

    Args:
        sample: normalised (N, C, H, W).
        blocks: of ``block1`` … ``block5``; what lies behind the last one is not computed.
        seed: of the weights.
    """

    BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions, channels

    def __init__(self, sample: Tensor, blocks: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__()
        names = [f"block{i + 1}" for i in range(len(self.BLOCKS))]
        unknown = [name for name in blocks if name not in names]
        if unknown:
            raise ConfigError(f"layers: got {unknown[0]!r}, expected some of {', '.join(names)}")
        self.taps = tuple(blocks) or tuple(names)
        width = sample.shape[1]
        self.blocks = nn.ModuleDict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, (count, channels) in zip(names, self.BLOCKS, strict=True):
                convs = []
                for _ in range(count):
                    conv = nn.Conv2d(width, channels, 3, padding=1)
                    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                    assert conv.bias is not None
                    nn.init.zeros_(conv.bias)
                    convs.append(conv)
                    width = channels
                self.blocks[name] = nn.ModuleList(convs)
                if name == max(self.taps):
                    break
        self.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
        self.gains: dict[str, float] = {}
        with torch.no_grad():
            self.gains = {name: 1 / f.square().mean().sqrt().item() for name, f in self.features(sample).items()}

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the features of the chosen blocks."""
        out = {}
        x = x.contiguous(memory_format=torch.channels_last)
        for i, (name, block) in enumerate(self.blocks.items()):
            x = F.max_pool2d(x, 2) if i else x
            for conv in block:
                x = F.relu(conv(x))
            if name in self.taps:
                out[name] = x * self.gains.get(name, 1.0)
        return out

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over blocks of the mean squared difference of features, (N,)."""
        with torch.no_grad():
            second = self.features(target)
        first = self.features(prediction)
        return torch.stack([(first[n] - second[n]).square().mean((1, 2, 3)) for n in first]).mean(0)


class FeatureLoss(nn.Module):
    """:class:`atmoloss.AtmoDistLoss` of fields that are normalised already; the target needs no graph."""

    def __init__(self, loss: AtmoDistLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return (N,)."""
        with torch.no_grad():
            features = self.loss.features(target)
        out: Tensor = self.loss(prediction, features)
        return out


@dataclasses.dataclass
class ContentLoss:
    """(1 − m) · scale · measure + m · companion, the MSE of normalised fields or another measure of its size.

    Attributes:
        name: of the measure.
        measure: two normalised (N, C, H, W) to (N,); a :class:`Facl` also takes the step.
        mse_weight: m.
        scale: see :func:`calibrate`.
        companion: two normalised (N, C, H, W) to (N,).
    """

    name: str
    measure: Measure | nn.Module
    mse_weight: float
    scale: float = 1.0
    companion: Measure = measures.mse

    def __call__(self, prediction: Tensor, target: Tensor, step: int | None = None) -> Tensor:
        """Return (N,); ``step`` counts from 1 after pretraining, ``None`` outside training."""
        options: dict[str, Any] = {"step": step} if isinstance(self.measure, Facl) else {}
        value: Tensor = self.measure(prediction, target, **options)
        value = (1 - self.mse_weight) * self.scale * value
        if self.mse_weight:
            value = value + self.mse_weight * self.companion(prediction, target)
        return value


def make_normalization(config: ContentConfig, sample: Tensor) -> LogNormalization:
    """Return the normalisation of a run: that of its weights, or fitted to ``sample`` in physical units."""
    if config.normalization == "fit":
        return LogNormalization.fit(sample)
    return LogNormalization(**load_weights(config).info.normalization)


def make_content(config: ContentConfig, normalization: LogNormalization, sample: Tensor) -> ContentLoss:
    """Build the content loss of a configuration, with scale 1.

    Args:
        config: a :class:`srgan.config.ContentConfig`.
        normalization: of the fields that it will get.
        sample: patches in physical units (N, C, H, W): random networks get their statistics from it.

    Raises:
        ConfigError: layers that the network does not have, or weights for other variables.
        WeightsError: weights that cannot be read.
    """
    name, layers = config.content, config.layers
    extractor = load_weights(config) if name in _NEEDS_WEIGHTS else None
    mse_weight = CONTENTS[name] if config.mse_weight < 0 else config.mse_weight
    options: dict[str, Any] = {"normalization": None, "reduction": "none", "mse_weight": 0.0, "validate": False}
    measure: Measure | nn.Module
    if name == "facl":
        measure = Facl(config.steps, config.seed)
    elif name == "vgg-random":
        measure = RandomVgg(normalization(sample), layers)
    elif name == "random-encoder":
        assert extractor is not None
        layers = layers or tuple(extractor.info.layers)
        random = random_extractor(extractor.info, normalization, sample)
        measure = FeatureLoss(AtmoDistLoss(random, layers=layers, scale="none", **options))
    elif name == "atmodist":
        assert extractor is not None
        measure = FeatureLoss(AtmoDistLoss(extractor, layers=layers or None, **options))
    else:
        measure = _PLAIN[name]
    return ContentLoss(name, measure, mse_weight, companion=_PLAIN[config.companion])


def load_weights(config: ContentConfig) -> Extractor:
    """Load the weights of a configuration, which must be for its variables.

    Raises:
        ConfigError: they are for others.
        WeightsError: they cannot be read.
    """
    extractor = load_extractor(config.weights)
    if extractor.info.channel_names != tuple(config.variables):
        raise ConfigError(
            f"variables: got {', '.join(config.variables)}, expected those of the weights {extractor.info.id}: "
            f"{', '.join(extractor.info.channel_names)}"
        )
    return extractor


_BASE_STEP, _CLASSES, _BATCHES, _PAIRS = 3, 32, 8, 16


@torch.no_grad()
def calibrate(
    measure: Measure | nn.Module,
    normalization: LogNormalization,
    sources: Sequence[FieldSource],
    patch_size: int,
    latitude_band: tuple[float, float] = (-75.0, 75.0),
) -> float:
    """Return the factor that makes a measure equal the MSE of normalised fields at lags of 51 to 96 h.

    As the layer scales of the weights (:func:`atmoloss.training.layer_scales.fit_layer_scale`): pairs of one patch at
    two times, mean per lag, least squares over the upper half of the lags. Every source with a weight and a sequence
    counts equally.

    Raises:
        DataError: no source has pairs at such lags.
    """
    spec = SequenceSpec(2, _CLASSES, _BASE_STEP, (patch_size,), _PAIRS, latitude_band)
    scales = []
    for source in sources:
        if source.weight == 0 or not len(PartnerIndex(source, spec).anchors):  # not trained on, or snapshots
            continue
        data = SequenceDataset([source], spec, seed=0, length=_BATCHES)
        batches = [data[i] for i in range(_BATCHES)]
        lags = torch.cat([(b.hours[:, 1] - b.hours[:, 0]) // _BASE_STEP - 1 for b in batches]).numpy()
        late = lags >= _CLASSES // 2
        if not late.any():
            continue
        fields = torch.cat([b.fields for b in batches])[torch.from_numpy(late)]
        count = np.bincount(lags[late], minlength=_CLASSES).clip(1)
        curves = []  # (K,), zero where there is no pair: that adds nothing to a least-squares fit
        for m in (measure, measures.mse):
            parts = [m(normalization(x[:, 0]), normalization(x[:, 1])) for x in fields.split(_PAIRS)]
            curves.append(np.bincount(lags[late], torch.cat(parts).double().numpy(), _CLASSES) / count)
        scales.append(fit_layer_scale(*curves))
    if not scales:
        raise DataError(
            "content_scale: got 0 (fit), but no source has pairs of times 51 to 96 h apart; expected the scale"
        )
    return float(np.mean(scales))
