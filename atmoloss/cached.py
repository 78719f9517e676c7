"""Cached features carry what they were made by, so that a loss refuses those of another.

The mark is a tensor with a row per sample: indexing, ``torch.cat``, ``.to(device)``, DataLoaders and ``torch.save``
keep it beside the features that it belongs to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atmoloss.errors import InputError

KEY = "made_by"
"""Name of the mark among the features, (N, 5) int64."""
_PARTS = ("weights", "periodic", "normalization", "transform", "mask")


def fingerprint(thing: Any) -> int:
    """Return a number of 63 bits that changes with a module's structure or tensors, or with what is no module."""
    if thing is None:
        return 0
    if isinstance(thing, nn.Module):
        digest = hashlib.sha256(repr(thing).encode())
        for name, tensor in [*thing.named_parameters(), *thing.named_buffers()]:
            digest.update(name.encode())
            if not tensor.is_meta:
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    else:
        name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"
        digest = hashlib.sha256(name.encode())
    return int.from_bytes(digest.digest()[:8], "little") >> 1


def mark(maker: tuple[int, ...], fields: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mark of features of ``fields`` (N, C, H, W) under a mask, (N, 5) int64."""
    out = torch.tensor([*maker, 0], device=fields.device).repeat(len(fields), 1)
    if weight is not None:
        covered = (weight == 0).flatten(1)
        cells = torch.arange(1, covered.shape[1] + 1, device=covered.device).square()  # no two masks alike by accident
        out[:, -1] = (covered * cells).sum(1)
    return out


def check(target: Mapping[str, Tensor], expected: Tensor, label: str) -> None:
    """Raise ``InputError`` where features do not have the mark that the loss of weights ``label`` would give them."""
    got = target[KEY]
    if got.dtype != torch.int64:
        raise InputError(
            f"target: {KEY!r} of the cached features has dtype {got.dtype}, expected torch.int64 as it was"
        )
    differing = (got != expected).any(0).nonzero().flatten().tolist()
    if not differing:
        return
    row = int((got != expected).any(1).nonzero()[0])
    made_with, expects = (
        ", ".join(_describe(_PARTS[part], int(marks[row, part])) for part in differing) for marks in (got, expected)
    )
    raise InputError(
        f"target: cached features were made with {made_with}; this loss ({label}) has {expects}; expected what "
        "features() of this loss returned, for the same weight"
    )


def _describe(part: str, value: int) -> str:
    if part == "periodic":
        return f"periodic={bool(value)}"
    if part == "mask":
        return f"a mask #{value:x}" if value else "no mask"
    return f"{part} #{value:015x}" if value else f"no {part}"
