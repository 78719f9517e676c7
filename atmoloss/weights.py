"""The weights folder: find it (bundled, a path, the Hub), verify it, read it, write it.

A folder holds ``config.json`` (:class:`WeightsInfo`) and ``model.safetensors``; the card, metrics and
figures beside them are for people. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atmoloss import hub
from atmoloss.errors import WeightsError, shown
from atmoloss.files import json_text, write_atomically
from atmoloss.hub import CONFIG_NAME, TENSORS_NAME
from atmoloss.removed import describe_removed

FORMAT_VERSIONS = (1, 2)
"""The second is that of weights with attention: versions that have none refuse them by this number."""


@dataclasses.dataclass(frozen=True)
class WeightsInfo:
    """What ``config.json`` says of a set of weights.

    Attributes:
        name: of the weights.
        channels: per channel ``name``, CF ``standard_name`` and ``units``, in the order of the tensor.
        encoder: keyword arguments of :class:`atmoloss.networks.Encoder`.
        head: ``kind`` and keyword arguments of the pretext head, or ``None``.
        normalization: keyword arguments of :class:`atmoloss.normalization.LogNormalization`.
        base_step_hours: hours per lag class.
        n_lag_classes: number of lag classes.
        layer_scales: stage name to the factor that makes it equal the MSE of normalised fields.
        layers: recommended stage name to share.
        mse_weight: recommended share of the MSE of normalised fields in the loss.
        grid_spacings: degrees, of the fields trained on.
        levels: of the fields trained on, ``"10 m"`` or ``"850 hPa"``, as far as the data say.
        data: names of the data trained on.
        patch_sizes: rows and columns of the patches trained on.
        lag_curves: what :class:`atmoloss.hours.LagCurve` is made of, one for each kind and size of fields measured.
        license: of the weights.
        package_version: of atmoloss that wrote them.
        sha256: of ``model.safetensors``; filled in by :func:`save`.
        format_version: of this file, the lowest that can say what it says; :func:`save` fills it in.
    """

    name: str
    channels: tuple[Mapping[str, str], ...]
    encoder: Mapping[str, Any]
    normalization: Mapping[str, Any]
    head: Mapping[str, Any] | None = None
    base_step_hours: int = 3
    n_lag_classes: int = 0
    layer_scales: Mapping[str, float] = dataclasses.field(default_factory=dict)
    layers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mse_weight: float = 0.0
    grid_spacings: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    patch_sizes: tuple[int, ...] = ()
    lag_curves: tuple[Mapping[str, Any], ...] = ()
    license: str = ""
    package_version: str = ""
    sha256: str = ""
    format_version: int = FORMAT_VERSIONS[0]

    @property
    def id(self) -> str:
        """Name and the first eight digits of the hash: what to write beside a published number."""
        return f"{self.name}@{self.sha256[:8]}"

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Canonical names of the channels, in order."""
        return tuple(channel["name"] for channel in self.channels)


def bundled() -> dict[str, Path]:
    """Return the weights that came with the package, by name."""
    package = Path(__file__).resolve().parent
    # The wheel carries them inside the package; a source checkout has them beside it.
    for root in (package / "weights", package.parent / "weights"):
        folders = {p.parent.name: p.parent for p in sorted(root.glob(f"*/{CONFIG_NAME}"))}
        if folders:
            return folders
    return {}


@dataclasses.dataclass(frozen=True)
class Summary:
    """What to know of weights before they are taken.

    Attributes:
        name: to pass as ``weights``.
        variables: with units, in the order of the channels.
        grid_spacings: degrees, of the fields trained on.
        levels: of the fields trained on, ``"10 m"`` or ``"850 hPa"``.
        hours: grid spacing (degrees) and level of the fields whose distances can be said in hours.
        megabytes: of ``model.safetensors``.
    """

    name: str
    variables: tuple[str, ...]
    grid_spacings: tuple[float, ...]
    levels: tuple[str, ...]
    hours: tuple[tuple[float, str], ...]
    megabytes: float


def list_weights() -> tuple[Summary, ...]:
    """Return what the bundled weights are, by name; every function that takes ``weights`` takes these names."""
    out = []
    for name, folder in bundled().items():
        info = read_info(folder)
        out.append(
            Summary(
                name,
                tuple(f"{channel['name']} [{channel.get('units', '?')}]" for channel in info.channels),
                tuple(sorted(info.grid_spacings)),
                info.levels,
                tuple(dict.fromkeys((c.get("grid_spacing", 0.0), c.get("level", "")) for c in info.lag_curves)),
                (folder / TENSORS_NAME).stat().st_size / 1e6,
            )
        )
    return tuple(out)


