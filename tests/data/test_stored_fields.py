"""The values of prepared stores: any index, read by us and by zarr, gives what was written; damage is seen."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmoloss.data.store_writer import create_variable, write_shard
from atmoloss.data.stored_fields import Sharding, StoredFields, choose_sharding, shard_path
from atmoloss.errors import DataError

zarr = pytest.importorskip("zarr", minversion="3")
NAMES = ("divergence", "vorticity")


def write(root, fields, sharding):
    """Write (T, C, H, W) shard by shard."""
    sizes = {}
    for c, name in enumerate(NAMES):
        create_variable(root / name, sharding, {})
        shards = [(shard, sharding.times(shard)) for shard in range(sharding.n_shards)]
        sizes[name] = [write_shard(root, name, sharding, i, fields[t.start : t.stop, c]) for i, t in shards]
    return StoredFields(root, NAMES, sharding, sizes)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    fields = np.random.default_rng(0).standard_normal((23, 2, 19, 30)).astype(np.float32)
    fields[:9, 0] = np.nan  # a shard without any value, which has no file
    fields[9:12, 1, :7] = np.nan  # and chunks without any
    sharding = choose_sharding((23, 19, 30), time_chunk=3, space_chunk=8, shard_bytes=1)
    sharding = Sharding(sharding.shape, sharding.chunk, 9)
    root = tmp_path_factory.mktemp("store")
    return fields, write(root, fields, sharding), root


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_index_reads_what_was_written(stored, data):
    fields, lazy, _ = stored
    times = data.draw(st.one_of(st.lists(st.integers(-23, 22), max_size=6).map(np.array), st.integers(0, 22)))
    if isinstance(times, np.ndarray):
        times = times.astype(int)
    rows, columns = (
        data.draw(st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted).map(lambda x: slice(*x)))
        for n in (19, 30)
    )
    np.testing.assert_array_equal(lazy[times, :, rows, columns], fields[times, :, rows, columns])


def test_shorthand_indices(stored):
    fields, lazy, _ = stored
    np.testing.assert_array_equal(lazy[:], fields)
    np.testing.assert_array_equal(lazy[5], fields[5])
    np.testing.assert_array_equal(lazy[2:11, 1], fields[2:11, 1])
    with pytest.raises(IndexError, match="slices of rows"):
        lazy[0, :, 3]


def test_zarr_reads_the_same(stored):
    fields, _, root = stored
    for c, name in enumerate(NAMES):  # checks the checksum of every index, too
        np.testing.assert_array_equal(zarr.open_array(root / name, mode="r")[:], fields[:, c])


@pytest.mark.parametrize(
    ("shape", "chunk"), [((1000, 721, 1440), (16, 121, 131)), ((7, 181, 360), (7, 181, 120)), ((40, 5, 9), (16, 5, 9))]
)
def test_chunks_of_about_128_cells_with_little_overhang(shape, chunk):
    sharding = choose_sharding(shape)
    assert sharding.chunk == chunk
    covered = np.prod([n * c for n, c in zip(sharding.grid[1:], chunk[1:], strict=True)])
    assert covered < 1.03 * shape[1] * shape[2]
    assert sharding.shard_times % chunk[0] == 0
    assert 4 * np.prod(sharding.shard) <= 2**27 or sharding.shard_times == chunk[0]


def test_pickled_copied_and_in_processes(stored):
    fields, lazy, _ = stored
    for again in (pickle.loads(pickle.dumps(lazy)), copy.deepcopy(lazy)):
        np.testing.assert_array_equal(again[4], fields[4])
    lazy[0]  # used before the fork
    for method in ("fork", "spawn"):
        if method in multiprocessing.get_all_start_methods():
            with multiprocessing.get_context(method).Pool(1) as pool:
                np.testing.assert_array_equal(pool.apply(lazy.__getitem__, (7,)), fields[7])


def test_damaged_shards_are_refused(tmp_path, one_sentence):
    fields = np.ones((4, 2, 8, 8), np.float32)
    lazy = write(tmp_path, fields, choose_sharding((4, 8, 8), 2, 4, 1))
    path = shard_path(tmp_path, "vorticity", 1)
    whole = path.read_bytes()
    for damaged, said in ((whole[:-1], "bytes"), (whole[:-13] + b"\x77" + whole[-12:], "index")):
        path.write_bytes(damaged)
        np.testing.assert_array_equal(lazy[:2], fields[:2])
        with pytest.raises(DataError, match="prepare the store again") as error:
            lazy[2]
        one_sentence(error.value, str(path), said)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        lazy[2]
