"""Tensors, arrays and xarray objects are the same fields to the functions."""

import numpy as np
import pytest
import torch

from atmoloss import atmodist_distance, atmodist_hours, distance_matrix, fit_hours
from atmoloss.arrays import area_weight, channel_names
from atmoloss.data.sample import SAMPLE_PATH
from atmoloss.errors import InputError
from tests.labelled import GLOBE, HOUR, NAMES, REGION, START, fields

xr = pytest.importorskip("xarray")


def test_arrays_are_tensors(extractor, draw):
    a, b = draw(3, seed=1), draw(3, seed=2)
    expected = atmodist_distance(a, b, weights=extractor, weight=torch.rand(32))
    got = atmodist_distance(a.numpy(), b.numpy(), weights=extractor)
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, atmodist_distance(a, b, weights=extractor).numpy())
    assert (got != expected.numpy()).all()
    read_only = np.broadcast_to(a.numpy()[:1], a.shape)
    np.testing.assert_allclose(atmodist_distance(read_only, a.numpy(), weights=extractor)[0], 0)
    assert atmodist_distance(a.double().numpy(), b.double().numpy(), weights=extractor).dtype == np.float64


@pytest.mark.parametrize(("first", "second"), [((), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (3,)), ((2, 3), (2, 3))])
def test_leading_dimensions_broadcast(first, second, extractor, draw):
    a, b = (draw(int(np.prod(n)), seed=i).reshape(*n, 2, 32, 32) for i, n in enumerate((first, second)))
    got = atmodist_distance(a, b, weights=extractor)
    lead = torch.broadcast_shapes(first, second)
    assert got.shape == lead
    pairs = [x.expand(*lead, 2, 32, 32).reshape(-1, 2, 32, 32) for x in (a, b)]
    assert torch.equal(got.flatten(), atmodist_distance(*pairs, weights=extractor))
    weight = torch.rand(*lead, 1, 32, 32)
    got = atmodist_distance(a, b, weights=extractor, weight=weight)
    expected = atmodist_distance(*pairs, weights=extractor, weight=weight.reshape(-1, 1, 32, 32))
    assert torch.equal(got.flatten(), expected)


def test_gradients_pass_through_broadcasting(extractor, draw):
    a, b = draw(1, seed=1)[0].requires_grad_(), draw(3, seed=2)
    (gradient,) = torch.autograd.grad(atmodist_distance(a, b, weights=extractor).sum(), a)
    assert gradient.shape == a.shape
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("grid", [GLOBE, REGION], ids=["globe", "region"])
def test_labelled_fields_cannot_be_upside_down(grid, extractor):
    a, b = fields(grid, 1, member=[1, 2]), fields(grid, 2, member=[1, 2])
    tensors = [torch.from_numpy(d.to_dataarray().values).transpose(0, 1) for d in (a, b)]
    options = {"periodic": grid is GLOBE, "weights": extractor}
    expected = atmodist_distance(*tensors, **options)
    upside_down = a.isel(latitude=slice(None, None, -1))
    west = (upside_down["longitude"] + 180) % 360 - 180
    for other in (a, upside_down, upside_down.assign_coords(longitude=west).sortby("longitude")):
        got = atmodist_distance(other, b, weights=extractor)
        assert got.dims == ("member",)
        assert got["member"].values.tolist() == [1, 2]
        np.testing.assert_allclose(got.values, expected, rtol=1e-5)
    assert (atmodist_distance(tensors[0].flip(-2), tensors[1], **options) != expected).all()
    area = atmodist_distance(a, b, weights=extractor, weight="area")
    weight = area_weight(grid[0])
    np.testing.assert_allclose(area.values, atmodist_distance(*tensors, weight=weight, **options), rtol=1e-5)


def test_other_dimensions_broadcast_by_name(extractor):
    a, b = fields(seed=1, member=[1, 2]), fields(seed=2, time=[10, 20, 30])
    got = atmodist_distance(a, b.to_dataarray("channel"), weights=extractor)
    assert got.dims == ("member", "time")
    pair = atmodist_distance(a.sel(member=2), b.sel(time=30), weights=extractor)
    assert pair.dims == ()
    np.testing.assert_allclose(got.sel(member=2, time=30), pair, rtol=1e-6)


def test_labelled_fields_say_their_units(extractor):
    a, b = fields(seed=1), fields(seed=2)
    km = b.assign(divergence=b["divergence"].assign_attrs(units="km s-1"))
    with pytest.raises(ValueError, match="divergence: got units 'km s-1'"):
        atmodist_distance(a, km, weights=extractor)


def test_hours_know_grid_and_level_by_themselves():
    week = xr.open_dataset(SAMPLE_PATH, engine="h5netcdf").isel(latitude=slice(0, 64), longitude=slice(0, 64)).load()
    a, b = week.isel(time=[0, 1]).drop_vars("time"), week.isel(time=[2, 3]).drop_vars("time")
    got = atmodist_hours(a, b.isel(latitude=slice(None, None, -1)), weights="winds", uncertainty=True)
    tensors = [torch.from_numpy(d.to_dataarray().values).transpose(0, 1) for d in (a, b)]
    expected = atmodist_hours(*tensors, grid_spacing=1.0, level="10 m", weights="winds", uncertainty=True)
    for one, other in zip(got, expected, strict=True):
        assert one.dims == ("time",)
        np.testing.assert_allclose(one.values, other, rtol=1e-5)


