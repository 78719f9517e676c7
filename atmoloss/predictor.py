"""Predict the next field with published weights, and look at where the prediction comes from."""

from __future__ import annotations

import copy
import itertools
import math
import os
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from atmoloss import weights as weights_folder
from atmoloss.errors import InputError, WeightsError
from atmoloss.extractor import load_strictly
from atmoloss.folding import fold_batch_norm, freeze
from atmoloss.frozen import Frozen
from atmoloss.functional import full_precision
from atmoloss.layers import set_periodic
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel, build_prediction_head, deepest
from atmoloss.weights import WeightsInfo
from atmoloss.windows import extend


class Predictor(Frozen):
    """Sequences of fields in physical units to the field one step later, ``predictor(sequence)``.

    Args:
        model: trained; copied, not changed.
        normalization: of the fields.
        info: metadata.
        periodic: wrap columns, for grids that close in longitude.

    Shape:
        (N, F, C, H, W), the F fields one step (``info.base_step_hours``) apart, the last of them the present →
        (N, C, H, W), float32 (float64 for float64 fields).
    """

    def __init__(
        self, model: PredictionModel, normalization: LogNormalization, info: WeightsInfo, periodic: bool = False
    ) -> None:
        super().__init__()
        self.model = PredictionModel(fold_batch_norm(model.encoder), copy.deepcopy(model.head)).eval()
        freeze(self.model)
        self.normalization = normalization
        self.info = info
        set_periodic(self.model, periodic)
        self.train()

    @property
    def frames(self) -> int:
        """F, the number of fields that a prediction reads."""
        return self.model.head.frames

    @property
    def stride(self) -> int:
        """Cells from one position of the features to the next: position i is of the cells from i · stride on."""
        return self.model.encoder.strides[deepest(self.model.encoder)]

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the next field, in physical units."""
        return self.normalization.inverse(self.model(self._normalised(sequence)))

    def attention(
        self,
        sequence: Tensor,
        method: Literal["head", "rollout", "gradient"] = "head",
        at: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return where each position of the present looks: a map over the fields, centred on it, whose sum is 1.

        Args:
            sequence: as of a call.
            method: ``"head"``: the weights of every head of the attentions that see all fields, those of the first
                block first. ``"rollout"``: those of all attentions, of the encoder's, too, one applied after the other,
                half of each step being the residual (Abnar & Zuidema 2020, arXiv:2005.00928), the mean over heads.
                ``"gradient"``: which cells move the prediction there: the absolute derivative of its mean over the
                cells of the position, in units of the normalisation; one backward pass a position, and no attention
                weight is read.
            at: row and column of the one position whose map is asked for; ``None``: all of them.

        Returns:
            (N, blocks × heads or 1, h, w, F, S, S), the weights that the position (h, w) of the features gives in each
            field to positions (−S//2, …, S//2) rows southward and columns eastward of it; nothing outside of the field.
            With ``at``, h and w are 1.
        """
        if method not in ("head", "rollout", "gradient"):
            raise InputError(f"method: got {method!r}, expected 'head', 'rollout' or 'gradient'")
        x = self._normalised(sequence)
        height, width = (math.ceil(size / self.stride) for size in x.shape[-2:])
        if at is not None and not (0 <= at[0] < height and 0 <= at[1] < width):
            raise InputError(f"at: got {at}, expected a row and a column of the {height}x{width} positions")
        if method == "gradient":
            return self._gradient_maps(x, at)
        with torch.no_grad():
            maps = self._rollout(x) if method == "rollout" else _square(torch.cat(self.model.with_maps(x)[1], 1))
        return maps if at is None else maps[:, :, at[0] : at[0] + 1, at[1] : at[1] + 1]

    def _rollout(self, x: Tensor) -> Tensor:
        blocks = [_square(weights).mean(1) for weights in self.model.with_maps(x)[1]]  # (N, h, w, F, S, S)
        rolled = torch.zeros_like(blocks[0])
        rolled[..., -1, rolled.shape[-2] // 2, rolled.shape[-1] // 2] = 1.0  # the present itself
        for block in blocks:
            rolled = (rolled + block) / 2
        by_frame = list(rolled.unbind(-3))
        spatial = self.model.encoder.attention(x.flatten(0, 1)).values()
        for weights in reversed([_square(s).mean(1) for s in spatial]):
            weights = weights.reshape(*x.shape[:2], *weights.shape[1:])
            for f, window in enumerate(by_frame):
                read = compose(window, weights[:, f], self._wraps)
                by_frame[f] = (F.pad(window, (weights.shape[-1] // 2,) * 4) + read) / 2
        return torch.stack(by_frame, -3)[:, None]

    @property
    def _wraps(self) -> bool:
        return self.model.head.periodic

    def _gradient_maps(self, x: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        stride, radius = self.stride, self.model.head.radius
        side = 2 * radius + 1
        out: list[Tensor] = []
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            means = F.avg_pool2d(self.model(x).sum(1, keepdim=True), stride, ceil_mode=True)[:, 0]
            rows, columns = (range(n) if at is None else (at[i],) for i, n in enumerate(means.shape[-2:]))
            for row, column in itertools.product(rows, columns):
                (slope,) = torch.autograd.grad(means[:, row, column].sum(), x, retain_graph=True)
                moved = F.avg_pool2d(slope.abs().sum(2), stride, ceil_mode=True)
                around = extend(moved, radius, self._wraps)
                out.append(around[..., row : row + side, column : column + side])
        maps = torch.stack(out, 1).reshape(len(x), 1, len(rows), len(columns), *out[0].shape[1:])
        total: Tensor = maps.sum((-3, -2, -1), keepdim=True)
        return maps / total.clamp_min(torch.finfo(maps.dtype).tiny)

    def _normalised(self, sequence: Tensor) -> Tensor:
        """Normalise a sequence, or raise ``InputError`` where it does not fit the weights."""
        encoder = self.model.encoder
        expected = (self.frames, encoder.in_channels)
        if not isinstance(sequence, Tensor) or sequence.ndim != 5 or tuple(sequence.shape[1:3]) != expected:
            got = tuple(sequence.shape) if isinstance(sequence, Tensor) else type(sequence).__name__
            raise InputError(
                f"sequence: got {got}, expected a tensor (N, {expected[0]}, {expected[1]}, H, W): {expected[0]} fields "
                f"{self.info.base_step_hours} h apart with channels {', '.join(self.info.channel_names)}"
            )
        if not sequence.isfinite().all():
            raise InputError("sequence: got missing or infinite values, expected none")
        smallest = (2 * self.model.head.radius + 1) * self.stride
        if min(sequence.shape[-2:]) < smallest:
            raise InputError(
                f"sequence: got fields of {sequence.shape[-2]}x{sequence.shape[-1]} points, expected at least "
                f"{smallest}x{smallest}, the window of an attention of weights {self.info.id}"
            )
        x = full_precision(sequence)
        normalised: Tensor = self.normalization(x.flatten(0, 1))
        return normalised.reshape(x.shape)


def load_predictor(
    name_or_path: str | os.PathLike[str], revision: str | None = None, *, periodic: bool = False
) -> Predictor:
    """Load weights that predict: local folder or Hub repository.

    Args:
        name_or_path: a weights folder, or ``"owner/repository"``.
        revision: commit, tag or branch of the Hub repository.
        periodic: wrap columns, for grids that close in longitude.

    Raises:
        WeightsError: as :func:`atmoloss.load_extractor`, and of weights without a head that predicts.
    """
    info, tensors = weights_folder.load(weights_folder.resolve(name_or_path, revision))
    if (info.head or {}).get("kind") != "space_time":
        raise WeightsError(f"weights: {info.id} have no head that predicts; expected those of a training with 'next'")
    try:
        encoder = Encoder(**info.encoder)
        model = PredictionModel(encoder, build_prediction_head(info.head or {}, encoder))
        normalization = LogNormalization(**info.normalization)
    except (TypeError, InputError) as error:
        raise WeightsError(f"weights: config of {info.id} has a wrong encoder or head: {error}") from error
    load_strictly(model.encoder, tensors, "encoder.", info.id)
    load_strictly(model.head, tensors, "head.", info.id)
    return Predictor(model, normalization, info, periodic)


def compose(first: Tensor, then: Tensor, periodic: bool = False) -> Tensor:
    """Apply one map of windows after another: what a position reads of what others have read.

    Args:
        first: (N, h, w, S, S), of the positions that ask.
        then: (N, h, w, T, T), of the positions that they read.
        periodic: whether columns wrap.

    Returns:
        (N, h, w, S + T − 1, S + T − 1).
    """
    height, width, side = *first.shape[1:3], first.shape[-1]
    inner, radius = then.shape[-1], side // 2
    out = first.new_zeros(*first.shape[:3], side + inner - 1, side + inner - 1)
    rows = torch.arange(height, device=first.device)
    columns = torch.arange(width, device=first.device)
    for i in range(side):
        for j in range(side):
            south, east = rows + i - radius, columns + j - radius
            # Outside of the map the first window has no weight, and any row will do.
            east = east % width if periodic else east.clamp(0, width - 1)
            read = then[:, south.clamp(0, height - 1)][:, :, east]
            out[..., i : i + inner, j : j + inner] += first[..., i, j, None, None] * read
    return out


def _square(weights: Tensor) -> Tensor:
    """Lay out the offsets of a window, the last axis, in rows and columns."""
    side = math.isqrt(weights.shape[-1])
    return weights.reshape(*weights.shape[:-1], side, side)
