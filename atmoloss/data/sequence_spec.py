"""How training sequences are drawn; imports nothing, so that ``atmoloss train --help`` can list it at once."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class SequenceSpec:
    """How sequences are drawn.

    Attributes:
        n_times: S, times per sequence.
        n_classes: K, lag classes; the longest lag is K base steps.
        base_step: hours per class.
        patch_sizes: rows and columns; each batch takes one of them in turn.
        batch_size: sequences per batch, of all processes together.
        latitude_band: degrees; the whole patch lies inside.
        mirror: mirror half of the sequences north–south, with the sign of vorticity and northward wind flipped.
    """

    n_times: int = 4
    n_classes: int = 32
    base_step: int = 3
    patch_sizes: tuple[int, ...] = (64,)
    batch_size: int = 16
    latitude_band: tuple[float, float] = (-80.0, 80.0)
    mirror: bool = True
