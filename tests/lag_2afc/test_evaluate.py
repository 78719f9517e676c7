"""What weights are worth on held-out data: scores beside baselines, lag classes, and how they are printed."""

import dataclasses

import numpy as np
import pytest
import torch

from atmoloss.data import open_fields
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sources import source_from_dataset
from atmoloss.errors import DataError
from atmoloss.lag_2afc.baselines import stage_measures
from atmoloss.lag_2afc.evaluate import evaluate_source, format_entry, lag_2afc, lag_classes, open_winds
from atmoloss.lag_2afc.triples import bootstrap, measure_source
from tests.training.conftest import drifting_winds

pytest.importorskip("h5netcdf")
pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("winds") / "winds.nc"
    drifting_winds(60).to_netcdf(file, engine="h5netcdf")
    return str(file)


@pytest.fixture(scope="module")
def source(path):
    return source_from_dataset(open_fields(path, ("divergence", "vorticity")), "winds")


def test_scores_are_those_of_the_measures_with_paired_gaps(extractor, source):
    scores = lag_2afc(extractor, source, size=16, limit=2, baselines=False)
    tallies = measure_source(source, stage_measures(extractor), size=16, limit=2)
    intervals, gaps = bootstrap(list(tallies.values()))
    assert list(scores) == list(tallies) == ["distance", *(f"{stage} alone" for stage in extractor.stages)]
    for score, tally, interval in zip(scores.values(), tallies.values(), intervals, strict=True):
        assert (score["value"], tuple(score["interval"])) == (tally.share, interval)
    assert "gap" not in scores["distance"]
    assert [tuple(score["gap"]) for name, score in scores.items() if name != "distance"] == gaps


def test_baselines_use_winds_where_there_are_any(extractor, path, source):
    options = {"size": 16, "limit": 1, "max_lag": 24}
    with_winds = lag_2afc(extractor, source, open_winds(path, None, source), **options)
    without = lag_2afc(extractor, source, **options)
    assert {"random weights", "SSIM of fields", "MAE of fields, mean of 4x4"} <= without.keys()
    assert with_winds.keys() - without.keys() == {name for name in with_winds if " of winds" in name} != set()
    assert {name: with_winds[name] for name in without} == without


def test_winds_are_those_of_the_same_times(path, source, tmp_path):
    some = source.select(np.arange(60) % 2 == 0)
    winds = open_winds(path, None, some)
    np.testing.assert_array_equal(winds.times, some.times)
    assert winds.values.shape == (30, 2, 40, 48)
    drifting_winds(8).to_netcdf(tmp_path / "few.nc", engine="h5netcdf")
    assert open_winds(str(tmp_path / "few.nc"), None, source) is None  # lacks times
    drifting_winds(60)[["u10"]].to_netcdf(tmp_path / "one.nc", engine="h5netcdf")
    assert open_winds(str(tmp_path / "one.nc"), None, source) is None


def test_a_source_without_a_whole_patch_is_refused(extractor, source, one_sentence):
    holes = dataclasses.replace(source, values=np.full_like(source.values, np.nan))
    with pytest.raises(DataError) as error:
        lag_2afc(extractor, holes, size=16)
    one_sentence(error.value, "winds", "every patch has missing values")


class Head(torch.nn.Module):
    """A pretext model that always answers with logits that fall from one class on, in both directions."""

    def __init__(self, n_classes, answer):
        super().__init__()
        self.register_buffer("logits", -(torch.arange(n_classes) - answer - 0.1).abs())

    def forward(self, x1, x2):
        return self.logits.expand(len(x1), -1)


def test_lag_classes_count_what_the_head_answers(extractor, source):
    """A head that always says 12 h is right for one lag of four, and wrong by the difference for the others."""
    spec = SequenceSpec(n_times=2, n_classes=4, base_step=6, patch_sizes=(16,), mirror=False)
    found = lag_classes(Head(4, 1), extractor.normalization, source, spec)
    assert [lag["hours"] for lag in found["per_lag"]] == [6, 12, 18, 24]
    assert [lag["top1"] for lag in found["per_lag"]] == [0, 1, 0, 0]
    assert [lag["top3"] for lag in found["per_lag"]] == [1, 1, 1, 0]
    assert [lag["mae_hours"] for lag in found["per_lag"]] == [6, 0, 6, 12]
    confusion = np.array(found["confusion"])
    numbers = [lag["n"] for lag in found["per_lag"]]
    np.testing.assert_array_equal(confusion[:, 1], numbers)
    assert confusion.sum() == confusion[:, 1].sum()
    assert found["top1"] == numbers[1] / sum(numbers)


def test_an_entry_says_what_was_evaluated(extractor, source):
    entry = evaluate_source(extractor, None, source, None, size=16, limit=1, baselines=False)
    assert (entry["name"], entry["n_times"], entry["grid_spacing"]) == ("winds", 60, 1.0)
    assert entry["dates"] == "2026-01-01/2026-01-15"
    assert "classes" not in entry
    entry = evaluate_source(extractor, Head(23, 1), source, None, size=16, limit=1, baselines=False)
    assert len(entry["classes"]["confusion"]) == 23
    larger = extractor.with_periodic(False)  # the fixture is shared
    larger.info = dataclasses.replace(extractor.info, head={"kind": "published", "input_size": [160, 160]})
    entry = evaluate_source(larger, Head(23, 1), source, None, size=16, limit=1, baselines=False)
    assert entry["classes"] is None  # the grid is too small for the head


def test_an_entry_is_printed_best_first():
    entry = {
        "name": "winds", "n_times": 60, "grid_spacing": 1.0, "dates": "2026-01-01/2026-01-15",
        "lag_2afc": {
            "distance": {"value": 0.8, "interval": [0.75, 0.85]},
            "MSE of fields": {"value": 0.9, "interval": [0.88, 0.92], "gap": [-0.15, -0.05]},
            "stage1 alone": {"value": 0.7, "interval": None, "gap": None},
        },
        "classes": {
            "top1": 0.5, "top3": 0.75, "mae_hours": 4.0, "confusion": [],
            "per_lag": [{"hours": 6, "n": 10, "top1": 0.5, "top3": 0.75, "mae_hours": 4.0}],
        },
    }  # fmt: skip
    lines = format_entry(entry).splitlines()
    assert lines[0] == "winds: 60 times, 1°, 2026-01-01/2026-01-15"
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "MSE of fields 0.900 0.880 to 0.920 -0.100 (-0.150 to -0.050)",
        "distance 0.800 0.750 to 0.850",
        "stage1 alone 0.700 too few days +0.100",
        "lag class: top-1 0.500, top-3 0.750, mean absolute error 4.0 h",
        "6 h: n 10, top-1 0.50, top-3 0.75, error 4.0 h",
    ]
