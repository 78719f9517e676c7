"""Normalisation constants in one pass, against the two passes of LogNormalization.fit."""

import numpy as np
import pytest

from atmoloss.data.streaming_sums import StreamingSums, normalization_constants
from atmoloss.normalization import LogNormalization


@pytest.mark.parametrize(
    ("centre", "spread", "tolerance"),
    [
        (0.0, 3e-5, 1e-6),  # vorticity
        (2e-7, 5e-5, 1e-6),
        (5.0, 8.0, 1e-5),  # a wind
        (281.0, 15.0, 1e-4),  # temperature: bins of 2 K, a seventh of the spread
    ],
)
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_equals_the_two_pass_fit(centre, spread, tolerance, tails):
    rng = np.random.default_rng(0)
    shape = (6, 2, 40, 50)
    noise = rng.standard_normal(shape) if tails == "normal" else np.clip(rng.standard_t(3, shape), -30, 30)
    fields = (centre + spread * noise).astype(np.float32)
    fields[:, 1] = -2 * fields[:, 1]
    parts = []
    for half in (fields[:2], fields[2:]):  # as two shards, through what is written to disk
        sums = [StreamingSums(), StreamingSums()]
        for c, m in enumerate(sums):
            m.add(half[:, c])
        parts.append([StreamingSums.from_sparse(m.sparse()) for m in sums])
    for whole, other in zip(*parts, strict=True):
        whole.merge(other)
    got = normalization_constants(parts[0])
    want = LogNormalization.fit(fields).constants()
    # Mean and spread are exact sums; a mean is compared with its spread, it may be zero.
    np.testing.assert_allclose(got["mean"], want["mean"], rtol=1e-12, atol=1e-9 * spread)
    np.testing.assert_allclose(got["std"], want["std"], rtol=1e-9)
    np.testing.assert_allclose(got["log_mean"], want["log_mean"], atol=tolerance * want["log_std"][0])
    np.testing.assert_allclose(got["log_std"], want["log_std"], rtol=tolerance)
    assert got["alpha"] == want["alpha"]


def test_a_constant_channel_has_no_constants():
    varying, constant = StreamingSums(), StreamingSums()
    varying.add(np.arange(10.0))
    constant.add(np.full(10, 3.0))
    assert normalization_constants([varying, constant]) is None