def name_of(name_or_path: str | os.PathLike[str]) -> str:
    """Return a name or path of weights as text; ``WeightsError`` for what is neither."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise WeightsError(
            f"weights: got {shown(name_or_path)}, expected {_expected()}, or an Extractor; area weights and masks are "
            "the argument weight"
        )
    return str(os.fspath(name_or_path))


def _expected() -> str:
    names = ", ".join(bundled()) or "none found"
    return f"a bundled name ({names}), an existing folder, or a Hub repository 'owner/name'"


def resolve(name_or_path: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the folder of some weights: bundled name, then local folder, then Hub repository.

    Args:
        name_or_path: ``"default"``, ``"path/to/folder"`` or ``"owner/repository"``.
        revision: commit, tag or branch of the Hub repository.

    Raises:
        WeightsError: nothing of that name, a revision of what has none, or the Hub cannot give it.
    """
    name = name_of(name_or_path)
    path = bundled().get(name, Path(name).expanduser())
    if path.is_dir():
        if revision is not None:
            raise WeightsError(
                f"revision: got {shown(revision)} for {name!r}, which is on this machine, expected None; only "
                "repositories of the Hub have revisions"
            )
        if not (path / CONFIG_NAME).is_file():
            raise WeightsError(f"weights: folder {name!r} has no {CONFIG_NAME}; expected a weights folder")
        return path
    if hub.is_repository(name):
        return hub.download(name, revision)
    raise WeightsError(f"weights: got {name!r}, expected {_expected()}")


def read_info(folder: Path) -> WeightsInfo:
    """Read ``config.json``; ``WeightsError`` where it is not JSON, of another format, or with other keys."""
    try:
        raw = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"weights: {folder / CONFIG_NAME} cannot be read: {error}") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version not in FORMAT_VERSIONS:
        expected = " or ".join(map(str, FORMAT_VERSIONS))
        raise WeightsError(
            f"weights: {folder} has format version {version}, expected {expected}; another version of atmoloss wrote it"
        )
    raw = {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
    for entry in ("encoder", "head"):
        if removed := describe_removed(entry, raw.get(entry) or {}):
            raise WeightsError(f"weights: {folder / CONFIG_NAME} has {removed}")
    try:
        return WeightsInfo(**raw)
    except TypeError as error:
        raise WeightsError(f"weights: {folder / CONFIG_NAME} does not fit: {error}") from error


def load(folder: Path) -> tuple[WeightsInfo, dict[str, Tensor]]:
    """Read and verify a weights folder; ``WeightsError`` where a file is missing, truncated or altered."""
    from safetensors.torch import load as load_tensors

    info = read_info(folder)
    try:
        data = (folder / TENSORS_NAME).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights: {folder / TENSORS_NAME} cannot be read: {error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != info.sha256:
        raise WeightsError(
            f"weights: {folder / TENSORS_NAME} is truncated or altered: its sha256 is {sha256[:16]}…, expected "
            f"{info.sha256[:16]}…"
        )
    return info, load_tensors(data)


def save(folder: Path, info: WeightsInfo, tensors: Mapping[str, Tensor]) -> WeightsInfo:
    """Write ``model.safetensors`` and ``config.json``, each under a temporary name first.

    Returns:
        ``info`` with the sha256 of the tensors and the format version.
    """
    from safetensors.torch import save as save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {"format": "pt"})
    attends = "attention" in info.encoder or (info.head or {}).get("kind") == "space_time"
    version = FORMAT_VERSIONS[attends]
    info = dataclasses.replace(info, sha256=hashlib.sha256(data).hexdigest(), format_version=version)
    write_atomically(folder / TENSORS_NAME, data)
    write_atomically(folder / CONFIG_NAME, f"{json_text(dataclasses.asdict(info))}\n".encode())
    return info


def push(folder: Path, repository: str) -> str:
    """Write a weights folder to a Hub repository as one commit; a new repository is created where there is none.

    Args:
        folder: ``config.json``, ``model.safetensors`` and, where they exist, card, metrics and figures go;
            other files do not.
        repository: ``"owner/name"``.

    Returns:
        The commit, a ``revision`` of :func:`atmoloss.load_extractor`.

    Raises:
        WeightsError: no whole weights folder, no token, no permission, or no connection.
    """
    hub.check_push(repository)
    info, _ = load(folder)
    return hub.upload(folder, repository, f"Weights {info.id}")
