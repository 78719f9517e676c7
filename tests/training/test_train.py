from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, load_extractor
from atmoloss.cli import main
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError
from atmoloss.heads import MetricHead, PretextModel, PublishedHead, build_head
from atmoloss.lag_2afc.baselines import stage_measures
from atmoloss.lag_2afc.triples import measure_source
from atmoloss.networks import Encoder
from atmoloss.training import checkpoint as runs
from atmoloss.training.config import TrainConfig, make_config
from atmoloss.training.corruptions import misplaced_detail, smooth_and_patterned
from atmoloss.training.lag import train
from atmoloss.training.layer_scales import fit_layers
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_model, clip_gradients, load_initial, make_optimizer, make_scheduler
from atmoloss.training.objective import SequenceObjective
from atmoloss.training.weights_folder import head_gains, load_model, write_weights


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state = runs.load_checkpoint(folder)
    assert state is not None
    return state["model"]


@pytest.mark.parametrize("more", [{}, {"artefact_weight": 0.5}])
def test_resume_gives_the_same_weights(more, raw_config, tmp_path):
    config = make_config({**raw_config, **more})
    train(config, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop_after_checkpoint(folder, state, save=runs.save_checkpoint):
        save(folder, state)
        if state["step"] == 4:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", stop_after_checkpoint)
        with pytest.raises(StopError):
            train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)

    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)

    def losses(folder):
        lines = [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert [step for step, _ in losses(tmp_path / "whole")] == [2, 4, 6]


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


def test_kill_loses_at_most_one_interval(raw_config, tmp_path):
    raw = {**raw_config, "steps": 400, "validate_every": 400, "checkpoint_every": 5}
    script = (
        "import json, sys; from pathlib import Path; from atmoloss.training.lag import train;"
        "from atmoloss.training.config import make_config; from tests.training.worker import die_after;"
        "die_after(8); train(make_config(json.loads(sys.argv[1])), Path(sys.argv[2]))"
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-c", script, json.dumps(raw), str(folder)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root).returncode == -signal.SIGKILL
    state = runs.load_checkpoint(folder)
    assert state is not None
    step = state["step"]
    assert step == 5
    logged = [json.loads(line)["step"] for line in (folder / runs.METRICS).read_text().splitlines() if line[-1:] == "}"]
    assert max(logged) - step <= 5
    config = make_config(raw)
    # The schedule depends on the number of steps: a continued run is refused another one.
    with pytest.raises(ConfigError, match="steps is 401"):
        train(make_config({**raw, "steps": 401}), folder, resume=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config, folder)


def losses_of(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_finished_run_is_lengthened_exactly(optimizer, raw_config, tmp_path, monkeypatch, capsys):
    raw = {**raw_config, "optimizer": optimizer, "log_every": 1}
    train(make_config(raw), tmp_path / "run")
    first = losses_of(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "parts")

    def lengthen(folder: Path, steps: int) -> int:
        return main(["train", "--resume", "--output", str(folder), "--steps", str(steps), "--device", "cpu"])

    assert lengthen(tmp_path / "run", 10) == 0
    after = losses_of(tmp_path / "run")
    assert sorted(after) == list(range(1, 11))
    assert {k: v for k, v in after.items() if k <= 6} == first
    record = runs.read_record(tmp_path / "run")
    config = make_config(record["config"])
    assert (config.steps, record["lengthened"]) == (10, [6])
    rates = [json.loads(x).get("learning_rate") for x in (tmp_path / "run" / runs.METRICS).read_text().splitlines()]
    rates = [rate for rate in rates if rate is not None]
    if optimizer == "adamw":  # each part is a whole cycle
        fresh = make_optimizer(config, build_model(config))
        cycle = make_scheduler(dataclasses.replace(config, steps=4), fresh)
        for rate in rates[6:9]:
            fresh.step()
            cycle.step()
            assert rate == pytest.approx(fresh.param_groups[0]["lr"])
        assert max(rates[6:]) > 100 * rates[5]

    def stop_after_checkpoint(folder, state, save=runs.save_checkpoint):
        save(folder, state)
        if state["step"] == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save_checkpoint", stop_after_checkpoint)
    assert lengthen(tmp_path / "parts", 10) not in (0, 1)  # interrupted
    monkeypatch.undo()
    assert lengthen(tmp_path / "parts", 12) == 1
    assert "steps is 12, but the run began with 10; expected the same (more once" in capsys.readouterr().err
    assert main(["train", "--resume", "--output", str(tmp_path / "parts"), "--device", "cpu"]) == 0
    a, b = weights_of(tmp_path / "run"), weights_of(tmp_path / "parts")
    assert all(torch.equal(a[k], b[k]) for k in a)
    card = (tmp_path / "parts" / "weights" / "README.md").read_text()
    assert "- 6 + 4 steps" in card
    assert lengthen(tmp_path / "run", 9) == 1
    assert "steps is 9" in capsys.readouterr().err


def test_a_run_that_failed_before_its_first_step_blocks_nothing(raw_config, tmp_path, monkeypatch):
    config = make_config({**raw_config, "steps": 2})

    def fail(*_: object) -> None:
        raise MemoryError

    other = make_config({**raw_config, "variables": ["u10"]})
    monkeypatch.setattr("atmoloss.training.lag.build_model", fail)
    for resume in (False, True):
        with pytest.raises(MemoryError):
            train(other, tmp_path / "run", resume=resume)
    assert make_config(runs.read_record(tmp_path / "run")["config"]) == other
    monkeypatch.undo()
    monkeypatch.setattr("atmoloss.training.lag.clip_gradients", fail)  # in the first step
    with pytest.raises(MemoryError):
        train(config, tmp_path / "run")
    monkeypatch.undo()
    train(config, tmp_path / "run")
    assert make_config(runs.read_record(tmp_path / "run")["config"]) == config
    with pytest.raises(ConfigError, match="already holds a run"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--resume", "--set", "steps=9"], "--set: is for a configuration file"),
        (["--resume", "--seed", "3"], "--seed: is for a configuration file"),
        (["--resume", "--recipe", "paper"], "--recipe"),
        (["--resume", "--variables", "u10"], "--variables"),
        (["--resume", "--data", "w.nc"], "w.nc"),
        (["--export", "w", "--steps", "9"], "--steps: is for a configuration file or --data; expected none to export"),
        (["--export", "w", "--device", "cuda"], "--device"),
        (["--export", "w", "--set", "mse_weight=0.1"], "--set"),
        (["--steps", "9"], "config: got none"),
    ],
)
def test_options_that_a_recorded_run_would_not_take_are_refused(more, message, raw_config, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    runs.write_record(folder, {"config": {**raw_config}})
    assert main(["train", "--output", str(folder), *more]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_resume_refuses_changed_data(raw_config, tmp_path):
    from tests.training.conftest import drifting_winds

    path = tmp_path / "winds.nc"
    drifting_winds().to_netcdf(path, engine="h5netcdf")
    config = make_config({**raw_config, "sources": [{"name": "winds", "path": str(path)}], "steps": 2})
    train(config, tmp_path / "run")
    altered = drifting_winds()
    altered["u10"][17, 20, 20] += 0.5  # one value
    altered.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ConfigError, match="data of source 'winds' changed"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"variables": ["u10", "v10"]},
        {"variables": ["u10"]},
        {"precision": "bfloat16", "workers": 1},
        {"encoder": "resnet_small", "patch_sizes": [32]},
        {"ranking_weight": 0.0, "n_times": 2, "patch_sizes": [16, 24]},
    ],
    ids=["winds", "one scalar", "bfloat16", "published encoder", "pairs, two sizes"],
)
def test_command_trains_and_exports_any_variables(change, raw_config, winds_file, tmp_path, capsys):
    raw = {**raw_config, **change, "steps": 4, "n_times": change.get("n_times", 3)}
    settings = [f"{k}={json.dumps(v)}" for k, v in raw.items() if k not in ("sources", "variables", "encoder_options")]
    settings.append("encoder_options={stage_channels=[4, 6], blocks_per_stage=1}")
    arguments = ["train", "--data", str(winds_file), "--output", str(tmp_path / "run"), "--device", "cpu"]
    for text in settings:
        arguments += ["--set", text]
    if "variables" in change:
        arguments += ["--variables", ",".join(change["variables"])]
    assert main(arguments) == 0
    folder = tmp_path / "run" / "weights"
    names = tuple(change.get("variables", ("divergence", "vorticity")))
    extractor = load_extractor(folder)
    assert extractor.info.channel_names == names
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in extractor.modules())
    std = torch.tensor(extractor.info.normalization["std"])[:, None, None]
    value = AtmoDistLoss(folder)(std * torch.randn(2, len(names), 32, 32), std * torch.randn(2, len(names), 32, 32))
    assert torch.isfinite(value)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["weights"] == extractor.info.id
    assert {s["split"] for s in metrics["sources"]} == {"validation", "test"}
    scores = metrics["sources"][-1]["lag_2afc"]
    assert {"distance", "random weights", "MSE of winds, mean of 4x4", "SSIM of fields"} <= scores.keys()
    for figure in ("confusion", "accuracy_per_lag", "distance_vs_lag", "lag_2afc"):
        assert (folder / "figures" / f"{figure}.png").stat().st_size > 5000
    card = (folder / "README.md").read_text()
    assert extractor.info.id in card
    assert str(tmp_path) not in card + (folder / "metrics.json").read_text()


