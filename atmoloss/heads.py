"""Pretext heads: what turns the encodings of two fields into logits over lag classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atmoloss.errors import InputError
from atmoloss.layers import Conv, batch_norm, he_normal
from atmoloss.networks import Encoder

Features = Mapping[str, Tensor]


class PublishedHead(nn.Module):
    """The head of Hoffmann & Lessig (2023): both final feature maps, two convolutions, one dense layer.

    Args:
        channels: of the deepest stage, by stage name in order of depth.
        n_classes: lag classes.
        input_size: rows and columns of the fields (the dense layer fixes them).
        stride: of the deepest stage.
        width: of the two convolutions.
    """

    def __init__(
        self, channels: Mapping[str, int], n_classes: int, input_size: tuple[int, int], stride: int, width: int = 128
    ) -> None:
        super().__init__()
        self.stage, deepest = list(channels.items())[-1]
        self.combined1 = Conv(2 * deepest, width, 3, 2, bias=True)
        self.combined1_bn = batch_norm(width)
        self.combined2 = Conv(width, width, 3, bias=True)
        self.combined2_bn = batch_norm(width)
        cells = math.prod(math.ceil(math.ceil(size / stride) / 2) for size in input_size)
        self.pred = nn.Linear(cells * width, n_classes, bias=False)
        size = {"input_size": list(input_size), "width": width}
        self.architecture: dict[str, Any] = {"kind": "published", "n_classes": n_classes, **size}
        self.apply(he_normal)

    def forward(self, first: Features, second: Features) -> Tensor:
        """Return logits (N, n_classes) for ``first`` before ``second``."""
        x = torch.cat((first[self.stage], second[self.stage]), 1)
        x = F.relu(self.combined1_bn(self.combined1(x)))
        x = F.relu(self.combined2_bn(self.combined2(x)))
        flat = x.permute(0, 2, 3, 1).flatten(1)  # (H, W, C), the order of the original's dense kernel
        if flat.shape[1] != self.pred.in_features:
            raise InputError(
                f"fields: give {flat.shape[1]} features to the published head, expected "
                f"{self.pred.in_features} (fields of {self.architecture['input_size']})"
            )
        return self.pred(flat)  # type: ignore[no-any-return]


class MetricHead(nn.Module):
    r"""The lag class from one distance: what is trained is the distance that ships.

    .. math::
        d = \sum_{s,c} w_{s,c} \, \overline{(f_{1,s,c} - f_{2,s,c})^2}, \quad w ≥ 0, \qquad
        \mathrm{logit}_k = -\tfrac12 \left(\frac{\log d - μ_k}{σ_k}\right)^2 - \log σ_k

    with the mean over space. Nothing else may be used to answer; any patch size works.

    Args:
        channels: per stage.
        n_classes: lag classes.
    """

    def __init__(self, channels: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.log_weights = nn.ParameterDict(
            {name: nn.Parameter(torch.full((c,), -math.log(c * len(channels)))) for name, c in channels.items()}
        )
        # Distances grow like a power of the lag and level off; any increasing start serves.
        self.means = nn.Parameter(torch.linspace(-1.5, 0.5, n_classes))
        self.log_widths = nn.Parameter(torch.full((n_classes,), -1.0))
        self.architecture: dict[str, Any] = {"kind": "metric", "n_classes": n_classes}

    def weights(self) -> dict[str, Tensor]:
        """Return the weights w of the distance, (C,) per stage."""
        return {name: value.exp() for name, value in self.log_weights.items()}

    def distance(self, first: Features, second: Features) -> Tensor:
        """Return d, (N,), float32."""
        terms = [
            (first[name].float() - second[name].float()).square().mean((-2, -1)) @ weight
            for name, weight in self.weights().items()
        ]
        return torch.stack(terms).sum(0)

    def pair_distances(self, features: Features, n_times: int) -> Tensor:
        """Return d of every pair (i < j, in the order of ``torch.triu_indices``) of B sequences of S fields.

        The same as :meth:`distance` of each pair, by inner products instead of S(S − 1)/2 differences: from (B·S, C,
        h, w) per stage, the ``n_times`` of a sequence one after the other, to (B, S(S − 1)/2), float32.
        """
        first, second = torch.triu_indices(n_times, n_times, 1)
        total = torch.zeros(())
        for name, weight in self.weights().items():
            x = features[name].float()
            x = x * (weight / (x.shape[-1] * x.shape[-2])).sqrt()[:, None, None]
            x = x.reshape(-1, n_times, x[0].numel())
            x = x - x.mean(1, keepdim=True)  # the products of what remains do not cancel
            products = x @ x.mT
            squares = products.diagonal(dim1=1, dim2=2)
            total = total + squares[:, first] + squares[:, second] - 2 * products[:, first, second]
        return total.clamp_min(0.0)

    def logits(self, distance: Tensor) -> Tensor:
        """Read distances (…,) as logits (…, n_classes)."""
        # d = 0 (a pair of equal fields) must not give −inf; 1e-12 is far below any real pair.
        deviation = (distance.clamp_min(1e-12).log()[..., None] - self.means) * torch.exp(-self.log_widths)
        return -0.5 * deviation.square() - self.log_widths

    def forward(self, first: Features, second: Features) -> Tensor:
        """Return logits (N, n_classes); the order of the arguments does not matter."""
        return self.logits(self.distance(first, second))


Head = PublishedHead | MetricHead


class PretextModel(nn.Module):
    """Encoder and head; ``model(x1, x2)`` gives logits (N, n_classes) from normalised (N, C, H, W) fields."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return logits over lag classes for ``x1`` and the later ``x2``."""
        return self.head(self.encoder(x1), self.encoder(x2))  # type: ignore[no-any-return]


def build_head(architecture: Mapping[str, Any], encoder: Encoder) -> Head:
    """Build the head that ``architecture`` (``kind`` and its arguments) describes for ``encoder``.

    Raises:
        InputError: an unknown kind.
    """
    arguments = dict(architecture)
    kind = arguments.pop("kind", None)
    channels = {stage: encoder.channels[stage] for stage in encoder.stages}
    if kind == "metric":
        return MetricHead(channels, **arguments)
    if kind == "published":
        stride = list(encoder.strides.values())[-1]
        size = tuple(arguments.pop("input_size"))
        return PublishedHead(channels, input_size=size, stride=stride, **arguments)
    raise InputError(f"head: got kind {kind!r}, expected 'metric' or 'published'")
