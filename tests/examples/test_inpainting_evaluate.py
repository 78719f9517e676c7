"""Scores of fillings against their definitions, and the command."""

import functools
import json

import numpy as np
import pytest
import scipy.fft
import torch
from inpainting import box
from inpainting.config import InpaintingConfig
from inpainting.evaluate import SCORES, evaluate_source, load_networks, main, scores, statistics
from inpainting.train import run

from atmoloss.data.sources import FieldSource
from atmoloss.errors import ConfigError
from atmoloss.training.config_reading import build_dataclass
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

make_config = functools.partial(build_dataclass, InpaintingConfig)

DAY = np.timedelta64(1, "D")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distance(fields):
    return lambda filled: (filled - fields).abs().amax((1, 2, 3))


def scored(filling, fields, times=None) -> dict[str, list]:
    times = np.datetime64("2026-01-01", "ns") + np.arange(len(fields)) * DAY if times is None else times
    return scores(statistics(filling, fields, distance(fields)), BlockBootstrap(times, 1.0))


def test_the_truth_is_perfect_and_half_of_it_is_half():
    fields = noise(6, 2, 12, 12)
    truth = box.cut(fields, 6)
    perfect = {"mse": 0, "mae": 0, "gradient_ratio": 1, "power_ratio": 1, "spectral_error": 0, "distance": 0}
    for key, value in perfect.items():
        assert scored(truth, fields)[key] == pytest.approx([value] * 3, abs=1e-6)
    half = scored(truth / 2, fields)
    expected = {"mse": truth.square().mean() / 4, "mae": truth.abs().mean() / 2, "gradient_ratio": 0.25}
    expected |= {"power_ratio": 0.25, "spectral_error": np.log(4)}
    expected["distance"] = 4 * truth.abs().amax((1, 2, 3)).mean() / 2  # four times as many cells as in the box
    for key, value in expected.items():
        assert half[key][0] == pytest.approx(float(value), rel=1e-5)


def test_scores_by_their_definitions():
    fields, filling = noise(5, 2, 12, 12), noise(5, 2, 6, 6, seed=1) * 0.7
    value = {key: bounds[0] for key, bounds in scored(filling, fields).items()}
    truth, filled = (x.double().numpy() for x in (box.cut(fields, 6), filling))

    def gradient(x):
        return (np.diff(x, axis=-1) ** 2).mean() + (np.diff(x, axis=-2) ** 2).mean()

    assert value["gradient_ratio"] == pytest.approx(gradient(filled) / gradient(truth), rel=1e-5)
    ring = np.rint(np.hypot(*np.indices((6, 6)))).astype(int)
    power = []
    for x in (filled, truth):
        squares = scipy.fft.dctn(x, axes=(-2, -1), norm="ortho") ** 2
        power.append(np.stack([squares[..., ring == k].sum(-1).mean(0) for k in range(1, 6)], -1))
    log = np.log(power[0] / power[1])
    assert value["power_ratio"] == pytest.approx(np.exp(log.mean()), rel=1e-4)
    assert value["spectral_error"] == pytest.approx(np.sqrt((log**2).mean()), rel=1e-4)


def test_intervals_are_over_days():
    fields = noise(8, 2, 12, 12)
    filling = box.cut(fields, 6) + torch.arange(8.0).reshape(8, 1, 1, 1)
    one_day = np.datetime64("2026-01-01T00", "ns") + np.arange(8) * np.timedelta64(3, "h")
    assert scored(filling, fields, one_day)["mse"][1:] == [None, None]  # a single day has no interval
    value, low, high = scored(filling, fields)["mse"]
    assert low < value < high
    repeated = [torch.cat((x, x)) for x in (filling, fields)]
    times = np.datetime64("2026-01-01", "ns") + np.tile(np.arange(8), 2) * DAY  # two places on the same days
    assert scored(*repeated, times)["mse"] == pytest.approx([value, low, high], rel=1e-6)


def test_a_source_is_scored_at_its_own_cells():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 2, 20, 36)).astype(np.float32)
    times = np.datetime64("2026-01-01", "ns") + np.arange(5) * DAY
    latitude, longitude = np.arange(76.0, -84, -8), 10.0 * np.arange(36)
    channels = ("divergence", "vorticity")
    source = FieldSource("globe", channels, values, times, np.zeros(5, np.int64), latitude, longitude)
    config = make_config({"patch_size": 16, "box_size": 6, "stage_channels": [2, 2]})
    kept = []

    def lookup(fields):
        kept.append(fields)
        return box.cut(fields, 6)

    fills = {"truth": lookup, "nothing": lambda x: torch.zeros_like(box.cut(x, 6))}
    difference = lambda a, b: (a - b).square().mean((1, 2, 3))  # noqa: E731
    results = evaluate_source(source, config, lambda x: 2 * x, fills, difference, patches=2)
    assert list(results) == ["truth", "nothing"]
    assert results["truth"]["mse"][0] == 0
    assert len(kept) == 2
    for fields in kept:  # all times of one place
        assert fields.shape == (5, 2, 16, 16)
    seen = torch.cat([box.cut(x, 6) for x in kept])
    assert results["nothing"]["mse"][0] == pytest.approx(seen.square().mean().item(), rel=1e-5)
    assert results["nothing"]["distance"][0] == pytest.approx(results["nothing"]["mse"][0], rel=1e-5)
    assert results["nothing"]["gradient_ratio"][0] == 0


@pytest.fixture(scope="module")
def trained(winds_file, folder, tmp_path_factory):
    """Run folders of two content losses."""
    from tests.examples.conftest import tiny_inpainting

    out = tmp_path_factory.mktemp("trained")
    raw = {**tiny_inpainting(winds_file, folder), "steps": 2}
    for content in ("mse", "atmodist"):
        run(make_config({**raw, "content": content}), out / content)
    run(make_config({**raw, "content": "mse", "box_size": 6}), out / "smaller")
    return out


def test_command(trained, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    networks = [str(trained / name / "generator") for name in ("mse", "atmodist")]
    assert main([*networks, "--output", str(tmp_path / "out"), "--patches", "2"]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "evaluation.md").read_text() == printed
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert record["split"] == "test"
    assert set(record["networks"]) == {"mse", "atmodist"}
    assert record["networks"]["mse"]["origin"]["step"] == 2
    (by_filling,) = record["results"].values()
    assert list(by_filling) == ["laplace", "mse", "atmodist"]
    for name, values in by_filling.items():
        assert list(values) == list(SCORES)
        assert np.isfinite(np.array(list(values.values()))).all()
        assert f"| winds | {name} | {values['mse'][0]:.3g} (" in printed
    picture = (tmp_path / "out" / "fields.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    # The filling of smooth fields from their surroundings is better than that of untrained networks.
    assert by_filling["laplace"]["mse"][0] < by_filling["mse"]["mse"][0]


def test_networks_that_cannot_be_compared(trained, one_sentence, capsys):
    folders = [trained / name / "generator" for name in ("mse", "smaller")]
    with pytest.raises(ConfigError) as error:
        load_networks(folders)
    one_sentence(error.value, "box_size", "6", "expected that of")
    twice, _ = load_networks([folders[0], folders[0]])
    assert len(twice) == 2
    assert main([str(trained / "mse")]) == 1
    assert capsys.readouterr().err.startswith("error: generator: ")
