"""The extractor: the encoder in evaluation mode with its gains, and what it refuses to be made of."""

import dataclasses
import shutil

import pytest
import torch

from atmoloss import load_extractor
from atmoloss import weights as weights_folder
from atmoloss.errors import InputError, WeightsError
from atmoloss.extractor import Extractor, load_strictly
from atmoloss.networks import Encoder
from tests.tolerances import assert_close


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_those_of_the_encoder_times_the_gains(dtype, extractor, encoder, gains, draw) -> None:
    fields = draw(2).to(dtype)
    got = extractor(fields)
    with torch.no_grad():
        expected = encoder.to(dtype)(extractor.normalization(fields))
    encoder.float()
    assert list(got) == list(extractor.stages) == list(expected)
    for name, features in expected.items():
        gain = gains[name].to(dtype)[:, None, None] if name in gains else 1.0
        assert got[name].dtype == dtype
        assert_close(got[name], gain * features, torch.float32)  # folded weights are rounded to float32


def test_only_what_is_asked_for_is_returned(extractor, draw) -> None:
    fields = draw(1)
    assert list(extractor(fields, ["stage2"])) == ["stage2"]
    torch.testing.assert_close(extractor(fields, ["stage2"])["stage2"], extractor(fields)["stage2"])
    for layers in ([], ["stage9"], ["stage1", "conv"]):
        with pytest.raises(InputError, match=r"layers: got .*expected some of stage1, stage2"):
            extractor(fields, layers)


def test_with_periodic_shares_its_tensors_and_changes_its_edges_alone(extractor, draw) -> None:
    fields = draw(1)
    other = extractor.with_periodic(True)
    pairs = zip(extractor.buffers(), other.buffers(), strict=True)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    plain, wrapped = extractor(fields)["stage1"], other(fields)["stage1"]
    torch.testing.assert_close(wrapped[..., 8:-8], plain[..., 8:-8])
    assert not torch.allclose(wrapped[..., 0], plain[..., 0])
    # Columns that wrap have no first: fields that are shifted have features that are shifted.
    stride = extractor.encoder.strides["stage1"]
    shifted = other(fields.roll(4 * stride, -1))["stage1"]
    torch.testing.assert_close(shifted, wrapped.roll(4, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["channels", "normalization", "encoder", "gains", "tensors"])
def test_a_configuration_that_does_not_fit_its_tensors_is_refused(change, folder, tmp_path) -> None:
    path = tmp_path / "weights"
    shutil.copytree(folder, path)
    info, tensors = weights_folder.load(path)
    message = {
        "channels": "has 1 channels, an encoder of 2 and a normalization of 2, expected the same number",
        "normalization": "has a wrong encoder or normalization",
        "encoder": "has a wrong encoder or normalization",
        "gains": "has 3 gains for stage2, expected one per channel of a stage",
        "tensors": "do not fit its configuration",
    }[change]
    if change == "channels":
        info = dataclasses.replace(info, channels=info.channels[:1])
    elif change in ("normalization", "encoder"):
        info = dataclasses.replace(info, **{change: {**getattr(info, change), "unknown": 1}})
    elif change == "gains":
        tensors["gain.stage2"] = torch.ones(3)
    else:
        del tensors["encoder.stem.weight"]
    weights_folder.save(path, info, tensors)
    with pytest.raises(WeightsError, match=message):
        load_extractor(path)


def test_an_encoder_without_numbers_is_refused(encoder, extractor, info) -> None:
    with pytest.raises(WeightsError, match="meta device"):
        Extractor(type(encoder)(**encoder.architecture).to("meta"), extractor.normalization, info)


def test_attention_maps_of_fields_in_physical_units(attention_folder, draw) -> None:
    extractor, (info, tensors) = load_extractor(attention_folder), weights_folder.load(attention_folder)
    assert info.format_version == 2
    encoder = Encoder(**info.encoder).eval()
    load_strictly(encoder, tensors, "encoder.", info.id)
    fields = draw(2, 40, 36)
    maps, expected = extractor.attention(fields), encoder.attention(extractor.normalization(fields))
    assert list(maps) == ["stage2.0", "stage2.1"]
    for name, weights in maps.items():
        assert weights.shape == (2, 2, 10, 9, 9)
        assert_close(weights, expected[name], 1e-4)
        assert_close(weights.sum(-1), torch.ones(2, 2, 10, 9), torch.float32)


def test_attention_maps_wrap_at_the_date_line(attention_folder, draw) -> None:
    extractor = load_extractor(attention_folder)
    fields = draw(1, 32, 48)
    for periodic in (True, False):
        closed = extractor.with_periodic(periodic)
        plain, rolled = closed.attention(fields)["stage2.1"], closed.attention(fields.roll(16, -1))["stage2.1"]
        assert torch.allclose(rolled, plain.roll(4, 3), atol=1e-5) == periodic
        assert (plain[:, :, 2:-2, 0].unflatten(-1, (3, 3))[..., 0].abs().max() > 0) == periodic


def test_weights_without_attention_have_no_maps(extractor, draw, one_sentence) -> None:
    with pytest.raises(InputError) as error:
        extractor.attention(draw(1))
    one_sentence(error.value, "weights", extractor.info.id, "expected an encoder with attention")
    with pytest.raises(InputError) as error:
        extractor.attention(draw(1)[:, :1])
    one_sentence(error.value, "fields", "expected (N, 2, H, W)")