def test_evaluate_command(raw_config, winds_file, tmp_path, capsys):
    config = make_config({**raw_config, "steps": 2})
    train(config, tmp_path / "run")
    assert main(["train", "--output", str(tmp_path / "run"), "--export", str(tmp_path / "w")]) == 0
    capsys.readouterr()
    report = tmp_path / "report.json"
    arguments = ["evaluate", str(tmp_path / "w"), str(winds_file), "--patch", "16", "--json", str(report)]
    assert main([*arguments, "--dates", "2026-01-11/2026-01-12"]) == 0
    out = capsys.readouterr().out
    assert "lag 2AFC" in out
    assert "top-1" in out
    entry = json.loads(report.read_text())["sources"][0]
    assert entry["n_times"] == 8
    assert entry["lag_2afc"]["distance"]["interval"] is None  # of two days
    assert "too few days" in out
    assert {"top1", "top3", "mae_hours", "per_lag"} <= entry["classes"].keys()
    assert main([*arguments, "--dates", "2030-01-01/2030-01-02"]) == 1
    assert "expected at least 3" in capsys.readouterr().err


def test_learns_what_it_is_shown(raw_config, tmp_path):
    # The fields forget themselves with time: a trained distance must order them better than chance by far.
    raw = {**raw_config, "steps": 60, "validate_every": 60, "batch_size": 8, "learning_rate": 5e-3, "log_every": 10}
    train(make_config(raw), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / runs.METRICS).read_text().splitlines()]
    losses = [line["cross_entropy"] for line in lines if "cross_entropy" in line]
    assert losses[-1] < 0.85 * np.log(16)  # what guessing one of 16 classes costs
    assert lines[-1]["validation_2afc"]["winds"] > 0.7


