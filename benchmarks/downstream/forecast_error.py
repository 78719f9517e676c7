"""How wrong is a forecast, in hours? GFS around Japan against its analyses, read by AtmoDist and by pixels.

    python benchmarks/downstream/forecast_error.py [--every 1]

Every distance is read as hours by its own curve of distance against lag, fitted in the same way to analyses of
training dates (`atmoloss.hours`). Forecasts are those valid on held-out dates. Beside their lead stands how far their
weather is displaced, by the best shift of vorticity, and a case that is made: analyses moved by known distances.
Writes results/forecast_error.json and .md and docs/figures/downstream-forecast-error.png; a minute or two.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Any

import forecast_error_page
import numpy as np
import torch
from displacement import KM_A_DEGREE, displacement_km, moved_east
from pages import write_page
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from atmoloss import load_extractor
from atmoloss.data.sources import FieldSource, open_source
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.hours import LagCurve, fit_lag_curve
from atmoloss.lag_2afc.baselines import extractor_measure, pixel_measures
from atmoloss.lag_2afc.triples import Measure, PatchFields, later_pairs
from atmoloss.training.config import read_config
from atmoloss.verification.statistics.bootstrap import BlockBootstrap

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data"
ANALYSES, FORECASTS, ATLANTIC = (
    f"gfs_0p25_{name}_train.nc"
    for name in ("japan_10m_2026", "japan_10m_forecasts_2026", "10m_neatlantic_20260304_forecast")
)
LONGEST = 96  # hours, of the curves
CELLS = (1, 2, 3, 4, 6, 8, 12, 16)  # columns of 0.25° that analyses are moved by
CASE = np.datetime64("2026-08-08T00")  # Typhoon Dolphin at 27.0N 126.1E
HOUR = np.timedelta64(1, "h")


@dataclasses.dataclass(frozen=True)
class Fields:
    """Winds of a file, and their divergence and vorticity, at the same times."""

    winds: FieldSource
    derived: FieldSource

    def patch(self, index: np.ndarray) -> PatchFields:
        """Return what distances look at, of the times of ``index``."""
        read = {"winds": self.winds, "fields": self.derived}
        return {name: torch.from_numpy(np.asarray(source.values[index])) for name, source in read.items()}


def open_both(name: str) -> Fields:
    """Read one of the files."""
    return Fields(*(open_source(str(DATA / name), name, v) for v in (("u", "v"), ("divergence", "vorticity"))))


def measures() -> dict[str, Measure]:
    """Return the distances that are compared, by name."""
    default, winds = (load_extractor(name) for name in ("default", "winds"))
    of_winds = extractor_measure(winds)
    chosen: dict[str, Measure] = {
        "AtmoDist winds": lambda patch: of_winds({"fields": patch["winds"]}),
        "AtmoDist default": extractor_measure(default),
    }
    pixels = pixel_measures(default.normalization)

    def mean_square(patch: PatchFields, smoothing: str) -> torch.Tensor:
        total = pixels[f"MSE of winds{smoothing}"](patch)  # a sum over cells, which the lag 2AFC does not mind
        return torch.as_tensor(total) / patch["winds"][0].numel()

    for smoothing in ("", ", Gaussian σ 4"):
        chosen[f"MSE of winds{smoothing}"] = functools.partial(mean_square, smoothing=smoothing)
        chosen[f"MAE of winds{smoothing}"] = pixels[f"MAE of winds{smoothing}"]
    return chosen


def joined(*patches: PatchFields) -> PatchFields:
    """Return patches after one another, as one."""
    return {name: torch.cat([patch[name] for patch in patches]) for name in patches[0]}


def pairs_within(
    fields: Fields, index: np.ndarray, distances: dict[str, Measure]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return lags (P,) and, by name, distances (P,) of all pairs of the times of ``index``."""
    hours, run = fields.winds.hours[index], fields.winds.run[index]
    pairs = later_pairs(hours, run, LONGEST)
    patch = fields.patch(index)
    lags = (hours[None, :] - hours[:, None])[pairs]
    return lags, {name: measure(patch).double().numpy()[pairs] for name, measure in distances.items()}


