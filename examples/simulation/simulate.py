"""Simulate vorticity and divergence at σ = 0.883, 3-hourly, with SPEEDY physics on a spectral core.

    python simulate.py speedy_t85.nc --truncation 85 --days 119

The same command continues a run that was stopped, wherever that was, and more ``--days`` lengthen one that is
finished. README.md has times, sizes and limits.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import numpy as np
from schedule import TRUNCATIONS, SimulationError, Stage, plan

PACKAGES = ("jcm", "dinosaur", "jax")
LARGEST_VORTICITY = 2e-4  # 1/s, rms; ten times what a sound flow has


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="netCDF file; OUTPUT.work beside it holds the run in progress")
    parser.add_argument("--truncation", type=int, default=85, help=f"one of {sorted(TRUNCATIONS)} (default 85)")
    parser.add_argument("--days", type=int, default=119, help="days to record (default 119)")
    parser.add_argument("--start", default="2001-01-01", help="date of the first record (default 2001-01-01)")
    parser.add_argument("--spin-up-days", type=int, default=70, help="from rest, at T42 or below (default 70)")
    parser.add_argument("--settle-days", type=int, default=8, help="dropped after the step up from T42 (default 8)")
    parser.add_argument("--step", type=int, help="minutes; default is the longest stable one")
    parser.add_argument("--seed", type=int, default=0, help="of the initial perturbation (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def simulate(options: argparse.Namespace) -> Path:
    """Run, or continue, what ``options`` say and write the output file.

    Raises:
        SimulationError: impossible options, or a flow that blew up.
    """
    stages = plan(
        options.truncation,
        options.days,
        spin_up_days=options.spin_up_days,
        settle_days=options.settle_days,
        step=options.step,
    )
    try:
        start = np.datetime64(options.start, "D")
    except ValueError:
        raise SimulationError(f"--start: got {options.start!r}, expected a date such as 2001-01-01") from None
    work = options.output.with_name(options.output.name + ".work")
    if options.output.exists() and not work.exists():
        raise SimulationError(f"{options.output} exists, and not the folder of its run: name another output")
    # Only after the cheap checks: JAX takes seconds to import.
    from checkpoint import Workspace

    workspace = Workspace(work, identity(options))
    run(stages, workspace, start, options.seed, quiet=options.quiet)
    write_output(options.output, workspace, options)
    return options.output


def identity(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the result depends on, apart from its length."""
    kept = ("truncation", "start", "spin_up_days", "settle_days", "step", "seed")
    return {key: getattr(options, key) for key in kept} | versions()


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def run(stages: list[Stage], workspace: Any, start: np.datetime64, seed: int, *, quiet: bool = False) -> None:
    """Run the stages from the workspace's checkpoint, or from rest, to their end."""
    from atmosphere import Atmosphere
    from tqdm import tqdm

    first, last = stages[0].first_day, stages[-1].end_day
    next_day, truncation = workspace.next_day() or (first, None)
    owner: Atmosphere | None = None  # the atmosphere whose grid the flow is on
    flow: Any = None
    with tqdm(total=last - first, initial=next_day - first, unit="day", disable=quiet) as bar:
        for stage in stages:
            if stage.end_day <= next_day:
                continue
            bar.set_description(f"T{stage.truncation}, {stage.step} min")
            atmosphere = Atmosphere(stage.truncation, stage.step)
            if owner is None and truncation is not None:
                same = truncation == stage.truncation
                owner = atmosphere if same else Atmosphere(truncation, TRUNCATIONS[truncation].longest_step)
                flow = workspace.load_state(owner.at_rest(seed))
            elif owner is None:
                owner, flow = atmosphere, atmosphere.at_rest(seed)
            if owner.truncation != stage.truncation:
                flow = atmosphere.interpolated(owner, flow[0])
            owner = atmosphere
            for day in range(max(stage.first_day, next_day), stage.end_day):
                flow = _one_day(atmosphere, flow, day, start, workspace)
                bar.update()


def _one_day(atmosphere: Any, flow: Any, day: int, start: np.datetime64, workspace: Any) -> Any:
    """Run one day and store its fields, if it is recorded, and the state at its end."""
    from coefficients import from_core

    state, carry, vorticity, divergence = atmosphere.advance(*flow, start + day)
    check_flow(vorticity, atmosphere, day)
    if day == 0:  # the instant at which the record starts
        vorticity = np.concatenate([atmosphere.at_level(flow[0].vorticity), vorticity])
        divergence = np.concatenate([atmosphere.at_level(flow[0].divergence), divergence])
    # The fields come first: a kill in between repeats the day and writes the same again.
    if day >= 0:
        series = [from_core(field, atmosphere.truncation) for field in (vorticity, divergence)]
        workspace.save_day(day, *series)
    workspace.save_state(day + 1, atmosphere.truncation, (state, carry))
    return state, carry


def check_flow(vorticity: np.ndarray, atmosphere: Any, day: int) -> None:
    """Raise ``SimulationError`` for vorticity (T, modes, degrees) that no sound flow has."""
    rms = np.sqrt(np.sum(vorticity.astype(float) ** 2, axis=(-2, -1)) / (4 * np.pi)).max()
    if not rms < LARGEST_VORTICITY:  # so that NaN fails, too
        raise SimulationError(
            f"T{atmosphere.truncation} with a step of {atmosphere.step} min blew up on day {day} "
            f"(rms vorticity {rms:.1e} s-1): "
            "name another output and try a shorter --step"
        )


def write_output(path: Path, workspace: Any, options: argparse.Namespace) -> None:
    """Pack the recorded days into the output file."""
    from atmosphere import HALF_LEVELS, SIGMA
    from coefficients import write
    from jcm.constants import physical_constants

    vorticity, divergence = workspace.load_days(options.days)
    used = versions()
    name = f"T{options.truncation}"
    levels = " ".join(f"{level:g}".removeprefix("0") or "0" for level in HALF_LEVELS)
    write(
        path,
        vorticity,
        divergence,
        options.truncation,
        options.start,
        sigma=SIGMA,
        title=(
            f"Simulated relative vorticity and divergence at sigma = {SIGMA}, {name}, 3-hourly "
            "(jcm: SPEEDY physics, Dinosaur spectral core)"
        ),
        source=(
            f"jcm {used['jcm']} (SPEEDY physics) on dinosaur {used['dinosaur']}, jax {used['jax']}, "
            f"float32; {name}, {len(HALF_LEVELS) - 1} sigma levels, climatological monthly SST/sea ice/land surface "
            "(jcm t63/forcing.nc), orography jcm t63/terrain.nc interpolated; synthetic atmosphere, no observations"
        ),
        level=(
            f"sigma = {SIGMA} (full level k=8 of 9, half levels {levels}); about 883 hPa at sea level for "
            "p_s = 1000 hPa; follows the terrain"
        ),
        earth_radius_m=float(physical_constants.rearth),
        note=(
            f"seed {options.seed}, {options.spin_up_days} days of spin-up from rest before the first record"
            + (f", {options.settle_days} days at {name} dropped" if options.truncation > 42 else "")
        ),
    )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        print(f"wrote {simulate(options)}")
    except SimulationError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
