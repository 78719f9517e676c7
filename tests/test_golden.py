"""Stored numbers of every bundled weights folder on the bundled sample: nothing may change them unnoticed.

The tolerance is that of float32 on another processor. After a change that is meant (a **Numerics** or **Weights** line
in CHANGELOG.md) write them anew: ``python -m tests.test_golden``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, atmodist_distance
from atmoloss import weights as weights_folder

pytest.importorskip("xarray", reason="the extra 'data' is not installed")
from atmoloss.data.sample import open_sample

PATH = Path(__file__).with_name("golden.json")
PAIRS = slice(0, 3), slice(5, 8)  # 30 hours apart
TOLERANCE = 1e-5


def numbers(name: str) -> dict[str, list[float]]:
    """Return what a set of weights says of three pairs of fields of the sample."""
    loss = AtmoDistLoss(name, reduction="none")
    sample = open_sample(loss.extractor.info.channel_names)
    fields = torch.from_numpy(np.stack([sample[v].values for v in sample.data_vars], 1))
    a, b = (fields[pair] for pair in PAIRS)
    values = loss(a.requires_grad_(), b)
    (gradient,) = torch.autograd.grad(values.sum(), a)
    with torch.no_grad():
        features = loss.extractor(a)
    return {
        "loss": values.tolist(),
        "distance": atmodist_distance(a, b, weights=name).tolist(),
        "gradient, root mean square in units of the spread": [
            (gradient * loss.normalization.std).square().mean().sqrt().item()
        ],
        **{f"{layer}, root mean square": f.square().mean((1, 2, 3)).sqrt().tolist() for layer, f in features.items()},
    }


@pytest.mark.parametrize("name", sorted(weights_folder.bundled()))
def test_numbers_of_bundled_weights(name: str) -> None:
    stored = json.loads(PATH.read_text(encoding="utf-8"))
    assert stored.keys() == weights_folder.bundled().keys(), "run python -m tests.test_golden"
    got = numbers(name)
    assert got.keys() == stored[name].keys()
    for what, values in stored[name].items():
        assert got[what] == pytest.approx(values, rel=TOLERANCE), what


if __name__ == "__main__":
    golden = {name: numbers(name) for name in sorted(weights_folder.bundled())}
    PATH.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
