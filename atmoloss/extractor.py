"""The feature extractor: normalisation, frozen encoder and what is known about them."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from atmoloss import tiling
from atmoloss import weights as weights_folder
from atmoloss.errors import InputError, WeightsError, not_a_tensor, shown
from atmoloss.folding import fold_batch_norm, fold_gains, freeze
from atmoloss.frozen import Frozen, factory_device, leave_inference_mode
from atmoloss.functional import full_precision
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.weights import WeightsInfo


class Extractor(Frozen):
    """Fields in physical units to features, ``extractor(fields)["stage3"]``.

    Frozen by construction: batch norm is folded into the convolutions, weights are buffers that no
    optimizer finds and no ``state_dict`` carries, ``train()`` does nothing, and casts such as ``.half()``
    move nothing but the device, so that features do not depend on the parent's dtype.

    Args:
        encoder: trained; copied, not changed.
        normalization: of the fields.
        info: metadata.
        gains: factor per channel of a stage's features, (C,) per stage name, so that plain mean squared
            differences are the distance that was trained, not negative; missing stages have gain 1.

    Shape:
        (N, C, H, W) physical units → {"stage1": (N, C₁, ⌈H/s₁⌉, ⌈W/s₁⌉), …}. Features are float64 for
        float64 fields and float32 otherwise, or ``compute_dtype``.
    """

    def __init__(
        self,
        encoder: Encoder,
        normalization: LogNormalization,
        info: WeightsInfo,
        gains: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if any(tensor.is_meta for tensor in [*encoder.parameters(), *encoder.buffers()]):
            raise WeightsError(
                f"weights: something puts the tensors of {info.id} on the meta device, where they have no numbers; "
                "expected the loss to be made outside of it (of accelerate's init_empty_weights, say)"
            )
        self.normalization = normalization
        with factory_device():
            self.encoder = fold_batch_norm(encoder)
            # Weights in channels_last make every activation so, whatever the layout of the fields.
            self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            fold_gains(self.encoder, gains or {})
            freeze(self.encoder)
        self.info = info
        self.train()

    def with_periodic(self, periodic: bool) -> Extractor:
        """Return an extractor on the same tensors whose columns wrap or not, whatever those of this one do."""
        shared: dict[int, object] = {id(tensor): tensor for tensor in self.buffers()}
        other = copy.deepcopy(self, {**shared, id(self.info): self.info})
        other.encoder.set_periodic(periodic)
        return other

    def extra_repr(self) -> str:
        """Return the id of the weights in the module's repr."""
        return f"weights={self.info.id!r}"

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages."""
        return tuple(self.encoder.strides)

    def check_layers(self, layers: Collection[str]) -> None:
        """Raise ``InputError`` unless they are names of stages of the encoder, one at least."""
        if isinstance(layers, str) or not isinstance(layers, Collection):
            raise InputError(f"layers: got {shown(layers)}, expected a sequence of names or a mapping")
        if not len(layers) or any(name not in self.stages for name in layers):
            raise InputError(f"layers: got {list(layers)}, expected some of {', '.join(self.stages)}")

    def forward(
        self, fields: Tensor, layers: Sequence[str] | None = None, max_memory: float | None = None
    ) -> dict[str, Tensor]:
        """Normalise and encode; only what ``layers`` (default: all stages) need is computed.

        ``max_memory`` bounds the bytes of activations at work, see :class:`~atmoloss.AtmoDistLoss`.
        """
        if layers is not None:
            self.check_layers(layers)
        tiling.check_memory(max_memory)
        leave_inference_mode(self)
        self.check_shape("fields", fields, layers)
        self.check_device(fields)
        return self.encode(self.normalization(full_precision(fields)), layers, max_memory=max_memory)

    def encode(
        self,
        normalised: Tensor,
        layers: Sequence[str] | None = None,
        compute_dtype: torch.dtype | None = None,
        max_memory: float | None = None,
    ) -> dict[str, Tensor]:
        """Encode normalised (N, C, H, W)."""
        if compute_dtype is not None:  # said by the user: autocast must not change it
            with torch.autocast(normalised.device.type, enabled=False):
                return tiling.encode(self.encoder, normalised.to(compute_dtype), layers, max_memory)
        return tiling.encode(self.encoder, full_precision(normalised), layers, max_memory)

    def attention(self, fields: Tensor) -> dict[str, Tensor]:
        """Return the map of each attention block, ``"stage2.0"`` for the first of its stage.

        From (N, C, H, W) in physical units to (N, heads, h, w, (2r + 1)²): for each position of the stage the weights,
        whose sum is 1, of those around it, row by row from (−r, −r) to (r, r), in rows southward and columns eastward.
        ``InputError`` for weights without attention.
        """
        leave_inference_mode(self)
        self.check_shape("fields", fields)
        self.check_device(fields)
        if not self.encoder.architecture.get("attention"):
            raise InputError(f"weights: got {self.info.id}, which has no attention, expected an encoder with attention")
        return self.encoder.attention(self.normalization(full_precision(fields)))

    def check_shape(self, argument: str, fields: Tensor, layers: Sequence[str] | None = None) -> None:
        """Raise ``InputError`` for a wrong type, rank, number of channels, or a field that is too small."""
        if not isinstance(fields, Tensor):
            raise not_a_tensor(argument, fields)
        channels = self.encoder.in_channels
        if not fields.is_floating_point():
            raise InputError(f"{argument}: got dtype {fields.dtype}, expected a floating-point dtype")
        if fields.ndim != 4 or fields.shape[1] != channels:
            raise InputError(
                f"{argument}: got shape {tuple(fields.shape)}, expected (N, {channels}, H, W) with channels "
                + ", ".join(self.info.channel_names)
            )
        smallest = max(self.encoder.smallest_input(stage) for stage in (layers or self.stages))
        if min(fields.shape[-2:]) < smallest:
            raise InputError(
                f"{argument}: got fields of {fields.shape[-2]}x{fields.shape[-1]} points, expected at least "
                f"{smallest}x{smallest} for {', '.join(layers or self.stages)} of weights {self.info.id}"
            )
        if self.encoder.stem.kernel_weight().is_meta and not fields.is_meta:
            raise WeightsError(
                f"weights: {self.info.id} is on the meta device and has no numbers there; expected "
                ".to_empty(device=...), which brings them back, before the first call"
            )
        if fields.shape[0] == 0:  # len() would fix the number of fields of an export
            raise InputError(f"{argument}: got an empty batch {tuple(fields.shape)}, expected at least one field")

    def check_device(self, fields: Tensor) -> None:
        """Raise ``InputError`` for fields on another device than the weights."""
        device = self.encoder.stem.kernel_weight().device
        if fields.device != device:
            raise InputError(f"fields: got them on {fields.device}, expected {device}, where the weights are")


def load_extractor(name_or_path: str | os.PathLike[str] = "default", revision: str | None = None) -> Extractor:
    """Load a frozen extractor: bundled name, local folder, or Hub repository.

    Args:
        name_or_path: ``"default"``, a weights folder, or ``"owner/repository"``.
        revision: commit, tag or branch of the Hub repository.

    Raises:
        WeightsError: not found, truncated, altered, or tensors that do not fit the configuration.
    """
    info, tensors = weights_folder.load(weights_folder.resolve(name_or_path, revision))
    try:
        with factory_device():  # meta tensors would take no weights
            encoder = Encoder(**info.encoder).float()  # whatever torch.set_default_dtype() says
        normalization = LogNormalization(**info.normalization)
    except (TypeError, InputError) as error:
        raise WeightsError(f"weights: config of {info.id} has a wrong encoder or normalization: {error}") from error
    load_strictly(encoder, tensors, "encoder.", info.id)
    gains = {name.removeprefix("gain."): t for name, t in tensors.items() if name.startswith("gain.")}
    if not len(info.channels) == encoder.in_channels == normalization.n_channels:
        raise WeightsError(
            f"weights: {info.id} has {len(info.channels)} channels, an encoder of {encoder.in_channels} and a "
            f"normalization of {normalization.n_channels}, expected the same number"
        )
    for name, gain in gains.items():
        if gain.numel() != encoder.channels.get(name):
            raise WeightsError(
                f"weights: {info.id} has {gain.numel()} gains for {name}, expected one per channel of a stage: "
                f"{encoder.channels}"
            )
    return Extractor(encoder, normalization, info, gains)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, label: str) -> None:
    """Load the tensors under ``prefix`` into ``module``; ``WeightsError`` where a name or a shape does not fit."""
    state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    # Batch norm's step counter is no weight: absent from the files, taken from the new module.
    counters = {name: t for name, t in module.state_dict().items() if name.endswith("num_batches_tracked")}
    try:
        module.load_state_dict({**counters, **state}, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"weights: tensors of {label} do not fit its configuration: {reason}") from error