def test_names_of_channels(extractor, folder):
    assert channel_names(extractor) == channel_names(folder) == NAMES
    assert channel_names("winds") == ("u", "v")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, t, e: atmodist_distance(d, t, weights=e), ("a, b", "Dataset and Tensor")),
        (lambda d, t, e: atmodist_distance(t, t.numpy(), weights=e), ("Tensor and ndarray",)),
        (lambda d, t, e: atmodist_distance(t.tolist(), t.tolist(), weights=e), ("list and list",)),
        (lambda d, t, e: atmodist_distance(t[0, 0], t, weights=e), ("a", "(32, 32)")),
        (lambda d, t, e: atmodist_distance(t, t[:2], weights=e), ("(3, 2, 32, 32) and (2, 2, 32, 32)", "broadcast")),
        (lambda d, t, e: atmodist_distance(t, t, weights=e, weight="area"), ("weight", "'area'", "latitudes")),
        (lambda d, t, e: atmodist_distance(t, t, weights=e, weight=torch.ones(2, 1, 32, 32)), ("weight", "(2, 1")),
        (lambda d, t, e: atmodist_distance(t.numpy().astype("U"), t.numpy(), weights=e), ("a", "<U32")),
        (lambda d, t, e: atmodist_distance(d, d, weights=e, weight=torch.ones(32)), ("weight", "Tensor")),
        (lambda d, t, e: atmodist_distance(d, d, weights=e, weight="cosine"), ("weight", "'cosine'")),
        (lambda d, t, e: atmodist_distance(d, d.isel(latitude=slice(1, None)), weights=e), ("a and b", "one grid")),
        (lambda d, t, e: atmodist_distance(d, d.assign_coords(m=[1, 3]), weights=e), ("a and b", "coordinates")),
    ],
)
def test_wrong_inputs(call, words, extractor, draw, one_sentence):
    with pytest.raises(InputError) as error:
        call(fields(m=[1, 2]), draw(3), extractor)
    one_sentence(error.value, *words, "expected")


def test_matrices_and_curves_take_what_distances_take(extractor):
    a = fields(GLOBE, 1, time=START + 6 * HOUR * np.arange(12)).cumsum("time", keep_attrs=True)
    b = fields(GLOBE, 2, member=[1, 2])
    x, y = (torch.from_numpy(d.to_dataarray().values).transpose(0, 1) for d in (a, b))
    options = {"weights": extractor, "periodic": True}
    expected = distance_matrix(x, y, **options)
    turned = b.isel(latitude=slice(None, None, -1)).roll(longitude=7, roll_coords=True)
    matrix = distance_matrix(a, turned, weights=extractor)
    assert matrix.dims == ("time", "other_member")
    assert matrix["other_member"].values.tolist() == [1, 2]
    np.testing.assert_allclose(matrix.values, expected, rtol=1e-4)
    square = distance_matrix(a, weights=extractor, squared=False)
    assert square.dims == ("time", "other_time")
    assert (square["other_time"].values == a["time"].values).all()
    np.testing.assert_array_equal(distance_matrix(x.numpy(), y.numpy(), **options), expected.numpy())
    curve = fit_hours(a.isel(latitude=slice(None, None, -1)), weights=extractor, weight="area")
    area = area_weight(GLOBE[0])
    assert curve == fit_hours(x.numpy(), a["time"].values, weight=area.numpy(), **options)
    assert curve == fit_hours(x, a["time"].values, weight=area, **options)


def test_lists_of_fields_are_lists(extractor, draw):
    with pytest.raises(InputError, match=r"fields: got dimensions beside those of space none, expected one"):
        distance_matrix(fields(), weights=extractor)
    with pytest.raises(InputError, match=r"others: got dimensions beside those of space member, time, expected one"):
        distance_matrix(fields(member=[1]), fields(member=[1], time=[2]), weights=extractor)
    with pytest.raises(InputError, match=r"fields and others: got fields on 24x36 points .* expected one grid"):
        distance_matrix(fields(GLOBE, member=[1]), fields((GLOBE[0] / 2, GLOBE[1]), member=[1]), weights=extractor)
    with pytest.raises(InputError, match=r"fields, others: got Dataset and Tensor, expected"):
        distance_matrix(fields(member=[1]), draw(1), weights=extractor)
    with pytest.raises(InputError, match=r"fields: got shape \(2, 32, 32\), expected \(N, C, H, W\)"):
        fit_hours(draw(1)[0], [0], weights=extractor)
    with pytest.raises(InputError, match=r"times: got None, expected one per field"):
        fit_hours(draw(2), weights=extractor)
