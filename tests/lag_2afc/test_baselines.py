"""The distances that a learned one has to beat, against loops, other libraries and what ships."""

import dataclasses

import numpy as np
import pytest
import torch

from atmoloss import distance_matrix
from atmoloss.lag_2afc.baselines import (
    absolute_distances,
    extractor_measure,
    mixtures,
    pixel_measures,
    random_extractor,
    squared_distances,
    ssim_measure,
    stage_measures,
)
from atmoloss.lag_2afc.triples import measure_source
from tests.data.test_sequences import make_source

HOURS = np.arange(0, 72, 6)


def test_pairwise_norms_against_loops():
    x = torch.randn(5, 12)
    for i in range(5):
        for j in range(5):
            assert squared_distances(x)[i, j] == pytest.approx(float((x[i] - x[j]).square().sum()), abs=1e-5)
            assert absolute_distances(x)[i, j] == pytest.approx(float((x[i] - x[j]).abs().mean()), abs=1e-6)


def test_baselines_order_a_steady_drift():
    # A field that changes by the same increment every step: every norm gets every triple right.
    source = make_source(HOURS, shape=(20, 20))
    measures = pixel_measures(lambda x: x / 1e7)
    tallies = measure_source(source, measures, winds=source, size=16, limit=1)
    assert len(tallies) == 20
    assert {name: t.share for name, t in tallies.items()} == dict.fromkeys(tallies, 1.0)
    assert not [n for n in measure_source(source, measures, size=16, limit=1) if "winds" in n]


def test_ssim_matches_torchmetrics_and_ranks_noise():
    ssim = pytest.importorskip("torchmetrics.functional.image").structural_similarity_index_measure
    x = torch.randn(1, 2, 32, 32)
    fields = torch.cat([x, x + 0.1 * torch.randn_like(x), x + torch.randn_like(x)])
    d = ssim_measure(lambda f: f)({"fields": fields})
    assert 0 < d[0, 1] < d[0, 2] < 2
    span = float(fields.max() - fields.min())
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = 1 - ssim(fields[j : j + 1], fields[i : i + 1], data_range=span)
        assert float(d[i, j]) == pytest.approx(float(expected), abs=2e-5)


def test_every_baseline_answers_all_pairs_beyond_96_later_times():
    # Hourly fields and lags of more than four days; every norm must put a steady drift in order, pair by pair.
    pytest.importorskip("scipy")
    torch.manual_seed(1)
    texture = 3e-5 * torch.randn(1, 2, 12, 12)
    fields = texture + 1e-6 * torch.arange(110.0)[:, None, None, None] * torch.randn(1, 2, 12, 12)
    source = dataclasses.replace(make_source(np.arange(110), shape=(12, 12)), values=fields.numpy())
    measures = {**pixel_measures(lambda x: x * 3e4), "SSIM of fields": ssim_measure(lambda x: x * 3e4)}
    tallies = measure_source(source, measures, winds=source, size=12, max_lag=109)
    triples = sum(k * (k - 1) / 2 for k in range(110))
    for name, tally in tallies.items():
        assert tally.total.sum() == triples, name
        assert tally.right[0] > 0.99 * tally.total[0], name
    # And no more pairs than those asked for.
    patch = {"fields": fields, "pairs": torch.eye(110, dtype=torch.bool).roll(1, 1)}
    d = ssim_measure(lambda x: x * 3e4)(patch)
    assert (d != 0).sum() == 110


@pytest.mark.parametrize("scaled", [True, False])
def test_stage_measures_are_the_shipped_distances(extractor, scaled):
    layers = {name: 0.1 * (i + 1) for i, name in enumerate(extractor.stages)} if scaled else {}
    scales = {name: 2.0 + i for i, name in enumerate(extractor.stages)} if scaled else {}
    extractor = extractor.with_periodic(False)  # the fixture is shared
    extractor.info = dataclasses.replace(extractor.info, layers=layers, layer_scales=scales)
    fields = 3e-5 * torch.randn(5, 2, 40, 40)
    measures = stage_measures(extractor)
    for patch in ({"fields": fields}, {"fields": 2 * fields}):  # another patch is not mistaken for the last
        options = {} if scaled else {"layers": dict.fromkeys(extractor.stages, 1.0), "scale": "none"}
        expected = {"distance": distance_matrix(patch["fields"], weights=extractor, validate=False, **options)}
        for name in extractor.stages:
            options = {"layers": (name,), "scale": "none", "validate": False}
            expected[f"{name} alone"] = distance_matrix(patch["fields"], weights=extractor, **options)
        assert list(measures) == list(expected)
        for name, matrix in expected.items():
            torch.testing.assert_close(
                measures[name](patch).float(), matrix, rtol=1e-4, atol=1e-6 * float(matrix.max())
            )


def test_smoothed_baselines_are_norms_of_what_scipy_smooths():
    ndimage = pytest.importorskip("scipy.ndimage")
    fields = torch.randn(4, 2, 24, 24)
    measures = pixel_measures(lambda x: 2 * x)
    smooth = ndimage.gaussian_filter(fields.double().numpy(), (0, 0, 2, 2), mode="nearest")
    means = fields.reshape(4, 2, 6, 4, 6, 4).mean((3, 5))
    for name, x in ((", Gaussian σ 2", 2 * torch.from_numpy(smooth)), (", mean of 4x4", 2 * means), ("", 2 * fields)):
        flat = x.double().flatten(1)
        got = measures[f"MSE of fields{name}"]({"fields": fields})
        torch.testing.assert_close(got, torch.cdist(flat, flat) ** 2, rtol=1e-5, atol=1e-6 * float(got.max()))
    assert measures["MSE of winds"]({"fields": fields}) is None


def test_mixtures_add_stages_by_their_factors(extractor):
    patch = {"fields": 3e-5 * torch.randn(3, 2, 32, 32)}
    found = mixtures(extractor, {"a": {"stage1": 1.0}, "b": {"stage2": 1.0}, "both": {"stage1": 2.0, "stage2": 0.5}})
    a, b, both = (measure(patch) for measure in found.values())
    torch.testing.assert_close(both, 2 * a + 0.5 * b)


def test_random_weights_are_normalised_and_drawn_anew(extractor, draw):
    fields = draw(4, 48, 48)
    random = random_extractor(extractor.info, extractor.normalization, fields)
    features = random(fields)
    for name, f in features.items():
        assert float(f.square().mean()) == pytest.approx(1, rel=1e-4), name
    again, other = (random_extractor(extractor.info, extractor.normalization, fields, seed) for seed in (0, 1))
    torch.testing.assert_close(again(fields)["stage4"], features["stage4"])
    assert (other(fields)["stage4"] - features["stage4"]).abs().max() > 0.1
    assert random.info.name == "random"
    # Without layers and scales all stages count alike.
    own = extractor_measure(random)({"fields": fields})
    torch.testing.assert_close(own, extractor_measure(random, random.stages)({"fields": fields}))
