"""Training runs of the super-resolution GAN: stages, balance, resume, files."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from srgan import gan as gan_module
from srgan.config import SrganConfig, read_config
from srgan.content import ContentLoss
from srgan.data import PatchDataset
from srgan.gan import Gan
from srgan.measures import mse
from srgan.store import load_generator
from srgan.train import main, pair, run

from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError, WeightsError
from atmoloss.normalization import LogNormalization
from atmoloss.training import checkpoint as runs
from atmoloss.training.config_reading import build_dataclass
from atmoloss.training.loop import open_sources
from tests.training.conftest import interrupted_after, log_of

make_config = functools.partial(build_dataclass, SrganConfig)

EXAMPLES = Path(__file__).parents[2] / "examples"


def weights_of(folder: Path, name: str = "generator") -> dict[str, torch.Tensor]:
    return load_generator(folder / name).generator.state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_preset_of_the_sample_trains_from_a_clone_alone(tmp_path):
    few = {"pretrain_steps": 1, "steps": 2, "final_steps": 1, "batch_size": 2, "validation_batches": 1}
    config = read_config(EXAMPLES / "srgan" / "presets" / "sample.toml", few)
    assert weights_of(run(config, tmp_path / "run").parent)
    assert [line["step"] for line in log_of(tmp_path / "run")][-1] == 3


# facl draws terms by step; in pretraining, at its end, in the second stage.
@pytest.mark.parametrize(("content", "stop"), [("facl", 2), ("random-encoder", 4), ("facl", 6), ("vgg-random", 8)])
def test_resume_is_exact(content, stop, raw_config, tmp_path):
    config = make_config({**raw_config, "content": content, "layers": ["block1"] if "vgg" in content else []})
    run(config, tmp_path / "whole")
    with interrupted_after(stop), pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts")
    run(config, tmp_path / "parts", resume=True)
    whole, parts = (runs.load_checkpoint(tmp_path / name)["gan"] for name in ("whole", "parts"))
    for network in ("generator", "discriminator"):
        assert equal(whole[network]["network"], parts[network]["network"])
    assert equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"))
    assert [line["step"] for line in log_of(tmp_path / "parts")] == [
        line["step"] for line in log_of(tmp_path / "whole")
    ]
    assert log_of(tmp_path / "parts")[-1] == log_of(tmp_path / "whole")[-1]


def test_a_run_shows_its_stages_and_leaves_its_files(raw_config, tmp_path):
    config = make_config({**raw_config, "tensorboard": True})
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    assert run(config, folder) == folder / "generator"
    names = {p.name for p in folder.iterdir() if not p.name.startswith("events")}
    assert names == {"run.json", "metrics.jsonl", "checkpoint.pt", "pretrained", "generator"}
    (events,) = folder.glob("events.out.tfevents.*")
    assert b"adversarial" in events.read_bytes()
    lines = log_of(folder)
    assert [set(line) for line in lines[:2]] == [{"step", "mse"}, {"step", "validation"}]  # 2, and 3: pretrained
    last = {k: v for line in lines if line["step"] == 9 for k, v in line.items()}
    assert set(last) >= {"content", "mse", "adversarial", "discriminator", "validation"}
    assert set(last["validation"]) == {"validation_mse", "validation_log_spectral", "validation_content"}
    stored = load_generator(folder / "generator")
    assert stored.variables == ("divergence", "vorticity")
    assert stored.origin["content"] == "atmodist"
    assert stored.origin["content_scale"] > 0
    assert stored.origin["config"]["steps"] == 6
    assert not equal(weights_of(folder), weights_of(folder, "pretrained"))


def test_pretraining_is_shared_by_all_losses_and_lowers_the_mse(raw_config, tmp_path):
    raw = {**raw_config, "pretrain_steps": 60, "steps": 1, "final_steps": 0, "learning_rate": 2e-3, "log_every": 20}
    sources = open_sources(make_config(raw))
    for content in ("mse", "amse"):
        run(make_config({**raw, "content": content}), tmp_path / content, sources=sources)
    assert equal(weights_of(tmp_path / "mse", "pretrained"), weights_of(tmp_path / "amse", "pretrained"))
    curve = [line["mse"] for line in log_of(tmp_path / "mse") if "mse" in line and line["step"] <= 60]
    assert len(curve) == 3
    assert curve[-1] < 0.9 * curve[0]
    # A run that starts from that generator takes the step that the first one took.
    given = {**raw, "content": "mse", "initial_generator": str(tmp_path / "mse" / "pretrained"), "seed": 0}
    run(
        make_config({**given, "adversarial_weight": 0.0, "learning_rate": 1e-30}),
        tmp_path / "given",
        sources=sources,
    )
    assert equal(weights_of(tmp_path / "given"), weights_of(tmp_path / "mse", "pretrained"))
    assert not (tmp_path / "given" / "pretrained").exists()
    with pytest.raises(ConfigError, match=r"initial_generator: .* has sizes"):
        run(make_config({**given, "generator_channels": 8}), tmp_path / "wider", sources=sources)
    with pytest.raises(ConfigError, match=r"initial_generator: .* has normalization"):
        run(make_config({**given, "normalization": "weights"}), tmp_path / "other", sources=sources)


@pytest.fixture
def batch(raw_config):
    """A tiny GAN's configuration, and one batch for it."""
    config = make_config(raw_config)
    sources = split_by_date(open_sources(config), config.validation, config.test)["train"]
    patches = PatchDataset(sources, config, seed=0, length=1)[0]
    return config, pair(patches, LogNormalization.fit(patches.fields))


