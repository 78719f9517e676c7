"""The speed benchmarks: that what is timed computes the same, and that the gate closes."""

import json

import pytest
import torch

from .loading import load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def speed():
    return load("speed", "loss")


def test_every_case_is_right_before_it_is_fast(speed):
    torch.manual_seed(0)
    target = torch.randn(1, 2, 64, 64)
    prediction = target + 0.3 * torch.randn_like(target)
    entries = speed.cases(CPU)
    for family, reference in speed.references(CPU).items():
        for name, make in entries.items():
            if name.startswith(family) or (family == "published" and name == "naive port"):
                half = "bfloat16" in name
                if half and family != "default":  # random weights amplify its rounding, and nothing can be told
                    continue
                of_value, of_gradient = speed.errors_of(make, reference, prediction, target)
                assert of_value < (8e-3 if half else 1e-4), name  # as in tests/test_modes.py
                assert of_gradient < (8e-2 if half else 1e-4), name


def test_ssim_is_that_of_torchmetrics(speed):
    image = pytest.importorskip("torchmetrics.functional.image", reason="needs the extra metrics")
    torch.manual_seed(0)
    a = torch.randn(2, 2, 48, 48)
    b = a + 0.5 * torch.randn_like(a)
    expected = image.structural_similarity_index_measure(a, b, data_range=6.0)
    assert 1 - speed.rivals.ssim(a, b) == pytest.approx(float(expected), abs=0.01)  # theirs pads, and crops


def test_rows_are_ratios_to_the_first_case(speed):
    entries = {"naive port": speed.pairwise(lambda p, t: (p - t).square().mean()), "mse": speed.cases(CPU)["mse"]}
    rows = speed.measure(32, 1, CPU, entries, budget=0.01)
    assert [(r["case"], r["phase"]) for r in rows] == [
        (name, phase) for phase in ("forward", "forward+backward") for name in entries
    ]
    for phase in ("forward", "forward+backward"):
        first, second = (r for r in rows if r["phase"] == phase)
        assert first["times_faster_than_naive"] == 1
        assert second["times_faster_than_naive"] == pytest.approx(first["ms"] / second["ms"], rel=0.2)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, 0), (0.9, 0), (0.8, 1)])
def test_gate_closes_at_15_percent(speed, tmp_path, monkeypatch, capsys, factor, verdict):
    size, batch = speed.TARGET
    row = {"size": size, "batch": batch, "phase": "forward+backward"}
    committed = [{**row, "case": "naive port", "times_faster_than_naive": 1.0}]
    committed += [{**row, "case": "default, float32", "times_faster_than_naive": 2.0}]
    path = tmp_path / "loss-cpu.json"
    path.write_text(json.dumps({"rows": committed}))
    now = [{**r, "times_faster_than_naive": factor * r["times_faster_than_naive"]} for r in committed[1:]]
    monkeypatch.setattr(speed, "measure", lambda *args, **kwargs: now)
    assert speed.check(CPU, path) == verdict
    assert ("SLOWER" in capsys.readouterr().out) == bool(verdict)


def test_gate_without_committed_results_fails(speed, tmp_path, capsys):
    assert speed.check(CPU, tmp_path / "none.json") == 1
    assert "is missing" in capsys.readouterr().err


def test_flops_of_the_stem_are_part_of_those_of_the_encoder():
    stages = load("speed", "stages")
    encoder = stages.rivals.published_encoder()
    # ORIGINAL: 8×8×2→16 on 80² cells
    assert stages.stem_flops(encoder, 160) == 2 * 8 * 8 * 2 * 16 * 80**2
    assert stages.stem_flops(encoder, 160) < encoder.flops(160, 160)["stage1"]
