"""The benchmarks' own arithmetic: what a verdict rests on is tested on fields with known answers."""

import math
import re

import numpy as np
import pytest
import torch

from atmoloss import load_extractor
from atmoloss.lag_2afc.triples import tally_anchors
from tests.test_readme import rows_in
from tests.training.conftest import drifting_winds

from .loading import load


def test_spectrum_of_a_wave_is_a_line_at_its_wavenumber():
    probe = load("pretext", "loss_probe")
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    wave = torch.cos(2 * math.pi * (6 * x + 8 * y) / 64)[None]
    spectra = probe.power_spectra(3 + wave)
    for name, k in (("radial", 10), ("zonal", 6), ("meridional", 8)):
        assert spectra[name].argmax() + 1 == k
        assert spectra[name][k - 1] == pytest.approx(spectra[name].sum(), rel=1e-9)


def test_probe_finds_each_fault_and_passes_what_is_sound():
    faults = load("pretext", "loss_probe").faults
    mse = np.linspace(1.0, 0.0, 32)
    sound = np.sqrt(mse)
    assert faults(sound, mse) == []
    too_much = sound.copy()
    too_much[1] = 1.6
    assert [text.split(":")[0] for text in faults(too_much, None)] == ["wavenumber 2"]
    lattice = np.full(32, 0.05)
    lattice[15] = 0.2
    assert "peak" in faults(lattice, None)[0]
    lattice[15] = 0.09  # below what counts as visible
    assert faults(lattice, None) == []
    at_the_end = np.full(32, 0.05)
    at_the_end[31] = 0.2
    assert "wavenumber 32" in faults(at_the_end, None)[0]
    assert "no closer" in faults(mse * 0.99, mse)[0]
    overshoot = np.where((mse > 0.3) & (mse < 0.9), 1 + (1 - mse) * 1.1, mse)
    assert any("no closer" in text for text in faults(overshoot, mse))


def test_shortcut_triples():
    shortcuts = load("pretext", "shortcuts")
    lags = np.arange(6, 97, 6)
    a, b = lags[:, None], lags[None, :]
    same, other = shortcuts.same_time_of_day(a, b), shortcuts.other_time_of_day(a, b)
    assert set((b - a)[same]) == {24, 48, 72}
    assert set((b - a)[other]) == {18, 30, 42, 54, 66, 78, 90}
    assert not (same & other).any()
    assert shortcuts.everything(a, b).sum() == len(lags) * (len(lags) - 1) / 2


def test_triples_are_binned_by_the_nearer_field():
    lags = load("pretext", "lags")
    hours = np.arange(0, 120, 6)
    distance = np.abs(hours[:, None] - hours[None, :]).astype(float)
    run = np.zeros(len(hours), int)
    right = lags.by_lag(distance, hours, run)
    _, all_triples = tally_anchors(distance, hours, run)
    assert right[:, 1].sum() == all_triples.sum()
    np.testing.assert_array_equal(right[:, 0], right[:, 1])
    # Levelling off after a day: beyond it every answer is a tie.
    levelled = lags.by_lag(np.minimum(distance, 24), hours, run)
    np.testing.assert_array_equal(levelled[1:, 0], levelled[1:, 1] / 2)
    assert 0.5 < levelled[0, 0] / levelled[0, 1] < 1


def test_study_arms_are_configurations():
    study = load("pretext", "study")
    names = [study.config_of(arm, 0).name for arm in study.STUDY["arms"]]
    assert names == list(study.STUDY["arms"])
    results = study.read_results()
    assert {row["arm"] for row in results} <= {*names, *study.STUDY["removed"]}
    assert (study.RESULTS / "study.md").read_text(encoding="utf-8") == study.table(results)
    simulated = {s.name: s.weight for s in study.config_of("sources-simulated", 0).sources}
    assert [name for name, weight in simulated.items() if weight] == ["speedy-T85-sigma0.883"]


