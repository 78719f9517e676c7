"""Publish a weights folder on the Hugging Face Hub.

Its files go to a repository as one commit; afterwards load_extractor("OWNER/NAME", revision="COMMIT") reads them
anywhere. The token is that of HF_TOKEN or of `hf auth login`.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss push``."""
    parser.add_argument("weights", metavar="WEIGHTS", help="The name of bundled weights, or a weights folder.")
    parser.add_argument("repository", metavar="OWNER/NAME", help="The repository; it is made where there is none.")


def run(arguments: argparse.Namespace) -> int:
    """Push a folder that is found as all weights are."""
    from atmoloss import hub, weights

    hub.check_push(arguments.repository)
    push(weights.resolve(arguments.weights), arguments.repository)
    return 0


def push(folder: Path, repository: str) -> None:
    """Push a weights folder, and print how to read it back."""
    from atmoloss import weights

    commit = weights.push(folder, repository)
    print(f"pushed to {repository}; load with load_extractor({repository!r}, revision={commit!r})")
