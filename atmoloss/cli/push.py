"""Publish a weights folder on the Hugging Face Hub.

Its files go to a repository as one commit; afterwards load_extractor("OWNER/NAME", revision="COMMIT") reads them
anywhere. The token is that of HF_TOKEN or of `hf auth login`.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss push``."""
    parser.add_argument("weights", metavar="WEIGHTS", help="The name of bundled weights, or a weights folder.")
    parser.add_argument("repository", metavar="OWNER/NAME", help="The repository; it is made where there is none.")


def run(arguments: argparse.Namespace) -> int:
    """Push, and print how to read it back."""
    from atmoloss import hub, weights

    hub.check_push(arguments.repository)
    hub.announce(arguments.repository, weights.push(weights.resolve(arguments.weights), arguments.repository))
    return 0
