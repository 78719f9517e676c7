"""Fillings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from atmoloss.data.quantities import quantity
from atmoloss.errors import require


def draw(path: Path, fields: Mapping[str, np.ndarray], variables: Sequence[str], box: int, title: str) -> None:
    """Draw fields (C, H, W), by heading, in columns; variables in rows, each with one range of colours.

    Args:
        path: of the picture.
        fields: the first is the truth, whose values set the colours; physical units; NaN is grey.
        variables: names of the channels.
        box: rows and columns of the box in the centre, which is outlined.
        title: of the whole.
    """
    figure = require("matplotlib.figure", "eval").Figure(
        figsize=(2.2 * len(fields) + 0.8, 2.2 * len(variables) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(variables), len(fields), squeeze=False)
    truth = next(iter(fields.values()))
    start = [(n - box) // 2 - 0.5 for n in truth.shape[-2:]]
    patch = require("matplotlib.patches", "eval").Rectangle
    for channel, name in enumerate(variables):
        limit = float(np.percentile(np.abs(truth[channel]), 99)) or 1.0
        for ax, (heading, values) in zip(axes[channel], fields.items(), strict=True):
            image = ax.imshow(values[channel], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            ax.add_patch(patch((start[1], start[0]), box, box, fill=False, linewidth=0.8, edgecolor="0.2"))
            ax.set(xticks=[], yticks=[], facecolor="0.8")
            if channel == 0:
                ax.set_title(heading, fontsize=9)
        axes[channel, 0].set_ylabel(name, fontsize=9)
        known = quantity(name)
        figure.colorbar(image, ax=axes[channel, -1], shrink=0.8, label=known.units if known else "")
    figure.suptitle(title, fontsize=8, color="0.35")
    figure.savefig(path, dpi=150)
