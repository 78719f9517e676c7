"""What is passed by mistake: every argument of every public function names itself when it gets what it cannot be."""

import inspect

import numpy as np
import pytest
import torch

import atmoloss
from atmoloss.data import open_fields
from atmoloss.errors import AtmolossError
from atmoloss.winds import WindToVorticityDivergence
from tests import labelled

verification = pytest.importorskip("atmoloss.verification")

MISTAKES = [None, "no", -1, 2.5, float("nan"), True, [1, 2], {"a": 1}, b"x", np.zeros(3), torch.zeros(2)]
SMALL = {"n_bootstrap": 3, "n_samples": 20, "atmodist": None}


def tensors(*shape):
    """Return fields in the units of `default`."""
    return 3e-5 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def evaluate(**options):
    truth = labelled.analyses(3)
    return verification.evaluate_fields(truth, {"model": truth}, **SMALL | options)


def field():
    return labelled.analyses(2)["vorticity"]


def pairs(*names):
    return {name: tensors(2, 2, 32, 32) for name in names}


GRID = {"latitude": np.arange(40.0, 8.0, -1), "longitude": np.arange(32.0)}
MAPS = {
    "maps": np.full((3, 7, 7, 3, 3), 1 / 9),
    "moved": np.ones((3, 7, 7, 2)),
    "times": labelled.START + 6 * labelled.HOUR * np.arange(3),
}
# Function and those of its arguments that are right; made when it is tested.
CALLS = {
    "AtmoDistLoss": lambda: (atmoloss.AtmoDistLoss, {}),
    "AtmoDistLoss.forward": lambda: (atmoloss.AtmoDistLoss().forward, pairs("prediction", "target")),
    "AtmoDistMetric": lambda: (atmoloss.AtmoDistMetric, {"units": "hours", "grid_spacing": 1.0, "level": "10 m"}),
    "Extractor.forward": lambda: (atmoloss.load_extractor().forward, pairs("fields")),
    "Extractor.attention": lambda: (atmoloss.load_extractor().attention, pairs("fields")),
    "WindToVorticityDivergence": lambda: (WindToVorticityDivergence, GRID),
    "WindToVorticityDivergence.forward": lambda: (WindToVorticityDivergence(**GRID).forward, pairs("wind")),
    "atmodist_distance": lambda: (atmoloss.atmodist_distance, pairs("a", "b")),
    "atmodist_hours": lambda: (atmoloss.atmodist_hours, {**pairs("a", "b"), "grid_spacing": 1.0, "level": "10 m"}),
    "distance_matrix": lambda: (atmoloss.distance_matrix, pairs("fields")),
    "embed": lambda: (atmoloss.embed, pairs("fields")),
    "fit_hours": lambda: (atmoloss.fit_hours, {"fields": tensors(12, 2, 32, 32).cumsum(0), "times": np.arange(12.0)}),
    "load_extractor": lambda: (atmoloss.load_extractor, {}),
    "nearest": lambda: (atmoloss.nearest, {"query": np.eye(3), "archive": np.eye(3)}),
    "score": lambda: (
        atmoloss.score,
        {"forecast": labelled.analyses(2), "analysis": labelled.analyses(2), "weights": "default"},
    ),
    "open_fields": lambda: (open_fields, {"path_or_url": labelled.analyses(2)}),
    "advection_score": lambda: (verification.advection_score, MAPS),
    "at_cities": lambda: (verification.at_cities, {"field": field()}),
    "evaluate_fields": lambda: (evaluate, {}),
    "kinetic_energy_spectrum": lambda: (
        verification.kinetic_energy_spectrum,
        {"vorticity": field(), "divergence": field()},
    ),
    "power_spectrum": lambda: (verification.power_spectrum, {"field": field()}),
    "semivariogram": lambda: (verification.semivariogram, {"field": field(), "n_samples": 20}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLS)
def test_mistakes_get_a_sentence_that_names_the_argument(name, one_sentence) -> None:
    function, right = CALLS[name]()
    arguments = inspect.signature(verification.Options if function is evaluate else function).parameters
    for argument in arguments.keys() - {"options"}:  # those of the loss, which has a test here
        with pytest.raises(AtmolossError) as error:  # no argument takes just anything
            function(**{**right, argument: object()})
        one_sentence(error.value, argument.replace("name_or_path", "weights"), "expected")
        for mistake in MISTAKES:  # some are right, and some are wrong for another argument's sake
            try:
                function(**{**right, argument: mistake})
            except AtmolossError as refused:
                one_sentence(refused)
