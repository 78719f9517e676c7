"""What each pretext hides and asks for."""

from __future__ import annotations

import pytest
import torch

from atmoloss.training import pretexts

SHAPE = (6, 3, 2, 24, 20)


def ask(name: str, seed: int = 0):
    sequence = torch.randn(SHAPE)
    pretext = pretexts.pretext_of("next" if name == "next" else "masked", name)
    return sequence, pretext(sequence, torch.Generator().manual_seed(seed))


def test_next_is_the_last_field_by_those_before():
    sequence, (inputs, target, weight) = ask("next")
    assert torch.equal(inputs, sequence[:, :2])
    assert torch.equal(target, sequence[:, 2])
    assert weight.min() == 1


def test_middle_is_asked_by_its_neighbours_and_never_given():
    sequence, (inputs, target, weight) = ask("middle")
    assert torch.equal(target, sequence[:, 1])
    assert torch.equal(inputs[:, :2], sequence[:, [0, 2]])
    assert torch.equal(inputs[:, 2], (sequence[:, 0] + sequence[:, 2]) / 2)
    assert weight.min() == 1


@pytest.mark.parametrize("name", ["tokens", "box", "channel"])
def test_the_answer_counts_exactly_where_the_last_field_was_hidden(name):
    sequence, (inputs, target, weight) = ask(name)
    assert torch.equal(target, sequence[:, -1])
    hidden = (inputs == 0) & (sequence != 0)
    assert torch.equal(hidden[:, -1], weight.expand_as(target).bool())
    assert torch.equal(inputs[~hidden], sequence[~hidden])
    assert 0 < hidden.float().mean() < 0.6


def test_box_hides_the_same_half_by_half_of_all_fields():
    _, (inputs, _, weight) = ask("box")
    assert (weight.sum((1, 2, 3)) == 12 * 10).all()
    for field in inputs.unbind(1):
        assert torch.equal(field == 0, weight.expand_as(field).bool())


def test_channel_hides_one_of_all_fields():
    _, (inputs, _, weight) = ask("channel")
    assert torch.equal(weight.amax((2, 3)), weight.amin((2, 3)))
    assert (weight.amax((2, 3)).sum(1) == 1).all()
    assert torch.equal((inputs == 0).all(1).all(-1).all(-1), weight.amax((2, 3)).bool())
    assert 0 < weight[:, 0].mean() < 1  # now one, now the other


def test_tokens_hide_whole_squares_and_others_in_each_field():
    _, (inputs, _, weight) = ask("tokens")
    squares = torch.nn.functional.avg_pool2d(weight[..., :16, :16], 8)
    assert set(squares.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(inputs[:, 0] == 0, inputs[:, 1] == 0)
    assert not torch.equal(ask("tokens", 1)[1].weight, weight)
