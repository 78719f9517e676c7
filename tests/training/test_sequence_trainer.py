"""What trainings on sequences share. That a run goes on exactly is tested in test_loop and test_predict."""

from __future__ import annotations

import copy

import pytest
import torch

from atmoloss.errors import ConfigError
from atmoloss.training.config import make_config
from atmoloss.training.lag import LagTrainer
from atmoloss.training.loop import open_run


def test_what_is_kept_is_enough_for_the_same_next_step(raw_config, tmp_path):
    config = make_config(raw_config)
    first, second = (LagTrainer(open_run(config, tmp_path / name)) for name in "ab")
    first.step(first.batches[0], 1)
    second.load_state_dict(copy.deepcopy({**first.state_dict(), "step": 1}))
    numbers = [trainer.step(trainer.batches[1], 2) for trainer in (first, second)]
    assert numbers[0] == numbers[1]
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_not_finite_ends_the_run(raw_config, tmp_path, one_sentence):
    trainer = LagTrainer(open_run(make_config(raw_config), tmp_path / "run"))
    fields, hours = trainer.batches[0]
    with pytest.raises(ConfigError) as error:
        trainer.step((fields * float("nan"), hours), 7)
    one_sentence(error.value, "training", "nan at step 7", "lower learning_rate")
