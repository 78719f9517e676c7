"""Apply a trained generator to whole fields: coarse data in, fields of four times the resolution out (CF netCDF).

    cd examples
    python -m srgan.infer runs/srgan-small-atmodist/generator coarse.nc fine.nc
    python -m srgan.infer runs/srgan-small-atmodist/generator fine_truth.nc made.nc --coarsen

A grid that closes in longitude has no seam: columns wrap. Beyond a pole lie the rows of the opposite meridian. Edges
of regional grids are padded with zeros, as patches are in training.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atmoloss._version import __version__
from atmoloss.data.quantities import quantity
from atmoloss.data.sources import FieldSource, open_source
from atmoloss.data.splits import in_periods, parse_periods
from atmoloss.errors import AtmolossError, DataError, require
from atmoloss.sphere import is_periodic

from .data import coarsen
from .models import FACTOR
from .store import StoredGenerator, load_generator

_ROWS = 32  # coarse rows at a time: bounds the memory of a global field


@torch.no_grad()
def super_resolve(
    stored: StoredGenerator, coarse: Tensor, latitude: np.ndarray, longitude: np.ndarray, rows: int = _ROWS
) -> Tensor:
    """Return the fine field of coarse ones, both in physical units.

    Args:
        stored: the generator, on any device; everything else is done on the CPU.
        coarse: (N, C, h, w), area averages.
        latitude: (h,) degrees north of the middles of cells, descending, regular.
        longitude: (w,) degrees east, ascending, regular.
        rows: coarse rows at a time.

    Returns:
        (N, C, 4 h, 4 w) on the grid of :func:`fine_axes` before what lies beyond a pole is cut off.
    """
    reach = stored.generator.reach
    device = next(stored.generator.parameters()).device
    x = coarse
    above = x[..., :0, :]
    halo = 0
    if is_periodic(longitude):
        halo = reach
        # Before normalising, in which the sign of a vector's component means something else.
        above = beyond_pole(x, latitude, reach, stored.variables)
        below = beyond_pole(x.flip(-2), -latitude[::-1], reach, stored.variables)
        x = torch.cat((above.flip(-2), x, below), -2)
        x = x[..., torch.arange(-halo, x.shape[-1] + halo) % x.shape[-1]]
    first, height = above.shape[-2], coarse.shape[-2]
    width = FACTOR * coarse.shape[-1]
    x = stored.normalization(x).to(device)
    parts = []
    for start in range(0, height, rows):
        end = min(start + rows, height)
        low, high = max(0, first + start - reach), min(x.shape[-2], first + end + reach)
        generated = stored.generator(x[..., low:high, :].contiguous(memory_format=torch.channels_last))
        top, left = FACTOR * (first + start - low), FACTOR * halo
        parts.append(generated[..., top : top + FACTOR * (end - start), left : left + width])
    return stored.normalization.inverse(torch.cat(parts, -2).cpu())


def _pole_sign(variable: str) -> float:
    """Return −1 for components of a vector, which turn round on the way over a pole."""
    known = quantity(variable)
    names = known.standard_names if known else ()
    return -1.0 if any(word in name for name in names for word in ("eastward", "northward")) else 1.0


def beyond_pole(x: Tensor, latitude: np.ndarray, reach: int, variables: Sequence[str]) -> Tensor:
    """Return up to ``reach`` rows beyond the first one, outwards; none where it does not lie at the north pole."""
    # Cells between the pole and the middle of the first row: 0 at the pole, ½ where an edge lies there.
    first = (90.0 - float(latitude[0])) / float(latitude[0] - latitude[1])
    if first > 1:
        return x[..., :0, :]
    rows = np.rint(np.arange(1, reach + 1) - 2 * first).astype(int)
    signs = torch.tensor([_pole_sign(name) for name in variables]).reshape(-1, 1, 1)
    return x[..., rows[(rows >= 0) & (rows < x.shape[-2])], :].roll(x.shape[-1] // 2, -1) * signs


def fine_axes(latitude: np.ndarray, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray, slice]:
    """Return the fine latitudes and longitudes, and which of the 4 h fine rows lie on the sphere.

    Cells of a coarse row in the middle of which a pole lies are cut in half by it.
    """
    offsets = (np.arange(FACTOR) - (FACTOR - 1) / 2) / FACTOR
    lat, lon = (
        (axis[:, None] + offsets * (axis[1] - axis[0])).reshape(-1).astype(np.float64) for axis in (latitude, longitude)
    )
    inside = np.flatnonzero(np.abs(lat) <= 90.0 + 1e-9)
    rows = slice(int(inside[0]), int(inside[-1]) + 1)
    return lat[rows], lon, rows


def coarse_axes(source: FieldSource) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return the latitudes and longitudes of 4×4 means of a source, and how many of its rows and columns they use.

    What does not fill a block is left out, at the south and at the east: of 181 rows, the one at the south pole.
    """
    height, width = (len(axis) // FACTOR * FACTOR for axis in (source.latitude, source.longitude))
    if source.periodic and width != len(source.longitude):
        raise DataError(
            f"coarsen: got {len(source.longitude)} columns around the globe, expected a multiple of {FACTOR}"
        )
    lat, lon = source.latitude[:height], source.longitude[:width]
    return lat.reshape(-1, FACTOR).mean(1), lon.reshape(-1, FACTOR).mean(1), height, width


def fields_of(stored: StoredGenerator, source: FieldSource, coarsened: bool) -> tuple[Any, Any, Iterator[np.ndarray]]:
    """Return fine latitudes, fine longitudes, and an iterator over the fine fields (C, H, W) of each time."""
    lat, lon, height, width = (
        coarse_axes(source)
        if coarsened
        else (source.latitude, source.longitude, len(source.latitude), len(source.longitude))
    )
    fine_lat, fine_lon, rows = fine_axes(lat, lon)
    # A pole is one point: scalars have one value there.
    scalar = torch.tensor([_pole_sign(name) > 0 for name in stored.variables]).reshape(-1, 1, 1)
    pole = scalar & torch.from_numpy(np.abs(fine_lat) > 90.0 - 1e-4)[:, None]

    def each() -> Iterator[np.ndarray]:
        for t in range(len(source.times)):
            fields = torch.from_numpy(np.array(source.values[t], np.float32))[None, :, :height, :width]
            if coarsened:
                fields = coarsen(fields, torch.from_numpy(source.latitude[:height].copy()), FACTOR)
            generated = super_resolve(stored, fields, lat, lon)[0, :, rows]
            yield torch.where(pole, generated.mean(-1, keepdim=True), generated).numpy()

    return fine_lat, fine_lon, each()


def write_netcdf(path: Path, stored: StoredGenerator, source: FieldSource, coarsened: bool) -> None:
    """Write the fine fields of a source as CF-1.8 netCDF, one time at a time, under a temporary name first."""
    h5netcdf = require("h5netcdf", "data")
    latitude, longitude, fields = fields_of(stored, source, coarsened)
    seconds = source.times.astype("datetime64[s]").astype(np.int64)
    axes = {
        "time": (seconds, "time", "seconds since 1970-01-01 00:00:00"),
        "latitude": (latitude, "latitude", "degrees_north"),
        "longitude": (longitude, "longitude", "degrees_east"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        with h5netcdf.File(temporary, "w") as file:
            file.dimensions = {name: len(values) for name, (values, _, _) in axes.items()}
            file.attrs["Conventions"] = "CF-1.8"
            file.attrs["title"] = "Super-resolved fields"
            file.attrs["source"] = (
                f"atmoloss {__version__}, examples/srgan, generator {stored.id} trained with content loss "
                f"{stored.origin.get('content', 'unknown')}, from {source.name}"
            )
            for name, (values, standard_name, units) in axes.items():
                variable = file.create_variable(name, (name,), values.dtype, data=values)
                variable.attrs.update({"standard_name": standard_name, "units": units})
            file.variables["time"].attrs["calendar"] = "standard"
            for name in stored.variables:
                known = quantity(name)
                shape = (1, len(latitude), len(longitude))
                variable = file.create_variable(name, tuple(axes), "f4", chunks=shape, compression="gzip", shuffle=True)
                if known is not None:
                    variable.attrs.update({"standard_name": known.standard_names[0], "units": known.units})
            for t, values in enumerate(fields):
                for name, field in zip(stored.variables, values, strict=True):
                    file.variables[name][t] = field
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Super-resolve as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path, help="folder of a trained generator")
    parser.add_argument("data", help="any file or URL that atmoloss.data.open_fields reads, winds too")
    parser.add_argument("output", type=Path, help="netCDF file to write")
    parser.add_argument("--coarsen", action="store_true", help="the data are fine: average 4x4 cells first")
    parser.add_argument("--level", type=float, help="level to take from the data")
    parser.add_argument("--dates", action="append", default=[], metavar="FROM/TO", help="only these days; repeatable")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    args = parser.parse_args(arguments)
    try:
        stored = load_generator(args.generator)
        stored.generator.to(args.device)
        source = open_source(args.data, Path(args.data).name, stored.variables, args.level)
        if args.dates:
            source = source.select(in_periods(source.times, parse_periods(args.dates)))
        if not len(source.times):
            raise DataError(f"dates: {args.data} has no time in {', '.join(args.dates)}, expected at least one")
        write_netcdf(args.output, stored, source, args.coarsen)
    except AtmolossError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(source.times)} times written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
