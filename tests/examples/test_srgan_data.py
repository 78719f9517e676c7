"""Patches and their coarse counterparts."""

import numpy as np
import pytest
import torch
from srgan.data import PatchDataset, PatchSpec, coarsen

from atmoloss.data.sources import FieldSource
from atmoloss.errors import DataError, InputError
from tests.tolerances import assert_close


def labelled(columns: int = 36, step: float = 10.0, name: str = "globe", weight: float = 1.0) -> FieldSource:
    """Fields that say where they come from: latitude in divergence, longitude + 1000 · time in vorticity."""
    latitude, longitude = np.arange(88.0, -90, -4), step * np.arange(columns)
    values = np.zeros((3, 2, len(latitude), columns), np.float32)
    values[:, 0] = latitude[:, None]
    values[:, 1] = longitude + 1000 * np.arange(1, 4)[:, None, None]
    times = np.datetime64("2026-01-01", "ns") + np.arange(3) * np.timedelta64(6, "h")
    channels = ("divergence", "vorticity")
    return FieldSource(name, channels, values, times, np.zeros(3, np.int64), latitude, longitude, weight)


def test_patches_are_where_they_say_and_wrap_around():
    data = PatchDataset([labelled()], PatchSpec(8, 40, (-60, 60), mirror=False), seed=1, length=3)
    batch = data[0]
    assert batch.fields.shape == (40, 2, 8, 8)
    assert_close(batch.fields[:, 0], batch.latitude[..., None].expand(-1, -1, 8), torch.float32)
    assert batch.latitude.abs().max() <= 60
    assert batch.latitude.max() == 60
    steps = batch.fields[:, 1, 0].diff(dim=-1)
    assert set(steps.unique().tolist()) == {10.0, -350.0}
    assert set((batch.fields[:, 1] // 1000).unique().tolist()) == {1.0, 2.0, 3.0}
    again = PatchDataset([labelled()], data.spec, seed=1, length=3)
    assert torch.equal(again[0].fields, batch.fields)
    assert not torch.equal(again[1].fields, batch.fields)
    assert not torch.equal(PatchDataset([labelled()], data.spec, seed=2, length=3)[0].fields, batch.fields)


def test_mirrored_patches_carry_mirrored_latitudes_and_signs():
    batch = PatchDataset([labelled()], PatchSpec(8, 60, (0, 60)), seed=0, length=1)[0]
    assert (batch.latitude.diff(dim=1) < 0).all()  # rows still run from north to south
    south = batch.latitude.mean(1) < 0
    assert 15 < south.sum() < 45
    assert (batch.fields[south, 1] < 0).all()
    assert (batch.fields[~south, 1] > 0).all()
    assert_close(batch.fields[:, 0, :, 0], torch.where(south[:, None], -batch.latitude, batch.latitude), torch.float32)


def test_regional_grids_are_not_wrapped_and_weights_are_shares():
    region = labelled(columns=20, step=0.5, name="region", weight=3.0)
    batch = PatchDataset([labelled(), region], PatchSpec(8, 200, mirror=False), seed=0, length=1)[0]
    regional = batch.fields[:, 1, 0].diff(dim=-1)[:, 0] == 0.5
    assert 130 < regional.sum() < 170  # 150 expected, standard deviation 6
    assert (batch.fields[regional][:, 1, 0].diff(dim=-1) == 0.5).all()


@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_a_batch(size):
    spec = PatchSpec(8, 6)
    whole = PatchDataset([labelled()], spec, seed=0, length=1)[0]
    for rank in range(size):
        part = PatchDataset([labelled()], spec, seed=0, length=1, rank=rank, world_size=size)[0]
        assert torch.equal(part.fields, whole.fields[rank::size])
        assert torch.equal(part.latitude, whole.latitude[rank::size])


def test_impossible_patches(one_sentence):
    for spec in (PatchSpec(40), PatchSpec(8, latitude_band=(0, 20)), PatchSpec(64)):
        with pytest.raises(DataError) as error:
            PatchDataset([labelled()], spec, seed=0, length=1)
        one_sentence(error.value, "patch_size", "globe")
    with pytest.raises(DataError, match="expected at least one"):
        PatchDataset([], PatchSpec(8), seed=0, length=1)


def test_coarse_cells_are_area_means():
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((2, 3, 8, 12))
    latitude = np.stack((np.arange(90.0, 58, -4), np.arange(40.0, 8, -4)))
    weight = np.cos(np.deg2rad(latitude))
    expected = np.empty((2, 3, 2, 3))
    for n, c, i, j in np.ndindex(expected.shape):
        block = fields[n, c, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean(1)
        expected[n, c, i, j] = np.average(block, weights=weight[n, 4 * i : 4 * i + 4])
    value = coarsen(torch.from_numpy(fields), torch.from_numpy(latitude), 4)
    assert_close(value, expected, torch.float64)
    assert_close(coarsen(torch.from_numpy(fields[:1]), torch.from_numpy(latitude[0]), 4), expected[:1], torch.float64)
    assert value.shape == (2, 3, 2, 3)
    # A row at a pole has no area.
    fields[:, :, 0] += 1e6
    assert_close(coarsen(torch.from_numpy(fields), torch.from_numpy(latitude), 4)[0], expected[0], 1e-9)


def test_coarsening_errors(one_sentence):
    for fields, latitude in ((torch.zeros(1, 2, 9, 8), torch.zeros(9)), (torch.zeros(1, 2, 8, 8), torch.zeros(7))):
        with pytest.raises(InputError) as error:
            coarsen(fields, latitude, 4)
        one_sentence(error.value, "fields", "multiples of 4")