def read_hours(curve: LagCurve, distances: np.ndarray) -> np.ndarray:
    """Return the lags of a whole curve, not cut at the largest that can be told: where that lies differs."""
    return np.interp(distances, (0.0, *curve.median), (0.0, *curve.hours))


def smooth_vorticity(patch: PatchFields) -> torch.Tensor:
    """Return vorticity (T, H, W) without what is smaller than half a degree."""
    return torch.from_numpy(gaussian_filter(patch["fields"][:, 1].numpy(), (0, 2, 2)))


def forecasts_of(
    forecasts: Fields, analyses: Fields, valid: np.ndarray, distances: dict[str, Measure]
) -> dict[str, np.ndarray]:
    """Return columns of one row a forecast valid at times of ``valid`` (T,): lead, time, displacement and distances.

    Where there was no analysis the file has the first hours of the same run; such pairs are identical and left out.
    """
    source, truth = forecasts.winds, analyses.winds
    rows: dict[str, list[Any]] = {}
    for run in np.unique(source.run):
        of_run = np.flatnonzero(source.run == run)
        start = source.times[of_run].min()
        of_run = of_run[np.isin(source.times[of_run], valid) & (source.times[of_run] > start)]
        if not len(of_run):
            continue
        made, true = forecasts.patch(of_run), analyses.patch(np.searchsorted(truth.times, source.times[of_run]))
        n, both = len(of_run), joined(made, true)
        values = {
            name: measure(both).double().numpy()[np.arange(n), n + np.arange(n)] for name, measure in distances.items()
        }
        vorticity = smooth_vorticity(made), smooth_vorticity(true)
        for i in np.flatnonzero((made["winds"] != true["winds"]).flatten(1).any(1).numpy()):
            km, unlike = displacement_km(vorticity[0][i], vorticity[1][i], source.latitude, source.grid_spacing)
            when = source.times[of_run[i]]
            entry = {"lead": float((when - start) / HOUR), "time": when, "km": km, "unlike": unlike}
            for name, value in (entry | {k: v[i] for k, v in values.items()}).items():
                rows.setdefault(name, []).append(value)
    return {name: np.array(column) for name, column in rows.items()}


def within_leads(x: np.ndarray, y: np.ndarray, lead: np.ndarray, times: np.ndarray) -> list[float]:
    """Return the correlation of ranks among forecasts of the same lead, and its 95 % interval over days."""
    ranks = np.full((len(x), 2), np.nan)
    for hours in np.unique(lead):
        mine = np.flatnonzero((lead == hours) & np.isfinite(x) & np.isfinite(y))
        for k, values in enumerate((x[mine], y[mine])):
            ranks[mine, k] = (rankdata(values) - (len(mine) + 1) / 2) / len(mine)
    used = np.isfinite(ranks[:, 0])
    blocks = BlockBootstrap(times[used], block_days=1.0)
    a, b = ranks[used].T
    products = blocks.means(blocks.block_sums(np.stack((a * b, a * a, b * b), 1)))
    return [float(v) for v in blocks.bounds(products[:, 0] / np.sqrt(products[:, 1] * products[:, 2]))]


def moved(fields: Fields, index: np.ndarray, distances: dict[str, Measure]) -> dict[str, np.ndarray]:
    """Return the distances (times, shifts) of analyses to themselves, moved east by every number of ``CELLS``."""
    out: dict[str, list[np.ndarray]] = {name: [] for name in distances}
    for i in index:
        patch = fields.patch(np.array([i]))
        shifts = [{k: moved_east(v, cells, max(CELLS)) for k, v in patch.items()} for cells in (0, *CELLS)]
        for name, measure in distances.items():
            out[name].append(measure(joined(*shifts)).double().numpy()[0, 1:])
    return {name: np.stack(rows) for name, rows in out.items()}