def test_objective_pairs_agree_with_the_head_called_pair_by_pair():
    torch.manual_seed(0)
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False).eval()
    head = MetricHead(encoder.channels, 8)
    x = torch.randn(2 * 4, 2, 16, 16)
    hours = torch.tensor([[0, 3, 9, 24], [0, 6, 12, 18]])
    features = encoder(x)
    pairs = head.pair_distances(features, 4)
    first, second = torch.triu_indices(4, 4, 1)
    for b in range(2):
        for p, (i, j) in enumerate(zip(first, second, strict=True)):
            a, c = ({n: f[4 * b + t][None] for n, f in features.items()} for t in (i, j))
            assert pairs[b, p].item() == pytest.approx(head.distance(a, c).item(), rel=1e-4)
    config = TrainConfig(n_times=4, ranking_weight=1.0)
    out = SequenceObjective(PretextModel(encoder, head), config)(x, hours, torch.Generator())
    classes = ((hours[:, second] - hours[:, first]) // 3 - 1).flatten()
    expected = torch.nn.functional.cross_entropy(head.logits(pairs).flatten(0, 1), classes)
    assert out["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0 <= out["ranking"] <= 1


def test_ranking_term_is_zero_for_ordered_and_large_for_reversed_sequences():
    class Fixed(torch.nn.Module):  # features that move steadily away from the first
        def forward(self, x):
            return {"stage1": x}

    head = MetricHead({"stage1": 1}, 8)
    scorer = SequenceObjective(PretextModel(Fixed(), head), TrainConfig(n_times=3, ranking_weight=1.0))

    def objective(x, hours):
        return scorer(x, hours, torch.Generator())

    steady = torch.tensor([0.0, 1.0, 3.0]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    hours = torch.tensor([[0, 3, 6]])
    assert objective(steady, hours)["ranking"] == 1.0
    back = torch.tensor([0.0, 3.0, 0.1]).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)
    out = objective(back, hours)
    assert out["ranking"] == 0.0
    assert out["loss"] - out["cross_entropy"] > 5


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


def test_artefact_term_asks_that_patterns_are_farther_than_smooth_fields():
    class Fixed(torch.nn.Module):
        def __init__(self, sign):
            super().__init__()
            self.sign = sign

        def forward(self, x):  # roughness is seen (sign 1), or rewarded (−1)
            rough = (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3))
            return {"stage1": (10.0 + self.sign * rough).reshape(-1, 1, 1, 1)}

    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    waves = torch.sin(2 * torch.pi * (y + x) / 32).expand(6, 2, 32, 32).contiguous()
    hours = torch.tensor([[0, 3, 6], [0, 3, 6]])
    config = TrainConfig(n_times=3, artefact_weight=1.0)
    scorer = SequenceObjective(PretextModel(Fixed(1.0), MetricHead({"stage1": 1}, 8)), config)
    out = scorer(waves, hours, torch.Generator().manual_seed(0))
    assert out["artefacts"] == 1.0
    blind = SequenceObjective(PretextModel(Fixed(0.0), MetricHead({"stage1": 1}, 8)), config)
    assert blind(waves, hours, torch.Generator().manual_seed(0))["artefacts"] == 0.0


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


def test_detail_term_asks_that_misplaced_detail_is_nearer_than_none():
    class Fixed(torch.nn.Module):
        def __init__(self, sees_places):
            super().__init__()
            self.sees_places = sees_places

        def forward(self, x):  # everything and where it is, or how rough it is
            rough = (x[..., 1:] - x[..., :-1]).square().mean((1, 2, 3)).sqrt()
            return {"stage1": x if self.sees_places else rough.reshape(-1, 1, 1, 1)}

    fields = torch.randn(6, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    hours = torch.tensor([[0, 3, 6], [0, 3, 6]])

    def share(sees_places, coherence):
        config = TrainConfig(n_times=3, detail_weight=1.0, detail_coherence=coherence)
        head = MetricHead({"stage1": 2 if sees_places else 1}, 8)
        out = SequenceObjective(PretextModel(Fixed(sees_places), head), config)(
            fields, hours, torch.Generator().manual_seed(3)
        )
        return out["detail"].item(), (out["loss"] - out["cross_entropy"]).item()

    satisfied, cost = share(sees_places=False, coherence=0.0)
    assert satisfied == 1.0
    assert cost < 1e-3
    # The squared error prefers detail above a coherence of one half.
    satisfied, cost = share(sees_places=True, coherence=0.6)
    assert satisfied == 1.0
    assert cost > 1e-4  # but by little: the term wants more


def test_gains_make_plain_differences_the_trained_distance():
    torch.manual_seed(0)
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False).eval()
    model = PretextModel(encoder, MetricHead(encoder.channels, 8))
    with torch.no_grad():
        for p in model.head.log_weights.values():
            p.normal_()
    a, b = encoder(torch.randn(3, 2, 16, 16)), encoder(torch.randn(3, 2, 16, 16))
    gains = head_gains(model)
    plain = sum(((a[n] - b[n]) * gains[n][:, None, None]).square().mean((1, 2, 3)) for n in a)
    torch.testing.assert_close(plain, model.head.distance(a, b))


def test_scales_make_stages_and_their_sum_equal_the_mse():
    mse = np.linspace(0.5, 1.5, 16)
    curves = {"stage1": 0.2 * mse, "stage2": 3.0 * mse, "mse": mse}
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1)
    gap = {n: c.copy() for n, c in curves.items()}
    for c in gap.values():
        c[::2] = np.nan  # a source with every other lag
    chosen = fit_layers(PretextModel(encoder, MetricHead(encoder.channels, 8)), {"a": curves, "b": gap})
    assert chosen["layer_scales"] == pytest.approx({"stage1": 5.0, "stage2": 1 / 3})
    total = sum(chosen["layers"][n] * chosen["layer_scales"][n] * curves[n] for n in chosen["layers"])
    np.testing.assert_allclose(total, mse)
    head = PublishedHead(encoder.channels, 8, (16, 16), encoder.strides["stage2"])
    assert fit_layers(PretextModel(encoder, head), {"a": curves})["layers"] == {"stage2": 1.0}


