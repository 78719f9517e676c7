"""How hatchling makes the text of the PyPI page: README, its relative links made links to the repository.

README itself keeps relative links, which hold in a clone, in a fork and in the site of ``make docs``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute_links(text: str, repository: str, tag: str) -> str:
    """Return Markdown whose relative links lead to the files of ``repository``, an URL at GitHub, as of ``tag``."""

    def absolute(match: re.Match[str]) -> str:
        kind = "raw" if match[1] else "blob"  # only the raw file of a picture is a picture
        return f"{match[1]}[{match[2]}]({repository}/{kind}/{tag}/{match[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)", absolute, text)


class PageOfPyPI(MetadataHookInterface):
    """Fills in ``readme``, with absolute links where ``project.urls`` names the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add ``readme`` to the metadata."""
        root = Path(self.root)
        text = (root / "README.md").read_text(encoding="utf-8")
        version = re.search(r'__version__ = "(.+)"', (root / "atmoloss" / "_version.py").read_text(encoding="utf-8"))
        repository = metadata.get("urls", {}).get("Repository")
        if repository and version:
            text = absolute_links(text, repository.rstrip("/"), f"v{version[1]}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