def growth(km: np.ndarray, hours: np.ndarray) -> float:
    """Return the exponent p of hours ∝ km^p, by least squares of logarithms: 1 is linear, less levels off."""
    return float(np.polyfit(np.log(km), np.log(np.maximum(hours, 1e-3)), 1)[0])


def told(curves: dict[str, LagCurve], lags: np.ndarray, values: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return, by distance and true lag, the median of the lags that are read."""
    known = [lag for lag in (6, 12, 24, 48) if (lags == lag).any()]
    return {
        name: {str(lag): float(np.median(read_hours(curves[name], d[lags == lag]))) for lag in known}
        for name, d in values.items()
    }


def measure_all(every: int) -> dict[str, Any]:
    """Return everything that the page shows."""
    config = read_config(HERE.parents[1] / "configs" / "default.toml")
    periods = parse_periods([*config.validation, *config.test])
    distances = measures()
    analyses, forecasts, atlantic = (open_both(name) for name in (ANALYSES, FORECASTS, ATLANTIC))
    times = analyses.winds.times
    held = in_periods(times, periods)
    # Joins of one field: pairs within the training dates alone, whatever lies between.
    lags, known = pairs_within(analyses, np.flatnonzero(~held)[::every], distances)
    size = (len(analyses.winds.latitude), len(analyses.winds.longitude))
    curves = {name: fit_lag_curve(d, lags, size) for name, d in known.items()}
    rows = forecasts_of(forecasts, analyses, times[held][::every], distances)
    hours = {name: read_hours(curves[name], rows[name]) for name in distances}
    degree = np.cos(np.radians(analyses.winds.latitude.mean())) * KM_A_DEGREE
    km = np.array(CELLS) * analyses.winds.grid_spacing * degree
    made = moved(analyses, np.flatnonzero(held)[:: 8 * every], distances)
    first_days = np.flatnonzero(atlantic.winds.times < atlantic.winds.times[0] + 120 * HOUR)
    scores: dict[str, Any] = {}
    for name in distances:
        shifted = np.median(read_hours(curves[name], made[name]), 0)
        scores[name] = {
            "limit": curves[name].limit,
            "moved": shifted.tolist(),
            "growth": growth(km, shifted),
            "beyond": float((hours[name][rows["lead"] > 48] > curves[name].limit).mean()),
            "with_km": within_leads(hours[name], rows["km"], rows["lead"], rows["time"]),
            "with_unlike": within_leads(hours[name], rows["unlike"], rows["lead"], rows["time"]),
        }
    return {
        "km": km.tolist(),
        "scores": scores,
        "rows": rows,
        "hours": hours,
        "analyses": told(curves, *pairs_within(analyses, np.flatnonzero(held)[::every], distances)),
        "atlantic": told(curves, *pairs_within(atlantic, first_days[::every], distances)),
        "case": case(forecasts, analyses, rows, hours),
    }


def case(
    forecasts: Fields, analyses: Fields, rows: dict[str, np.ndarray], hours: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Return the winds (2, H, W) of the analysis and of forecasts 24, 48 and 72 hours ahead at the time of the case."""
    truth, source = analyses.winds, forecasts.winds
    maps = {0: truth.values[np.flatnonzero(truth.times == CASE)][0]}
    read: dict[int, dict[str, float]] = {}
    start = np.array([source.times[source.run == run].min() for run in source.run])
    for lead in (24, 48, 72):
        maps[lead] = source.values[np.flatnonzero((source.times == CASE) & (source.times - start == lead * HOUR))][0]
        here = np.flatnonzero((rows["time"] == CASE) & (rows["lead"] == lead))
        read[lead] = {name: float(h[i]) for name, h in ({"km": rows["km"]} | hours).items() for i in here}
    return {"maps": maps, "hours": read, "latitude": truth.latitude, "longitude": truth.longitude}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="of the times every so many alone, to try things out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure_all(arguments.every)
    page = forecast_error_page.page(results, time.process_time())
    print(page[0])
    if arguments.every == 1:
        write_page("forecast_error", page, "png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
