"""What else could one use? Distances that are not AtmoDist, on the validation dates of the study.

    python benchmarks/pretext/controls.py [--no-flow]

Random weights and an autoencoder of the study's base encoder (trained on the same batches to reconstruct each field
from its deepest features, then compared stage by stage with equal mean square), every baseline of
``atmoloss evaluate``, a spectral distance (log power over the modulus of the wavenumber), and the displacement
that optical flow finds (scikit-image's ``optical_flow_ilk`` of vorticity, mean length in cells; where scikit-image is
installed: ``pip install scikit-image``). Patches, dates and triples are those of study.py. Writes results/controls.md.
Its row "MAE of the wind that the patch implies" is from commit 8a98d61, the last with the layer that computed it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from study import RESULTS, SHORT, by_source, config_of, read_results, values_of
from torch import Tensor, nn

from atmoloss.data.sequences import SequenceDataset, read_patch
from atmoloss.data.sources import FieldSource
from atmoloss.data.splits import split_by_date
from atmoloss.extractor import Extractor
from atmoloss.files import write_atomically
from atmoloss.lag_2afc.baselines import (
    absolute_distances,
    extractor_measure,
    pixel_measures,
    random_extractor,
    squared_distances,
    ssim_measure,
)
from atmoloss.lag_2afc.triples import Measure, PatchFields, measure_source, patch_size
from atmoloss.networks import Encoder
from atmoloss.normalization import LogNormalization
from atmoloss.training.config import TrainConfig
from atmoloss.training.loop import open_sources
from atmoloss.training.model import build_model, fit_normalization, make_optimizer, make_scheduler
from atmoloss.training.publish import winds_of
from atmoloss.training.weights_folder import build_extractor

FLOW_PATCHES = 2
FLOW = f"length of optical flow (vorticity, {FLOW_PATCHES} patches)"


class Decoder(nn.Module):
    """Deepest features back to the fields, a factor of two at a time."""

    def __init__(self, channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        widths = [*reversed(channels), channels[0]]
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, out_channels, 16 h, 16 w)."""
        for up in self.ups:
            x = F.interpolate(up(x), scale_factor=2, mode="bilinear")
        out: Tensor = self.last(x)
        return out


