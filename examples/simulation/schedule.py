"""Which truncations, time steps and days a simulation runs through. No JAX here."""

from __future__ import annotations

from dataclasses import dataclass

RECORD_HOURS = 3
SPIN_UP_TRUNCATION = 42
"""Finer atmospheres are spun up here: 70 days cost minutes rather than half an hour."""
OPENING_DAYS = 29
"""Days after an interpolation in which ``Truncation.opening_step`` holds."""


class SimulationError(Exception):
    """What went wrong, in one sentence for the user."""


@dataclass(frozen=True)
class Truncation:
    """One triangular truncation.

    Attributes:
        latitudes: Gaussian latitudes; there are twice as many longitudes.
        longest_step: minutes; longer ones blow up (T63 at 30) or were never tried.
        opening_step: minutes, the longest while the flow adapts to a new orography.
        damping_hours: e-folding time of the last wavenumber for vorticity, temperature and humidity;
            a fifth of it for divergence. T42 to T85 as the file of the bundled weights was made; T21 and T31 continue
            them with ECHAM's values (``jcm.diffusion.echam_dampth_hours``).
    """

    latitudes: int
    longest_step: int
    opening_step: int
    damping_hours: float


TRUNCATIONS = {
    21: Truncation(32, 30, 30, 16.1),
    31: Truncation(48, 30, 30, 12.0),
    42: Truncation(64, 30, 30, 9.5),
    63: Truncation(96, 20, 20, 7.0),
    85: Truncation(128, 20, 15, 3.6),
}


@dataclass(frozen=True)
class Stage:
    """Consecutive days with one truncation and one time step (minutes); day 0 is the first one recorded."""

    truncation: int
    step: int
    first_day: int
    end_day: int

    @property
    def days(self) -> range:
        """Return the days of this stage."""
        return range(self.first_day, self.end_day)


def check_step(truncation: int, step: int, longest: int) -> int:
    """Return a time step (minutes) that is stable and meets every recorded instant.

    Raises:
        SimulationError: otherwise.
    """
    if step > longest:
        raise SimulationError(f"--step: got {step} min, but T{truncation} is stable only up to {longest} min")
    if step <= 0 or (RECORD_HOURS * 60) % step:
        raise SimulationError(f"--step: got {step} min, expected a divisor of {RECORD_HOURS * 60}")
    return step


def plan(
    truncation: int, days: int, *, spin_up_days: int = 70, settle_days: int = 8, step: int | None = None
) -> list[Stage]:
    """Return the stages of a run of which ``days`` days are recorded, in order and without gaps.

    Up to T42 the atmosphere is spun up where it is recorded. Beyond, it is spun up at T42, interpolated,
    and ``settle_days`` are dropped before day 0.

    Args:
        truncation: a key of ``TRUNCATIONS``.
        days: days to record.
        spin_up_days: days from rest.
        settle_days: days dropped after an interpolation.
        step: minutes, of the recorded truncation; ``None`` takes the longest stable one.

    Raises:
        SimulationError: an unknown truncation, an unstable step or days that make no run.
    """
    if truncation not in TRUNCATIONS:
        raise SimulationError(f"--truncation: got {truncation}, expected one of {sorted(TRUNCATIONS)}")
    if days < 1 or spin_up_days < 0 or settle_days < 0:
        raise SimulationError("--days: expected at least 1, and no negative number of days to spin up or settle")
    limits = TRUNCATIONS[truncation]
    steady = check_step(truncation, limits.longest_step if step is None else step, limits.longest_step)
    if truncation <= SPIN_UP_TRUNCATION:
        return [Stage(truncation, steady, -spin_up_days, days)]
    opening_end = min(OPENING_DAYS - settle_days, days)
    opening = min(steady, limits.opening_step)
    coarse_step = TRUNCATIONS[SPIN_UP_TRUNCATION].longest_step
    stages = [Stage(SPIN_UP_TRUNCATION, coarse_step, -settle_days - spin_up_days, -settle_days)]
    stages += [Stage(truncation, opening, -settle_days, opening_end), Stage(truncation, steady, opening_end, days)]
    return [stage for stage in stages if stage.days]
