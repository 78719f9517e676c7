"""Checkpoints that are of another architecture or damaged: refused in one sentence, never loaded wrongly."""

import re
import sys

import numpy as np
import pytest

from atmoloss.errors import MissingDependencyError, WeightsError
from atmoloss.keras_import import convert_keras, load_keras_encoder, load_keras_pretext

from .parity_cases import SMALL, edit_json

h5py = pytest.importorskip("h5py")


def set_option(name: str, key: str, value):
    def change(layer: dict) -> None:
        if layer["config"]["name"] == name:
            layer["config"][key] = value

    return change


def test_no_model_json(one_sentence) -> None:
    with pytest.raises(WeightsError) as caught:
        load_keras_pretext(SMALL / "tiny_n6")
    one_sentence(caught.value, "model.json", "load_keras_encoder")


def test_no_such_folder(tmp_path) -> None:
    for read in (load_keras_encoder, load_keras_pretext, lambda folder: convert_keras(folder, tmp_path / "out")):
        with pytest.raises(WeightsError, match="nowhere"):
            read(tmp_path / "nowhere")


def test_padded_shortcuts(tiny, one_sentence) -> None:
    def pad(layer: dict):
        name = layer["config"]["name"]
        if not name.endswith("_projection"):
            return None
        inbound = layer["inbound_nodes"]
        return [
            {"class_name": "MaxPooling2D", "config": {"name": name[:9] + "identity"}, "inbound_nodes": inbound},
            {"class_name": "Lambda", "config": {"name": name[:9] + "pad"}, "inbound_nodes": inbound},
        ]

    edit_json(tiny / "encoder.json", pad)
    with pytest.raises(WeightsError) as caught:
        load_keras_encoder(tiny)
    one_sentence(caught.value, "block2_1_projection", "block2_1_pad", "padded", "shortcut='projection'")


def test_resnet101(tiny, one_sentence) -> None:
    names = {"in_conv": "conv1_pad", "in_bn": "conv1_conv"}

    def rename(layer: dict) -> None:
        name = layer["config"]["name"]
        layer["config"]["name"] = names.get(name, name.replace("block", "conv").replace("_conv", "_block"))

    edit_json(tiny / "encoder.json", rename)
    with pytest.raises(WeightsError) as caught:
        load_keras_encoder(tiny)
    one_sentence(caught.value, "conv1_pad", "Resnet18", "ResnetSmall")


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("block2_1_conv1", "strides", [1, 1]),
        ("block3_1_conv2", "padding", "valid"),
        ("block1_1_conv1", "dilation_rate", [2, 2]),
        ("block1_1_act2", "activation", "elu"),
        ("block1_1_bn1", "scale", False),
        ("block1_1_bn1", "epsilon", None),
        ("pool", "pool_size", [2, 2]),
        ("in_conv", "strides", [4, 4]),
        ("in_conv", "filters", 5),
        ("inp", "batch_input_shape", [None, 64]),
    ],
)
def test_layers_that_we_would_compute_differently(layer, key, value, tiny, one_sentence) -> None:
    edit_json(tiny / "encoder.json", set_option(layer, key, value))
    with pytest.raises(WeightsError) as caught:
        load_keras_encoder(tiny)
    one_sentence(caught.value)


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("combined1_conv", "strides", [1, 1]),
        ("combined2_conv", "filters", 13),
        ("pred", "use_bias", True),
        ("stack", "axis", 1),
    ],
)
def test_heads_that_we_would_compute_differently(layer, key, value, tiny, one_sentence) -> None:
    edit_json(tiny / "model.json", set_option(layer, key, value))
    with pytest.raises(WeightsError) as caught:
        load_keras_pretext(tiny)
    one_sentence(caught.value, layer, key)


def test_a_rewired_graph(tiny, one_sentence) -> None:
    def rewire(layer: dict) -> None:
        if layer["config"]["name"] == "block2_1_bn2":
            layer["inbound_nodes"] = [[["block2_1_act1", 0, 0, {}]]]

    edit_json(tiny / "encoder.json", rewire)
    with pytest.raises(WeightsError) as caught:
        load_keras_encoder(tiny)
    one_sentence(caught.value, "block2_1_bn2", "block2_1_act1")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": {"layers": 3}}', '{"config": {"layers": [{}]}}'])
def test_json_that_is_no_model(text, tiny) -> None:
    (tiny / "encoder.json").write_text(text)
    (tiny / "model.json").write_text(text)
    for read in (load_keras_encoder, load_keras_pretext):
        with pytest.raises(WeightsError, match=re.escape(str(tiny))):
            read(tiny)


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
def test_altered_weights(damage, tiny, one_sentence) -> None:
    with h5py.File(tiny / "encoder_weights.hdf5", "r+") as file:
        damage(file)
    with pytest.raises(WeightsError) as caught:
        load_keras_encoder(tiny)
    one_sentence(caught.value, "conv2/kernel", "encoder_weights.hdf5")


def test_altered_head(tiny, one_sentence) -> None:
    with h5py.File(tiny / "model_weights.hdf5", "r+") as file:
        del file["pred/pred/kernel:0"]
    with pytest.raises(WeightsError) as caught:
        load_keras_pretext(tiny)
    one_sentence(caught.value, "pred/kernel")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncated_weights(share, tiny) -> None:
    path = tiny / "model_weights.hdf5"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match=r"model_weights\.hdf5 cannot be read, is it truncated"):
        load_keras_pretext(tiny)


def test_without_h5py(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"atmoloss\[keras\]"):
        load_keras_encoder(SMALL / "tiny_n1")
