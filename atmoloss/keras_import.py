"""Checkpoints of the original Keras code: read them without TensorFlow, convert them to a weights folder.

The original writes ``encoder.json`` and ``model.json`` (Keras 2 configurations, TF 2.3 to 2.15) beside
``encoder_weights.hdf5`` and ``model_weights.hdf5``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from atmoloss._version import __version__
from atmoloss.errors import WeightsError, require
from atmoloss.files import write_atomically
from atmoloss.heads import PretextModel, PublishedHead
from atmoloss.keras_graph import Graph, architectures, input_size, read_graph
from atmoloss.layers import Conv
from atmoloss.networks import Encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION
from atmoloss.weights import WeightsInfo, save

CHANNELS: tuple[dict[str, str], ...] = (
    {"name": "divergence", "standard_name": "divergence_of_wind", "units": "s-1"},
    {"name": "vorticity", "standard_name": "atmosphere_relative_vorticity", "units": "s-1"},
)
"""Channels of the original, in its order."""

_CARD = """---
license: unknown
library_name: atmoloss
tags: [weather, climate, representation-learning]
---
# {info.name}

An AtmoDist checkpoint of the original Keras code (Hoffmann & Lessig 2023, arXiv:2202.01897), `{source}`, converted by
atmoloss {info.package_version}. `config.json` says what it consists of.

