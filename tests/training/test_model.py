"""What a training starts from, and what optimises it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from atmoloss.errors import ConfigError
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from atmoloss.training.model import (
    build_model,
    clip_gradients,
    load_initial,
    make_optimizer,
    make_scheduler,
)
from atmoloss.training.weights_folder import load_model, write_weights


def test_starts_from_weights_of_the_same_architecture_only(raw_config, tmp_path):
    config = make_config({**raw_config, "steps": 2, "validate_every": 2})
    train(config, tmp_path / "first")
    trained, normalization, _ = load_model(config, tmp_path / "first")
    sources = open_sources(config)
    untrained = dataclasses.replace(sources[0], name="untrained", weight=0.0)
    _, curves = write_weights(
        config, trained, normalization, sources, [*sources, untrained], tmp_path / "weights"
    )  # a source of weight 0 sets no scale
    assert list(curves) == [sources[0].name]
    again = make_config({**raw_config, "seed": 5, "initial_weights": str(tmp_path / "weights")})
    model = build_model(again)
    constants = load_initial(again, model)
    assert constants is not None
    assert constants.constants() == normalization.constants()
    expected = trained.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in model.state_dict().items() if t.is_floating_point())
    other = make_config(
        {**raw_config, "initial_weights": str(tmp_path / "weights"), "head": "published", "ranking_weight": 0}
    )
    with pytest.raises(ConfigError, match=r"initial_weights: tiny@.* have head"):
        load_initial(other, build_model(other))
    assert load_initial(config, model) is None


def test_published_optimizer_clips_each_tensor_and_decays_kernels_only(raw_config):
    published = {"recipe": "paper", "patch_sizes": [32], "n_times": 2, "gradient_clip": 5.0, "ranking_weight": 0}
    config = make_config({**raw_config, **published})
    model = build_model(config)
    optimizer = make_optimizer(config, model)
    kernels, rest = optimizer.param_groups
    assert kernels["weight_decay"] == 2e-4
    assert rest["weight_decay"] == 0
    assert all(p.ndim > 1 for p in kernels["params"])
    for p in model.parameters():
        p.grad = torch.full_like(p, 100.0)
    clip_gradients(model, config)
    assert all(p.grad.norm().item() == pytest.approx(5.0, rel=1e-4) for p in model.parameters())
    scheduler = make_scheduler(config, optimizer)
    rates = []
    for _ in range(10):  # the first is the best; Keras' patience of 8: the eighth without progress divides the rate
        scheduler.step(1.0)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1] * 8 + [0.01] * 2)


@pytest.mark.parametrize("steps", range(1, 12))
def test_one_cycle_of_any_length(steps, raw_config) -> None:
    """Rates are finite and end at next to nothing; a rise of one step made torch divide by zero."""
    config = make_config({**raw_config, "steps": steps})
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    scheduler = make_scheduler(config, optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert all(0 < rate <= config.learning_rate * (1 + 1e-9) for rate in rates)
    assert steps == 1 or rates[-1] < 1e-3 * config.learning_rate
