"""Published predictions and their maps, against what they are defined as."""

import pytest
import torch

from atmoloss import load_predictor
from atmoloss import weights as weights_folder
from atmoloss.errors import InputError, WeightsError
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.predictor import compose
from tests.tolerances import assert_close


@pytest.fixture
def sequence(draw) -> torch.Tensor:
    return draw(6, 24, 28).unflatten(0, (2, 3))


def test_a_prediction_is_that_of_the_model_in_physical_units(prediction_model, predicts, sequence) -> None:
    normalization = LogNormalization(**ORIGINAL_NORMALIZATION)
    normalised = normalization(sequence.flatten(0, 1)).unflatten(0, (2, 3))
    with torch.no_grad():
        expected = normalization.inverse(prediction_model(normalised))
    predictor = load_predictor(predicts)
    assert_close(predictor(sequence), expected, torch.float32)
    assert predictor(sequence.double()).dtype == torch.float64
    assert predictor.frames == 3
    assert weights_folder.read_info(predicts).format_version == 2


def test_head_maps_are_those_that_the_prediction_used(prediction_model, predicts, sequence) -> None:
    normalised = LogNormalization(**ORIGINAL_NORMALIZATION)(sequence.flatten(0, 1)).unflatten(0, (2, 3))
    maps = load_predictor(predicts).attention(sequence)
    assert maps.shape == (2, 4, 6, 7, 3, 5, 5)  # two blocks of two heads
    with torch.no_grad():
        for block, weights in zip(maps.split(2, 1), prediction_model.with_maps(normalised)[1], strict=True):
            assert_close(block.flatten(-2), weights, 1e-5)


