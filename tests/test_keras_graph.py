"""Keras configurations: architectures are read from them, and what we would compute differently is refused."""

import re

import pytest

from atmoloss.errors import WeightsError
from atmoloss.keras_graph import architectures, input_size, read_graph
from tests.parity.parity_cases import SMALL, edit_json


@pytest.fixture(params=["encoder.json", "model.json"])
def path(request, keras_checkpoint):
    """The configuration of an encoder, and of one nested in the pretext model; to be altered."""
    return keras_checkpoint / request.param


def refused(path, one_sentence, *words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        architectures(read_graph(path), path)
    one_sentence(caught.value, path.name, *words)


def set_option(name: str, key: str, value):
    def change(layer: dict) -> None:
        if layer["config"]["name"] == name:
            layer["config"][key] = value

    return change


def test_architectures_are_those_of_the_json() -> None:
    path = SMALL / "tiny_n1" / "model.json"
    encoder, head = architectures(read_graph(path), path)
    assert encoder == {
        "in_channels": 2,
        "stage_channels": [3, 4, 6, 8],
        "blocks_per_stage": [1] * 4,
        "stem_kernel": 8,
        "stem_stride": 2,
        "stem_pool": True,
    }
    assert head == {"n_classes": 7, "input_size": (64, 96), "width": 12}
    assert input_size(read_graph(path)) == (64, 96)
    bare = SMALL / "tiny_n6" / "encoder.json"
    encoder, head = architectures(read_graph(bare), bare)
    assert encoder["blocks_per_stage"] == [6] * 4
    assert head is None


def test_layers_have_the_index_of_the_original(path) -> None:
    """Published are layers 148 and 196; here a stage has one block instead of six."""
    assert [list(read_graph(path)).index(f"block{s}_1_act2") for s in (1, 2, 3, 4)] == [12, 20, 28, 36]


def test_padded_shortcuts(path, one_sentence) -> None:
    def pad(layer: dict):
        name = layer["config"]["name"]
        if not name.endswith("_projection"):
            return None
        inbound = layer["inbound_nodes"]
        return [
            {"class_name": "MaxPooling2D", "config": {"name": name[:9] + "identity"}, "inbound_nodes": inbound},
            {"class_name": "Lambda", "config": {"name": name[:9] + "pad"}, "inbound_nodes": inbound},
        ]

    edit_json(path, pad)
    refused(path, one_sentence, "block2_1_projection: got none", "shortcut='projection'")


def test_resnet101(path, one_sentence) -> None:
    names = {"in_conv": "conv1_pad", "in_bn": "conv1_conv"}

    def rename(layer: dict) -> None:
        name = layer["config"]["name"]
        layer["config"]["name"] = names.get(name, name.replace("block", "conv").replace("_conv", "_block"))

    edit_json(path, rename)
    refused(path, one_sentence, "conv1_pad", "Resnet18", "ResnetSmall")


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("block2_1_conv1", "strides", [1, 1]),
        ("block3_1_conv2", "padding", "valid"),
        ("block1_1_conv1", "dilation_rate", [2, 2]),
        ("block1_1_act2", "activation", "elu"),
        ("block1_1_bn1", "scale", False),
        ("pool", "pool_size", [2, 2]),
        ("in_conv", "strides", [4, 4]),
    ],
)
def test_layers_that_we_would_compute_differently(layer, key, value, path, one_sentence) -> None:
    edit_json(path, set_option(layer, key, value))
    refused(path, one_sentence, layer, key, repr(value))


@pytest.mark.parametrize(
    ("layer", "key", "value", "says"),
    [
        ("combined1_conv", "strides", [1, 1], "combined1_conv: got {'strides': [1, 1]}, expected {'strides': [2, 2]}"),
        ("combined2_conv", "filters", 13, "combined2_conv: got {'filters': 13}, expected {'filters': 12}"),
        ("pred", "use_bias", True, "pred: got {'use_bias': True}"),
        ("stack", "axis", 1, "stack: got {'axis': 1}"),
        ("pred", "units", None, "has the layers inp, in_conv"),
        ("img2_inp", "batch_input_shape", [None, 64], "has the layers inp, in_conv"),
        ("img2_inp", "batch_input_shape", [None, None, 96, 2], "has the layers inp, in_conv"),
    ],
)
def test_heads_that_we_would_compute_differently(layer, key, value, says, keras_checkpoint, one_sentence) -> None:
    edit_json(keras_checkpoint / "model.json", set_option(layer, key, value))
    refused(keras_checkpoint / "model.json", one_sentence, says)


def test_a_rewired_graph(path, one_sentence) -> None:
    def rewire(layer: dict) -> None:
        if layer["config"]["name"] == "block2_1_bn2":
            layer["inbound_nodes"] = [[["block2_1_act1", 0, 0, {}]]]

    edit_json(path, rewire)
    refused(
        path, one_sentence, "block2_1_bn2: got {'inputs': ['block2_1_act1']}, expected {'inputs': ['block2_1_conv2']}"
    )


def test_one_layer_more(path, one_sentence) -> None:
    def dropout(layer: dict):
        if layer["config"]["name"] == "block4_1_act2":
            inbound = [[["block4_1_act2", 0, 0, {}]]]
            return [layer, {"class_name": "Dropout", "config": {"name": "dropout"}, "inbound_nodes": inbound}]
        return None

    edit_json(path, dropout)
    refused(path, one_sentence, "layer dropout: got {", "expected no such layer")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": {"layers": 3}}', '{"config": {"layers": [{}]}}'])
def test_json_that_is_no_model(text, path) -> None:
    path.write_text(text)
    with pytest.raises(WeightsError, match=re.escape(f"{path} cannot be read")):
        read_graph(path)
