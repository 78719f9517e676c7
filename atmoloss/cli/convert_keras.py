"""Make weights of a checkpoint of the original AtmoDist code (Keras).

The weights folder gets the original's normalisation. Its published layers 148 and 196 become stage3 and stage4.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``atmoloss convert-keras``."""
    parser.add_argument("source", metavar="SRC", type=Path, help="The folder of the original's checkpoint.")
    parser.add_argument("destination", metavar="DST", type=Path, help="The weights folder to write.")
    parser.add_argument("--name", help="The name of the weights (default: that of SRC).")


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print the name of the weights and their layer scales."""
    from atmoloss.keras_import import convert_keras

    info = convert_keras(arguments.source, arguments.destination, arguments.name)
    print(f"wrote {info.id} to {arguments.destination}")
    if info.layer_scales:
        print(f"layer scales: {', '.join(f'{name} {value:.6g}' for name, value in info.layer_scales.items())}")
    else:
        print("no scale file beside the checkpoint: pass scale='none' or a number to AtmoDistLoss")
    return 0
