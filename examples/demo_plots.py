"""The pictures of demo.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from torch import Tensor

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"AtmoDist": "C3", "AtmoDistLoss(sharp=True)": "C3", "MSE": "C0", "MAE": "C2"}
plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 140})


def plot_lags(path: Path, lags: np.ndarray, values: dict[str, list[np.ndarray]], shares: dict[str, float]) -> None:
    """Draw mean and quartiles of each distance against lag."""
    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    for name, by_lag in values.items():
        low, high = np.array([np.percentile(v, (25, 75)) for v in by_lag]).T
        mean = [v.mean() for v in by_lag]
        axes.fill_between(lags, low, high, color=COLOURS[name], alpha=0.13, linewidth=0)
        axes.plot(lags, mean, "o-", color=COLOURS[name], markersize=4, label=f"{name}, {shares[name]:.2f}")
    axes.set(
        xlabel="hours between the fields", ylabel=f"distance, 1 at {lags[-1]} h", xlim=(0, lags[-1] + 2),
        ylim=(0, None), xticks=np.arange(0, lags[-1] + 1, 12),
        title="10 m winds, 64×64 points at 1°: mean and middle half of all pairs",
    )  # fmt: skip
    axes.title.set_fontsize(11)
    axes.grid(alpha=0.25)
    axes.legend(title="distance, lag 2AFC", loc="lower right")
    figure.savefig(path)
    plt.close(figure)


def plot_training(path: Path, histories: dict[str, list[float]]) -> None:
    """Draw the loss of each training, as a running mean over the single steps."""
    figure, panels = plt.subplots(1, len(histories), figsize=(9, 3.4), layout="constrained")
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        steps = np.arange(1, len(history) + 1)
        width = max(1, len(history) // 15)
        smooth = np.convolve(history, np.ones(width) / width, mode="valid")
        axes.plot(steps, history, color=COLOURS[name], alpha=0.3, linewidth=1)
        axes.plot(steps[width - 1 :], smooth, color=COLOURS[name], linewidth=2)
        axes.set(title=f"trained with {name}", xlabel="step", ylabel="training loss")
        axes.grid(alpha=0.25)
    figure.savefig(path)
    plt.close(figure)


def plot_fields(path: Path, vorticity: dict[str, Tensor], rows: tuple[int, ...] = (-7, -1)) -> None:
    """Draw the vorticity of some patches: one row each, one column per entry of `vorticity`."""
    truth = vorticity["truth"][list(rows)].numpy() * 1e5
    limit = float(np.percentile(np.abs(truth), 99))
    figure, panels = plt.subplots(
        len(rows), len(vorticity), figsize=(3.1 * len(vorticity) + 0.8, 3.1 * len(rows) + 0.3),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for line, row in zip(panels, rows, strict=True):
        for axes, (name, fields) in zip(line, vorticity.items(), strict=True):
            image = axes.imshow(fields[row].numpy() * 1e5, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if row == rows[0]:
                axes.set_title(name, fontsize=13)
    figure.colorbar(image, ax=panels, label="vorticity [1e-5 s⁻¹]", shrink=0.9, extend="both")
    figure.savefig(path)
    plt.close(figure)