def test_log_spectra_tell_roughness_and_not_place():
    controls = load("pretext", "controls")
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 64, 64, generator=rng)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (2, 2, 2, 2), "circular"), 5, 1)
    rough_spectrum, smooth_spectrum = controls.log_spectra(x), controls.log_spectra(smooth)
    assert rough_spectrum.shape == (1, 2, 32)
    assert (rough_spectrum[..., 20:] - smooth_spectrum[..., 20:]).mean() > 3
    assert (rough_spectrum[..., 1:4] - smooth_spectrum[..., 1:4]).abs().mean() < 1


def test_arms_of_pretexts_follow_one_another_at_equal_shares(tmp_path, monkeypatch):
    pretexts = load("pretext", "pretexts")
    drifting_winds().to_netcdf(tmp_path / "winds.nc", engine="h5netcdf")
    tiny = {
        "sources": [{"name": "winds", "path": str(tmp_path / "winds.nc")}],
        "validation": ["2026-01-09/2026-01-10"],
        "ranking_weight": 1.0,
        "patch_sizes": [32],
        "batch_size": 2,
        "workers": 0,
    }
    monkeypatch.setattr(pretexts, "DEFAULT", tiny)
    monkeypatch.setattr(pretexts, "SHORT", {"winds": "winds"})
    monkeypatch.setattr(pretexts, "scores_of", lambda extractor, held_out: (extractor.info, [s.name for s in held_out]))
    pretexts._sources.extend(pretexts.open_sources(pretexts.config_of("lag", 0)))
    row = pretexts.work(("next-lag", 0), "validation", tmp_path, 1 / 260)
    assert row["steps"] == {"next": 1, "lag": 1}
    info, scored = row["scores"]
    assert (info.head["kind"], scored) == ("metric", ["winds"])
    first = load_extractor(tmp_path / "next-lag-0" / "next" / "weights").info
    assert first.normalization == info.normalization  # of the weights that it started from
    random = pretexts.work(("random", 0), "validation", tmp_path, 1.0)["scores"][0]
    assert random.layers == {"stage1": 0.5, "stage2": 0.5}


def test_page_of_pretexts_has_means_over_seeds_and_faults_of_each():
    pretexts = load("pretext", "pretexts")
    trained = [
        {"arm": "next", "seed": seed, "measure": "validation", "steps": {"next": 480}, "seconds": {"next": 300},
         "scores": {s: {"distance": 0.7 + seed / 10, "stage1 alone": 0.6, "stage2 alone": 0.9} for s in pretexts.SHORT}}
        for seed in (0, 1)
    ]  # fmt: skip
    probed = {"arm": "next", "seed": 1, "measure": "probe", "faults": ["one", "two"], "mse": 0.3, "mse_of_mse": 0.2}
    page = pretexts.report([*trained, probed])
    assert "| next | 2 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 ± 0.071 | 0.900 |" in page
    assert "| next | 480 | 300 | 2 | 1.500 |" in page
    assert "| lag |" not in page


def test_table_of_pretexts_is_that_of_the_results():
    folder = load("pretext", "pretexts").HERE
    page = (folder / "results" / "pretexts.md").read_text(encoding="utf-8")
    validation, test, costs = (rows_in(part) for part in re.split(r"\n(?=Lag 2AFC on test|Training, and)", page))
    section = (folder / "README.md").read_text(encoding="utf-8").split("### Pretexts\n")[1].split("\n### ")[0]
    rows = rows_in(section)
    arms = {
        name: name.replace("`", "").replace(", then ", "-").replace(" weights", "").replace(" ", "-") for name in rows
    }
    assert set(arms.values()) == validation.keys()
    for name, arm in arms.items():
        assert {values[arm][0] for values in (validation, test)} == {"3"}
        scores = [values[arm][column] for values in (validation, test) for column in (1, 6)]
        assert rows[name] == [*scores, costs[arm][2]]