def train_autoencoder(config: TrainConfig, train: Sequence[FieldSource], normalization: LogNormalization) -> nn.Module:
    """Train the base encoder to keep what the fields hold; the same batches, optimizer and schedule."""
    model = build_model(config)
    model.decoder = Decoder(list(model.encoder.channels.values()), len(config.variables))
    optimizer = make_optimizer(config, model)
    scheduler = make_scheduler(config, optimizer)
    data = SequenceDataset(train, config, seed=config.seed, length=config.steps)
    for step in range(config.steps):
        x = normalization(data[step].fields.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        loss = (model.decoder(list(model.encoder(x).values())[-1]) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:
            print(f"autoencoder, step {step}: {loss.item():.3f} of the variance is lost", file=sys.stderr)
    return model.eval()


@torch.no_grad()
def equalised(encoder: Encoder, extractor: Extractor, fields: Tensor) -> Extractor:
    """Return the extractor of ``encoder`` with every stage scaled to the same mean square on ``fields``."""
    features = extractor(fields)
    gains = {n: f.square().mean().rsqrt().expand(f.shape[1]).clone() for n, f in features.items()}
    info = dataclasses.replace(extractor.info, layers={}, layer_scales={})
    return Extractor(encoder, extractor.normalization, info, gains)


def log_spectra(x: Tensor) -> Tensor:
    """Return log power (T, C, K) over the modulus of the wavenumber, of (T, C, H, W) with a Hann window."""
    h, w = x.shape[-2:]
    window = torch.hann_window(h)[:, None] * torch.hann_window(w)
    power = torch.fft.fft2((x - x.mean((-2, -1), keepdim=True)) * window).abs().square()
    k = torch.hypot(torch.fft.fftfreq(h)[:, None] * h, torch.fft.fftfreq(w) * w).round().long()
    n = min(h, w) // 2
    inside = (k > 0) & (k <= n)
    total = torch.zeros(*x.shape[:2], n).index_add_(-1, k[inside] - 1, power[..., inside])
    return total.clamp_min(1e-12).log()


def winds_without_mean(patch: PatchFields) -> Tensor | None:
    """Return distances of the winds without their mean over the patch, which no vorticity inside can tell."""
    if "winds" not in patch:
        return None
    return absolute_distances((patch["winds"] - patch["winds"].mean((-2, -1), keepdim=True)).flatten(1))


def spectrum_measure(normalise: LogNormalization) -> Measure:
    """Return the squared distance of log spectra."""
    return lambda patch: squared_distances(log_spectra(normalise(patch["fields"])).flatten(1))


def flow_measure(normalise: LogNormalization) -> Measure | None:
    """Mean length of the displacement between two vorticity fields, or ``None`` without scikit-image."""
    try:
        from skimage.registration import optical_flow_ilk
    except ImportError:
        return None

    def measure(patch: PatchFields) -> Tensor:
        x = normalise(patch["fields"])[:, -1].numpy()
        span = x.max() - x.min()
        out = torch.zeros(len(x), len(x))
        for t in range(len(x)):
            for u in range(t + 1, min(t + 33, len(x))):
                flow = optical_flow_ilk(x[t] / span, x[u] / span, radius=7, num_warp=3)
                out[t, u] = float(np.hypot(*flow).mean())
        return out

    return measure


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the Markdown table, the best mean first, with the study's plain arms among the controls."""
    of_study: dict[str, dict[str, float]] = {}
    for arm in ("base", "winds"):
        values = [values_of(row) for row in read_results() if row["arm"] == arm]
        if values:
            of_study[f"**AtmoDist, arm {arm} of study.md**"] = dict(zip(SHORT, np.mean(values, 0), strict=True))
    lines = ["| distance | " + " | ".join(SHORT.values()) + " |", "|---|" + "---|" * len(SHORT)]
    for name, row in sorted({**rows, **of_study}.items(), key=lambda item: -np.mean(list(item[1].values()))):
        lines.append(f"| {name} | {by_source(row)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-flow", action="store_true", help="leave out optical flow (minutes)")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    config = config_of("base", 0)
    sources = open_sources(config)
    splits = split_by_date(sources, config.validation, config.test)
    normalization = fit_normalization(config, splits["train"])
    model = train_autoencoder(config, splits["train"], normalization)
    autoencoder = build_extractor(config, model, normalization)
    flow = None if arguments.no_flow else flow_measure(normalization)
    rows: dict[str, dict[str, float]] = {}
    for source in splits["validation"]:
        size = patch_size(source)
        middle = (len(source.latitude) - size) // 2
        sample = torch.from_numpy(read_patch(source, np.arange(min(16, len(source.times))), middle, 0, size))
        measures: dict[str, Measure] = {
            "random weights": extractor_measure(random_extractor(autoencoder.info, autoencoder.normalization, sample)),
            "autoencoder": extractor_measure(equalised(model.encoder, autoencoder, sample)),
            **pixel_measures(normalization),
            "SSIM of fields": ssim_measure(normalization),
            "log power spectrum": spectrum_measure(normalization),
            "MAE of winds without their mean": winds_without_mean,
        }
        winds = winds_of(config, source)
        tallies = measure_source(source, measures, winds=winds, size=size)
        if flow is not None:  # minutes a patch
            tallies |= measure_source(source, {FLOW: flow}, size=size, limit=FLOW_PATCHES)
        for name, tally in tallies.items():
            rows.setdefault(name, {})[source.name] = tally.share
        print(source.name, {name: round(row.get(source.name, np.nan), 3) for name, row in rows.items()}, flush=True)
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / "controls.md", table(rows).encode())
    write_atomically(RESULTS / "controls.json", (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
