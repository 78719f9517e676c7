"""The format of prepared stores: any index, read by us and by zarr, gives what was written; damage is seen."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atmoloss.data.store import Layout, StoredFields, choose_layout, is_store, read_store, shard_path
from atmoloss.errors import DataError

NAMES = ("divergence", "vorticity")


def write(root, fields, layout):
    """Write (T, C, H, W) shard by shard."""
    for c, name in enumerate(NAMES):
        for shard in range(layout.n_shards):
            path = shard_path(root, name, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            times = layout.times(shard)
            path.write_bytes(layout.encode(fields[times.start : times.stop, c]) + layout.footer(shard))
            assert path.stat().st_size == layout.shard_bytes(shard)
        (root / name / "zarr.json").write_text(__import__("json").dumps(layout.metadata({})))
    return StoredFields(root, NAMES, layout)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    pytest.importorskip("google_crc32c")
    fields = np.random.default_rng(0).standard_normal((23, 2, 19, 30)).astype(np.float32)
    layout = choose_layout((23, 19, 30), time_chunk=3, space_chunk=8, shard_bytes=1)
    layout = Layout(layout.shape, layout.chunk, 9)
    root = tmp_path_factory.mktemp("store")
    return fields, write(root, fields, layout), root


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
    assert len(lazy) == 23
    with pytest.raises(IndexError, match="slices of rows"):
        lazy[0, :, 3]


def test_zarr_reads_the_same(stored):
    zarr = pytest.importorskip("zarr", minversion="3")
    fields, _, root = stored
    for c, name in enumerate(NAMES):  # checks the checksum of every index, too
        np.testing.assert_array_equal(zarr.open_array(root / name, mode="r")[:], fields[:, c])


@pytest.mark.parametrize(
    ("shape", "chunk"), [((1000, 721, 1440), (16, 121, 131)), ((7, 181, 360), (7, 181, 120)), ((40, 5, 9), (16, 5, 9))]
)
def test_chunks_of_about_128_cells_with_little_overhang(shape, chunk):
    layout = choose_layout(shape)
    assert layout.chunk == chunk
    covered = np.prod([n * c for n, c in zip(layout.grid, chunk[1:], strict=True)])
    assert covered < 1.03 * shape[1] * shape[2]
    assert layout.shard_times % chunk[0] == 0
    assert layout.shard_bytes(0) <= 2**27 + 2**20 or layout.shard_times == chunk[0]


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
    pytest.importorskip("google_crc32c")
    fields = np.ones((4, 2, 8, 8), np.float32)
    lazy = write(tmp_path, fields, choose_layout((4, 8, 8), 2, 4, 1))
    path = shard_path(tmp_path, "vorticity", 1)
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(lazy[:2], fields[:2])
    with pytest.raises(DataError, match="expected") as error:
        lazy[2]
    one_sentence(error.value, str(path), "bytes")
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        lazy[2]


def test_what_is_no_store(tmp_path):
    assert not is_store(tmp_path)
    assert not is_store("gs://bucket/x.zarr")
    (tmp_path / "zarr.json").write_text('{"attributes": {}}')
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match="no prepared store"):
        read_store(tmp_path)
