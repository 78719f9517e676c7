"""Intervals by bootstrap over blocks of time.

Fields of neighbouring days resemble each other, so that single times are not independent samples. The period
is cut into blocks of some days, longer than the autocorrelation, and blocks are drawn with replacement
(non-overlapping block bootstrap; Carlstein 1986, doi:10.1214/aos/1176350057). The same blocks are drawn for
every model, so that differences between models are paired.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from atmoloss.errors import InputError, number, shown

DEFAULT_BLOCK_DAYS = 5.0
"""Length of a block: at mid-latitudes weather systems pass within that time."""
BOUNDS = ("value", "low", "high")
_PERCENTILES = (2.5, 97.5)


class BlockBootstrap:
    """Draws of blocks of a series of times.

    Args:
        times: (T,) datetime64, in any order, gaps allowed.
        block_days: length of a block, days; blocks start at the first time.
        n: number of draws.
        seed: of the draws.

    Attributes:
        block: number of the block of each time, (T,).
        n_blocks: blocks that hold a time.
        counts: how often each block counts, (n + 1, n_blocks); the first row, all once, is the data as they are.
        sizes: times in each block, (n_blocks,).

    Raises:
        InputError: no times, or a length or number that is not positive.
    """

    def __init__(self, times: Any, block_days: float = DEFAULT_BLOCK_DAYS, n: int = 1000, seed: int = 0) -> None:
        try:
            stamps = np.asarray(times, "datetime64[ns]")
        except (TypeError, ValueError):
            raise InputError(f"times: got {shown(times)}, expected datetime64, (T,)") from None
        if stamps.ndim != 1 or not stamps.size:
            raise InputError(f"times: got shape {stamps.shape}, expected (T,) with at least one time")
        number("block_days", block_days, lambda x: x > 0, "a positive number of days")
        number("n", n, lambda x: x > 0, "a positive number of draws", Integral)
        days = (stamps - stamps.min()) / np.timedelta64(1, "D")
        _, self.block = np.unique(np.floor(days / block_days), return_inverse=True)
        self.n_blocks = int(self.block.max()) + 1
        self.sizes = np.bincount(self.block)
        draws = np.random.default_rng(seed).integers(self.n_blocks, size=(n, self.n_blocks))
        drawn = np.zeros((n, self.n_blocks))
        np.add.at(drawn, (np.arange(n)[:, None], draws), 1.0)
        self.counts = np.concatenate((np.ones((1, self.n_blocks)), drawn))

    def block_sums(self, per_time: np.ndarray) -> np.ndarray:
        """Sum values (T, …) over the times of each block, (n_blocks, …)."""
        out = np.zeros((self.n_blocks, *per_time.shape[1:]))
        np.add.at(out, self.block, per_time)
        return out

    def means(self, sums: np.ndarray) -> np.ndarray:
        """Return the time means of all draws, (n + 1, …), of block sums (n_blocks, …)."""
        return self.ratios(sums, self.sizes)

    def ratios(self, sums: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """Return the ratios of all draws, (n + 1, …), of block sums (n_blocks, …) to block totals (n_blocks,)."""
        flat = self.counts @ sums.reshape(self.n_blocks, -1)
        out: np.ndarray = (flat / (self.counts @ totals)[:, None]).reshape(len(flat), *sums.shape[1:])
        return out

    def bounds(self, samples: np.ndarray) -> np.ndarray:
        """Return value, lower and upper bound, (3, …), of samples (n + 1, …); bounds are NaN for a single block.

        The interval is that of the 2.5th and 97.5th percentile, moved so that the median of the draws lies on the
        value. Scores that cannot be negative (a Wasserstein distance, the RMS of a map) grow by the repetition of
        blocks alone; without that step the value would lie below its own interval. What the interval tells is how far
        the score of another period as long as this one would be.
        """
        value = samples[:1]
        if self.n_blocks < 2:
            return np.concatenate((value, np.full((2, *samples.shape[1:]), np.nan)))
        with np.errstate(invalid="ignore"):  # infinite scores have no interval
            shift = value - np.median(samples[1:], axis=0)
            interval = np.percentile(samples[1:], _PERCENTILES, axis=0)
            return np.concatenate((value, interval + shift))
