"""The curves of distance against lag that a weights folder ships with."""

import dataclasses

import numpy as np
import torch

from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sources import FieldSource
from atmoloss.distance import atmodist_distance
from atmoloss.hours import LagCurve
from atmoloss.training.lag_curves import as_json, fit_lag_curves

SPEC = SequenceSpec(n_classes=16, base_step=3, patch_sizes=(32,))


def drifting(n_times: int, size: tuple[int, int]) -> FieldSource:
    """Fields that forget themselves by a tenth in 6 h."""
    rng = np.random.default_rng(0)
    state, fields = rng.standard_normal((2, *size)), []
    for _ in range(n_times):
        state = 0.9 * state + np.sqrt(1 - 0.9**2) * rng.standard_normal((2, *size))
        fields.append(3e-5 * state)
    times = np.datetime64("2026-01-01", "ns") + np.arange(n_times) * np.timedelta64(6, "h")
    latitude, longitude = 60.0 - np.arange(size[0]), np.arange(size[1]) * 1.0
    values = np.array(fields, np.float32)
    return FieldSource("drift", ("divergence", "vorticity"), values, times, np.zeros(n_times, int), latitude, longitude)


def test_patches_and_whole_fields_have_curves_of_their_distances(extractor):
    source = drifting(20, (48, 64))
    patches, whole = fit_lag_curves(extractor, [source], SPEC)
    assert (patches.size, whole.size) == ((32, 32), (48, 64))
    assert patches.hours == whole.hours == tuple(range(6, 49, 6))
    assert (patches.source, patches.level, patches.grid_spacing) == ("drift", "drift", 1.0)
    fields = torch.from_numpy(source.values)
    direct = atmodist_distance(fields[:-1], fields[1:], weights=extractor)
    np.testing.assert_allclose(whole.median[0], np.quantile(direct.numpy(), 0.5), rtol=2e-3)
    assert LagCurve(**as_json(whole)) == whole


def test_sources_with_too_few_pairs_have_none(extractor):
    short = drifting(3, (48, 64))
    assert [c.size for c in fit_lag_curves(extractor, [short, drifting(20, (32, 32))], SPEC)] == [(32, 32)]
    gaps = dataclasses.replace(short, values=np.full_like(short.values, np.nan))
    assert fit_lag_curves(extractor, [gaps], SPEC) == []
