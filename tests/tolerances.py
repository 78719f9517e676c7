"""How close is equal: one table per dtype, and a comparison that names the worst element.

``rounding`` bounds one pass through a small network or a few dozen operations, relative to the largest
value; ``exact`` is for the same arithmetic in another order; ``gradient`` is for the loss's gradient, where a
ReLU near zero may open or close. All are several times what was seen.
"""

from typing import NamedTuple

import numpy as np
import torch


class Tolerance(NamedTuple):
    rounding: float
    exact: float
    gradient: float


TOLERANCES = {
    torch.float64: Tolerance(1e-11, 1e-13, 1e-9),
    torch.float32: Tolerance(2e-5, 2e-6, 1e-4),
    torch.float16: Tolerance(4e-3, 1e-3, 2e-2),  # 11 bits of mantissa
    torch.bfloat16: Tolerance(3e-2, 8e-3, 2e-1),  # 8 bits
}
DTYPES = tuple(TOLERANCES)


def assert_close(actual, expected, tolerance: float | torch.dtype, scale: float | None = None) -> None:
    """Compare relative to ``scale``, by default the largest expected magnitude."""
    bound = tolerance if isinstance(tolerance, float) else TOLERANCES[tolerance].rounding
    a, b = (
        x.detach().cpu().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, np.float64)
        for x in (actual, expected)
    )
    assert a.shape == b.shape, f"shape {a.shape}, expected {b.shape}"
    assert np.isfinite(a).all(), "not finite"
    scale = np.abs(b).max() if scale is None else scale
    error = np.abs(a - b)
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= bound * scale, (
        f"worst at {tuple(map(int, worst))}: {a[worst]:.9g}, expected {b[worst]:.9g}; "
        f"off by {error.max() / scale if scale else error.max():.3g} of {scale:.3g}, allowed {bound:.3g}"
    )
