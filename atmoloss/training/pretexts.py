"""What is asked about a sequence of fields: the next one, or what was taken out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_TOKEN = 8  # cells


class Question(NamedTuple):
    """What the head is given and what it is to answer.

    Attributes:
        inputs: (B, F, C, H, W) normalised; the head adds what it finds to the last field.
        target: (B, C, H, W).
        weight: (B, 1 or C, H, W), 1 where the answer counts and 0 elsewhere.
    """

    inputs: Tensor
    target: Tensor
    weight: Tensor


Pretext = Callable[[Tensor, torch.Generator], Question]
"""From sequences (B, S, C, H, W) of consecutive fields, normalised, and a generator on the CPU, to the question."""


def next_field(sequence: Tensor, generator: torch.Generator) -> Question:
    """Ask for the last field by those before it."""
    target = sequence[:, -1]
    return Question(sequence[:, :-1], target, torch.ones_like(target[:, :1]))


def tokens(sequence: Tensor, generator: torch.Generator) -> Question:
    """Take out squares of 8 cells of every field, a share of up to a half (BERT; as AtmoRep, arXiv:2308.13280)."""
    count, times, _, height, width = sequence.shape
    rows, columns = -(-height // _TOKEN), -(-width // _TOKEN)
    share = 0.5 * torch.rand(count, 1, 1, 1, 1, generator=generator)
    drawn = torch.rand(count, times, 1, rows, columns, generator=generator) < share
    drawn = drawn.repeat_interleave(_TOKEN, -2).repeat_interleave(_TOKEN, -1)[..., :height, :width]
    return _without(sequence, drawn)


def box(sequence: Tensor, generator: torch.Generator) -> Question:
    """Take out a box of half the rows and columns, of all fields (context encoders, arXiv:1604.07379)."""
    count, _, _, height, width = sequence.shape
    inside = []
    for size in (height, width):
        start = torch.randint(size - size // 2 + 1, (count, 1), generator=generator)
        cells = torch.arange(size)
        inside.append((cells >= start) & (cells < start + size // 2))
    return _without(sequence, (inside[0][:, :, None] & inside[1][:, None])[:, None, None])


def middle(sequence: Tensor, generator: torch.Generator) -> Question:
    """Take out the field in the middle: the head starts from the mean of its neighbours."""
    at = sequence.shape[1] // 2
    between = (
        (sequence[:, at - 1 : at] + sequence[:, at + 1 : at + 2]) / 2 if sequence.shape[1] > 2 else sequence[:, :1]
    )
    target = sequence[:, at]
    inputs = torch.cat((sequence[:, :at], sequence[:, at + 1 :], between), 1)
    return Question(inputs, target, torch.ones_like(target[:, :1]))


def channel(sequence: Tensor, generator: torch.Generator) -> Question:
    """Take out one channel of all fields (split-brain autoencoders, arXiv:1611.09842)."""
    count, _, channels = sequence.shape[:3]
    chosen = F.one_hot(torch.randint(channels, (count,), generator=generator), channels).bool()
    return _without(sequence, chosen[:, None, :, None, None])


def _without(sequence: Tensor, mask: Tensor) -> Question:
    """Set to zero, the mean of normalised fields, what a mask of (B, 1 or S, 1 or C, 1 or H, 1 or W) covers."""
    mask = mask.to(sequence.device)
    last = mask[:, -1].to(sequence).expand(-1, -1, *sequence.shape[-2:])
    return Question(sequence.masked_fill(mask, 0.0), sequence[:, -1], last)


MASKS: dict[str, Pretext] = {"tokens": tokens, "box": box, "middle": middle, "channel": channel}


def pretext_of(pretext: str, mask: str) -> Pretext:
    """Return what ``pretext`` (``"next"`` or ``"masked"``) and ``mask`` of a configuration stand for."""
    return next_field if pretext == "next" else MASKS[mask]