@pytest.mark.parametrize("method", ["head", "rollout", "gradient"])
def test_maps_sum_to_one_and_stay_inside(method, predicts, sequence) -> None:
    maps = load_predictor(predicts).attention(sequence[:1], method)
    side = maps.shape[-1]
    assert side == (9 if method == "rollout" else 5)  # the window of the head, and twice that of the encoder
    assert_close(maps.sum((-3, -2, -1)), torch.ones(maps.shape[:4]), torch.float32)
    assert maps[:, :, 0, :, :, : side // 2].abs().max() == 0
    assert maps[:, :, :, -1, ..., side // 2 + 1 :].abs().max() == 0


@pytest.mark.parametrize("method", ["head", "rollout", "gradient"])
def test_maps_wrap_at_the_date_line(method, predicts, sequence) -> None:
    for periodic in (True, False):
        predictor = load_predictor(predicts, periodic=periodic)
        plain = predictor.attention(sequence[:1], method)
        rolled = predictor.attention(sequence[:1].roll(8, -1), method)
        assert torch.allclose(rolled, plain.roll(2, 3), atol=1e-4) == periodic


def dense(maps: torch.Tensor, periodic: bool) -> torch.Tensor:
    """One map of windows (h, w, S, S) as a matrix of all positions by all positions."""
    height, width, side, _ = maps.shape
    out = maps.new_zeros(height, width, height, width)
    for i in range(side):
        for j in range(side):
            for row in range(height):
                for column in range(width):
                    south, east = row + i - side // 2, column + j - side // 2
                    if 0 <= south < height and (periodic or 0 <= east < width):
                        out[row, column, south, east % width] += maps[row, column, i, j]
    return out.reshape(height * width, height * width)


@pytest.mark.parametrize("periodic", [False, True])
def test_maps_one_after_the_other_are_products_of_matrices(periodic) -> None:
    def inside(side: int) -> torch.Tensor:
        maps = torch.rand(1, 4, 7, side, side, dtype=torch.float64)
        for row in range(4):
            for column in range(7):
                for n in range(side**2):
                    south, east = row + n // side - side // 2, column + n % side - side // 2
                    if not (0 <= south < 4 and (periodic or 0 <= east < 7)):
                        maps[0, row, column, n // side, n % side] = 0.0
        return maps

    first, then = inside(3), inside(5)
    got = compose(first, then, periodic)
    assert_close(dense(got[0], periodic), dense(first[0], periodic) @ dense(then[0], periodic), torch.float64)


def test_rollout_is_the_product_of_half_residual_steps(predicts, sequence) -> None:
    predictor = load_predictor(predicts)
    x = predictor._normalised(sequence[:1])
    with torch.no_grad():
        heads = [m.mean(1)[0].unflatten(-1, (5, 5)) for m in predictor.model.with_maps(x)[1]]
        spatial = [m.mean(1).unflatten(-1, (3, 3)) for m in predictor.model.encoder.attention(x[0]).values()]
    identity = torch.eye(42)
    maps = predictor.attention(sequence[:1], "rollout")[0, 0]
    for f in range(3):
        present = identity * (f == 2)
        for block in heads:
            present = (present + dense(block[:, :, f], False)) / 2
        encoder = (identity + dense(spatial[1][f], False)) / 2 @ ((identity + dense(spatial[0][f], False)) / 2)
        assert_close(dense(maps[:, :, f], False), present @ encoder, 1e-5)


def test_gradient_maps_are_derivatives(predicts, sequence) -> None:
    """By finite differences in float64, for one position and all cells of one other position in the past."""
    predictor = load_predictor(predicts)
    x = predictor._normalised(sequence[:1].double())
    maps = predictor._gradient_maps(x)

    def mean_there(x: torch.Tensor) -> float:
        return float(predictor.model(x)[0, :, 8:12, 12:16].sum() / 16)

    moved = {}
    for f, south, east in ((0, 0, 0), (1, 1, -1), (2, -1, 0)):
        total = 0.0
        for channel in range(2):
            for row in range(8 + 4 * south, 12 + 4 * south):
                for column in range(12 + 4 * east, 16 + 4 * east):
                    step = torch.zeros_like(x)
                    step[0, f, channel, row, column] = 1e-6
                    total += abs(mean_there(x + step) - mean_there(x - step)) / 2e-6
        moved[f, south, east] = total
    ratios = [maps[0, 0, 2, 3, f, 2 + s, 2 + e] / total for (f, s, e), total in moved.items()]
    assert_close(torch.stack(ratios), ratios[0].expand(3), 1e-4)


@pytest.mark.parametrize("method", ["head", "rollout", "gradient"])
def test_the_map_of_one_position_is_that_of_all(method, predicts, sequence) -> None:
    predictor = load_predictor(predicts)
    whole = predictor.attention(sequence, method)
    assert_close(predictor.attention(sequence, method, (5, 3)), whole[:, :, 5:6, 3:4], torch.float32)


def test_nothing_is_left_to_train_and_the_model_is_not_changed(prediction_model, predicts) -> None:
    before = {name: tensor.clone() for name, tensor in prediction_model.state_dict().items()}
    predictor = load_predictor(predicts)
    assert not list(predictor.parameters())
    assert predictor.state_dict().keys() == predictor.train().state_dict().keys()
    assert not predictor.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in prediction_model.state_dict().items())


def test_wrong_sequences(predicts, sequence, one_sentence) -> None:
    predictor = load_predictor(predicts)
    missing = sequence.clone()
    missing[0, 0, 0, 0, 0] = float("nan")
    for wrong, words in (
        (sequence[:, :2], ("(2, 2, 2, 24, 28)", "(N, 3, 2, H, W)", "h apart")),
        (sequence[:, :, :1], ("divergence, vorticity",)),
        (sequence[0], ("(3, 2, 24, 28)",)),
        ([1.0], ("list",)),
        (missing, ("missing",)),
        (sequence[..., :19], ("24x19", "at least 20x20")),
    ):
        with pytest.raises(InputError) as error:
            predictor(wrong)
        one_sentence(error.value, "sequence: got", "expected", *words)
    with pytest.raises(InputError) as error:
        predictor.attention(sequence, "heads")
    one_sentence(error.value, "method", "'heads'", "rollout")
    for method, at in (("head", (6, 0)), ("rollout", (-1, 0)), ("gradient", (0, 7))):
        with pytest.raises(InputError) as error:
            predictor.attention(sequence, method, at)
        one_sentence(error.value, f"at: got {at}", "6x7 positions", "expected")


def test_weights_that_predict_nothing(folder, one_sentence) -> None:
    with pytest.raises(WeightsError) as error:
        load_predictor(folder)
    one_sentence(error.value, "weights", "no head that predicts", "expected")


def test_earlier_versions_refuse_them_by_their_format(predicts, folder) -> None:
    """They accept the first format only; weights that are not new stay in it."""
    assert weights_folder.read_info(predicts).format_version == 2
    assert weights_folder.read_info(folder).format_version == 1
