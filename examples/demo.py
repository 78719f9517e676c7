"""What `make demo` runs: AtmoDist on a week of real winds, as a distance and as a loss.

1. On the bundled sample (GFS 10 m winds every 6 hours, dates that the weights never saw): how AtmoDist,
   MSE and MAE grow with the hours between two fields, and how often each orders two lags rightly.
2. A small network that makes four times finer fields is trained with MSE, which blurs, and with
   AtmoDistLoss(sharp=True).

Pictures go to demo-output/. About a minute on two cores; where others have the cores the trainings stop early.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from demo_plots import plot_fields, plot_lags, plot_training
from torch import Tensor, nn

from atmoloss import AtmoDistLoss, atmodist_distance, distance_matrix, load_extractor
from atmoloss.data.sample import open_sample
from atmoloss.extractor import Extractor
from atmoloss.lag_2afc.triples import tally_anchors

PATCH = 64
FACTOR = 4
MAX_LAG = 96  # hours
N_TEST = 6  # the last fields, which the small network never sees
BATCH = 8
BANDS = ((32, 16), (16, 8), (8, 4))  # wavelengths in cells; the coarse grid resolves down to 8
LEARNING_RATE = 3e-3
SECONDS = 90.0  # of each training, which takes 10 to 25 on two idle cores
Criterion = Callable[[Tensor, dict[str, Tensor]], Tensor]


@dataclasses.dataclass
class Fields:
    """Patches in s⁻¹, their area means, and what the loss compares with: the features of the patches."""

    fine: Tensor
    coarse: Tensor
    features: dict[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, fine: Tensor, loss: AtmoDistLoss) -> Fields:
        """Coarsen and encode (N, 2, H, W)."""
        parts = [loss.features(batch) for batch in fine.split(64)]
        features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return cls(fine, F.avg_pool2d(fine, FACTOR), features)


def compare_distances(fields: Tensor, hours: np.ndarray, extractor: Extractor, output: Path) -> None:
    """Print and draw AtmoDist, MSE and MAE against lag."""
    matrices: dict[str, list[np.ndarray]] = {"AtmoDist": [], "MSE": [], "MAE": []}
    for patch in fields.split(PATCH, dim=-1):
        normalised = extractor.normalization(patch).flatten(1)
        matrices["AtmoDist"].append(distance_matrix(patch, weights=extractor).numpy())
        matrices["MSE"].append((torch.cdist(normalised, normalised) ** 2 / normalised.shape[1]).numpy())
        matrices["MAE"].append((torch.cdist(normalised, normalised, p=1.0) / normalised.shape[1]).numpy())

    lags = np.arange(6, MAX_LAG + 1, 6)
    between = hours[None, :] - hours[:, None]
    values, shares = {}, {}
    for name, each in matrices.items():
        by_lag = [np.concatenate([d[between == lag] for d in each]) for lag in lags]
        values[name] = [v / by_lag[-1].mean() for v in by_lag]
        right, total = np.sum([tally_anchors(d, hours, np.zeros(len(hours), int), MAX_LAG) for d in each], axis=0)
        shares[name] = right.sum() / total.sum()

    print(f"\nDistance against lag, mean over all pairs of {PATCH}x{PATCH} patches; 1 at {MAX_LAG} h")
    print("lag [h]" + "".join(f"{name:>11}" for name in values))
    for i, lag in enumerate(lags):
        print(f"{lag:7d}" + "".join(f"{v[i].mean():11.3f}" for v in values.values()))
    print("2AFC   " + "".join(f"{share:11.3f}" for share in shares.values()))
    print(f"2AFC: how often the nearer of two lags up to {MAX_LAG} h has the smaller distance; chance is 0.5.")
    plot_lags(output / "distance_vs_lag.png", lags, values, shares)


class Upsampler(nn.Module):
    """Coarse to fine fields, both in s⁻¹: bilinear interpolation and what a small network adds to it.

    Most of its 45,000 weights work on the coarse grid, where they cost a sixteenth.
    """

    def __init__(self, normalization: nn.Module, width: int = 32) -> None:
        super().__init__()
        self.normalization = normalization

        def conv(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.1))

        def up() -> nn.Upsample:
            return nn.Upsample(scale_factor=2, mode="bilinear")

        self.body = nn.Sequential(
            conv(2, width), conv(width, width), conv(width, width), conv(width, width),
            up(), conv(width, width), up(), conv(width, width // 2), conv(width // 2, width // 2),
        )  # fmt: skip
        self.last = nn.Conv2d(width // 2, 2, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # starts as plain interpolation
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, coarse: Tensor) -> Tensor:
        """Map (N, 2, H, W) to (N, 2, 4 H, 4 W)."""
        x = self.normalization(coarse)
        fine = F.interpolate(x, scale_factor=FACTOR, mode="bilinear") + self.last(self.body(x))
        return self.normalization.inverse(fine)


def train(
    label: str, criterion: Criterion, extractor: Extractor, known: Fields, unknown: Fields, steps: int, seconds: float
) -> tuple[Upsampler, list[float]]:
    """Train an upsampler until its steps or seconds are over; seed, batches and schedule are those of any criterion."""
    torch.manual_seed(0)
    model = Upsampler(extractor.normalization)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    history: list[float] = []
    every = max(1, steps // 6)
    print(f"\nTraining with {label}: {steps} steps, {sum(p.numel() for p in model.parameters()):,} parameters")
    start = time.perf_counter()
    for step in range(1, steps + 1):
        chosen = torch.randint(len(known.coarse), (BATCH,))
        loss = criterion(model(known.coarse[chosen]), {name: f[chosen] for name, f in known.features.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append(loss.item())
        late = step < steps and time.perf_counter() - start > seconds
        if step == 1 or step % every == 0 or late:
            with torch.no_grad():
                test_loss = criterion(model(unknown.coarse), unknown.features).item()
            print(
                f"  step {step:4d}   training loss {np.mean(history[-every:]):.4f}   test loss {test_loss:.4f}   "
                f"{time.perf_counter() - start:5.1f} s"
            )
        if late:
            print(f"  stopped after {step} of {steps} steps: {seconds:g} s are over, the machine is slow or busy")
            break
    return model, history


def train_upsamplers(fields: Tensor, extractor: Extractor, steps: int, seconds: float, output: Path) -> None:
    """Train with MSE and with AtmoDistLoss(sharp=True); print and draw what comes of it."""
    sharp = AtmoDistLoss(extractor, sharp=True)

    def mse(prediction: Tensor, target: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(extractor.normalization(prediction), target["normalised"])

    # Targets come back in every epoch: their features are computed once.
    starts = range(0, fields.shape[-1] - PATCH + 1, 8)
    known = Fields.of(torch.cat([fields[:-N_TEST, ..., s : s + PATCH] for s in starts]), sharp)
    unknown = Fields.of(torch.cat(fields[-N_TEST:].split(PATCH, dim=-1)), sharp)
    models, histories = {}, {}
    for name, criterion in (("MSE", mse), ("AtmoDistLoss(sharp=True)", sharp)):
        models[name], histories[name] = train(name, criterion, extractor, known, unknown, steps, seconds)

    truth = unknown.fine
    with torch.no_grad():
        results = {
            "coarse": F.interpolate(unknown.coarse, scale_factor=FACTOR),
            "bilinear": F.interpolate(unknown.coarse, scale_factor=FACTOR, mode="bilinear"),
            **{f"trained with {name}": model(unknown.coarse) for name, model in models.items()},
            "truth": truth,
        }
        print(f"\nOn {len(truth)} patches of the last {N_TEST} fields, which neither network saw")
        power = {name: vorticity_power(result) for name, result in results.items()}
        print(f"{'':38}{'MSE':>8}{'AtmoDist':>10}   vorticity power / truth at wavelengths [cells]")
        print(" " * 59 + "".join(f"{f'{long}-{short}':>9}" for long, short in BANDS))
        for name in list(results)[1:]:
            error = mse(results[name], unknown.features).item()
            distance = atmodist_distance(results[name], truth, weights=extractor).mean().item()
            shares = "".join(f"{share:9.2f}" for share in power[name] / power["truth"])
            print(f"{name:38}{error:8.3f}{distance:10.3f}   {shares}")
    plot_training(output / "training.png", histories)
    plot_fields(output / "super_resolution.png", {k: v[:, 1] for k, v in results.items() if k != "bilinear"})


def vorticity_power(fields: Tensor) -> np.ndarray:
    """Mean power of vorticity in each of BANDS, (N, 2, H, W) → (bands,); a Hann window hides the edges."""
    window = torch.hann_window(PATCH, periodic=False)
    power = torch.fft.fft2(fields[:, 1] * 1e5 * window[:, None] * window).abs().square().mean(0)
    frequency = torch.fft.fftfreq(PATCH)
    per_cell = torch.hypot(frequency[:, None], frequency)
    return np.array([power[(per_cell >= 1 / long) & (per_cell < 1 / short)].sum().item() for long, short in BANDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", default="default", help="bundled name, folder or Hub repository")
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--quick", action="store_true", help="a few steps only, for tests")
    arguments = parser.parse_args()
    start = time.perf_counter()
    arguments.output.mkdir(parents=True, exist_ok=True)

    sample = open_sample()  # divergence and vorticity, derived from the winds in the file
    fields = torch.from_numpy(sample.to_array().values).transpose(0, 1).contiguous()  # (T, 2, H, W)
    hours = (sample["time"].values - sample["time"].values[0]) // np.timedelta64(1, "h")
    extractor = load_extractor(arguments.weights)
    print(f"Sample: {sample.attrs['title']} ({sample.attrs['credit']})")
    print(f"{len(fields)} fields of {fields.shape[-2]}x{fields.shape[-1]} points; weights {extractor.info.id}")

    compare_distances(fields, hours, extractor, arguments.output)
    # Tests need the same steps on every machine.
    steps, seconds = (80, math.inf) if arguments.quick else (arguments.steps, SECONDS)
    train_upsamplers(fields, extractor, steps, seconds, arguments.output)
    print(f"\n{time.perf_counter() - start:.0f} s. Pictures:")
    for path in sorted(arguments.output.glob("*.png")):
        print(f"  {path}")


if __name__ == "__main__":
    main()