@pytest.mark.parametrize(
    ("thresholds", "generator", "discriminator"), [((0.0, 9.0), 1, 1), ((9.0, 9.0), 2, 1), ((0.0, 0.0), 1, 2)]
)
def test_balancing_rule(thresholds, generator, discriminator, batch, monkeypatch):
    config, (coarse, fine) = batch
    monkeypatch.setattr(gan_module, "TOO_GOOD", thresholds[0])
    monkeypatch.setattr(gan_module, "TOO_BAD", thresholds[1])
    gan = Gan(config, ContentLoss("mse", mse, 0.0))
    counts = dict.fromkeys(gan.optimizers, 0)
    for name, optimizer in gan.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    numbers = gan.train(coarse, fine, 1)
    assert counts == {"generator": generator, "discriminator": discriminator}
    assert (numbers["generator_again"], numbers["discriminator_again"]) == (generator - 1, discriminator - 1)


def test_thresholds_are_the_originals():
    assert (gan_module.TOO_GOOD, gan_module.TOO_BAD) == (0.46, 0.6)


def test_each_step_moves_its_own_network_towards_its_aim(batch):
    config, (coarse, fine) = batch
    gan = Gan(config, ContentLoss("mse", mse, 0.0))
    for optimizer in gan.optimizers.values():
        optimizer.param_groups[0]["lr"] = 1e-2
    before = {name: {k: v.clone() for k, v in s["network"].items()} for name, s in gan.state_dict().items()}
    first = gan._discriminator_step(gan.generator(coarse).detach(), fine)
    assert equal(gan.generator.state_dict(), before["generator"])
    assert not equal(gan.discriminator.state_dict(), before["discriminator"])
    for _ in range(30):
        last = gan._discriminator_step(gan.generator(coarse).detach(), fine)
    assert last < first
    kept = {k: v.clone() for k, v in gan.discriminator.state_dict().items()}
    gan._generator_step(gan.generator(coarse), fine, 1)
    assert equal(gan.discriminator.state_dict(), kept)
    assert all(p.requires_grad for p in gan.discriminator.parameters())
    assert not equal(gan.generator.state_dict(), before["generator"])


def test_the_rate_falls_to_a_tenth_for_the_final_steps(batch):
    config, (coarse, fine) = batch  # final_steps = 2 of 6
    gan = Gan(config, ContentLoss("mse", mse, 0.0))
    rates = []
    for step in range(1, 7):
        gan.train(coarse, fine, step)
        rates.append({round(o.param_groups[0]["lr"] / config.learning_rate, 6) for o in gan.optimizers.values()})
    assert rates == [{1.0}] * 4 + [{0.1}] * 2


def test_without_adversary_there_is_no_discriminator(raw_config, tmp_path):
    run(make_config({**raw_config, "adversarial_weight": 0.0, "content": "l1"}), tmp_path / "run")
    assert set(runs.load_checkpoint(tmp_path / "run")["gan"]) == {"generator"}
    assert not any("discriminator" in line for line in log_of(tmp_path / "run"))


