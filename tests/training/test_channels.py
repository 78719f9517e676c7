"""Names and units of what is trained on reach the weights, whatever the variable."""

import json

import numpy as np
import pytest

from atmoloss.cli import main
from atmoloss.data.sources import describe_channels, open_source
from atmoloss.errors import DataError
from atmoloss.training.config import make_config
from atmoloss.training.lag import train
from atmoloss.training.loop import open_sources
from tests.training.conftest import drifting_winds

xr = pytest.importorskip("xarray")


def scalars(cloud_units="kg m-2", temperature_units="degC", n_times=48):
    data = drifting_winds(n_times)
    out = data.rename(u10="2m_temperature", v10="cloud").drop_attrs()
    for name, units in (("2m_temperature", temperature_units), ("cloud", cloud_units)):
        out[name].attrs = {"units": units} if units else {}
    out["cloud"].attrs["standard_name"] = "atmosphere_mass_content_of_cloud_liquid_water"
    return out


@pytest.fixture
def config(raw_config, tmp_path):
    scalars().to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    sources = [{"name": "a", "path": str(tmp_path / "scalars.nc")}]
    return {**raw_config, "sources": sources, "variables": ["t2m", "cloud"], "steps": 2, "validate_every": 2}


def test_units_and_names_reach_the_weights_and_the_card(config, tmp_path, capsys):
    train(make_config(config), tmp_path / "run")
    assert main(["train", "--output", str(tmp_path / "run"), "--export", str(tmp_path / "weights")]) == 0
    assert json.loads((tmp_path / "weights" / "config.json").read_text())["channels"] == [
        {"name": "t2m", "standard_name": "air_temperature", "units": "K"},
        {"name": "cloud", "standard_name": "atmosphere_mass_content_of_cloud_liquid_water", "units": "kg m-2"},
    ]
    assert "t2m (K), cloud (kg m-2)" in (tmp_path / "weights" / "README.md").read_text()
    capsys.readouterr()
    assert main(["info", str(tmp_path / "weights")]) == 0
    assert "cloud, kg m-2" in capsys.readouterr().out


def test_sources_of_different_units_are_refused_before_training(config, tmp_path, one_sentence):
    def with_second(**units):
        scalars(**units).to_netcdf(tmp_path / "second.nc", engine="h5netcdf")
        second = {"name": "b", "path": str(tmp_path / "second.nc")}
        return make_config({**config, "sources": [*config["sources"], second]})

    assert len(open_sources(with_second(temperature_units="K", cloud_units="kg m**-2"))) == 2  # converted; spelt
    with pytest.raises(DataError) as error:
        train(with_second(cloud_units="g m-2"), tmp_path / "run")
    one_sentence(error.value, "'cloud' is in 'kg m-2' in a, 'g m-2' in b", "expected one unit")
    with pytest.raises(DataError, match="2m_temperature: got units 'degF', expected 'K'"):
        train(with_second(temperature_units="degF"), tmp_path / "run")


def test_a_prepared_store_keeps_them(tmp_path):
    pytest.importorskip("zarr", minversion="3")
    from atmoloss.data.plan import PrepareOptions
    from atmoloss.data.prepare import prepare

    scalars(n_times=4).to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    options = PrepareOptions(variables=("tas", "cloud"), time_chunk=4, space_chunk=16)
    prepared = prepare(tmp_path / "scalars.nc", tmp_path / "store", options, workers=0)
    assert [a["units"] for a in prepared.attributes(prepared.variables)] == ["K", "kg m-2"]
    source = open_source(str(prepared.path), "a", ("t2m", "cloud"))
    assert describe_channels(source.channels, [source]) == (
        {"name": "t2m", "standard_name": "air_temperature", "units": "K"},
        {"name": "cloud", "standard_name": "atmosphere_mass_content_of_cloud_liquid_water", "units": "kg m-2"},
    )
    np.testing.assert_allclose(source.values[0:1, 0], scalars(n_times=4)["2m_temperature"][:1] + 273.15, rtol=1e-6)


def test_data_without_units_say_so(tmp_path):
    scalars("", "", 4).to_netcdf(tmp_path / "scalars.nc", engine="h5netcdf")
    source = open_source(str(tmp_path / "scalars.nc"), "a", ("t2m", "cloud"))
    # Of a known quantity they are taken to be its SI units, as the reader says.
    assert [c["units"] for c in describe_channels(source.channels, [source])] == ["K", ""]
