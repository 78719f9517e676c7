"""SPEEDY physics on the Dinosaur spectral core, set up as the shared simulation was, one jitted day at a time."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax_datetime as jdt
import numpy as np
import xarray as xr
from dinosaur.coordinate_systems import CoordinateSystem, get_spectral_interpolate_fn
from dinosaur.primitive_equations import State
from dinosaur.sigma_coordinates import SigmaCoordinates
from dinosaur.spherical_harmonic import FastSphericalHarmonics, Grid
from jcm.constants import physical_constants
from jcm.data.bc.interpolate import upsample_forcings_ds
from jcm.date import DateData
from jcm.diffusion import DiffusionFilter
from jcm.dycore.dinosaur.dycore import DinosaurDycore
from jcm.forcing import ForcingData
from jcm.model import Model
from jcm.physics.speedy.speedy_terms import speedy_physics
from jcm.physics_interface import compute_physics_step_gridpoint
from jcm.terrain import TerrainData, get_terrain
from schedule import RECORD_HOURS, TRUNCATIONS

HALF_LEVELS = (0.0, 0.05, 0.14, 0.26, 0.42, 0.6, 0.77, 0.85, 0.916, 1.0)
LEVEL = 7
SIGMA = 0.883  # the full level between half levels 0.85 and 0.916
MEAN_SURFACE_PRESSURE = 98500.0  # Pa
LAPSE_RATE = 0.0065  # K/m
REST_TEMPERATURE = 288.0  # K, also the reference temperature of the semi-implicit scheme
SEED_VORTICITY = 5e-6  # 1/s, rms of the perturbation that breaks the zonal symmetry of the state of rest
SEED_ORDERS = 15
STEPS_OF_RECORD = 60 * RECORD_HOURS
Pytree = Any


def coordinates(truncation: int) -> CoordinateSystem:
    """Return the Gaussian grid of a truncation with nine levels; FFT transforms are twice as fast on a CPU."""
    harmonics = functools.partial(FastSphericalHarmonics, fourier_method="fft")
    grid = Grid.construct(
        max_wavenumber=truncation,
        gaussian_nodes=TRUNCATIONS[truncation].latitudes // 2,
        radius=physical_constants.rearth,
        spherical_harmonics_impl=harmonics,
    )
    return CoordinateSystem(horizontal=grid, vertical=SigmaCoordinates(np.array(HALF_LEVELS)))


def diffusion(truncation: int) -> DiffusionFilter:
    """Return del⁸ diffusion; given per level, since the scalar form of the order underflows in float32."""
    seconds = 3600.0 * TRUNCATIONS[truncation].damping_hours
    orders = jnp.full(len(HALF_LEVELS) - 1, 4, dtype=jnp.int32)
    return DiffusionFilter(
        div_timescale=seconds / 5,
        div_order=4,
        vor_q_timescale=seconds,
        vor_q_order=4,
        temp_timescale=seconds,
        temp_order=4,
        level_orders_div=orders,
        level_orders_vor_q=orders,
        level_orders_temp=orders,
    )


def climatology(path: Path, coords: CoordinateSystem) -> ForcingData:
    """Return sea-surface temperature, sea ice and land surface of every day of the year on a grid.

    Twelve months are regridded and then interpolated to days: both are linear, and jcm's own order
    (``ForcingData.from_file``) costs thirty times the regridding.
    """
    with xr.open_dataset(path) as monthly:
        if (monthly.sizes["lon"], monthly.sizes["lat"]) != coords.horizontal.nodal_shape:
            monthly = upsample_forcings_ds(monthly, coords.horizontal)
        return ForcingData.from_dataset(monthly, coords=coords, align_mode="wrap_year")


class Atmosphere:
    """One truncation with one time step.

    What evolves is a pair ``(state, carry)``: the spectral state, and what SPEEDY remembers between steps.

    Args:
        truncation: a key of ``schedule.TRUNCATIONS``.
        step: minutes.
    """

    def __init__(self, truncation: int, step: int) -> None:
        self.truncation, self.step = truncation, step
        self.coords = coordinates(truncation)
        boundary = Path(str(resources.files("jcm.data.bc") / "t63"))
        orography, land = get_terrain(terrain_file=boundary / "terrain.nc", grid=self.coords.horizontal)
        terrain = TerrainData.from_coords(self.coords, orography=orography, fmask=land, lfluxland=True)
        self.core = DinosaurDycore(
            self.coords, terrain, 60.0 * step, diffusion=diffusion(truncation), advection="eulerian"
        )
        # The model is not run: it binds physics and core to the same grid and step.
        self.model = Model(dycore=self.core, physics=speedy_physics())
        self.forcing = climatology(boundary / "forcing.nc", self.coords)
        self._day = jax.jit(self._one_day)
        # Compiled as one: taken singly, its many small operations compile for minutes.
        self._fresh_carry = jax.jit(self.model.initial_physics_carry)

    def at_rest(self, seed: int) -> tuple[State, Pytree]:
        """Return an isothermal atmosphere at rest over the orography, with small random vorticity."""
        height = self._orography_height()
        gas = physical_constants
        pressure = jnp.exp(-gas.grav * height / (gas.rd * REST_TEMPERATURE))
        state = self.core.initial_state(None)
        state = state.replace(
            vorticity=state.vorticity + self._random_vorticity(seed),
            log_surface_pressure=self._to_modal(jnp.log(pressure)[None]),
            sim_time=jnp.float32(0.0),  # an array, as every later state has: no second compilation
        )
        return self.with_fixed_mass(state), self._fresh_carry()

    def interpolated(self, coarse: Atmosphere, state: State) -> tuple[State, Pytree]:
        """Return the state of a coarser atmosphere here, its surface pressure moved to this orography.

        The air between the two surfaces is taken to have the temperature of the lowest level and a lapse
        rate of 6.5 K/km. What physics remembers starts afresh.
        """
        state = self.padded(coarse, state)
        old_height = self.coords.horizontal.to_nodal(self.padded(coarse, coarse._modal_orography()))
        rise = self._orography_height() - old_height
        lowest = self.coords.horizontal.to_nodal(state.temperature_variation[-1]) + REST_TEMPERATURE
        exponent = physical_constants.grav / (physical_constants.rd * LAPSE_RATE)
        shift = exponent * jnp.log1p(-LAPSE_RATE * rise / lowest)
        log_pressure = self.coords.horizontal.to_nodal(state.log_surface_pressure) + shift
        state = state.replace(log_surface_pressure=self._to_modal(log_pressure))
        return self.with_fixed_mass(state), self._fresh_carry()

    def padded(self, coarse: Atmosphere, tree: Pytree) -> Pytree:
        """Return the coefficients of a coarser atmosphere on this grid, zero beyond its truncation."""
        return get_spectral_interpolate_fn(coarse.coords, self.coords)(tree)

    def advance(self, state: State, carry: Pytree, date: np.datetime64) -> tuple[State, Pytree, np.ndarray, np.ndarray]:
        """Run one day from 00 UTC of ``date``.

        Returns:
            The state and memory at the end of the day (mass reset), and vorticity and divergence at
            σ = 0.883 after every 3 hours in the core's layout, (8, modes, degrees) in s⁻¹.
        """
        clock = jdt.to_datetime(str(np.datetime64(date, "D")))
        state, carry, vorticity, divergence = self._day(state, carry, self.forcing, clock)
        return state, carry, np.asarray(vorticity), np.asarray(divergence)

    def at_level(self, field: jax.Array) -> np.ndarray:
        """Return vorticity or divergence of a state as one instant of what ``advance`` returns."""
        return np.asarray(field[LEVEL])[None]

    def surface_pressure(self, state: State) -> float:
        """Return the global mean surface pressure in Pa."""
        return float(self._mean_pressure(state))

    def with_fixed_mass(self, state: State) -> State:
        """Scale surface pressure to its global mean: rounding loses a few 10⁻⁵ of the air a day."""
        shift = jnp.log(MEAN_SURFACE_PRESSURE / self._mean_pressure(state))
        # The constant field 1 has the coefficient sqrt(4π) of Y_00.
        mean = state.log_surface_pressure[0, 0, 0] + shift * jnp.sqrt(4 * jnp.pi)
        return state.replace(log_surface_pressure=state.log_surface_pressure.at[0, 0, 0].set(mean))

    def _one_day(self, state: State, carry: Pytree, forcing: ForcingData, clock: jdt.Datetime) -> tuple[Any, ...]:
        seconds = 60 * self.step

        def step(now: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], None]:
            state, carry, clock = now
            boundary = forcing.select(DateData.set_date(clock, dt_seconds=float(seconds)))
            tendency, carry = compute_physics_step_gridpoint(
                self.core.to_physics_state(state),
                boundary,
                self.model.terrain,
                carry,
                physics=self.model.physics,
                time_step=float(seconds),
            )
            state = self.core.step(state, tendency)
            return (state, carry, clock + jdt.Timedelta(seconds=jnp.int32(seconds))), None

        def record(now: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], tuple[jax.Array, jax.Array]]:
            now, _ = jax.lax.scan(step, now, None, length=STEPS_OF_RECORD // self.step)
            return now, (now[0].vorticity[LEVEL], now[0].divergence[LEVEL])

        # The core counts seconds in float32, for itself; kept small it stays exact.
        start = (state.replace(sim_time=jnp.zeros_like(state.sim_time)), carry, clock)
        (state, carry, _), fields = jax.lax.scan(record, start, None, length=24 // RECORD_HOURS)
        return self.with_fixed_mass(state), carry, *fields

    def _mean_pressure(self, state: State) -> jax.Array:
        pressure = physical_constants.p0 * jnp.exp(self.coords.horizontal.to_nodal(state.log_surface_pressure[0]))
        weights = jnp.asarray(self.coords.horizontal.quadrature_weights)
        return jnp.sum(pressure * weights) / jnp.sum(weights * jnp.ones_like(pressure))

    def _to_modal(self, field: jax.Array) -> jax.Array:
        # The last degree is the core's own spare one; the state never holds it.
        return self.coords.horizontal.clip_wavenumbers(self.coords.horizontal.to_modal(field))

    def _modal_orography(self) -> jax.Array:
        return jnp.asarray(self.core.primitive.orography)

    def _orography_height(self) -> jax.Array:
        return self.coords.horizontal.to_nodal(self._modal_orography())

    def _random_vorticity(self, seed: int) -> jax.Array:
        grid = self.coords.horizontal
        order, degree = np.meshgrid(*grid.modal_axes, indexing="ij")
        chosen = np.asarray(grid.mask) & (np.abs(order) >= 1) & (degree <= SEED_ORDERS)
        noise = np.random.default_rng(seed).standard_normal(chosen.shape) * chosen
        # Sum of squares of the coefficients = 4π · mean square of the field.
        noise *= SEED_VORTICITY * np.sqrt(4 * np.pi / np.sum(noise**2))
        return jnp.asarray(noise, dtype=jnp.float32)
