"""Sources: from files and from prepared stores alike, and the hash of what they hold."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atmoloss.data.prepare import prepare
from atmoloss.data.sequence_spec import SequenceSpec
from atmoloss.data.sequences import SequenceDataset
from atmoloss.data.sources import describe_channels, describe_level, open_source
from atmoloss.data.splits import split_by_date
from atmoloss.errors import DataError
from tests.data.conftest import SMALL, make_source, random_winds

xr = pytest.importorskip("xarray")


@pytest.mark.parametrize("globe", [False, True])
def test_training_sees_the_same_batches_from_disk(tmp_path, globe):
    random_winds(globe=globe).to_netcdf(tmp_path / "w.nc", engine="h5netcdf")
    made = prepare(tmp_path / "w.nc", tmp_path / "store", SMALL, workers=0)
    lazy = open_source(str(made.path), "a", ("divergence", "vorticity"))
    memory = open_source(str(tmp_path / "w.nc"), "a", ("divergence", "vorticity"))
    assert isinstance(memory.values, np.ndarray)
    assert not isinstance(lazy.values, np.ndarray)
    assert lazy.periodic == globe
    assert lazy.sha256() == open_source(str(made.path), "b", ("divergence", "vorticity")).sha256()
    assert lazy.sha256() != open_source(str(made.path), "b", ("vorticity", "divergence")).sha256()
    spec = SequenceSpec(n_times=3, n_classes=8, base_step=3, patch_sizes=(16, 24), batch_size=4)
    read = lazy.values.bytes_read
    sets = [
        SequenceDataset(split_by_date([s], ["2026-01-03/2026-01-03"], [])["train"], spec, seed=5, length=8)
        for s in (lazy, memory)
    ]
    assert lazy.values.bytes_read == read  # splitting reads nothing
    for context in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(sets[0], batch_size=None, num_workers=1, multiprocessing_context=context)
        for a, b in zip(loader, (sets[1][i] for i in range(8)), strict=True):
            assert torch.equal(a.fields, b.fields)
            assert torch.equal(a.hours, b.hours)


def test_an_altered_store_is_seen(tmp_path, prepared):
    store = Path(shutil.copytree(prepared.path, tmp_path / "store"))

    def sha256() -> str:
        return open_source(str(store), "a", ("divergence", "vorticity")).sha256()

    whole = sha256()
    shards = sorted(p for p in store.glob("*/c/*/0/0"))
    for path in shards:
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1  # one bit
        path.write_bytes(data)
        assert sha256() != whole
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    assert sha256() == whole
    shards[0].unlink()
    with pytest.raises(DataError, match="is missing from the prepared store"):
        sha256()


def test_a_store_is_not_put_on_another_grid(prepared):
    with pytest.raises(DataError, match=r"grid: got 1 for a, expected None"):
        open_source(str(prepared.path), "a", ("divergence",), grid=1.0)


@given(place=st.tuples(st.integers(0, 39), st.integers(0, 1), st.integers(0, 39), st.integers(0, 59)))
def test_sha256_sees_any_changed_value(place):
    a = make_source(np.arange(0, 240, 6))
    values = a.values.copy()
    values[place] += 1
    assert dataclasses.replace(a, values=values).sha256() != a.sha256()
    assert make_source(np.arange(0, 240, 6)).sha256() == a.sha256()
    assert a.select(a.times > a.times[3]).sha256() != a.sha256()


@given(kept=st.lists(st.sets(st.integers(0, 11)), max_size=3))
def test_a_choice_of_a_choice_of_times_reads_those(kept):
    source, index = make_source(np.arange(12)), np.arange(12)
    for wanted in kept:
        mask = np.isin(index, list(wanted))
        source, index = source.select(mask), index[mask]
    np.testing.assert_array_equal(source.hours, make_source(np.arange(12)).hours[index])
    np.testing.assert_array_equal(source.values[:, 1, 3:5], make_source(np.arange(12)).values[index, 1, 3:5])


def test_what_channels_are_called():
    """The sources decide; where none says anything, what the name means does."""
    silent = make_source([0])
    known = {"name": "vorticity", "standard_name": "atmosphere_relative_vorticity", "units": "s-1"}
    assert describe_channels(silent.channels, [silent])[1] == known
    speaking = dataclasses.replace(silent, attributes=({"units": "1"}, {"units": "s**-1", "standard_name": "own"}))
    assert describe_channels(silent.channels, [silent, speaking])[1] == {
        **known,
        "standard_name": "own",
        "units": "s**-1",
    }
    other = dataclasses.replace(speaking, name="b", attributes=({"units": "1"}, {"units": "m s-1"}))
    with pytest.raises(DataError, match=r"'vorticity' is in 's\*\*-1' in a, 'm s-1' in b, expected one unit"):
        describe_channels(silent.channels, [speaking, other])
    with pytest.raises(DataError, match=r"a: values of shape \(1, 2, 40, 60\), expected \(1, 1, 40, 60\)"):
        dataclasses.replace(silent, channels=("vorticity",))


@pytest.mark.parametrize(
    ("name", "attributes", "level", "said"),
    [
        ("u", {"long_name": "eastward wind at 10 m"}, None, "10 m"),
        ("u", {"long_name": "10 metre U wind component"}, None, "10 m"),
        ("vorticity", {"derived_from": "u10, v10"}, None, "10 m"),
        ("u850", {}, None, "850 hPa"),
        ("u", {"long_name": "eastward wind"}, 850, "850 hPa"),
        ("u", {"long_name": "eastward wind"}, None, ""),
    ],
)
def test_levels_are_described_as_people_say_them(name, attributes, level, said):
    assert describe_level(xr.Dataset({name: ("time", [1.0], attributes)}), level) == said
