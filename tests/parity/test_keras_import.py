"""Reading and converting checkpoints of the original: files of other versions, round trips, metadata."""

import shutil

import pytest
import torch

from atmoloss import AtmoDistLoss, load_extractor, weights
from atmoloss.errors import WeightsError
from atmoloss.extractor import load_strictly
from atmoloss.heads import PretextModel, build_head
from atmoloss.keras_import import convert_keras, load_keras_encoder, load_keras_pretext
from atmoloss.layers import BATCH_NORM_EPSILON
from atmoloss.networks import Encoder

from .parity_cases import SMALL, assert_close_to_max, case_of, edit_json

pytest.importorskip("h5py")


@pytest.fixture
def x() -> torch.Tensor:
    return case_of("64x96").fields()[0]


# Files of other TensorFlow versions


def test_files_of_2021_lack_what_newer_keras_adds(tiny, x) -> None:
    def older(layer: dict) -> None:
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
        if layer["class_name"] == "Conv2D":
            layer["config"]["groups"] = 1
        if layer["class_name"] == "Model":
            layer["class_name"] = "Functional"

    for name in ("model.json", "encoder.json"):
        edit_json(tiny / name, older)
        assert "build_config" not in (tiny / name).read_text()
    with torch.no_grad():
        assert torch.equal(load_keras_pretext(tiny)(x, x), case_of("64x96").pretext()(x, x))
        assert torch.equal(load_keras_encoder(tiny)(x)["stage4"], case_of("64x96").encoder()(x)["stage4"])


def test_both_weight_files_give_the_same_encoder_in_evaluation_mode() -> None:
    pretext, encoder = load_keras_pretext(SMALL / "tiny_n1"), load_keras_encoder(SMALL / "tiny_n1")
    assert not pretext.training
    assert not encoder.training
    assert pretext.encoder.architecture == encoder.architecture
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, pretext.encoder.state_dict()[name])


def test_architecture_is_that_of_the_json() -> None:
    model = load_keras_pretext(SMALL / "tiny_n1")
    assert model.encoder.architecture["stage_channels"] == [3, 4, 6, 8]
    assert model.head.architecture == {"kind": "published", "n_classes": 7, "input_size": [64, 96], "width": 12}
    assert load_keras_encoder(SMALL / "tiny_n6").architecture["blocks_per_stage"] == [6] * 4


# Conversion


@pytest.mark.parametrize("name", ["tiny_n1", "tiny_n6"])
def test_round_trip(name, tmp_path) -> None:
    info = convert_keras(SMALL / name, tmp_path / "out")
    encoder = load_keras_encoder(SMALL / name)
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

    edit_json(tiny / "model.json", change)
    model = load_keras_pretext(tiny)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {epsilon}
    convert_keras(tiny, tmp_path / "out")  # the folder knows BATCH_NORM_EPSILON only
    assert epsilon != BATCH_NORM_EPSILON
    with torch.no_grad():
        expected = model.encoder(x)
    for stage, feature in load_extractor(tmp_path / "out").encode(x).items():
        assert_close_to_max(feature, expected[stage])
