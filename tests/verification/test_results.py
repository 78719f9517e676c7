"""What an evaluation returns: scores by name, and a form that JSON can hold."""

import json

import numpy as np
import pytest

from atmoloss.verification.results import Evaluation, Score


def test_scores_are_found_by_name(evaluation):
    score = evaluation.score("vorticity", "rmse", "noise")
    assert (score.variable, score.metric, score.model, score.units) == ("vorticity", "rmse", "noise", "s-1")
    with pytest.raises(KeyError):
        evaluation.score("vorticity", "rmse", "nothing")


def test_json_holds_scores_and_curves_but_no_maps(evaluation):
    back = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert len(back["scores"]) == len(evaluation.scores)
    assert {(d["model"], d["other"]) for d in back["differences"]} == {("half", "noise")}
    curves = back["curves"]["vorticity"]
    assert set(curves["data_vars"]) == {"spectrum", "spectrum_ratio", "semivariogram", "wasserstein"}
    spectrum = curves["data_vars"]["spectrum"]
    assert spectrum["dims"] == ["dataset", "degree"]
    assert spectrum["attrs"] == {"units": "(s-1)2"}
    np.testing.assert_array_equal(spectrum["data"], evaluation.curves["vorticity"]["spectrum"])
    assert len(curves["coords"]["city"]["data"]) == 150


def test_what_is_not_finite_is_none():
    score = Score("u", "rmse", "m", np.inf, np.nan, 1.0, "m s-1")
    written = Evaluation((score,), (), {}, ("m",), {"value": [np.nan]}, ()).to_dict()
    assert written["scores"][0] | {"value": None, "low": None, "high": 1.0} == written["scores"][0]
    assert written["settings"] == {"value": [None]}
