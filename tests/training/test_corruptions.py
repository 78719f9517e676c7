"""Power and spectrum of fields with wrong small scales."""

from __future__ import annotations

import pytest
import torch

from atmoloss.training.corruptions import misplaced_detail, smooth_and_patterned


def test_artefacts_are_waves_in_place_of_small_scales():
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(64, 2, 32, 32)
    smooth, pattern = smooth_and_patterned(truth, generator)
    removed = (truth - smooth).square().mean((-2, -1))
    added = (pattern - smooth).square().mean((-2, -1))
    assert ((added > 0.05 * removed) & (added < 1.2 * removed)).all()
    # A wave, or a product of two, is at most four lines of the spectrum: nearly all power in few wavenumbers.
    power = torch.fft.fft2(pattern - smooth).abs().square().flatten(2).sort(-1, descending=True).values
    assert (power[..., :40].sum(-1) > 0.8 * power.sum(-1)).float().mean() > 0.9
    again = smooth_and_patterned(truth, torch.Generator().manual_seed(3))
    assert torch.equal(pattern, again[1])


def test_misplaced_detail_has_the_truths_power_and_the_coherence_asked_for():
    truth = torch.randn(64, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    smooth = torch.zeros_like(truth)
    misplaced = misplaced_detail(truth, smooth, 0.6, torch.Generator().manual_seed(0))
    power = misplaced.square().mean((1, 2, 3)) / truth.square().mean((1, 2, 3))
    coherence = (misplaced * truth).mean((1, 2, 3)) / truth.square().mean((1, 2, 3))
    assert power.mean() == pytest.approx(1.0, abs=0.02)
    # Uniform between the lowest and 1, each within the noise of 2048 values.
    assert coherence.min() > 0.5
    assert coherence.mean() == pytest.approx(0.8, abs=0.05)
    assert torch.equal(misplaced, misplaced_detail(truth, smooth, 0.6, torch.Generator().manual_seed(0)))
    assert torch.equal(
        misplaced_detail(truth, truth, 0.6, torch.Generator().manual_seed(0)), truth
    )  # no detail, none to misplace
