"""Inference on whole fields: no seam, defined at the poles, CF netCDF."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from srgan.data import coarsen
from srgan.infer import coarse_axes, fine_axes, main, super_resolve
from srgan.models import Generator
from srgan.store import StoredGenerator, load_generator, save_generator

from atmoloss.cli import main as atmoloss_main
from atmoloss.data import open_fields
from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.verification.overlap import on_common_grid
from tests.tolerances import assert_close

xr = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")
COARSE_LATITUDE, COARSE_LONGITUDE = np.arange(87.0, -90, -6), 6.0 * np.arange(60)
ROUNDING = 1e-4  # of float32 in about twenty layers, through an exponential; a seam is of order one


def stored_of(variables: tuple[str, ...] = ("divergence", "vorticity")) -> StoredGenerator:
    torch.manual_seed(3)
    generator = Generator(channels=8, blocks=1).eval()
    return StoredGenerator(generator, LogNormalization(**ORIGINAL_NORMALIZATION), variables, {"content": "mse"}, "0")


@pytest.fixture(scope="module")
def stored() -> StoredGenerator:
    return stored_of()


@pytest.fixture
def coarse(draw) -> torch.Tensor:
    return draw(1, 30, 60)


def test_a_globe_has_no_seam(stored, coarse):
    generated = super_resolve(stored, coarse, COARSE_LATITUDE, COARSE_LONGITUDE)
    assert generated.shape == (1, 2, 120, 240)
    assert torch.isfinite(generated).all()
    for shift in (1, 30, 59):
        rolled = super_resolve(stored, coarse.roll(shift, -1), COARSE_LATITUDE, COARSE_LONGITUDE)
        assert_close(rolled, generated.roll(4 * shift, -1), ROUNDING)
    # As a regional field, it has edges.
    regional = super_resolve(stored, coarse, COARSE_LATITUDE, 0.1 * COARSE_LONGITUDE)
    assert (regional - generated)[..., :4].abs().max() > 100 * ROUNDING * generated.abs().max()
    reach = stored.generator.reach
    inside = (..., slice(4 * reach, -4 * reach), slice(4 * reach, -4 * reach))
    assert_close(regional[inside], generated[inside], ROUNDING)


@pytest.mark.parametrize("rows", [1, 7, 30])
def test_bands_of_rows_are_the_whole(rows, stored, coarse):
    whole = super_resolve(stored, coarse, COARSE_LATITUDE, COARSE_LONGITUDE, rows=1000)
    assert_close(super_resolve(stored, coarse, COARSE_LATITUDE, COARSE_LONGITUDE, rows=rows), whole, ROUNDING)


@pytest.mark.parametrize("first", [87.0, 90.0])  # an edge of cells at the pole, and a row
def test_beyond_a_pole_lie_the_rows_of_the_opposite_meridian(first, stored, draw):
    """A coarse grid continued over the pole by hand, as a regional field, gives the same near the pole."""
    latitude = first - 6 * np.arange(30)
    coarse = draw(1, 30, 60)
    generated = super_resolve(stored, coarse, latitude, COARSE_LONGITUDE)
    opposite = coarse.roll(30, -1)
    beyond = opposite[..., 0 if first == 87 else 1 :, :].flip(-2)[..., -15:, :]
    around = torch.cat((beyond, coarse), -2)
    wide = torch.cat((around, around, around), -1)
    by_hand = super_resolve(stored, wide, 50 - np.arange(45.0), np.arange(180.0))[..., 60:, 240:480]
    assert_close(generated[..., :40, :], by_hand[..., :40, :], ROUNDING)
    # A field that is mirrored at the equator is made at the south pole what it is made at the north pole.
    if first == 87:
        both = torch.cat((coarse[..., :15, :], coarse[..., :15, :].flip(-2)), -2)
        north = super_resolve(stored, both, latitude, COARSE_LONGITUDE)
        south = super_resolve(stored, both.flip(-2), -latitude[::-1], COARSE_LONGITUDE)
        assert_close(south, north, ROUNDING)


def test_winds_turn_round_over_a_pole(coarse):
    scalar = super_resolve(stored_of(), coarse, COARSE_LATITUDE, COARSE_LONGITUDE)
    wind = super_resolve(stored_of(("u10", "v10")), coarse, COARSE_LATITUDE, COARSE_LONGITUDE)
    reach = 4 * stored_of().generator.reach
    assert (scalar - wind)[..., :4, :].abs().max() > 100 * ROUNDING * scalar.abs().max()
    assert_close(wind[..., reach:-reach, :], scalar[..., reach:-reach, :], ROUNDING)


def test_axes():
    lat, lon, rows = fine_axes(COARSE_LATITUDE, COARSE_LONGITUDE)
    assert_close(lat, np.arange(89.25, -90, -1.5), 1e-12)
    assert_close(lon, np.arange(-2.25, 357, 1.5), 1e-12)
    assert rows == slice(0, 120)
    lat, _, rows = fine_axes(np.arange(90.0, -91, -4), COARSE_LONGITUDE)  # half of the first and last cells
    assert_close(lat, np.arange(89.5, -90, -1), 1e-12)
    assert rows == slice(2, 182)


def globe(rows: int = 181, columns: int = 360) -> FieldSource:
    rng = np.random.default_rng(0)
    step = 180 / (rows - 1)
    values = (3e-5 * rng.standard_normal((2, 2, rows, columns))).astype(np.float32)
    times = np.array(["2026-04-10T00", "2026-04-11T06"], "datetime64[ns]")
    latitude, longitude = 90 - step * np.arange(rows), step * np.arange(columns)
    return FieldSource("globe", ("divergence", "vorticity"), values, times, np.zeros(2, np.int64), latitude, longitude)


def test_what_coarsening_uses():
    lat, lon, height, width = coarse_axes(globe())
    assert (height, width) == (180, 360)
    assert (lat[0], lat[-1], lon[0], lon[-1]) == (88.5, -87.5, 1.5, 357.5)
    assert_close(fine_axes(lat, lon)[0], 90.0 - np.arange(180), 1e-12)
    with pytest.raises(DataError, match="multiple of 4"):
        coarse_axes(globe(16, 30))


@pytest.fixture
def files(tmp_path):
    """A folder with a generator, a fine global file and a coarse one."""
    stored = stored_of()
    save_generator(tmp_path / "generator", stored.generator, stored.normalization, stored.variables, stored.origin)
    fine = globe(41, 80)
    lat, lon, height, width = coarse_axes(fine)
    values = coarsen(torch.from_numpy(fine.values[:, :, :height, :width]), torch.from_numpy(fine.latitude[:height]), 4)
    for name, axes, data in (("fine", (fine.latitude, fine.longitude), fine.values), ("coarse", (lat, lon), values)):
        coords = dict(zip(("time", "latitude", "longitude"), (fine.times, *axes), strict=True))
        fields = {v: (tuple(coords), np.asarray(data)[:, i], {"units": "s-1"}) for i, v in enumerate(fine.channels)}
        xr.Dataset(fields, coords).to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
    return tmp_path


def test_command_line_writes_cf_netcdf(files, capsys):
    generator = str(files / "generator")
    assert main([generator, str(files / "fine.nc"), str(files / "a.nc"), "--coarsen"]) == 0
    assert main([generator, str(files / "coarse.nc"), str(files / "b.nc")]) == 0
    assert "2 times written" in capsys.readouterr().out
    with (
        xr.open_dataset(files / "a.nc") as a,
        xr.open_dataset(files / "b.nc") as b,
        xr.open_dataset(files / "fine.nc") as fine,
    ):
        assert a.attrs["Conventions"] == "CF-1.8"
        assert load_generator(files / "generator").id in a.attrs["source"]
        assert a["divergence"].attrs == {"standard_name": "divergence_of_wind", "units": "s-1"}
        assert a["vorticity"].attrs["standard_name"] == "atmosphere_relative_vorticity"
        assert a["latitude"].attrs == {"standard_name": "latitude", "units": "degrees_north"}
        assert a["longitude"].attrs == {"standard_name": "longitude", "units": "degrees_east"}
        assert a["time"].attrs["standard_name"] == "time"
        np.testing.assert_array_equal(a["time"], fine["time"])
        np.testing.assert_allclose(a["latitude"], fine["latitude"][:40])
        np.testing.assert_allclose(a["longitude"], fine["longitude"], atol=1e-9)
        for name in ("divergence", "vorticity"):
            assert np.isfinite(a[name]).all()
            pole = a[name].isel(latitude=0)  # one point
            assert (pole == pole.isel(longitude=0)).all()
            # Stored coarse fields are float32.
            np.testing.assert_allclose(a[name], b[name], atol=ROUNDING * float(abs(a[name]).max()))
    fields = open_fields(files / "a.nc")
    assert dict(fields.sizes) == {"time": 2, "latitude": 40, "longitude": 80}
    assert not list(files.glob(".*"))


def test_dates_and_errors(files, capsys):
    arguments = [str(files / "generator"), str(files / "coarse.nc"), str(files / "c.nc")]
    assert main([*arguments, "--dates", "2026-04-11/2026-04-11"]) == 0
    with xr.open_dataset(files / "c.nc") as c:
        assert c.sizes["time"] == 1
    assert main([*arguments, "--dates", "2025-01-01/2025-01-02"]) == 1
    assert capsys.readouterr().err.startswith("error: dates: ")
    assert main([str(files), *arguments[1:]]) == 1
    assert capsys.readouterr().err.startswith("error: generator: ")


def grid(rows: int, pole_to_pole: bool = True, columns: int = 0) -> FieldSource:
    """A globe whose rows are at the poles, or half a step off them; with ``columns`` a region across Greenwich."""
    source = globe(rows, columns or 2 * (rows - pole_to_pole))
    step = 180 / (rows - pole_to_pole)
    if columns:
        axes = {"latitude": 60 - 0.5 * np.arange(rows), "longitude": 350 + 0.5 * np.arange(columns)}
    else:
        first = 90 if pole_to_pole else 90 - step / 2
        axes = {"latitude": first - step * np.arange(rows), "longitude": step * np.arange(len(source.longitude))}
    return dataclasses.replace(source, **axes)


GRIDS = {
    "181 rows": (181,),
    "721 rows": (721,),
    "180 rows": (180, False),
    "720 rows": (720, False),
    "a region": (61, False, 83),
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_report_takes_the_grid_of_what_was_coarsened(name):
    fine = grid(*GRIDS[name])
    lat, lon, height, width = coarse_axes(fine)
    latitude, longitude, rows = fine_axes(lat, lon)
    assert (rows.stop - rows.start, longitude.size) == (height, width)
    truth, generated = (
        xr.Dataset(
            {"u": (("latitude", "longitude"), np.empty((y.size, x.size), np.float32))}, {"latitude": y, "longitude": x}
        )
        for y, x in ((fine.latitude, fine.longitude), (latitude, longitude))
    )
    common = on_common_grid({"truth": truth, "made": generated})
    assert {data["u"].shape for data in common.values()} == {(height, width)}


@pytest.mark.parametrize("name", ["41 rows", "40 rows", "a region"])
def test_report_of_what_was_coarsened(name, tmp_path):
    """The two commands one after the other."""
    pytest.importorskip("matplotlib")
    fine = grid(*{"41 rows": (41,), "40 rows": (40, False), "a region": (46, False, 43)}[name])
    coords = dict(zip(("time", "latitude", "longitude"), (fine.times, fine.latitude, fine.longitude), strict=True))
    fields = {v: (tuple(coords), np.asarray(fine.values)[:, i], {"units": "s-1"}) for i, v in enumerate(fine.channels)}
    xr.Dataset(fields, coords).to_netcdf(tmp_path / "fine.nc", engine="h5netcdf")
    stored = stored_of()
    save_generator(tmp_path / "generator", stored.generator, stored.normalization, stored.variables, stored.origin)
    generated = tmp_path / "new" / "made.nc"
    assert main([str(tmp_path / "generator"), str(tmp_path / "fine.nc"), str(generated), "--coarsen"]) == 0
    arguments = [
        "report",
        str(tmp_path / "fine.nc"),
        f"A={generated}",
        "--output",
        str(tmp_path / "page"),
        "--draws",
        "2",
    ]
    assert atmoloss_main(arguments) == 0
    notes = json.loads((tmp_path / "page" / "report.json").read_text())["notes"]
    compared = [text for text in notes if text.startswith("Compared on")]
    assert (
        compared
        == {
            "41 rows": ["Compared on the 40 × 80 points that all have: truth has 41 × 80."],
            "40 rows": [],
            "a region": ["Compared on the 44 × 40 points that all have: truth has 46 × 43."],
        }[name]
    )
