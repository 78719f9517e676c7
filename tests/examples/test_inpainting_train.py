"""Training runs of inpainting: loss, optimizer, schedule, resume, files, configuration."""

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from inpainting import box
from inpainting.config import InpaintingConfig
from inpainting.model import Autoencoder
from inpainting.train import Inpainter, fill, main, run
from srgan.content import ContentLoss, make_content
from srgan.data import PatchDataset
from srgan.measures import l1, mse
from srgan.store import load_generator

from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError, InputError, WeightsError
from atmoloss.normalization import LogNormalization
from atmoloss.training.config_reading import build_dataclass, read_values
from atmoloss.training.distributed import SINGLE_PROCESS
from atmoloss.training.loop import Run, open_sources
from tests.tolerances import assert_close
from tests.training.conftest import interrupted_after, log_of

make_config = functools.partial(build_dataclass, InpaintingConfig)

PRESETS = Path(__file__).parents[2] / "examples" / "inpainting" / "presets"


@pytest.fixture
def parts(raw_inpainting):
    """A configuration, a batch for it and its normalisation."""

    def build(**options):
        config = make_config({**raw_inpainting, **options})
        sources = split_by_date(open_sources(config), config.validation, config.test)["train"]
        batch = PatchDataset(sources, config, seed=0, length=1)[0]
        return config, batch, LogNormalization.fit(batch.fields)

    return build


def opened(config) -> Run:
    """A run without data: for single steps."""
    return Run(config, Path(), SINGLE_PROCESS, {}, {}, None)


@pytest.mark.parametrize(
    ("options", "stop"),
    [
        ({"content": "atmodist", "compare": "field", "final_steps": 2}, 4),
        # The rule looks at every third mean, and always finds a plateau: at the stop it is in the middle of an epoch.
        ({"content": "l1", "epoch_steps": 3, "plateau_patience": 1, "plateau_threshold": 1e3}, 4),
    ],
)
def test_resume_is_exact(options, stop, raw_inpainting, tmp_path):
    config = make_config({**raw_inpainting, **options, "steps": 9})
    run(config, tmp_path / "whole")
    with interrupted_after(stop), pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "parts")
    run(config, tmp_path / "parts", resume=True)
    whole, parts = (load_generator(tmp_path / n / "generator", Autoencoder) for n in ("whole", "parts"))
    assert whole.id == parts.id
    assert log_of(tmp_path / "whole")[-1] == log_of(tmp_path / "parts")[-1]
    rates = [line["learning_rate"] for line in log_of(tmp_path / "parts") if "learning_rate" in line]
    assert rates[0] > rates[-1]


def test_loss_in_the_box_alone_is_the_published_mixture(parts):
    config, batch, normalization = parts(content="atmodist", compare="box")
    content = make_content(config, normalization, batch.fields)
    content.scale = 3.0
    assert content.mse_weight == 0.1
    inpainter = Inpainter(opened(config), normalization, content)
    fields = normalization(batch.fields)
    filled = torch.randn(len(fields), 2, 8, 8, generator=torch.Generator().manual_seed(0))
    crop = box.cut(fields, 8)
    expected = 0.9 * 3.0 * content.measure(filled, crop) + 0.1 * (filled - crop).square().mean((1, 2, 3))
    assert_close(inpainter.loss(filled, fields), expected, torch.float32)


