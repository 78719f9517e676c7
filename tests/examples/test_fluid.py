"""The solver of examples/fluid against exact solutions, and its data as training reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fluid import make, score
from fluid.solver import shift, solve, velocity

from atmoloss import weights
from atmoloss.networks import build_encoder
from atmoloss.normalization import LogNormalization
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.training import predict
from atmoloss.training.config import read_config
from atmoloss.weights import WeightsInfo
from tests.tolerances import assert_close
from tests.training.conftest import log_of

SIZE = 32


def smooth(seed: int, size: int = SIZE) -> torch.Tensor:
    """A random flow of a few large waves whose velocities are about a cell a step."""
    torch.manual_seed(seed)
    k = 2 * math.pi / size
    y, x = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    return sum(
        0.1 * torch.randn(()) * torch.cos(k * (a * x + b * y) + a + 2 * b) for a in range(4) for b in range(-3, 4)
    )


def waves(a: int, b: int) -> torch.Tensor:
    k = 2 * math.pi / SIZE * torch.arange(SIZE).double()
    return torch.cos(a * k)[None, :] * torch.cos(b * k)[:, None]


def test_velocity_has_the_vorticity_and_no_divergence() -> None:
    vorticity = smooth(0)
    vorticity -= vorticity.mean()
    u, v = velocity(torch.fft.rfft2(vorticity), SIZE)
    k = 2j * math.pi * torch.fft.fftfreq(SIZE, dtype=torch.float64)

    def slope(field, axis):
        spectrum = torch.fft.fft(field, dim=axis)
        return torch.fft.ifft(spectrum * (k if axis == -1 else k[:, None]), dim=axis).real

    assert_close(slope(v, -1) + slope(u, -2), vorticity, 1e-10)  # y = −row: ∂/∂y = −∂/∂row
    assert_close(slope(u, -1) - slope(v, -2), torch.zeros(SIZE, SIZE), 1e-10, scale=1.0)


def test_taylor_green_vortices_decay_and_stay() -> None:
    viscosity, start = 0.5, waves(2, 2)
    k2 = 2 * (2 * 2 * math.pi / SIZE) ** 2
    series = solve(start, 4, viscosity=viscosity)
    for step, field in enumerate(series):
        assert_close(field, start * math.exp(-viscosity * k2 * step), 1e-10)


def test_energy_and_enstrophy_are_conserved_without_viscosity() -> None:
    series = solve(smooth(1), 6)
    u, v = velocity(torch.fft.rfft2(series), SIZE)
    for quantity in (u.square() + v.square(), series.square()):
        total = quantity.sum((-2, -1))
        assert (total / total[0] - 1).abs().max() < 1e-4
    assert (series[-1] - series[0]).std() > 0.1 * series[0].std()  # and yet it moved


def test_an_ellipse_turns_as_kirchhoff_says() -> None:
    """A patch of vorticity ω with half axes a and b turns by ω a b / (a + b)² (Lamb 1932, §159).

    A periodic plane has no mean vorticity: what it takes from the patch turns the whole plane back.
    """
    a, b, size = 14.0, 7.0, 128
    y, x = torch.meshgrid(64 - torch.arange(size).double(), torch.arange(size).double() - 64, indexing="ij")
    patch = torch.sigmoid((1 - torch.hypot(x / a, y / b)) * 30)
    series = solve(patch, 2)
    angles = [0.5 * math.atan2(2 * float((w * x * y).sum()), float((w * (x**2 - y**2)).sum())) for w in series]
    assert abs(angles[0]) < 1e-9
    expected = a * b / (a + b) ** 2 - float(patch.mean()) / 2
    assert abs(angles[1] / expected - 1) < 0.03  # its edge is not sharp


def test_a_shift_is_what_a_mean_flow_does() -> None:
    """∂ω/∂t = −U·∇ω, and whole cells are whole cells."""
    flow, dt = torch.tensor([1.3, -0.7], dtype=torch.float64), 1e-4
    w = smooth(2)
    moved = [shift(w, flow[0] * t, flow[1] * t) for t in (-dt, dt)]
    rate = (moved[1] - moved[0]) / (2 * dt)
    k = 2j * math.pi * torch.fft.fftfreq(SIZE, dtype=torch.float64)
    spectrum = torch.fft.fft2(w)
    expected = -torch.fft.ifft2((flow[0] * k - flow[1] * k[:, None]) * spectrum).real
    assert_close(rate, expected, 1e-6)
    assert_close(shift(w, torch.tensor(3.0), torch.tensor(-2.0)), w.roll((2, 3), (0, 1)), 1e-10)


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return make.make(4, seed=1)


def test_runs_are_what_they_say(data) -> None:
    assert data["vorticity"].shape == (4, 10, 64, 64)
    assert np.abs(data["flow"]).max() <= make.MAX_FLOW
    again = make.make(4, seed=1)
    assert all(np.array_equal(data[name], again[name]) for name in data)
    assert 0.2 < np.abs(data["vorticity"]).max() < 4.5
    u, v, vorticity = (data[name].astype(float) for name in ("u", "v", "vorticity"))
    curl = (np.roll(v, -1, -1) - np.roll(v, 1, -1)) / 2 + (np.roll(u, -1, -2) - np.roll(u, 1, -2)) / 2
    inside = (..., slice(2, -2), slice(2, -2))
    difference = curl[inside] - vorticity[inside]
    assert difference.std() < 0.15 * vorticity[inside].std()  # centred differences of an edge of some cells


def test_fields_move_with_the_mean_flow(data) -> None:
    best = []
    for run, (east, north) in zip(data["vorticity"], data["flow"], strict=True):
        first, second = (torch.from_numpy(run[t].astype(float)) for t in (4, 5))
        shifts = [(i, j) for i in range(-6, 7) for j in range(-6, 7)]
        errors = [float((first.roll((-j, i), (0, 1)) - second)[8:-8, 8:-8].square().mean()) for i, j in shifts]
        best.append(np.abs(np.array(shifts[int(np.argmin(errors))]) - (east, north)).max())
    assert np.median(best) <= 2  # vortices move each other, too


def test_an_added_flow_leaves_the_present_and_moves_the_rest() -> None:
    start, flow = make.draw(2, seed=1)
    series = make.still(start)
    plain, moved = (make.moved(series, flow, added) for added in (None, torch.tensor([[1.0, -2.0]]).expand(2, 2)))
    for frame in range(make.FRAMES):
        step = frame - make.PRESENT
        assert_close(moved[:, frame], plain[:, frame].roll((2 * step, step), (1, 2)), 1e-10)  # whole cells are whole


def test_training_reads_it_by_the_committed_configuration(tmp_path) -> None:
    make.main([str(tmp_path / "fluid.nc"), "--runs", "4"])
    small = {"validation": ["2001-01-03/2001-01-03"], "test": ["2001-01-04/2001-01-04"], "steps": 1, "batch_size": 2}
    encoder = {"stage_channels": [4, 8], "attention": {"stage2": {"heads": 2, "radius": 1}}}
    small |= {"encoder_options": encoder, "head_options": {"width": 8, "heads": 2, "radius": 1}, "workers": 0}
    source = [{"name": "fluid", "path": str(tmp_path / "fluid.nc")}]
    file = Path(make.__file__).with_name("next.toml")
    config = read_config(file, {**small, "sources": source, "validation_patches": 1})
    predict.train(config, tmp_path / "run")
    line = log_of(tmp_path / "run")[-1]
    assert line["validation_error"]["fluid"] > 0


def test_scores_of_weights_that_were_never_trained(data, tmp_path, monkeypatch, capsys) -> None:
    encoder = {"stage_channels": [4, 8], "attention": {"stage2": {"heads": 2, "radius": 1}}}
    make.write(str(tmp_path / "fluid.nc"), 4, 1)
    head = {"kind": "space_time", "width": 8, "heads": 2, "radius": 2}
    network = build_encoder("resnet_attn", in_channels=1, **encoder)
    normalization = LogNormalization.fit(torch.from_numpy(data["vorticity"][:, :1]) / make.HOUR)
    info = WeightsInfo(
        name="next",
        channels=({"name": "vorticity", "standard_name": "atmosphere_relative_vorticity", "units": "s-1"},),
        encoder=network.architecture,
        head=head,
        normalization=normalization.constants(),
        base_step_hours=1,
    )
    model = PredictionModel(network, build_prediction_head(head, network))
    weights.save(tmp_path / "weights", info, model.state_dict())
    monkeypatch.setattr(score, "SPLITS", {"test": slice(0, 4)})
    arguments = [str(tmp_path / "weights"), str(tmp_path / "fluid.nc")]
    score.main(arguments)
    out = json.loads(capsys.readouterr().out)["test"]
    assert abs(out["errors"]["prediction"] - 1) < 1e-4  # before training, it is persistence
    present, truth = (torch.from_numpy(data["vorticity"][:, t]) for t in (5, 6))
    inner = (slice(None), slice(6, -6), slice(6, -6))
    shifts = [present.roll((i, j), (1, 2)) for i in range(-6, 7) for j in range(-6, 7)]
    best = torch.stack([(s - truth)[inner].square().mean((1, 2)) for s in shifts]).amin(0).mean()
    assert abs(out["errors"]["shift"] / float(best / (present - truth)[inner].square().mean()) - 1) < 1e-4
    assert out["errors"]["shift"] < 1
    methods = [(row["method"], row["field"], row["head"]) for row in out["advection"]]
    assert methods == [("head", f, h) for f in (-2, -1) for h in (0, 1)] + [("rollout", f, 0) for f in (-2, -1)]
    intervals = [row[kind] for row in out["advection"] for kind in ("positions", "within")]
    assert all(low <= value <= high for value, low, high, *_ in intervals)
    assert all(-1 <= row["runs"][0] <= 1 for row in out["advection"])
    score.main([*arguments, "--random", "--methods", "head"])
    assert abs(json.loads(capsys.readouterr().out)["test"]["errors"]["prediction"] - 1) > 1e-4