def test_low_pass_takes_its_share_of_the_distance_and_nothing_of_the_head():
    encoder = Encoder(stage_channels=(4, 6), blocks_per_stage=1, stem_pool=False, low_pass=4)
    model = PretextModel(encoder, build_head({"kind": "metric", "n_classes": 8}, encoder))
    assert list(head_gains(model)) == ["stage1", "stage2"]
    mse = np.linspace(0.5, 1.5, 16)
    curves = {"low_pass": 0.7 * mse, "stage1": 0.2 * mse, "stage2": 3.0 * mse, "mse": mse}
    chosen = fit_layers(model, {"a": curves}, 0.3)
    parts = {n: chosen["layers"][n] * chosen["layer_scales"][n] * curves[n] for n in chosen["layers"]}
    np.testing.assert_allclose(parts["low_pass"], 0.3 * mse)
    np.testing.assert_allclose(sum(parts.values()), mse)
    without = fit_layers(model, {"a": curves})
    assert list(without["layers"]) == ["stage1", "stage2"]
    assert without["layer_scales"] == chosen["layer_scales"]


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_validation_measures_the_distance_that_ships(share, raw_config, tmp_path):
    raw = {**raw_config, "steps": 2, "low_pass_share": share, "validation_patches": 3}
    raw["encoder_options"] = {**raw["encoder_options"], "low_pass": 4}
    config = make_config(raw)
    train(config, tmp_path / "run")
    shown = json.loads((tmp_path / "run" / runs.METRICS).read_text().splitlines()[-1])["validation_2afc"]["winds"]
    model, normalization, _ = load_model(config, tmp_path / "run")
    splits = split_by_date(open_sources(config), config.validation, config.test)
    info, _ = write_weights(config, model, normalization, [], splits["validation"], tmp_path / "weights")
    assert ("low_pass" in info.layers) == bool(share)
    measures = stage_measures(load_extractor(tmp_path / "weights"))
    (source,) = splits["validation"]
    tallies = measure_source(source, measures, size=16, max_lag=48, limit=3)
    assert shown == pytest.approx(tallies["distance"].share, abs=1e-9)
    others = [tally.share for name, tally in tallies.items() if name != "distance"]
    assert min(abs(shown - other) for other in others) > 1e-4  # they are told apart


