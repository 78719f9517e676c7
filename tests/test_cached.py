"""Cached features know what made them: a loss refuses those of another."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from atmoloss import AtmoDistLoss, cached
from atmoloss.errors import InputError
from atmoloss.extractor import Extractor
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.winds import WindToVorticityDivergence

ROWS = torch.cat((torch.zeros(4), torch.ones(28)))
OTHER_ROWS = torch.cat((torch.ones(28), torch.zeros(4)))


@pytest.fixture(scope="module")
def fields(draw):
    return draw(3, seed=1), draw(3, seed=2)


@pytest.fixture(scope="module")
def untrained(encoder, info) -> Extractor:
    """Other numbers under the same name and architecture."""
    other = type(encoder)(**encoder.architecture)
    return Extractor(other, LogNormalization(**ORIGINAL_NORMALIZATION), info)


REFITTED = LogNormalization(**{**ORIGINAL_NORMALIZATION, "alpha": 0.3})
WINDS = WindToVorticityDivergence(np.linspace(60, 29, 32), np.arange(32.0))
DIFFERENCES = {
    "periodic": ({"periodic": True}, "periodic=False", "periodic=True"),
    "normalization": ({"normalization": REFITTED}, "normalization #", "normalization #"),
    "no normalization": ({"normalization": None}, "normalization #", "no normalization"),
    "transform": ({"transform": WINDS}, "no transform", "transform #"),
}


@pytest.mark.parametrize(("options", "theirs", "ours"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_features_of_another_loss_are_refused(options, theirs, ours, extractor, fields, one_sentence) -> None:
    a, b = fields
    features = AtmoDistLoss(extractor).features(b)
    loss = AtmoDistLoss(extractor, **options)
    with pytest.raises(InputError) as error:
        loss(a, features)
    one_sentence(error.value, "target", f"made with {theirs}", f"has {ours}", "expected", extractor.info.id)
    loss(a, loss.features(b))


def test_features_of_other_weights_are_refused(extractor, untrained, fields, one_sentence) -> None:
    features = AtmoDistLoss(untrained).features(fields[1])
    with pytest.raises(InputError) as error:
        AtmoDistLoss(extractor)(fields[0], features)
    one_sentence(error.value, "target", "made with weights #", "has weights #")


MASKS = {
    "missing": (ROWS, None, "made with a mask #", "has no mask"),
    "not of the features": (None, ROWS, "made with no mask", "has a mask #"),
    "other": (OTHER_ROWS, ROWS, "made with a mask #", "has a mask #"),
    "of one sample": (
        torch.stack((ROWS, ROWS, OTHER_ROWS))[:, None, :, None].expand(3, 1, 32, 32),
        ROWS,
        "made",
        "has",
    ),
}


@pytest.mark.parametrize(("cached_mask", "given", "theirs", "ours"), MASKS.values(), ids=MASKS.keys())
def test_features_of_another_mask_are_refused(
    cached_mask, given, theirs, ours, extractor, fields, one_sentence
) -> None:
    a, b = fields
    loss = AtmoDistLoss(extractor)
    with pytest.raises(InputError) as error:
        loss(a, loss.features(b, cached_mask), given)
    one_sentence(error.value, "target", theirs, ours, "weight")


def test_a_weight_without_zeros_is_no_mask(extractor, fields) -> None:
    a, b = fields
    loss = AtmoDistLoss(extractor)
    assert torch.equal(loss(a, loss.features(b), ROWS + 1), loss(a, b, ROWS + 1))


KEPT = {
    "indexed and joined": lambda f: {n: torch.cat((t[:1], t[1:])) for n, t in f.items()},
    "pickled": lambda f: pickle.loads(pickle.dumps(f)),
    "moved": lambda f: {n: t.to("cpu", copy=True) for n, t in f.items()},
    "collated": lambda f: default_collate([{n: t[i] for n, t in f.items()} for i in range(3)]),
    "loaded": lambda f: next(iter(DataLoader([{n: t[i] for n, t in f.items()} for i in range(3)], batch_size=3))),
}


@pytest.mark.parametrize("keep", KEPT.values(), ids=KEPT.keys())
def test_the_mark_stays_with_the_features(keep, extractor, fields) -> None:
    a, b = fields
    loss = AtmoDistLoss(extractor)
    assert torch.equal(loss(a, keep(loss.features(b, ROWS)), ROWS), loss(a, b, ROWS))
    with pytest.raises(InputError, match="made with periodic=False"):
        AtmoDistLoss(extractor, periodic=True)(a, keep(loss.features(b, ROWS)), ROWS)


def test_a_mark_that_is_gone_or_rounded_is_refused(extractor, fields, one_sentence) -> None:
    a, b = fields
    loss = AtmoDistLoss(extractor)
    with pytest.raises(InputError) as error:
        loss(a, {n: t for n, t in loss.features(b).items() if n != cached.KEY})
    one_sentence(error.value, "target", "lack made_by", "expected")
    with pytest.raises(InputError) as error:
        loss(a, {n: t.half() for n, t in loss.features(b).items()})
    one_sentence(error.value, "target", "made_by", "float16", "expected torch.int64")


def test_the_same_weights_loaded_twice_agree(every_weights, every_extractor, draw_for) -> None:
    a, b = draw_for(every_extractor, seed=1), draw_for(every_extractor, seed=2)
    first, second = AtmoDistLoss(every_weights), pickle.loads(pickle.dumps(AtmoDistLoss(every_weights)))
    assert torch.equal(second(a, first.features(b)), first(a, b))
