"""Modules whose numbers stay what they are, whatever the model that holds them does to its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Frozen(nn.Module):
    """A module in evaluation mode whose buffers follow the device of the parent and nothing else.

    Casts such as ``.half()`` change no number. ``to_empty()``, whose tensors hold whatever was in memory, and the
    way to the ``meta`` device and back give the numbers back that were there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._while_on_meta: dict[str, Tensor] = {}
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode whatever the parent does."""
        super().train(False)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers())

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            # Only the device of what came back counts: its numbers may be rounded, or, from to_empty(), anything.
            return moved if moved is tensor or tensor.is_meta else tensor.to(moved.device)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, buffer in self.named_buffers():
                if buffer.is_meta and not before[name].is_meta:
                    self._while_on_meta[name] = before[name].cpu()
                elif before[name].is_meta and not buffer.is_meta:
                    buffer.copy_(self._while_on_meta.pop(name))
        return self


def factory_device() -> torch.device:
    """Return torch's default device, but the CPU for ``meta``: constants are known, and no checkpoint brings them."""
    device = torch.get_default_device()
    return torch.device("cpu") if device.type == "meta" else device


def leave_inference_mode(holder: nn.Module | dict[str, Tensor]) -> None:
    """Outside ``torch.inference_mode()``, replace buffers or tensors that were made under it: no gradient may pass."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return
    for tensors in [holder] if isinstance(holder, dict) else [module._buffers for module in holder.modules()]:
        tensors.update({name: t.clone() for name, t in tensors.items() if t is not None and t.is_inference()})