def test_a_changed_run_is_not_continued(raw_config, tmp_path, one_sentence):
    config = make_config({**raw_config, "content": "mse"})
    run(config, tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run"):
        run(config, tmp_path / "run")
    for key, value in {"mse_weight": 0.3, "content": "l1", "adversarial_weight": 0.01}.items():
        with pytest.raises(ConfigError) as error:
            run(
                make_config({**raw_config, "content": "mse", key: value}),
                tmp_path / "run",
                resume=True,
            )
        one_sentence(error.value, "resume", key, "expected the same")
    run(
        make_config({**raw_config, "content": "mse", "log_every": 1, "validate_every": 1}),
        tmp_path / "run",
        resume=True,
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("contents", "mse", ("contents", "no key")),
        ("content", "mae", ("content", "mae", "atmodist")),
        ("normalization", "log", ("normalization", "fit")),
        ("patch_size", 30, ("patch_size", "30", "multiple of 4")),
        ("patch_size", 4, ("patch_size", "4", "at least 8")),
        ("mse_weight", 1.5, ("mse_weight", "1.5")),
        ("mse_weight", -0.5, ("mse_weight", "-0.5")),
        ("steps", "many", ("steps", "many", "whole number")),
        ("final_steps", 7, ("final_steps", "7")),
        ("adversarial_weight", -1.0, ("adversarial_weight", "-1.0")),
        ("variables", [], ("variables",)),
    ],
)
def test_configuration_errors(key, value, words, raw_config, one_sentence):
    with pytest.raises(ConfigError) as error:
        make_config({**raw_config, key: value})
    one_sentence(error.value, *words)


@pytest.mark.parametrize("preset", ["small", "quick", "full"])
def test_presets_are_configurations_of_the_same_data(preset):
    config = read_config(EXAMPLES / "srgan" / "presets" / f"{preset}.toml")
    small = read_config(EXAMPLES / "srgan" / "presets" / "small.toml")
    assert config.sources == small.sources
    assert (config.validation, config.test) == (small.validation, small.test)
    if preset == "quick":
        assert config.steps < small.steps
        for key in ("patch_size", "batch_size", "generator_channels", "generator_blocks", "discriminator_channels"):
            assert getattr(config, key) == getattr(small, key)


def test_altered_generators_are_refused(raw_config, tmp_path, one_sentence):
    run(
        make_config({**raw_config, "content": "mse", "adversarial_weight": 0.0, "steps": 2}),
        tmp_path / "run",
    )
    tensors = tmp_path / "run" / "generator" / "model.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(bytes(data))
    with pytest.raises(WeightsError) as error:
        load_generator(tensors.parent)
    one_sentence(error.value, "generator", "altered")
    with pytest.raises(WeightsError, match="holds no generator"):
        load_generator(tmp_path)


def write_toml(path: Path, raw: dict) -> Path:
    tables = "".join(
        "[[sources]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in s.items()) for s in raw["sources"]
    )
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in raw.items() if k != "sources") + tables)
    return path


def test_command_line(raw_config, tmp_path, monkeypatch, capsys):
    config = write_toml(tmp_path / "tiny.toml", raw_config)
    monkeypatch.chdir(tmp_path)
    assert main([str(config), "--content", "gradient", "--set", "steps=2", "--device", "cpu"]) == 0
    assert "runs/tiny-gradient/generator" in capsys.readouterr().out
    assert main([str(config), "--content", "gradient", "--device", "cpu"]) == 1
    assert capsys.readouterr().err.startswith("error: output: ")
    assert main([str(config), "--content", "gradient", "--set", "steps=2", "--device", "cpu", "--resume"]) == 0


def test_a_loss_that_is_not_finite_ends_the_run(batch):
    config, (coarse, fine) = batch
    gan = Gan(config, ContentLoss("mse", lambda a, b: mse(a, b) * float("inf"), 0.0))
    with pytest.raises(ConfigError, match="content loss is inf"):
        gan.train(coarse, fine, 1)


@pytest.mark.slow
def test_two_processes_train_what_one_does(raw_config, tmp_path):
    raw = {**raw_config, "content": "facl", "learning_rate": 1e-3}
    config = write_toml(tmp_path / "tiny.toml", raw)
    run(make_config(raw), tmp_path / "one")
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment |= {"PYTHONPATH": f"{EXAMPLES.parent}:{EXAMPLES}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "srgan.train", str(config), "--output", str(tmp_path / "two"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    start = Gan(make_config(raw), ContentLoss("mse", mse, 0.0)).generator.state_dict()
    moved = max((one[k] - start[k]).abs().max() for k in one)
    assert max((one[k] - two[k]).abs().max() for k in one) < 1e-3 * moved


def test_fields_of_a_batch_are_normalised_after_they_are_averaged(batch):
    _, (coarse, fine) = batch
    assert coarse.shape == (4, 2, 4, 4)
    assert fine.shape == (4, 2, 16, 16)
    # Normalised means: closer to the mean of normalised fields than to anything else, and not equal to it.
    mean = torch.nn.functional.avg_pool2d(fine, 4)
    assert 0 < (coarse - mean).abs().max() < 0.5
