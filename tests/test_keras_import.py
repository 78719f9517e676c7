"""Checkpoints of the original: files of other versions, round trips, metadata, and damage that is refused."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss, load_extractor, weights
from atmoloss.errors import MissingDependencyError, WeightsError
from atmoloss.extractor import load_strictly
from atmoloss.heads import PretextModel, build_head
from atmoloss.keras_import import convert_keras, load_keras
from atmoloss.layers import BATCH_NORM_EPSILON
from atmoloss.networks import Encoder
from tests.parity.parity_cases import SMALL, assert_close_to_max, case_of, edit_json

h5py = pytest.importorskip("h5py")


@pytest.fixture
def tiny(keras_checkpoint) -> Path:
    """A checkpoint with a head, to be altered."""
    return keras_checkpoint


@pytest.fixture
def bare(keras_checkpoint) -> Path:
    """The same without a head."""
    (keras_checkpoint / "model.json").unlink()
    return keras_checkpoint


@pytest.fixture
def x() -> torch.Tensor:
    return case_of("64x96").fields()[0]


def test_files_of_2021_lack_what_newer_keras_adds(tiny, x) -> None:
    def older(layer: dict) -> None:
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
        if layer["class_name"] == "Conv2D":
            layer["config"]["groups"] = 1
        if layer["class_name"] == "Model":
            layer["class_name"] = "Functional"

    edit_json(tiny / "model.json", older)
    assert "build_config" not in (tiny / "model.json").read_text()
    with torch.no_grad():
        assert torch.equal(load_keras(tiny)[0](x, x), case_of("64x96").pretext()(x, x))


def test_both_weight_files_give_the_same_encoder_in_evaluation_mode(bare) -> None:
    pretext, encoder = load_keras(SMALL / "tiny_n1")[0], load_keras(bare)[0]
    assert not pretext.training
    assert not encoder.training
    assert pretext.encoder.architecture == encoder.architecture
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, pretext.encoder.state_dict()[name])


@pytest.mark.parametrize("name", ["tiny_n1", "tiny_n6"])
def test_round_trip(name, tmp_path) -> None:
    info = convert_keras(SMALL / name, tmp_path / "out")
    encoder = case_of({"tiny_n1": "64x96", "tiny_n6": "64x64"}[name]).encoder()
    extractor = load_extractor(tmp_path / "out")
    assert extractor.info == weights.read_info(tmp_path / "out")
    assert (info.name, info.sha256, info.encoder) == (name, extractor.info.sha256, encoder.architecture)
    fields = torch.randn(2, 2, 40, 48) * 4e-5
    with torch.no_grad():
        expected = encoder(extractor.normalization(fields))
    for stage, feature in extractor(fields).items():
        assert_close_to_max(feature, expected[stage])
    assert float(AtmoDistLoss(tmp_path / "out", scale="none")(fields, fields.flip(0))) > 0
    assert "atmoloss" in (tmp_path / "out" / "README.md").read_text()


def test_metadata(tmp_path) -> None:
    info = convert_keras(SMALL / "tiny_n1", tmp_path, name="mine")
    assert info.name == "mine"
    assert info.channel_names == ("divergence", "vorticity")
    assert {c["units"] for c in info.channels} == {"s-1"}
    assert (info.n_lag_classes, info.base_step_hours) == (7, 3)
    assert (info.layers, info.layer_scales, info.mse_weight) == ({"stage4": 1.0}, {}, 0.0)
    assert (info.grid_spacings, info.levels, info.patch_sizes) == ((0.140625,), ("model level 120",), (64, 96))
    assert info.license.startswith("unknown")


def test_the_head_comes_along(tmp_path, x) -> None:
    convert_keras(SMALL / "tiny_n1", tmp_path)
    info, tensors = weights.load(tmp_path)
    encoder = Encoder(**info.encoder)
    model = PretextModel(encoder, build_head(info.head, encoder)).eval()
    load_strictly(model, tensors, "", info.id)
    with torch.no_grad():
        assert torch.equal(model(x, x), case_of("64x96").pretext()(x, x))


def test_a_bare_encoder_has_no_head(tmp_path) -> None:
    info = convert_keras(SMALL / "tiny_n6", tmp_path)
    assert info.head is None
    assert info.n_lag_classes == 0
    assert not [name for name in weights.load(tmp_path)[1] if not name.startswith("encoder.")]


def test_scale_files_of_stage_ends(tmp_path) -> None:
    source = shutil.copytree(SMALL / "tiny_n6", tmp_path / "source")
    (source / "layer148_scale.txt").write_text("\n  1.25e+01 \n")
    (source / "layer196_scale.txt").write_text("3.5")
    (source / "layer147_scale.txt").write_text("not the end of a stage, so never read")
    (source / "layer100_scale.txt").write_text("7")
    (source / "layer9999_scale.txt").write_text("8")
    info = convert_keras(source, tmp_path / "out")
    assert info.layer_scales == {"stage2": 7.0, "stage3": 12.5, "stage4": 3.5}
    assert AtmoDistLoss(tmp_path / "out").factors == {"stage4": 3.5}


@pytest.mark.parametrize("text", ["", "alpha", "1.0 2.0", "nan", "-1", "0", "inf"])
def test_garbage_in_a_scale_file(text, tiny, tmp_path, one_sentence) -> None:
    (tiny / "layer36_scale.txt").write_text(text)
    with pytest.raises(WeightsError) as caught:
        convert_keras(tiny, tmp_path / "out")
    one_sentence(caught.value, "layer36_scale.txt", "expected")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_another_epsilon_is_taken_over(epsilon, tiny, tmp_path, x) -> None:
    def change(layer: dict) -> None:
        if layer["class_name"] == "BatchNormalization":
            layer["config"]["epsilon"] = epsilon

    reference = load_keras(tiny)[0].encoder
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.eps == BATCH_NORM_EPSILON != epsilon  # the only one that a weights folder knows
            module.eps = epsilon
    edit_json(tiny / "model.json", change)
    convert_keras(tiny, tmp_path / "out")
    with torch.no_grad():
        expected = reference(x)
    for stage, feature in load_extractor(tmp_path / "out").encode(x).items():
        assert_close_to_max(feature, expected[stage])


@pytest.mark.parametrize("epsilon", [None, 0.0, -1e-3])
def test_no_epsilon(epsilon, tiny, one_sentence) -> None:
    def change(layer: dict) -> None:
        if layer["config"]["name"] == "block1_1_bn1":
            layer["config"]["epsilon"] = epsilon

    edit_json(tiny / "model.json", change)
    with pytest.raises(WeightsError) as caught:
        load_keras(tiny)
    one_sentence(caught.value, "block1_1_bn1", f"epsilon {epsilon}", "expected a positive number")


def test_a_configuration_of_other_widths(bare, one_sentence) -> None:
    def change(layer: dict) -> None:
        if layer["config"]["name"] in ("in_conv", "block1_1_conv1", "block1_1_conv2"):
            layer["config"]["filters"] = 5

    edit_json(bare / "encoder.json", change)
    with pytest.raises(WeightsError) as caught:
        load_keras(bare)
    one_sentence(caught.value, "in_conv/kernel has shape (3, 2, 8, 8)", "expected finite numbers of (5, 2, 8, 8)")


def test_no_such_folder(tmp_path) -> None:
    for read in (load_keras, lambda folder: convert_keras(folder, tmp_path / "out")):
        with pytest.raises(WeightsError, match="nowhere"):
            read(tmp_path / "nowhere")


def _missing(file) -> None:
    del file["block3_1_conv2/block3_1_conv2/kernel:0"]


def _extra(file) -> None:
    file["block9_1_conv2/block9_1_conv2/kernel:0"] = np.zeros((3, 3, 2, 2), np.float32)


def _twice(file) -> None:
    file["block3_1_conv2/again/kernel:0"] = np.zeros((3, 3, 6, 6), np.float32)


def _shape(file) -> None:
    del file["block3_1_conv2/block3_1_conv2/kernel:0"]
    file["block3_1_conv2/block3_1_conv2/kernel:0"] = np.zeros((3, 3, 6, 5), np.float32)


def _nan(file) -> None:
    file["block3_1_conv2/block3_1_conv2/kernel:0"][0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("damage", [_missing, _extra, _twice, _shape, _nan])
def test_altered_weights(damage, bare, one_sentence) -> None:
    with h5py.File(bare / "encoder_weights.hdf5", "r+") as file:
        damage(file)
    with pytest.raises(WeightsError) as caught:
        load_keras(bare)
    one_sentence(caught.value, "conv2/kernel", "encoder_weights.hdf5")


def test_altered_head(tiny, one_sentence) -> None:
    with h5py.File(tiny / "model_weights.hdf5", "r+") as file:
        del file["pred/pred/kernel:0"]
    with pytest.raises(WeightsError) as caught:
        load_keras(tiny)
    one_sentence(caught.value, "pred/kernel")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_weights(share, tiny) -> None:
    path = tiny / "model_weights.hdf5"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match=r"model_weights\.hdf5 cannot be read, is it truncated"):
        load_keras(tiny)


def test_without_h5py(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"atmoloss\[keras\]"):
        load_keras(SMALL / "tiny_n1")
