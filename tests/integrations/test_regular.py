"""Grids of other programs: the same numbers as labelled fields have, whichever way they lie."""

import numpy as np
import pytest
import torch

from atmoloss import atmodist_distance
from atmoloss.errors import DataError, InputError
from atmoloss.integrations.regular import RegularGrid
from tests.labelled import GLOBE, REGION, fields


@pytest.mark.parametrize("grid", [GLOBE, REGION], ids=["globe", "region"])
@pytest.mark.parametrize("north", [slice(None), slice(None, None, -1)], ids=["southward", "northward"])
@pytest.mark.parametrize("turn", [0, 7])
def test_the_number_of_labelled_fields(extractor, grid, north, turn) -> None:
    a, b = (fields(grid, seed).isel(latitude=north) for seed in (0, 1))
    if grid is GLOBE:
        a, b = (f.roll(longitude=turn, roll_coords=True) for f in (a, b))
    regular = RegularGrid(a["latitude"].values, a["longitude"].values)
    assert regular.periodic == (grid is GLOBE)
    assert regular.shape == (a.sizes["latitude"], a.sizes["longitude"])
    tensors = [regular.orient(torch.from_numpy(f.to_array().values[None])) for f in (a, b)]
    value = atmodist_distance(*tensors, weights=extractor, weight=regular.weight, periodic=regular.periodic)
    torch.testing.assert_close(
        float(value), float(atmodist_distance(a, b, weights=extractor, weight="area")), rtol=1e-6, atol=0
    )


def test_the_gradient_goes_back_to_where_it_came_from() -> None:
    grid = RegularGrid(GLOBE[0][::-1], np.roll(GLOBE[1], 5))
    x = torch.zeros(2, *grid.shape, requires_grad=True)
    grid.orient(x)[1, 0, 0].backward()  # north, at 0°
    assert x.grad.nonzero().tolist() == [[1, grid.shape[0] - 1, 5]]


def test_other_grids_are_refused() -> None:
    with pytest.raises(InputError, match=r"latitude: got shape \(4, 5\)"):
        RegularGrid(np.zeros((4, 5)), np.zeros((4, 5)))
    with pytest.raises(DataError, match="latitude"):
        RegularGrid(np.array([0.0, 1, 0, 1, 0]), GLOBE[1])


def test_points_are_rows_of_a_grid() -> None:
    latitude, longitude = (points.ravel() for points in np.meshgrid(*GLOBE, indexing="ij"))
    radians = (np.deg2rad(values).astype(np.float32) for values in (latitude, longitude))
    grid = RegularGrid.of_points(*(np.rad2deg(values) for values in radians))
    assert grid.shape == (24, 36)
    assert grid.periodic
    with pytest.raises(InputError, match="863 points that are not rows of 36 equal longitudes"):
        RegularGrid.of_points(latitude[:-1], longitude[:-1])
    with pytest.raises(InputError, match="864 points"):
        RegularGrid.of_points(latitude, longitude + np.repeat(np.arange(24), 36))