- Assumed, for the checkpoint does not store them: normalisation constants, grid spacing, level, base step.
- Licence: unknown, that of the converted checkpoint.
"""


def load_keras(folder: Path) -> tuple[PretextModel | Encoder, Graph]:
    """Read a checkpoint, e.g. ``epoch27``: encoder and head, or without a ``model.json`` the encoder alone.

    Returns:
        The model in evaluation mode, of normalised (N, 2, H, W), and the layers that it had in Keras.

    Raises:
        WeightsError: a file is missing or damaged, the architecture is another one, or weights are
            missing, left over or of another shape.
        MissingDependencyError: no h5py.
    """
    part = "model" if (folder / "model.json").is_file() else "encoder"
    graph = read_graph(folder / f"{part}.json")
    encoder_options, head_options = architectures(graph, folder / f"{part}.json")
    encoder = Encoder(**encoder_options)
    model: PretextModel | Encoder = encoder
    if head_options:
        stride = list(encoder.strides.values())[-1]
        model = PretextModel(encoder, PublishedHead(encoder.channels, stride=stride, **head_options))
    _fill(model, graph, folder / f"{part}_weights.hdf5")
    return model.eval(), graph


def convert_keras(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], name: str | None = None
) -> WeightsInfo:
    """Write a weights folder from an original checkpoint.

    Files ``layer<i>_scale.txt`` in ``source`` become layer scales where i is the Keras index of the end of
    a stage; without any, ``layer_scales`` is empty and the loss needs ``scale="none"`` or a number. A
    checkpoint without ``model.json`` is converted without a head.

    Args:
        source: the checkpoint.
        destination: folder to write ``config.json``, ``model.safetensors`` and ``README.md`` to.
        name: of the weights; default the name of the source folder.

    Returns:
        What ``config.json`` says.

    Raises:
        WeightsError: as :func:`load_keras`; a scale file that holds no positive number.
        MissingDependencyError: no h5py.
    """
    source, destination = Path(source), Path(destination)
    model, graph = load_keras(source)
    encoder, head = (model.encoder, model.head.architecture) if isinstance(model, PretextModel) else (model, None)
    info = WeightsInfo(
        name=name or source.resolve().name,
        channels=CHANNELS,
        encoder=encoder.architecture,
        normalization=ORIGINAL_NORMALIZATION,
        head=head,
        n_lag_classes=head["n_classes"] if head else 0,
        layer_scales=_read_scales(source, graph),
        layers={list(encoder.strides)[-1]: 1.0},
        grid_spacings=(0.140625,),
        levels=("model level 120",),
        patch_sizes=tuple(sorted({n for n in input_size(graph) if n})),
        license="unknown: that of the converted checkpoint",
        package_version=__version__,
    )
    prefix = "" if head else "encoder."
    # Batch norm's step counter is no weight, and Keras has none.
    state = {f"{prefix}{k}": t for k, t in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    info = save(destination, info, state)
    write_atomically(destination / "README.md", _CARD.format(info=info, source=source.resolve().name).encode())
    return info


_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_KERNEL = {"weight": "kernel", "bias": "bias"}
_TENSORS = {nn.BatchNorm2d: _NORM, Conv: _KERNEL, nn.Linear: _KERNEL}


def _keras_name(module: str) -> str:
    """Translate ``"encoder.stages.stage2.0.shortcut"`` to ``"block2_1_projection"`` and the like."""
    name = module.removeprefix("encoder.").removeprefix("head.")
    if match := re.fullmatch(r"stages\.stage(\d+)\.(\d+)\.(\w+)", name):
        part = "projection" if match[3] == "shortcut" else match[3]
        return f"block{match[1]}_{int(match[2]) + 1}_{part}"
    special = {"stem": "in_conv", "stem_bn": "in_bn", "combined1": "combined1_conv", "combined2": "combined2_conv"}
    return special.get(name, name)


def _fill(model: nn.Module, graph: Graph, path: Path) -> None:
    """Copy every weight of the file into ``model``, each exactly once; what epsilons differ by joins the variances."""
    modules = {_keras_name(n): (m, _TENSORS[type(m)]) for n, m in model.named_modules() if type(m) in _TENSORS}
    arrays = _read_hdf5(path, modules)
    for layer, (module, tensors) in modules.items():
        for ours, theirs in tensors.items():
            target = getattr(module, ours)
            if target is None:
                continue
            if (layer, theirs) not in arrays:
                raise WeightsError(f"folder: {path} lacks {layer}/{theirs}, which the model needs")
            array = arrays.pop((layer, theirs))
            # HWIO to OIHW, (in, out) to (out, in); anything else stays and fails the comparison if it is wrong.
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            expected = tuple(target.shape)
            if array.shape != expected or not np.isfinite(array).all():
                got = f"has shape {array.shape} in PyTorch's order" if array.shape != expected else "is not finite"
                raise WeightsError(f"folder: {path}: {layer}/{theirs} {got}, expected finite numbers of {expected}")
            with torch.no_grad():
                target.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        if isinstance(module, nn.BatchNorm2d):
            epsilon = graph[layer].get("epsilon")
            if not isinstance(epsilon, float) or not epsilon > 0:
                got = f"layer {layer} has epsilon {epsilon!r}"
                raise WeightsError(f"folder: {path.parent}: {got}, expected a positive number")
            assert module.running_var is not None
            module.running_var += epsilon - module.eps  # what it computes depends on the sum of both
    if arrays:
        unused = ", ".join("/".join(key) for key in list(arrays)[:6])
        raise WeightsError(f"folder: {path} has weights that nothing uses: {unused}")


def _read_hdf5(path: Path, layers: Container[str]) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Read all arrays of a Keras 2 weight file by layer and weight name."""
    h5py = require("h5py", "keras")
    arrays: dict[tuple[str, str], NDArray[np.float32]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            # "in_conv/in_conv/kernel:0"; of a nested model "encoder/in_conv/kernel:0".
            parts = name.split("/")
            layer = parts[0] if parts[0] in layers else parts[-2]
            key = (layer, parts[-1].partition(":")[0])
            if key in arrays:
                raise WeightsError(f"folder: {path} has {'/'.join(key)} twice")
            arrays[key] = np.asarray(item[()], np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except WeightsError:  # a ValueError, too
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError) as error:  # h5py's ways to say "damaged"
        raise WeightsError(f"folder: {path} cannot be read, is it truncated? {error}") from error
    return arrays


def _read_scales(folder: Path, graph: Graph) -> dict[str, float]:
    """Read ``layer<i>_scale.txt`` of the stage ends; i counts the layers of the Keras model."""
    ends = {m[1]: i for i, name in enumerate(graph) if (m := re.fullmatch(r"block(\d+)_\d+_act2", name))}
    scales = {}
    for stage, index in ends.items():
        path = folder / f"layer{index}_scale.txt"
        if not path.is_file():
            continue
        try:
            scales[f"stage{stage}"] = value = float(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"folder: {path} cannot be read: {error}; expected one number as text") from error
        if not 0 < value < math.inf:
            raise WeightsError(f"folder: {path} holds {value}, expected a positive number")
    return scales
