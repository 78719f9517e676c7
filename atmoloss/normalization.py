r"""Per-channel normalisation of fields, invertible, with constants that belong to the weights.

.. math::
    z = (x - μ)/σ, \qquad y = \mathrm{sign}(z)\,\log(1 + α|z|), \qquad \mathrm{out} = (y - μ_y)/σ_y

(Hoffmann & Lessig 2023, and their code: α = 0.2). The logarithm tames the heavy tails of vorticity
and divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss.errors import InputError
from atmoloss.frozen import Frozen, factory_device
from atmoloss.functional import full_precision


class LogNormalization(Frozen):
    """Normalise fields in physical units, and back.

    Args:
        mean, std: of the fields, physical units, one per channel.
        log_mean, log_std: of the log-transformed fields, one per channel.
        alpha: strength of the logarithm.

    Shape:
        (N, C, H, W) physical units ↔ (N, C, H, W) dimensionless; any floating dtype.

    Raises:
        InputError: constants of different lengths, not finite, or a spread that is not positive.
    """

    mean: Tensor
    std: Tensor
    log_mean: Tensor
    log_std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        log_mean: Sequence[float],
        log_std: Sequence[float],
        alpha: float = 0.2,
    ) -> None:
        super().__init__()
        constants = {"mean": mean, "std": std, "log_mean": log_mean, "log_std": log_std}
        lengths = {name: len(values) for name, values in constants.items()}
        if len(set(lengths.values())) != 1 or not lengths["mean"]:
            raise InputError(f"normalization: constants of lengths {lengths}, expected one per channel in each")
        if not all(math.isfinite(v) for values in constants.values() for v in values):
            raise InputError(f"normalization: got {constants}, expected finite constants")
        if not (all(v > 0 for v in (*std, *log_std)) and 0 < alpha < math.inf):
            raise InputError(f"normalization: std {std}, log_std {log_std}, alpha {alpha}, expected positive numbers")
        # Kept as Python floats as well: what is saved is exact, and float64 fields are normalised in float64.
        # The buffers are float32, since not every device has float64.
        self._constants = {name: [float(v) for v in values] for name, values in constants.items()}
        self.alpha = float(alpha)
        for name, constant in zip(self._constants, self._tensors(torch.float32, factory_device()), strict=True):
            self.register_buffer(name, constant, False)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self._constants["mean"])

    def constants(self) -> dict[str, Any]:
        """Return the constants as plain numbers, as ``config.json`` stores them."""
        return {**{name: list(values) for name, values in self._constants.items()}, "alpha": self.alpha}

    def extra_repr(self) -> str:
        """Return the constants in the module's repr."""
        return ", ".join(f"{name}={value}" for name, value in self.constants().items())

    def forward(self, fields: Tensor) -> Tensor:
        """Normalise (N, C, H, W); half and bfloat16 are computed in float32."""
        x = full_precision(fields)
        mean, std, log_mean, log_std = self._cast(x.dtype)
        z = (x - mean) / std
        # sign(z)·log1p(α|z|) as written has the gradient 0 at z = 0; the two branches have the right one, α.
        positive = torch.log1p(self.alpha * z.clamp_min(0))
        negative = torch.log1p(self.alpha * (-z).clamp_min(0))
        y = torch.where(z >= 0, positive, -negative)
        return ((y - log_mean) / log_std).to(fields.dtype)

    def inverse(self, normalised: Tensor) -> Tensor:
        """Return (N, C, H, W) in physical units."""
        out = full_precision(normalised)
        mean, std, log_mean, log_std = self._cast(out.dtype)
        y = out * log_std + log_mean
        z = torch.where(y >= 0, torch.expm1(y.clamp_min(0)), -torch.expm1((-y).clamp_min(0))) / self.alpha
        return (z * std + mean).to(normalised.dtype)

    def _cast(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        if dtype != torch.float64:
            return self.mean, self.std, self.log_mean, self.log_std
        return self._tensors(dtype, self.mean.device)

    def _tensors(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        constants = self._constants.values()
        return tuple(torch.tensor(values, dtype=dtype, device=device).reshape(-1, 1, 1) for values in constants)

    @classmethod
    def fit(cls, sample: Any, alpha: float = 0.2) -> LogNormalization:
        """Fit the constants to a sample, two passes over its chunks.

        Args:
            sample: (N, C, H, W) in physical units: an array, a tensor, an xarray ``DataArray``, or a
                callable that returns an iterator over such chunks (called twice: the log statistics
                need the first ones). Missing values (NaN) are left out. An xarray ``Dataset`` gives one
                channel per variable, in its order; a lazy one is read a few times at a time.
            alpha: strength of the logarithm.

        Raises:
            InputError: a sample that is empty, constant, or of the wrong rank.
        """
        chunks = _chunks_of(sample)
        mean, std = _moments(chunks())
        if not (std > 0).all():
            raise InputError(f"sample: spread {std.tolist()} per channel, expected fields that vary")

        def logs() -> Iterable[np.ndarray]:
            for chunk in chunks():
                z = (chunk.astype(np.float64) - mean[:, None, None]) / std[:, None, None]
                yield np.sign(z) * np.log1p(alpha * np.abs(z))

        log_mean, log_std = _moments(logs())
        return cls(mean.tolist(), std.tolist(), log_mean.tolist(), log_std.tolist(), alpha)


def _chunks_of(sample: Any) -> Callable[[], Iterable[np.ndarray]]:
    """Return a function that iterates over (n, C, H, W) numpy chunks of whatever was given."""

    def as_array(chunk: Any) -> np.ndarray:
        if isinstance(chunk, Tensor):  # numpy has no bfloat16
            chunk = full_precision(chunk.detach().cpu()).numpy()
        array = np.asarray(chunk)
        if array.ndim != 4:
            raise InputError(f"sample: got shape {array.shape}, expected (N, C, H, W)")
        return array

    if callable(sample) and not isinstance(sample, Tensor):
        return lambda: (as_array(chunk) for chunk in sample())
    if hasattr(sample, "data_vars"):  # an xarray Dataset, without importing xarray
        names = list(sample.data_vars)
        time = sample[names[0]].dims[0]
        return lambda: (
            np.stack([part[name].values for name in names], 1)
            for part in (sample.isel({time: slice(i, i + 16)}) for i in range(0, sample.sizes[time], 16))
        )
    return lambda: (as_array(sample[i : i + 16]) for i in range(0, len(sample), 16))


def _moments(chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, chunk by chunk (Chan et al. 1983), NaN left out."""
    count = mean = squares = None
    for chunk in chunks:
        values = np.moveaxis(chunk, 1, 0).reshape(chunk.shape[1], -1).astype(np.float64)
        n = np.isfinite(values).sum(1)
        with np.errstate(invalid="ignore"):
            m = np.nansum(values, 1) / np.maximum(n, 1)
            s = np.nansum((values - m[:, None]) ** 2, 1)
        if count is None:
            count, mean, squares = n, m, s
            continue
        total = np.maximum(count + n, 1)
        delta = m - mean
        squares = squares + s + delta**2 * count * n / total
        mean = mean + delta * n / total
        count = count + n
    if count is None or mean is None or squares is None or (count == 0).any():
        raise InputError("sample: holds no finite value in some channel, expected fields in physical units")
    return mean, np.sqrt(squares / count)


ORIGINAL_NORMALIZATION: dict[str, Any] = {
    "mean": [1.9464334e-08, 2.0547947e-07],
    "std": [2.8568757e-05, 5.081943e-05],
    "log_mean": [0.0008821452, 0.00032483143],
    "log_std": [0.15794525, 0.16044095],
    "alpha": 0.2,
}
"""Divergence and vorticity of ERA5 model level 120, 1979–1988 (the original code's constants)."""
