"""What a Keras configuration file says, and whether our modules compute it.

Every layer is compared with the one that our modules stand for: a checkpoint that differs in a stride or a padding
would load and be wrong.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from atmoloss.errors import WeightsError

Graph = dict[str, dict[str, Any]]
"""Configurations of layers by name, with their ``"class"`` and the names of their ``"inputs"``.

In Keras' order, those of a nested encoder first: the position is the index that the original's file names use.
"""

_SUPPORTED = "ResnetSmall and Resnet18 of the original code with shortcut='projection'"
# What layers of a class always have.
_OPTIONS: dict[str, dict[str, Any]] = {
    "Conv2D": {"padding": "same", "activation": "linear", "dilation_rate": [1, 1], "data_format": "channels_last"},
    "BatchNormalization": {"axis": [3], "center": True, "scale": True},
    "Activation": {"activation": "relu"},
    "Concatenate": {"axis": -1},
    "Flatten": {"data_format": "channels_last"},
    "Dense": {"use_bias": False},
}


def read_graph(path: Path) -> Graph:
    """Read the layers of a Keras 2 configuration, and those of a model nested in it."""
    try:
        outer = json.loads(path.read_text(encoding="utf-8"))["config"]["layers"]
        nested = [layer for model in outer for layer in model["config"].get("layers", [])]
        return {
            layer["config"]["name"]: {
                **layer["config"],
                "class": layer["class_name"],
                "inputs": sorted(source[0] for node in layer["inbound_nodes"] for source in node),
            }
            for layer in [*nested, *outer]
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"folder: {path} cannot be read as a Keras 2 model configuration: {type(error).__name__} {error}"
        ) from error


def architectures(graph: Graph, path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the arguments of ``Encoder``, and of ``PublishedHead`` if there is one, that make exactly this graph."""
    try:
        _, rows, columns, channels = _inputs(graph)[-1]["batch_input_shape"]
        blocks: dict[int, list[int]] = {}
        for name, layer in graph.items():
            if match := re.fullmatch(r"block(\d+)_\d+_conv1", name):
                blocks.setdefault(int(match[1]), []).append(layer["filters"])
        stem, stages = graph["in_conv"], [blocks[s] for s in sorted(blocks)]
        encoder = {
            "in_channels": int(channels),
            "stage_channels": [widths[0] for widths in stages],
            "blocks_per_stage": [len(widths) for widths in stages],
            "stem_kernel": stem["kernel_size"][0],
            "stem_stride": min(stem["strides"][0], 2),  # a longer one differs from the plan
            "stem_pool": "pool" in graph,
        }
        head = None
        if "pred" in graph:
            width, n_classes = int(graph["combined1_conv"]["filters"]), int(graph["pred"]["units"])
            head = {"n_classes": n_classes, "input_size": (int(rows), int(columns)), "width": width}
        plan = _plan(graph, encoder, head)
    except (LookupError, TypeError, ValueError, StopIteration) as error:
        names = ", ".join(list(graph)[:6])
        raise WeightsError(f"folder: {path} has the layers {names}, …; expected {_SUPPORTED}") from error
    for name in {**plan, **graph}:
        got, expected = graph.get(name), plan.get(name)
        if got and expected:
            differing = [key for key, value in expected.items() if got.get(key) != value]
            got, expected = ({key: layer.get(key) for key in differing} for layer in (got, expected))
        if got != expected:
            wanted = f"{expected or 'no such layer'}, as in {_SUPPORTED}"
            raise WeightsError(f"folder: {path}: layer {name}: got {got or 'none'}, expected {wanted}")
    return encoder, head


def input_size(graph: Graph) -> tuple[int | None, int | None]:
    """Return rows and columns of the fields; ``None``: any."""
    _, rows, columns, _ = _inputs(graph)[-1]["batch_input_shape"]
    return rows, columns


def _inputs(graph: Graph) -> list[dict[str, Any]]:
    return [layer for layer in graph.values() if layer["class"] == "InputLayer"]


def _plan(graph: Graph, encoder: dict[str, Any], head: dict[str, Any] | None) -> Graph:
    """Return the layers that these architectures have in Keras, with what our modules depend on."""
    plan: Graph = {}

    def add(name: str, kind: str, *inputs: str, **options: Any) -> str:
        plan[name] = {"class": kind, "inputs": sorted(inputs), **_OPTIONS.get(kind, {}), **options}
        return name

    def conv(name: str, source: str, filters: int, kernel: int, stride: int = 1, *, bias: bool = False) -> str:
        size = {"kernel_size": [kernel] * 2, "strides": [stride] * 2}
        return add(name, "Conv2D", source, filters=filters, use_bias=bias, **size)

    def norm_relu(name: str, source: str, number: str = "") -> str:
        return add(f"{name}_act{number}", "Activation", add(f"{name}_bn{number}", "BatchNormalization", source))

    start, *inputs = (layer["name"] for layer in _inputs(graph))
    width = encoder["stage_channels"][0]
    stem = conv("in_conv", add(start, "InputLayer"), width, encoder["stem_kernel"], encoder["stem_stride"], bias=True)
    last = norm_relu("in", stem)
    if encoder["stem_pool"]:
        last = add("pool", "MaxPooling2D", last, pool_size=[3, 3], strides=[2, 2], padding="same")
    for s, (channels, count) in enumerate(zip(encoder["stage_channels"], encoder["blocks_per_stage"], strict=True), 1):
        for b in range(1, count + 1):
            block, stride = f"block{s}_{b}", 2 if b == 1 and s > 1 else 1
            inner = norm_relu(block, conv(f"{block}_conv1", last, channels, 3, stride), "1")
            norm = add(f"{block}_bn2", "BatchNormalization", conv(f"{block}_conv2", inner, channels, 3))
            if channels == width and stride == 1:
                shortcut = add(f"{block}_identity", "MaxPooling2D", last, pool_size=[1, 1], strides=[1, 1])
            else:
                shortcut = conv(f"{block}_projection", last, channels, 1, stride)
            last = add(f"{block}_act2", "Activation", add(f"{block}_skip", "Add", shortcut, norm))
            width = channels
    if head:
        name, model = next((name, layer) for name, layer in graph.items() if "layers" in layer)
        nested = add(name, model["class"], *(add(source, "InputLayer") for source in inputs))
        last = add("stack", "Concatenate", nested, nested)
        for part, stride in (("combined1", 2), ("combined2", 1)):
            last = norm_relu(part, conv(f"{part}_conv", last, head["width"], 3, stride, bias=True))
        add("pred", "Dense", add("flatten", "Flatten", last))
    return plan
