"""What features are good for: storms and displaced weather that are made, so that the answers are known."""

import dataclasses
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch

from atmoloss import load_extractor
from atmoloss.data.splits import parse_periods
from atmoloss.sphere import distance_and_bearing
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

from .loading import load

LATITUDE, LONGITUDE = np.arange(90.0, -90.5, -1.0), np.arange(0.0, 360.0)
TIMES = np.arange("2026-07-01", "2026-07-13", 12, "datetime64[h]").astype("datetime64[s]")


@pytest.fixture(scope="module")
def storms():
    return load("downstream", "storms")


@pytest.fixture(scope="module")
def cyclones(storms):
    """The script, whose modules import one another by their plain names."""
    return load("downstream", "cyclones")


@pytest.fixture
def detection(cyclones):
    return cyclones.detection


def track(path, storms):
    """A file of tracks: (name, basin, first hour, hours, wind) of storms that go west by 0.1° an hour."""
    lines = ["id,name,basin,time_utc,lat,lon,wind_kt"]
    for number, (name, basin, first, hours, wind) in enumerate(storms):
        for hour in range(first, first + hours + 1, 3):
            when = (datetime(2026, 7, 1) + timedelta(hours=hour)).isoformat(timespec="minutes")
            lines.append(f"{number},{name},{basin},{when},20.0,{150 - 0.1 * (hour - first)},{wind}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_positions_between_two_of_a_track_are_interpolated_and_none_is_made_up(tmp_path, storms):
    path = track(tmp_path / "tracks.csv", [("A", "WP", 0, 12, 50), ("B", "EP", 30, 3, 20)])
    times = np.array(["2026-07-01T01:30", "2026-07-01T12", "2026-07-01T14", "2026-07-02T07:30"], "datetime64[s]")
    centres = storms.centres_at(path, times)
    assert [(c.storm, c.box, round(c.longitude, 3), c.wind) for c in centres] == [
        ("A 0", "west", 149.85, 50.0),
        ("A 0", "west", 148.8, 50.0),
        ("B 1", "east", 149.85, 20.0),
    ]


def test_no_storm_is_sought_on_both_sides_and_weak_ones_on_none(tmp_path, storms):
    spans = [("Early", "WP", 0, 150, 50), ("Late", "WP", 130, 100, 50), ("Weak", "WP", 0, 200, 20)]
    centres = storms.centres_at(track(tmp_path / "tracks.csv", spans), TIMES)
    held_out = parse_periods(["2026-07-07/2026-07-12"])
    known, unknown = storms.sides(centres, held_out)
    sought = [{c.storm for scene in side for c in scene.sought} for side in (known, unknown)]
    assert sought == [{"Early 0"}, {"Late 1"}]
    assert max(s.time for s in known) < np.datetime64("2026-07-07") <= min(s.time for s in unknown)
    assert {"Early 0", "Weak 2"} == {c.storm for scene in unknown for c in scene.ignored}
    assert sum(len(s.sought) + len(s.ignored) for s in (*known, *unknown)) == len(centres)


def test_kilometres_are_those_of_great_circles(storms):
    away = storms.kilometres(np.array([0.0, 45.0]), np.array([0.0, 359.0]), (40.0, 10.0))
    expected = [distance_and_bearing(p, (40.0, 10.0))[0] / 1e3 for p in ((0.0, 0.0), (45.0, 359.0))]
    np.testing.assert_allclose(away, expected, rtol=1e-9)


def test_a_peak_finds_one_storm_and_equal_neighbours_are_one_peak(storms, detection):
    scores = np.zeros((40, 60))
    scores[20, 30:33] = 2.0
    scores[5, 10] = 1.0
    rows, columns = detection.peaks(scores - 0.001 * np.arange(60))
    assert (rows[0], columns[0]) == (20, 30)
    rows, columns = detection.peaks(scores)
    assert list(zip(rows, columns, strict=True))[:2] == [(20, 30), (5, 10)]
    when = np.datetime64("2026-07-01")
    here, there = (storms.Centre("A", "west", when, *place, 50.0) for place in ((20.0, 130.0), (20.0, 150.0)))
    km, counts = detection.matched(np.array([20.5, 20.0, 20.0]), np.array([130.0, 131.0, 150.5]), [here], [there])
    assert km[0] == pytest.approx(55.6, abs=0.1)
    assert np.isnan(km[1:]).all()
    assert counts.tolist() == [True, True, False]


def test_average_precision_is_that_of_its_definition(detection):
    score, hit = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    precision = detection.average_precision(score, hit, np.ones((1, 4)), np.array([3.0]))
    assert precision[0] == pytest.approx((1 + 2 / 3) / 3)
    weight = np.array([[2.0, 1, 0, 1]])  # as if the first stood there twice and the third not at all
    repeated = detection.average_precision(score[[0, 0, 1, 3]], hit[[0, 0, 1, 3]], np.ones((1, 4)), np.array([4.0]))
    assert detection.average_precision(score, hit, weight, np.array([4.0])) == pytest.approx(repeated)
    found = detection.Detections(score, np.where(hit, 10.0, np.nan), np.array([0, 0, 1, 1]), np.array([0, 1, 1]))
    days = BlockBootstrap(np.array(["2026-07-01", "2026-07-02"], "datetime64[s]"), block_days=1.0, n=50)
    assert detection.draws_of(found, days)[0] == pytest.approx(precision[0])


class Made:
    """Globes with a vortex where a storm is, and noise, in place of a file."""

    def __init__(self, cyclones, centres):
        self.boxes = cyclones.boxes_of(LATITUDE, LONGITUDE)
        self._globe, self._centres = cyclones.Globe, centres

    def __call__(self, when):
        generator = np.random.default_rng(int(when.astype("datetime64[h]").astype(int)))
        derived = generator.normal(0, 1e-5, (2, len(LATITUDE), len(LONGITUDE))).astype(np.float32)
        for c in (c for c in self._centres if c.time == when):
            away = np.square(LATITUDE[:, None] - c.latitude) + np.square(LONGITUDE - c.longitude)
            derived[1] += (2e-4 * np.exp(-away / 4)).astype(np.float32)
        return self._globe(np.zeros_like(derived), derived)


@pytest.fixture(scope="module")
def world(cyclones, storms):
    generator = np.random.default_rng(1)
    centres = [
        storms.Centre(f"S{i // 4}", "west", t, *generator.uniform((8, 105), (40, 175)), 50.0)
        for i, t in enumerate(TIMES)
    ]
    scenes = [storms.Scene("west", c.time, (c,), ()) for c in centres]
    return Made(cyclones, centres), scenes[:12], scenes[12:]


def test_few_labels_find_made_storms_and_wrong_labels_do_not(cyclones, world, monkeypatch):
    air, known, unknown = world
    monkeypatch.setattr(cyclones, "BUDGETS", (4,))
    monkeypatch.setattr(cyclones, "DRAWS", 2)
    quiet = [
        dataclasses.replace(s, time=np.datetime64("2026-04-01T00", "s") + i, sought=())
        for i, s in enumerate(unknown[:2])
    ]
    found = cyclones.measure(cyclones.smoothed_fields, known, unknown, quiet, air)
    assert found["4"]["average_precision"] > 0.95
    assert found["all"]["average_precision"] > 0.98
    assert found["all"]["km"] < 80  # the nearest cell is at most 79 km away
    assert found["false_alarms"] == [0.0, 0.0]
    assert found["shifted"]["average_precision"] < 0.3
    assert found["shuffled"]["average_precision"] < 0.5
    rule = cyclones.measure_rule(known, unknown, quiet, air)
    assert rule["all"]["average_precision"] > 0.98
    page = cyclones.cyclones_page
    results = {page.BASELINE: found, "vorticity rule": rule}
    text, data, figure = page.page(results, cyclones.days_of(unknown).bounds, known, unknown, 1.0)
    assert data["vorticity rule"]["all"]["rule"] in text
    assert data[page.BASELINE]["4"]["of_draws"] == found["4"]["of_draws"]
    assert figure.startswith(b"<?xml")


def test_a_read_out_is_told_no_other_storms_and_chooses_its_penalty_over_storms(cyclones, world):
    air, known, _ = world
    rows = cyclones.rows_of(cyclones.smoothed_fields, known, air, ["true"])[0]
    readout = cyclones.readout
    labels = np.arange(len(rows.storm))
    folds = readout._folds(rows, labels)
    assert sorted(np.concatenate(folds)) == labels.tolist()
    assert not set.intersection(*({*rows.storm[fold]} for fold in folds))
    known_rows, judged = readout._chosen(rows, labels, but=folds[0]), readout._chosen(rows, folds[0])
    assert not set(rows.scene[known_rows]) & set(rows.scene[judged])
    # Units do not matter: the read-out standardises what it is given.
    scaled = dataclasses.replace(rows, x=rows.x * np.geomspace(1e-3, 1e6, rows.x.shape[1]))
    a, b = (readout.fit(r, labels) for r in (rows, scaled))
    assert a.penalty == b.penalty
    scores = [r.x @ f.coefficients + f.constant for r, f in ((rows, a), (scaled, b))]
    assert np.corrcoef(*scores)[0, 1] > 0.999


def test_features_stand_where_the_fields_have_their_cause(cyclones):
    maps_of = load("downstream", "feature_maps")
    box = maps_of.boxes_of(LATITUDE, LONGITUDE)["west"]
    ramp = torch.from_numpy(np.stack(np.broadcast_arrays(LATITUDE[:, None], LONGITUDE))).float()
    for stride in (2, 4, 8):
        pooled = torch.nn.functional.avg_pool2d(ramp, stride)
        at = maps_of.at_cells(pooled, stride, box)
        np.testing.assert_allclose(at[0], np.broadcast_to(box.latitude[:, None], at[0].shape), atol=1e-3)
        np.testing.assert_allclose(at[1], np.broadcast_to(box.longitude, at[1].shape), atol=1e-3)
    extractor = load_extractor("winds")
    globe = maps_of.Globe(*(np.zeros((2, 181, 360), np.float32) for _ in range(2)))
    features = maps_of.of_extractor(extractor)(globe, box)
    assert features.shape == (sum(extractor.encoder.channels.values()), 46, 81)


def vortices(shift=(0.0, 0.0)):
    """A field (105, 121) of vortices, moved by rows and columns."""
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:105, :121]
    field = np.zeros((105, 121))
    for row, column, sign in generator.uniform((0, 0, -1), (105, 121, 1), (120, 3)):
        field += sign * np.exp(-(np.square(rows - row - shift[0]) + np.square(columns - column - shift[1])) / 18)
    return torch.from_numpy(field)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -5.0), (1.5, 2.25)])
