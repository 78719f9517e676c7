"""The Hugging Face Hub: weights folders from there, and to there. One commit holds the whole of a folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from atmoloss.errors import WeightsError

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
METRICS_NAME = "metrics.json"
# What a weights folder consists of; whatever else lies there stays where it is.
_FILES = (CONFIG_NAME, TENSORS_NAME, "README.md", METRICS_NAME, "figures/*.png")


def is_repository(name: str) -> bool:
    """Whether a text has the form ``owner/name``."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def download(repository: str, revision: str | None = None) -> Path:
    """Return the cached folder of a repository's weights, from one commit; offline, what the cache has."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # only a Hub name pays for this import

    try:
        config = Path(hf_hub_download(repository, CONFIG_NAME, revision=revision))
        # The folder of the cache is named after the commit: a push in between cannot mix two sets of weights,
        # and no further request is needed to learn what the revision is.
        hf_hub_download(repository, TENSORS_NAME, revision=config.parent.name)
    except Exception as error:  # the Hub client raises its own, its HTTP library's and OS errors
        raise WeightsError(
            f"weights: {repository!r} (revision {revision or 'main'}) is no local folder and could not be had "
            f"from the Hub or its cache: {_first_line(error)}"
        ) from error
    # metrics.json is for `atmoloss info` alone; a repository need not have it, and no loss needs it. It is asked for
    # once: where the cache knows that there is none, a machine without a connection must not wait for it.
    if try_to_load_from_cache(repository, METRICS_NAME, revision=config.parent.name) is None:
        with contextlib.suppress(Exception):
            hf_hub_download(repository, METRICS_NAME, revision=config.parent.name)
    return config.parent


def check_push(repository: str) -> None:
    """Raise ``WeightsError`` where a push cannot succeed: asks nothing of the network, good before hours of work."""
    from huggingface_hub import constants, get_token

    if not is_repository(repository):
        raise WeightsError(f"push: got {repository!r}, expected a Hub repository 'owner/name'")
    if constants.HF_HUB_OFFLINE:
        raise WeightsError("push: HF_HUB_OFFLINE is set, expected a connection to the Hub")
    if not get_token():
        raise WeightsError(
            "push: found no Hugging Face token, expected one with write permission in HF_TOKEN or from 'hf auth login'"
        )


def upload(folder: Path, repository: str, message: str) -> str:
    """Write the files of a weights folder to a repository, which need not exist, and return the commit.

    One commit, not ``upload_folder``, which may make several: no reader must find new metadata with old tensors.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    files = sorted(path for pattern in _FILES for path in folder.glob(pattern))
    operations = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message=message)
    except Exception as error:  # as in download
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise WeightsError(
                f"push: the Hub refuses to write to {repository!r} ({status}), expected a token (HF_TOKEN or "
                f"'hf auth login') with write permission for {repository.split('/')[0]!r}"
            ) from error
        raise WeightsError(f"push: {repository!r} could not be written: {_first_line(error)}") from error
    return str(commit.oid)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
