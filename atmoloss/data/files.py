"""What a path stands for: one file or store, or the files of a list, glob, folder or zip archive, by content."""

from __future__ import annotations

import atexit
import functools
import glob
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from atmoloss.errors import DataError

_GRIB = (".grib", ".grib1", ".grib2", ".grb", ".grb1", ".grb2")
_NETCDF = (".nc", ".nc4", ".cdf", ".h5")
_ZARR = (".zgroup", ".zmetadata", ".zarray", "zarr.json")
HEAD = 512
"""Bytes that tell what a file is."""

# First bytes → kind of a file that can be read.
_READABLE = {
    b"GRIB": "grib",
    b"\x89HDF\r\n\x1a\n": "netcdf4",
    **dict.fromkeys((b"CDF\x01", b"CDF\x02", b"CDF\x05"), "netcdf3"),
    b"PK\x03\x04": "zip",
}
# First bytes → what a file is that cannot.
_UNREADABLE = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x0e\x03\x13\x01": "HDF4",
    b"BUFR": "BUFR",
}


def is_remote(text: str) -> bool:
    """Say whether a source is a URL, for fsspec, and no path of this machine."""
    return "://" in text or "::" in text


def found(text: str) -> list[str]:
    """Return a path where something is, a URL as it is, or what a glob matches; nothing where nothing is."""
    if is_remote(text) or os.path.exists(text):
        return [text]
    return sorted(glob.glob(text)) if any(c in text for c in "*?[") else []


def paths_of(source: Any) -> list[str]:
    """Return the files, stores and URLs that a path, URL, glob, folder, archive, or a list of these stands for."""
    if isinstance(source, (list, tuple)):
        if not source:
            raise DataError(f"path_or_url: got {source!r}, expected at least one file")
        return [path for item in source for path in paths_of(item)]
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(f"path_or_url: got {type(source).__name__}, expected a path, URL, list or Dataset")
    text = os.fspath(source).removeprefix("file://")
    if is_remote(text):
        return [text]
    matches = found(text)
    if not matches:
        raise DataError(f"path_or_url: got {text!r}, expected a file or folder that exists, or a URL")
    if matches != [text]:
        return paths_of(matches)
    if os.path.isdir(text):
        is_zarr = any(os.path.exists(os.path.join(text, name)) for name in _ZARR)
        return [text] if is_zarr else _inside(text)
    if _kind(_head(text)) != "zip":
        return [text]
    return paths_of(_unpacked(os.path.abspath(text), os.stat(text).st_mtime_ns))


def kind_of(path: str, head: bytes | None = None) -> str:
    """Return ``"zarr"``, ``"grib"``, ``"netcdf3"``, ``"netcdf4"`` or ``"zip"``; refuse what is no data.

    Of a URL the first bytes are given, or its name decides.
    """
    suffix = Path(path).suffix.lower()
    if head is None:
        if os.path.isdir(path):
            return "zarr"
        if is_remote(path):
            return "grib" if suffix in _GRIB else "netcdf4" if suffix in _NETCDF else "zarr"
        head = _head(path)
    kind = _kind(head)
    # A GRIB file may begin with the header of a bulletin; eccodes finds the messages.
    if kind is None and (suffix not in _GRIB or not head):
        raise DataError(f"path_or_url: {path} {_describe(head)}")
    return kind or "grib"


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEAD)


def _kind(head: bytes) -> str | None:
    return next((kind for magic, kind in _READABLE.items() if head.startswith(magic)), None)


def _describe(head: bytes) -> str:
    """Return what a file is that cannot be read, and what to do, as the rest of a sentence."""
    if not head:
        return "is empty (0 bytes); download it again"
    for magic, kind in _UNREADABLE.items():
        if head.startswith(magic):
            return f"is {kind}; unpack or convert it first"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    # A character cut in two by the end of the sample is no sign of binary data.
    text = head.decode("utf-8", "ignore")
    if len(text.encode()) > len(head) - 4 and all(c.isprintable() or c.isspace() for c in text):
        begin = " ".join(text.split())[:60]
        return f"is text that begins {begin!r}, perhaps a server's message in place of the data; download it again"
    return f"begins with {head[:4]!r}, expected netCDF, Zarr, GRIB or a zip archive of these"


def _inside(folder: str) -> list[str]:
    """Return the data files that lie in a folder, by content or name; others, such as index files, do not count."""
    files = sorted(str(path) for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    data = [path for path in files if Path(path).suffix.lower() in (*_GRIB, *_NETCDF) or _kind(_head(path))]
    if not data:
        raise DataError(f"path_or_url: got {folder!r} without any netCDF or GRIB file and no Zarr store, expected one")
    return paths_of(data)


@functools.cache
def _unpacked(path: str, _changed: int) -> str:
    """Unpack a zip archive into a folder that goes when the process ends; the same archive only once."""
    folder = tempfile.mkdtemp(prefix="atmoloss-zip-")
    atexit.register(_remove, folder, os.getpid())
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:  # cut off, encrypted, unknown method
        raise DataError(f"path_or_url: {path} is a zip archive that cannot be unpacked ({error})") from error
    while len(members := os.listdir(folder)) == 1 and os.path.isdir(inner := os.path.join(folder, members[0])):
        folder = inner
    return folder


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a process forked from it
        shutil.rmtree(folder, ignore_errors=True)