def test_best_shift_is_the_one_that_was_made(shift):
    displacement = load("downstream", "displacement")
    latitude = np.full(105, 60.0)
    km, unlike = displacement.displacement_km(vortices(), vortices(shift), latitude, 0.25)
    assert km == pytest.approx(np.hypot(shift[0], shift[1] / 2) * 0.25 * displacement.KM_A_DEGREE, abs=1.5)
    assert unlike < 0.03
    unrelated = torch.randn(105, 121, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert displacement.displacement_km(vortices(), unrelated, latitude, 0.25)[1] > 0.5


def test_moved_fields_are_cut_from_one():
    displacement = load("downstream", "displacement")
    field = torch.arange(20.0)[None, None, None].expand(1, 1, 3, 20)
    still, east = (displacement.moved_east(field, cells, 4) for cells in (0, 3))
    torch.testing.assert_close(east[..., 3:], still[..., :-3])
    assert still.shape[-1] == 16


def test_growth_and_correlations_within_leads_of_made_errors():
    forecast_error = load("downstream", "forecast_error")
    km = np.array([25.0, 50, 100, 200])
    assert forecast_error.growth(km, 0.1 * km) == pytest.approx(1.0)
    assert forecast_error.growth(km, 0.1 * km**0.5) == pytest.approx(0.5)
    lead = np.repeat(np.arange(6, 73, 6), 10)
    times = np.tile(np.arange("2026-07-01", "2026-07-11", dtype="datetime64[D]"), 12)
    generator = np.random.default_rng(0)
    error = lead + generator.normal(size=120)
    value, low, high = forecast_error.within_leads(error, 3 * error**3, lead, times)
    assert value == pytest.approx(1.0)
    assert low == pytest.approx(1.0)
    # Both grow with the lead, and nothing else joins them: lead alone must not make a correlation.
    value, low, high = forecast_error.within_leads(error, lead + generator.normal(size=120), lead, times)
    assert low < 0 < high
    assert abs(value) < 0.3


def test_page_of_forecast_errors_knows_lines_from_curves():
    page = load("downstream", "forecast_error_page")
    lead = np.repeat(np.arange(6.0, 73, 6), 5)
    assert page.linearity(0.2 * lead, lead) == pytest.approx(1.0)
    assert page.linearity(lead.mean() * (1 - np.exp(-lead / 12)), lead) < 0.5
    hours, spread = page.by_lead(np.tile(np.arange(5.0), 12), lead)
    assert len(hours) == 12
    np.testing.assert_allclose(spread, np.broadcast_to((0.4, 2.0, 3.6), (12, 3)))