def test_loss_of_pasted_boxes_is_of_the_size_of_that_in_the_box_and_sees_what_is_around(parts):
    config, batch, normalization = parts(compare="field")
    fields = normalization(batch.fields)
    filled = torch.randn(len(fields), 2, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = Inpainter(opened(config), normalization, ContentLoss("mse", mse, 0.1))
    assert_close(plain.loss(filled, fields), mse(filled, box.cut(fields, 8)), torch.float32)
    content = make_content(dataclasses.replace(config, content="atmodist"), normalization, batch.fields)
    seeing = Inpainter(opened(config), normalization, content)
    other = box.paste(box.cut(fields, 8), fields + 1)
    assert not torch.allclose(seeing.loss(filled, fields), seeing.loss(filled, other), rtol=1e-3)
    assert seeing.loss(box.cut(fields, 8), fields).abs().max() == 0


def test_the_network_does_not_see_the_box(parts):
    config, batch, normalization = parts()
    network = Inpainter(opened(config), normalization, ContentLoss("mse", mse, 0.1)).generator.eval()
    fields = normalization(batch.fields)
    other = box.paste(torch.full((len(fields), 2, 8, 8), 7.0), fields)
    with torch.no_grad():
        assert torch.equal(fill(network, fields, 8), fill(network, other, 8))
        assert not torch.equal(fill(network, fields, 8), fill(network, fields + 0.1, 8))


def test_a_step_is_adam_on_gradients_clipped_one_by_one_with_the_l2_term(parts):
    config, batch, normalization = parts(l2=0.01, gradient_clip=0.05, learning_rate=1e-3)
    trainer, twin = (Inpainter(opened(config), normalization, ContentLoss("l1", l1, 0.1)) for _ in range(2))
    numbers = trainer.step(batch, 1)
    network = twin.generator.train()
    fields = normalization(batch.fields).contiguous(memory_format=torch.channels_last)
    hidden, truth = box.hide(fields, 8), box.cut(fields, 8)
    filled = box.cut(network(hidden), 8)
    penalty = sum(p.square().sum() for n, p in network.named_parameters() if n.endswith("weight") and "bn" not in n)
    content = (0.9 * (filled - truth).abs() + 0.1 * (filled - truth).square()).mean()
    (content + 0.01 * penalty).backward()
    assert numbers["content"] == pytest.approx(content.item(), rel=1e-5)
    assert numbers["l2"] == pytest.approx(0.01 * penalty.item(), rel=1e-5)
    clipped = compared = 0
    after = dict(trainer.generator.named_parameters())
    for name, p in network.named_parameters():
        norm = p.grad.norm()
        clipped += int(norm > 0.05)
        grad = p.grad * min(1.0, 0.05 / norm.item()) if norm else p.grad
        # Adam's first step: rate · g / (|g| + ε), both moments corrected for their start.
        expected = p.detach() - 1e-3 * grad / (grad.abs() + 1e-7)
        # Where the gradient is of the size of ε or of its own rounding, the quotient is not determined.
        sure = grad.abs() > 1e-5
        compared += int(sure.sum())
        off = (after[name].detach() - expected)[sure].abs()
        assert (off < 1e-3 * 1e-3).all()  # a thousandth of the step
    assert compared > 0.5 * sum(p.numel() for p in network.parameters())
    assert 0 < clipped < len(after)


def test_the_rate_falls_after_as_many_bad_epochs_as_keras_waits(parts):
    config, batch, normalization = parts(epoch_steps=2, plateau_patience=3, plateau_threshold=1e3, learning_rate=1e-4)
    trainer = Inpainter(opened(config), normalization, ContentLoss("mse", mse, 0.1))
    rates = [trainer.step(batch, step)["learning_rate"] for step in range(1, 19)]
    # The first epoch is the best so far; three bad ones later the rate is a tenth, which is the lowest.
    assert rates == pytest.approx([1e-4] * 7 + [1e-5] * 11)


def test_training_lowers_the_error_of_the_filling(parts):
    config, batch, normalization = parts(learning_rate=3e-3, l2=0.0)
    trainer = Inpainter(opened(config), normalization, ContentLoss("mse", mse, 0.1))
    errors = [trainer.step(batch, step)["mse"] for step in range(1, 41)]
    assert sum(errors[-5:]) < 0.6 * sum(errors[:5])


def test_a_run_leaves_its_files(raw_inpainting, tmp_path, one_sentence):
    config = make_config(raw_inpainting)
    folder = tmp_path / "run"
    assert run(config, folder) == folder / "generator"
    assert {p.name for p in folder.iterdir()} == {"run.json", "metrics.jsonl", "checkpoint.pt", "generator"}
    last = {k: v for line in log_of(folder) if line["step"] == config.steps for k, v in line.items()}
    assert set(last) == {"step", "content", "mse", "l2", "learning_rate", "validation"}
    assert set(last["validation"]) == {"validation_mse", "validation_log_spectral", "validation_content"}
    stored = load_generator(folder / "generator", Autoencoder)
    assert not stored.generator.training
    assert stored.origin["config"]["box_size"] == 8
    with pytest.raises(WeightsError, match="holds no generator"):  # of the super-resolution GAN
        load_generator(folder / "generator")
    for key, value in {"box_size": 6, "compare": "field", "l2": 0.5}.items():
        with pytest.raises(ConfigError) as error:
            run(make_config({**raw_inpainting, key: value}), folder, resume=True)
        one_sentence(error.value, "resume", key, "expected the same")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("box", 8, ("box", "no key")),
        ("compare", "crop", ("compare", "crop", "box, field")),
        ("patch_size", 20, ("patch_size", "20", "multiple of 8")),
        ("stage_channels", [4], ("patch_size", "1 stages", "at least two stages")),
        ("box_size", 15, ("box_size", "15", "at most 14")),
        ("blocks", 0, ("blocks", "0")),
        ("l2", -1.0, ("l2", "-1.0")),
        ("epoch_steps", 5, ("final_steps", "epoch_steps")),
        ("content", "ssim", ("content", "ssim", "atmodist")),
    ],
)
def test_configuration_errors(key, value, words, raw_inpainting, one_sentence):
    with pytest.raises(ConfigError) as error:
        make_config({**raw_inpainting, "final_steps": 1, key: value})
    one_sentence(error.value, *words)


def test_a_box_that_is_too_small_for_the_encoder_is_told(raw_inpainting, tmp_path, one_sentence):
    config = make_config({**raw_inpainting, "content": "atmodist", "box_size": 4})
    with pytest.raises(InputError) as error:
        run(config, tmp_path / "run")
    one_sentence(error.value, "4x4", "expected at least")


def test_presets():
    small, full = (make_config(read_values(PRESETS / f"{name}.toml")) for name in ("small", "full"))
    assert (full.validation, full.test) == (small.validation, small.test)
    published = {"patch_size": 160, "box_size": 40, "compare": "box", "batch_size": 128, "mse_weight": 0.1, "l2": 1e-3}
    published |= {"learning_rate": 1e-4, "gradient_clip": 5.0, "plateau_patience": 6, "epoch_steps": 15000}
    assert {key: getattr(full, key) for key in published} == published
    assert full.steps == 40 * full.epoch_steps
    assert (small.patch_size, small.box_size, small.mse_weight) == (64, 16, 0.1)


def test_command_line(raw_inpainting, tmp_path, monkeypatch, capsys):
    from tests.examples.test_srgan_train import write_toml

    config = write_toml(tmp_path / "tiny.toml", raw_inpainting)
    monkeypatch.chdir(tmp_path)
    options = [str(config), "--content", "gradient", "--set", "steps=2", "--device", "cpu"]
    assert main(options) == 0
    assert "runs/tiny-gradient/generator" in capsys.readouterr().out
    assert main(options) == 1
    assert capsys.readouterr().err.startswith("error: output: ")
    assert main([*options, "--resume"]) == 0
