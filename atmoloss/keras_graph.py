"""What a Keras configuration file says, and whether our modules compute it.

The architecture is read from the JSON, and every layer of it is compared with the one that our modules
stand for: a checkpoint that differs in a stride or a padding would load and be wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atmoloss.errors import WeightsError

_SUPPORTED = "expected ResnetSmall or Resnet18 of the original code with shortcut='projection'"


class Layer(NamedTuple):
    """A layer of a Keras graph: class, names of the layers that feed it, configuration."""

    kind: str
    inputs: list[str]
    config: Mapping[str, Any]


Graph = dict[str, Layer]
"""Layers by name, in Keras' order: the position is the index that the original's file names use."""


def read_graph(path: Path) -> tuple[Graph, Graph]:
    """Read the layers of a Keras 2 configuration, and those of a model nested in it (none: empty)."""

    def parse(layers: list[dict[str, Any]]) -> Graph:
        # TF 2.13 and later add "module", "registered_name" and "build_config": nothing here needs them.
        return {
            layer["config"]["name"]: Layer(
                layer["class_name"],
                [source[0] for node in layer["inbound_nodes"] for source in node],
                layer["config"],
            )
            for layer in layers
        }

    try:
        layers = json.loads(path.read_text(encoding="utf-8"))["config"]["layers"]
        nested = [layer["config"]["layers"] for layer in layers if "layers" in layer["config"]]
        return parse(layers), parse(nested[0]) if nested else {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"folder: {path} cannot be read as a Keras 2 model configuration: {type(error).__name__} {error}"
        ) from error


def input_shape(graph: Graph) -> tuple[int | None, int | None, int]:
    """Return rows, columns (``None``: any) and channels of the fields."""
    shapes = [layer.config.get("batch_input_shape") for layer in graph.values() if layer.kind == "InputLayer"]
    if not shapes or not isinstance(shapes[0], list) or len(shapes[0]) != 4 or not shapes[0][3]:
        raise WeightsError(f"folder: the input layers have shapes {shapes}; expected [null, rows, columns, channels]")
    return shapes[0][1], shapes[0][2], shapes[0][3]


def encoder_architecture(graph: Graph, path: Path) -> dict[str, Any]:
    """Return the keyword arguments of :class:`atmoloss.networks.Encoder` that make this graph."""
    widths: dict[int, int] = {}
    blocks: Counter[int] = Counter()
    for name, layer in graph.items():
        if match := re.fullmatch(r"block(\d+)_\d+_conv1", name):
            widths.setdefault(int(match[1]), layer.config.get("filters", 0))
            blocks[int(match[1])] += 1
    if "in_conv" not in graph or not blocks:
        raise WeightsError(f"folder: {path} has an encoder of layers {some(graph)}; {_SUPPORTED}")
    stem = graph["in_conv"].config
    architecture = {
        "in_channels": input_shape(graph)[2],
        "stage_channels": [widths[s] for s in sorted(widths)],
        "blocks_per_stage": [blocks[s] for s in sorted(blocks)],
        "stem_kernel": stem.get("kernel_size", [0])[0],
        "stem_stride": stem.get("strides", [0])[0],
        "stem_pool": "pool" in graph,
    }
    if architecture["stem_stride"] not in (1, 2):
        raise WeightsError(f"folder: {path}: in_conv has stride {architecture['stem_stride']}, expected 1 or 2")
    _compare(path, graph, _encoder_plan(graph, architecture))
    return architecture


def _conv(source: str, filters: int, kernel: int, stride: int = 1, bias: bool = False) -> Layer:
    options = {"filters": filters, "kernel_size": [kernel] * 2, "strides": [stride] * 2, "use_bias": bias}
    fixed = {"padding": "same", "activation": "linear", "dilation_rate": [1, 1], "data_format": "channels_last"}
    return Layer("Conv2D", [source], {**options, **fixed})


def _norm(source: str) -> Layer:
    return Layer("BatchNormalization", [source], {"axis": [3], "center": True, "scale": True})


def _relu(source: str) -> Layer:
    return Layer("Activation", [source], {"activation": "relu"})


def _pool(source: str, size: int, stride: int, **options: str) -> Layer:
    return Layer("MaxPooling2D", [source], {"pool_size": [size] * 2, "strides": [stride] * 2, **options})


def _encoder_plan(graph: Graph, architecture: Mapping[str, Any]) -> Graph:
    """Return the layers that an encoder of this architecture has in Keras."""
    start = next(name for name, layer in graph.items() if layer.kind == "InputLayer")
    width = architecture["stage_channels"][0]
    plan = {start: Layer("InputLayer", [], {})}
    plan["in_conv"] = _conv(start, width, architecture["stem_kernel"], architecture["stem_stride"], bias=True)
    plan["in_bn"], plan["in_act"], last = _norm("in_conv"), _relu("in_bn"), "in_act"
    if architecture["stem_pool"]:
        plan["pool"], last = _pool("in_act", 3, 2, padding="same"), "pool"
    stages = zip(architecture["stage_channels"], architecture["blocks_per_stage"], strict=True)
    for s, (channels, count) in enumerate(stages, 1):
        for b in range(1, count + 1):
            name = f"block{s}_{b}_"
            stride = 2 if b == 1 and s > 1 else 1
            same = channels == width and stride == 1
            shortcut = name + ("identity" if same else "projection")
            plan[name + "conv1"] = _conv(last, channels, 3, stride)
            plan[name + "bn1"], plan[name + "act1"] = _norm(name + "conv1"), _relu(name + "bn1")
            plan[name + "conv2"] = _conv(name + "act1", channels, 3)
            plan[shortcut] = _pool(last, 1, 1) if same else _conv(last, channels, 1, stride)
            plan[name + "bn2"] = _norm(name + "conv2")
            plan[name + "skip"] = Layer("Add", [shortcut, name + "bn2"], {})
            last, width = name + "act2", channels
            plan[last] = _relu(name + "skip")
    return plan


def compare_head(graph: Graph, width: Any, path: Path) -> None:
    """Compare the layers around the nested encoder with :class:`atmoloss.heads.PublishedHead`."""
    inputs = [name for name, layer in graph.items() if layer.kind == "InputLayer"]
    encoder = next(name for name, layer in graph.items() if "layers" in layer.config)
    plan = {
        **{name: Layer("InputLayer", [], {}) for name in inputs},
        encoder: Layer(graph[encoder].kind, inputs, {}),
        "stack": Layer("Concatenate", [encoder, encoder], {"axis": -1}),
        "combined1_conv": _conv("stack", width, 3, 2, bias=True),
        "combined1_bn": _norm("combined1_conv"),
        "combined1_act": _relu("combined1_bn"),
        "combined2_conv": _conv("combined1_act", width, 3, bias=True),
        "combined2_bn": _norm("combined2_conv"),
        "combined2_act": _relu("combined2_bn"),
        "flatten": Layer("Flatten", ["combined2_act"], {"data_format": "channels_last"}),
        "pred": Layer("Dense", ["flatten"], {"use_bias": False}),
    }
    _compare(path, graph, plan)


def _compare(path: Path, graph: Graph, plan: Graph) -> None:
    """Raise ``WeightsError`` at the first layer that is not what our modules compute."""
    extra = [name for name in graph if name not in plan]
    for name, (kind, inputs, config) in plan.items():
        if name not in graph:
            padded = " (shortcut='padded'?)" if name.endswith("projection") else ""
            raise WeightsError(f"folder: {path} has no layer {name}, but {some(extra)}{padded}; {_SUPPORTED}")
        actual = graph[name]
        got, expected = (f"a {k} of {some(sorted(i))}" for k, i in ((actual.kind, actual.inputs), (kind, inputs)))
        if got != expected:
            raise WeightsError(f"folder: {path}: layer {name} is {got}, expected {expected}")
        for key, value in config.items():
            if actual.config.get(key) != value:
                got = repr(actual.config.get(key))
                raise WeightsError(f"folder: {path}: layer {name} has {key} {got}, expected {value!r}; {_SUPPORTED}")
    if extra:
        raise WeightsError(f"folder: {path} has the layers {some(extra)} as well; {_SUPPORTED}")


def some(names: Iterable[str]) -> str:
    """List a few names for a message."""
    names = list(names)
    return ", ".join(names[:6]) + (f", … ({len(names)} in all)" if len(names) > 6 else "") or "none"
