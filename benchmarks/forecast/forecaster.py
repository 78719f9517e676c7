"""A forecast of 12 hours: the network, its cases, its training, and its forecasts for the whole globe."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "examples"))

from srgan import measures  # noqa: E402
from srgan.config import ContentConfig  # noqa: E402
from srgan.content import ContentLoss  # noqa: E402
from srgan.data import PatchBatch  # noqa: E402
from srgan.infer import beyond_pole  # noqa: E402
from srgan.store import StoredGenerator, start_from  # noqa: E402
from srgan.trainer import ContentTrainer, means, prepare  # noqa: E402

from atmoloss.data.sources import FieldSource  # noqa: E402
from atmoloss.normalization import LogNormalization  # noqa: E402
from atmoloss.training.loop import Run, open_run, train  # noqa: E402

HOURS = (-6, 0, 12)
"""Of the two fields that a forecast starts from, and of the one that it is of."""
_SLOPE = 0.2
_STRIDE = 4  # of the lowest level: rows and columns are multiples of it
_HALO = 32  # cells around the globe, more than the network sees


@dataclasses.dataclass(frozen=True)
class ForecastConfig(ContentConfig):
    """Everything that decides what a forecast run computes.

    Attributes:
        width: channels of the U-Net's first level.
        initial_generator: folder of a network to start from.
    """

    width: int = 24
    initial_generator: str = ""


class UNet(nn.Module):
    """Two normalised fields, 6 hours apart, and the latitude to the change until the forecast's time; no normalisation.

    The latitude stands for what divergence and vorticity do not say: which way the mean wind blows.

    Args:
        channels: C, of a field.
        width: of the first level; the two below have twice and four times as many.

    Shape:
        (N, 2 C, H, W) and (N, H) degrees north → (N, C, H, W), H and W multiples of 4. 349,418 parameters for two
        channels and a width of 24.
    """

    def __init__(self, *, channels: int = 2, width: int = 24) -> None:
        super().__init__()
        self.architecture = {"channels": channels, "width": width}
        a, b, c = width, 2 * width, 4 * width
        self.down = nn.ModuleList([_convs(2 * channels + 1, a), _convs(a, b), _convs(b, c, 3)])
        self.up = nn.ModuleList([_convs(c + b, b), _convs(b + a, a)])
        self.out_conv = nn.Conv2d(a, channels, 3, padding=1)
        nn.init.zeros_(self.out_conv.weight)  # it starts as persistence
        nn.init.zeros_(self.out_conv.bias)  # type: ignore[arg-type]

    def forward(self, fields: Tensor, latitude: Tensor) -> Tensor:
        """Return the forecast: the second of the two fields, and what the network adds to it."""
        sine = torch.sin(torch.deg2rad(latitude))[:, None, :, None].expand(-1, 1, -1, fields.shape[-1])
        x = torch.cat((fields, sine.to(fields)), 1)
        levels = []
        for k, convs in enumerate(self.down):
            x = convs(F.avg_pool2d(x, 2) if k else x)
            levels.append(x)
        for convs, level in zip(self.up, levels[-2::-1], strict=True):
            x = convs(torch.cat((F.interpolate(x, scale_factor=2, mode="bilinear"), level), 1))
        out: Tensor = fields.chunk(2, 1)[1] + self.out_conv(x)
        return out


def _convs(channels: int, width: int, count: int = 2) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(count):
        layers += [nn.Conv2d(width if k else channels, width, 3, padding=1), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*layers)


def cases_of(source: FieldSource, at: Sequence[int] = HOURS) -> FieldSource:
    """Return the forecasts that a source can check: its channels several times, at these hours of each other; the
    times are those of the last, valid times.
    """
    place = {key: i for i, key in enumerate(zip(source.run, source.hours, strict=True))}
    rows = [[place.get((run, hour + h)) for h in at] for run, hour in place]
    index = np.array([row for row in rows if None not in row], int).reshape(-1, len(at))
    return dataclasses.replace(
        source,
        channels=source.channels * len(at),
        values=_Cases(source.values, index),
        times=source.times[index[:, -1]],
        run=source.run[index[:, -1]],
        attributes=(),
    )


class _Cases:
    """Fields of several times as channels of one, without copying them: (T, 3 C, H, W)."""

    def __init__(self, values: Any, index: np.ndarray) -> None:
        self._values, self._index = values, index
        self.shape = (len(index), values.shape[1] * index.shape[1], *values.shape[2:])

    def __getitem__(self, key: Any) -> np.ndarray:
        time, *rest = key if isinstance(key, tuple) else (key,)
        return np.concatenate([np.asarray(self._values[(i, *rest)]) for i in self._index[time].T], -3)


class Forecaster(ContentTrainer[ForecastConfig]):
    """The U-Net and its optimizer."""

    shown = ("mse", "content")

    def __init__(self, run: Run[ForecastConfig], normalization: LogNormalization, content: ContentLoss) -> None:
        config = run.config
        torch.manual_seed(config.seed)
        network = UNet(channels=len(config.variables), width=config.width)
        network.to(run.group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.initial_generator:
            start_from(Path(config.initial_generator), network, normalization, config.variables)
        cases = {n: [c for s in some if len((c := cases_of(s)).times)] for n, some in run.splits.items()}
        run = dataclasses.replace(run, splits=cases)
        super().__init__(run, normalization, content, network, {config.steps: "generator"})
        self.optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)

    def step(self, batch: PatchBatch, step: int) -> dict[str, float]:
        """Lower the content loss of forecasts by one step."""
        self.optimizer.param_groups[0]["lr"] = self.config.rate_at(step)
        made, truth = self._forecast(batch)
        content = self.content(made, truth, step).mean()
        numbers = means(self.group, content=content, mse=measures.mse(made.detach(), truth).mean())
        self.optimizer.zero_grad(set_to_none=True)
        content.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return numbers

    def examine(self, batch: PatchBatch) -> dict[str, Tensor]:
        """Return MSE, log-spectral difference and content loss of each patch."""
        made, truth = self._forecast(batch)
        values = {"mse": measures.mse, "log_spectral": measures.log_spectral, "content": self.content}
        return {f"validation_{name}": value(made, truth) for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return what a run continues from."""
        parts = {"generator": self.generator, "optimizer": self.optimizer}
        return {**super().state_dict(), **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _forecast(self, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        """Return forecasts and truth of a batch of cases, normalised."""
        parts = batch.fields.to(self.group.device).chunk(len(HOURS), 1)
        *given, truth = (self.normalization(x).contiguous(memory_format=torch.channels_last) for x in parts)
        return self.generator(torch.cat(given, 1), batch.latitude.to(self.group.device)), truth


def run(config: ForecastConfig, folder: Path, *, resume: bool, sources: Sequence[FieldSource]) -> Path:
    """Train, or continue to train, into a run folder; return the folder of the network."""
    opened = open_run(config, folder, resume=resume, sources=sources)
    trainer = Forecaster(opened, *prepare(opened))
    train(opened, trainer)
    return trainer.trained


@torch.no_grad()
def forecasts(stored: StoredGenerator, cases: FieldSource) -> np.ndarray:
    """Return the forecasts (T, C, H, W) of global cases, physical units."""
    height, width, latitude = len(cases.latitude), len(cases.longitude), cases.latitude
    names = (*stored.variables * 2, "latitude")
    rows = torch.from_numpy(latitude).float()[None, :, None].expand(-1, -1, width)
    below = _HALO + -(height + 2 * _HALO) % _STRIDE
    columns = torch.arange(-_HALO, width + _HALO + -width % _STRIDE) % width
    out = []
    for t in range(len(cases.times)):
        given = torch.from_numpy(np.asarray(cases.values[t], np.float32))[: 2 * len(stored.variables)]
        x = torch.cat((given, rows))[None]
        north = beyond_pole(x, latitude, _HALO, names).flip(-2)
        south = beyond_pole(x.flip(-2), -latitude[::-1], below, names)
        x = torch.cat((north, x, south), -2)[..., columns]
        fields = torch.cat([stored.normalization(part) for part in x[:, :-1].chunk(2, 1)], 1)
        made = stored.generator(fields.contiguous(memory_format=torch.channels_last), x[:, -1, :, 0])
        made = stored.normalization.inverse(made)[0, :, _HALO : _HALO + height, _HALO : _HALO + width].numpy()
        pole = np.abs(latitude)[:, None] > 90 - 1e-4  # one point, of a scalar one value
        out.append(np.where(pole, made.mean(-1, keepdims=True), made))
    return np.stack(out)
