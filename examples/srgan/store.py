"""A trained generator on disk: ``config.json`` and ``model.safetensors``, with all that its use needs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import nn

from atmoloss.errors import ConfigError, WeightsError
from atmoloss.extractor import load_strictly
from atmoloss.files import write_atomically
from atmoloss.normalization import LogNormalization

from .models import Generator

CONFIG, TENSORS = "config.json", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class StoredGenerator:
    """A generator, and the channels and normalisation that it was trained with.

    Attributes:
        generator: in evaluation mode; of the kind that :func:`load_generator` was asked for.
        normalization: of its input and output.
        variables: canonical names of its channels, in order.
        origin: what made it: content loss, scale, versions, commit.
        id: first digits of the hash of its weights.
    """

    generator: Any
    normalization: LogNormalization
    variables: tuple[str, ...]
    origin: Mapping[str, Any]
    id: str


def save_generator(
    folder: Path,
    generator: Any,
    normalization: LogNormalization,
    variables: tuple[str, ...],
    origin: Mapping[str, Any],
) -> None:
    """Write a module with an ``architecture`` (the arguments of its class), each file under a temporary name first."""
    folder.mkdir(parents=True, exist_ok=True)
    data = save({name: t.detach().cpu().contiguous() for name, t in generator.state_dict().items()})
    config = {
        "format_version": 1,
        "generator": generator.architecture,
        "normalization": normalization.constants(),
        "variables": list(variables),
        "origin": dict(origin),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_atomically(folder / TENSORS, data)
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())


def load_generator(folder: Path, kind: Callable[..., nn.Module] = Generator) -> StoredGenerator:
    """Read a generator; ``kind`` is its class.

    Raises:
        WeightsError: not such a folder, truncated or altered.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        data = (folder / TENSORS).read_bytes()
        generator = kind(**config["generator"])
        normalization = LogNormalization(**config["normalization"])
        variables, origin, expected = tuple(config["variables"]), config["origin"], config["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"generator: {folder} holds no generator that can be read: {error!r}") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise WeightsError(
            f"generator: {folder / TENSORS} is truncated or altered: its sha256 is {actual[:16]}…, expected "
            f"{expected[:16]}…"
        )
    load_strictly(generator, load(data), "", str(folder))
    return StoredGenerator(generator.eval(), normalization, variables, origin, actual[:8])


def start_from(folder: Path, generator: Any, normalization: LogNormalization, variables: tuple[str, ...]) -> None:
    """Load the weights of a stored generator into one of the same sizes that sees the same normalised fields.

    Raises:
        ConfigError: it is of other sizes, variables or another normalisation.
        WeightsError: it cannot be read.
    """
    stored = load_generator(folder, type(generator))
    pairs: dict[str, tuple[Any, Any]] = {
        "sizes": (stored.generator.architecture, generator.architecture),
        "variables": (stored.variables, variables),
        "normalization": (stored.normalization.constants(), normalization.constants()),
    }
    for key, (value, expected) in pairs.items():
        if value != expected:
            raise ConfigError(f"initial_generator: {folder} has {key} {value}, expected {expected}")
    generator.load_state_dict(stored.generator.state_dict())
