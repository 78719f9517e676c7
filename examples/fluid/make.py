"""Make runs of elliptic vortices in a hidden mean flow, one a day, as a file that ``atmoloss train`` reads.

    cd examples
    python -m fluid.make fluid/fluid.nc
    atmoloss train fluid/next.toml

Each run has one to four ellipses of vorticity, of axis ratio 1 to 3, in a periodic domain of 128² cells, and a mean
flow of up to 4 cells a step in each direction that a single field does not tell. A window of 64² is kept: what is
outside of it matters and is not seen. The winds are in the file for tests of what was learned; training leaves them.
A cell counts as 0.1° and a step as an hour, so that vorticity and winds have units.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from atmoloss.sphere import EARTH_RADIUS

from .solver import shift, solve, velocity

DOMAIN, PATCH, FRAMES = 128, 64, 10
PRESENT = 5  # of the ten fields of a run: predictions are scored from there
SPACING = 0.1  # degrees
HOUR = 3600.0
MAX_FLOW = 4.0  # cells a step
SEEN = slice((DOMAIN - PATCH) // 2, (DOMAIN + PATCH) // 2)  # rows and columns of the window
_AT_ONCE = 16


def ellipses(generator: torch.Generator, flow: Tensor) -> Tensor:
    """Draw the vorticity of one run at its first step, (128, 128), 1/step; halfway its vortices lie in the window."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    cells = torch.arange(DOMAIN, dtype=torch.float64)
    total = torch.zeros(DOMAIN, DOMAIN, dtype=torch.float64)
    for _ in range(int(torch.randint(1, 5, (), generator=generator))):
        x = DOMAIN / 2 + uniform(-0.4, 0.4) * PATCH - float(flow[0]) * FRAMES / 2
        row = DOMAIN / 2 + uniform(-0.4, 0.4) * PATCH + float(flow[1]) * FRAMES / 2
        ratio, area, angle = math.sqrt(uniform(1.0, 3.0)), uniform(4.0, 9.0), uniform(0.0, math.pi)
        strength = uniform(0.3, 1.0) * (1.0 if uniform(0.0, 1.0) < 0.5 else -1.0)
        dx, dy = ((d + DOMAIN / 2) % DOMAIN - DOMAIN / 2 for d in (cells - x, row - cells))
        dx, dy = dx[None, :], dy[:, None]
        along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
        distance = torch.hypot(along / (area * ratio), across / (area / ratio))  # 1 on the edge
        total += strength * torch.sigmoid((1 - distance) * area / 1.5)  # an edge of some cells, which the grid resolves
    return total


def draw(runs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw runs: vorticity at the first step, (runs, 128, 128), and mean flow eastward and northward, (runs, 2)."""
    generator = torch.Generator().manual_seed(seed)
    flow = MAX_FLOW * (2 * torch.rand(runs, 2, generator=generator, dtype=torch.float64) - 1)
    return torch.stack([ellipses(generator, f) for f in flow]), flow


def still(start: Tensor) -> Tensor:
    """Return runs without their mean flow, (runs, 10, 128, 128), from their first step."""
    return solve(start, FRAMES, viscosity=0.02)


def moved(series: Tensor, flow: Tensor, added: Tensor | None = None) -> Tensor:
    """Return runs of :func:`still` in their mean flow, (runs, 10, 128, 128).

    Args:
        series: of :func:`still`.
        flow: of :func:`draw`.
        added: a further mean flow, (runs, 2), which leaves the present as it is and moves the past and the future.
    """
    steps = torch.arange(FRAMES, dtype=torch.float64)
    added = torch.zeros_like(flow) if added is None else added
    return shift(series, *(flow[:, None, axis] * steps + added[:, None, axis] * (steps - PRESENT) for axis in (0, 1)))


def window(start: Tensor, flow: Tensor) -> dict[str, Tensor]:
    """Return what is seen of runs of :func:`draw`: ``vorticity``, ``u`` and ``v``, (runs, 10, 64, 64)."""
    vorticity = moved(still(start), flow)
    u, v = velocity(torch.fft.rfft2(vorticity), DOMAIN)
    east, north = flow[..., None, None, None].unbind(1)
    fields = {"vorticity": vorticity, "u": u + east, "v": v + north}
    return {name: field[..., SEEN, SEEN].float() for name, field in fields.items()}


def make(runs: int, seed: int) -> dict[str, np.ndarray]:
    """Make runs: ``vorticity``, ``u``, ``v`` (runs, 10, 64, 64) and ``flow`` (runs, 2); cells and steps are units."""
    start, flow = draw(runs, seed)
    parts = [window(s, f) for s, f in zip(start.split(_AT_ONCE), flow.split(_AT_ONCE), strict=True)]
    kept = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return {**kept, "flow": flow.numpy()}


def write(path: str, runs: int, seed: int) -> None:
    """Write :func:`make` as netCDF: one run a day, from its first hour, so that no sequence spans two."""
    import xarray as xr

    data = make(runs, seed)
    days = np.datetime64("2001-01-01", "ns") + np.arange(runs) * np.timedelta64(1, "D")
    times = (days[:, None] + np.arange(FRAMES) * np.timedelta64(1, "h")).reshape(-1)
    speed = math.radians(SPACING) * EARTH_RADIUS / HOUR
    cells = SPACING * (np.arange(PATCH) - (PATCH - 1) / 2)
    described = {
        "vorticity": (1 / HOUR, "atmosphere_relative_vorticity", "s-1"),
        "u": (speed, "eastward_wind", "m s-1"),
        "v": (speed, "northward_wind", "m s-1"),
    }
    fields = {
        name: (
            ("time", "latitude", "longitude"),
            factor * data[name].reshape(-1, PATCH, PATCH),
            {"standard_name": standard, "units": units},
        )
        for name, (factor, standard, units) in described.items()
    }
    coordinates = {"time": times, "latitude": -cells, "longitude": cells + 10.0}
    history = f"atmoloss examples/fluid, {runs} runs, seed {seed}"
    xr.Dataset(fields, coordinates, {"history": history}).to_netcdf(path, engine="h5netcdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", help="The netCDF file to write.")
    parser.add_argument("--runs", type=int, default=992, help="Runs (default: 992, 768 of them to train on).")
    parser.add_argument("--seed", type=int, default=0, help="Of positions, shapes, strengths and mean flows.")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    write(given.output, given.runs, given.seed)
    print(f"{given.runs} runs written to {given.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
