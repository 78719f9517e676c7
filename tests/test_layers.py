"""The convolution of winds that is learned on divergence and vorticity, against plain differences."""

import pytest
import torch

from atmoloss.errors import InputError
from atmoloss.layers import _DIFFERENCE_GAIN, BlurredConv, WindConv
from atmoloss.networks import build_encoder


def with_derivatives(winds: torch.Tensor) -> torch.Tensor:
    """Return u, v, divergence and vorticity by centred differences of cells, zeros outside, rows running south."""
    u, v = torch.nn.functional.pad(winds, (1, 1, 1, 1)).unbind(1)

    def east(x):
        return (x[:, 1:-1, 2:] - x[:, 1:-1, :-2]) / 2

    def north(x):
        return (x[:, :-2, 1:-1] - x[:, 2:, 1:-1]) / 2

    derived = _DIFFERENCE_GAIN * torch.stack((east(u) + north(v), east(v) - north(u)), 1)
    return torch.cat((winds, derived), 1)


@pytest.mark.parametrize("size", [(32, 32), (21, 34)])
def test_wind_conv_is_a_convolution_of_winds_and_their_derivatives(size):
    conv, plain = WindConv(6, 5, bias=True).double(), BlurredConv(4, 6, 5, bias=True).double()
    plain.load_state_dict(conv.state_dict(), strict=False)
    winds = torch.randn(2, 2, *size, dtype=torch.float64)
    with torch.no_grad():
        got, expected = conv(winds), plain(with_derivatives(winds))
    assert got.shape == expected.shape
    # At the edge the two see other zeros: outside of the winds, and outside of their derivatives.
    torch.testing.assert_close(got[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3])


def test_rotation_and_strain_are_told_apart():
    y, x = torch.meshgrid(torch.arange(16.0, 0, -1), torch.arange(16.0), indexing="ij")  # row 0 northernmost
    conv = WindConv(1, 1)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    for channel, (u, v), expected in ((3, (-y, x), 2.0), (2, (x, y), 2.0), (3, (x, -y), 0.0), (2, (-y, x), 0.0)):
        with torch.no_grad():
            conv.weight.zero_()[0, channel] = 1.0
            got = conv(torch.stack((u, v))[None])[inside]
        torch.testing.assert_close(got, torch.full_like(got, _DIFFERENCE_GAIN * expected))


@pytest.mark.parametrize("options", [{"in_channels": 3}, {"downsample": "stride"}, {"stem_stride": 1}])
def test_derivatives_need_two_winds_and_a_blurred_stem_of_stride_2(options):
    with pytest.raises(InputError, match="derivatives: got"):
        build_encoder("resnet_aa", derivatives=True, **options)