@pytest.mark.parametrize(("share", "options"), [(0.2, {}), (1.0, {"low_pass": 16}), (-0.1, {"low_pass": 16})])
def test_low_pass_share_needs_the_layer(share, options, one_sentence):
    with pytest.raises(ConfigError) as error:
        TrainConfig(low_pass_share=share, encoder_options=options)
    one_sentence(error.value, "low_pass_share", "got", "expected")


def test_paper_recipe_trains_with_its_own_schedule(raw_config, tmp_path):
    raw = {
        "name": "paper",
        "recipe": "paper",
        "sources": raw_config["sources"],
        "encoder_options": {"stage_channels": [4, 6], "blocks_per_stage": 1},
        "patch_sizes": [32],
        "batch_size": 4,
        "steps": 6,
        "subset_steps": 2,
        "subset_batches": 1,
        "epoch_steps": 2,
        "workers": 0,
        "learning_rate": 0.01,
        "validation": ["2026-01-09/2026-01-10"],
        "checkpoint_every": 6,
    }
    config = make_config(raw)
    train(config, tmp_path / "run")
    state = runs.load_checkpoint(tmp_path / "run")
    assert state is not None
    assert state["scheduler"]["last_epoch"] == 2  # two looks at the mean loss, after the subset
    assert any(name.startswith("head.pred") for name in state["model"])


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


def test_record_names_origin(raw_config, tmp_path):
    train(make_config({**raw_config, "steps": 2}), tmp_path / "run")
    record = runs.read_record(tmp_path / "run")
    config = make_config(record["config"])
    assert config == make_config({**raw_config, "steps": 2})
    assert set(record) == {"config", "atmoloss", "torch", "git_commit", "data", "processes"}
    assert record["processes"] == 1
    assert len(record["data"]["winds"]) == 64
    assert not list((tmp_path / "run").glob(".*"))  # no temporary file stays


def test_bar_on_a_terminal_and_tensorboard(raw_config, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(make_config({**raw_config, "steps": 2, "tensorboard": True}), tmp_path / "run")
    assert "2/2" in capsys.readouterr().err
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    assert b"cross_entropy" in events.read_bytes()


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
