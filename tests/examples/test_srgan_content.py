"""Content losses of a run: networks, mixture, scale."""

import dataclasses
import functools

import pytest
import torch
from srgan import measures
from srgan.config import SrganConfig
from srgan.content import CONTENTS, RandomVgg, calibrate, make_content, make_normalization

from atmoloss import AtmoDistLoss
from atmoloss.data import open_fields
from atmoloss.data.sources import source_from_dataset
from atmoloss.data.splits import split_by_date
from atmoloss.errors import ConfigError, DataError, InputError
from atmoloss.normalization import LogNormalization
from atmoloss.training.config_reading import build_dataclass
from tests.tolerances import assert_close

make_config = functools.partial(build_dataclass, SrganConfig)


@pytest.fixture(scope="module")
def source(winds_file):
    return source_from_dataset(open_fields(winds_file), "winds")


@pytest.fixture(scope="module")
def fields(source) -> torch.Tensor:
    """Sixteen normalised patches, hours apart."""
    return torch.from_numpy(source.values[::3, :, 4:36, 4:36])


@pytest.fixture(scope="module")
def normalization(fields) -> LogNormalization:
    return LogNormalization.fit(fields)


@pytest.fixture
def make(raw_config, normalization, fields):
    def build(name: str, **options):
        return make_content(make_config({**raw_config, "content": name, **options}), normalization, fields)

    return build


@pytest.mark.parametrize("name", CONTENTS)
def test_every_loss_is_zero_at_equality_finite_and_deterministic(name, make, fields, normalization):
    x, y = normalization(fields[:3]).clone(), normalization(fields[3:6])
    content = make(name)
    for step in (None, 1, 6):
        assert content(y, y.clone(), step).tolist() == [0.0, 0.0, 0.0]
        value = content(x, y, step)
        assert value.shape == (3,)
        assert (value > 0).all()
        assert torch.equal(value, make(name)(x, y, step))
        for prediction in (x.clone(), y.clone(), torch.zeros_like(y)):
            (slope,) = torch.autograd.grad(content(prediction.requires_grad_(), y, step).sum(), prediction)
            assert torch.isfinite(slope).all()
    for parameter in getattr(content.measure, "parameters", list)():
        assert not parameter.requires_grad


def test_mixture_and_scale(make, fields, normalization):
    x, y = normalization(fields[:2]), normalization(fields[2:4])
    error = measures.mse(x, y)
    assert_close(make("mse")(x, y), error, torch.float32)
    content = make("amse", mse_weight=0.25)
    content.scale = 3.0
    assert_close(content(x, y), 0.75 * 3 * measures.amse(x, y) + 0.25 * error, torch.float32)
    beside = make("l1", mse_weight=0.25, companion="amse")
    assert_close(beside(x, y), 0.75 * measures.l1(x, y) + 0.25 * measures.amse(x, y), torch.float32)
    assert [make(name).mse_weight for name in ("gradient", "log-spectral", "amse")] == [0.5, 0.5, 0.0]
    # The same for the three networks, whatever the weights recommend for a loss without an adversary.
    assert {make(name).mse_weight for name in ("atmodist", "random-encoder", "vgg-random")} == {0.15}


def test_atmodist_is_the_packages_loss_of_the_same_layers(make, fields, folder):
    bundled = AtmoDistLoss(folder, layers=["stage1", "stage3"], mse_weight=0.2)
    content = make("atmodist", layers=["stage1", "stage3"], mse_weight=0.2)
    normalise = bundled.normalization
    value = content(normalise(fields[:2]), normalise(fields[2:4])).mean()
    assert_close(value, bundled(fields[:2], fields[2:4]), torch.float32)
    assert_close(make("atmodist").measure.loss.factors["stage4"], 0.75 * 2.5, 1e-12)


def test_random_encoder_is_the_same_network_untrained_with_calibrated_statistics(make, fields, normalization, folder):
    content = make("random-encoder")
    trained, untrained = make("atmodist").measure.loss, content.measure.loss
    assert untrained.extractor.encoder.architecture == trained.extractor.encoder.architecture
    assert list(untrained.factors) == list(trained.factors)
    features = untrained.extractor.encode(normalization(fields))
    for name in untrained.factors:
        assert features[name].square().mean().item() == pytest.approx(1, rel=1e-4)
    assert not torch.equal(features["stage4"], trained.extractor.encode(normalization(fields))["stage4"])


def test_vgg_blocks_count_alike_and_end_where_asked(fields, normalization):
    sample = normalization(fields)
    vgg = RandomVgg(sample, ("block1", "block3"))
    assert list(vgg.blocks) == ["block1", "block2", "block3"]
    features = vgg.features(sample)
    assert {n: tuple(f.shape[1:]) for n, f in features.items()} == {"block1": (64, 32, 32), "block3": (256, 8, 8)}
    for f in features.values():
        assert f.square().mean().item() == pytest.approx(1, rel=1e-5)
    # VGG16's convolutions for two channels: 14,714,688 for three.
    whole = sum(p.numel() for p in RandomVgg(sample[:1]).parameters())
    assert whole == 14_714_688 - 9 * 64


def test_scale_makes_a_loss_the_mse_at_long_lags(source, normalization):
    (train,) = split_by_date([source], ["2026-01-09/2026-01-10"], [])["train"]

    def scale(measure) -> float:
        return calibrate(measure, normalization, [train], 16)

    assert scale(measures.mse) == pytest.approx(1, rel=1e-12)
    assert scale(lambda x, y: 4 * measures.mse(x, y)) == pytest.approx(0.25, rel=1e-6)
    # Independent unit normal fields have the MSE 2 and the mean absolute error 2 / √π; these are close to such.
    assert scale(measures.l1) == pytest.approx(3.14159**0.5, rel=0.15)
    # Two sources count equally, whatever their number of times; one without a sequence does not count.
    single = dataclasses.replace(train.select(train.times == train.times[0]), name="snapshot")
    assert calibrate(measures.amse, normalization, [train, single, train], 16) == scale(measures.amse)
    with pytest.raises(DataError, match="content_scale"):
        calibrate(measures.amse, normalization, [single], 16)


def test_normalization_of_the_weights_or_of_the_data(raw_config, fields, info, normalization):
    config = make_config({**raw_config, "normalization": "weights"})
    assert make_normalization(config, fields).constants() == LogNormalization(**info.normalization).constants()
    assert make_normalization(make_config(raw_config), fields).constants() == normalization.constants()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"content": "vgg-random", "layers": ["stage1"]}, ("layers", "stage1", "block1")),
        ({"content": "atmodist", "layers": ["block1"]}, ("layers", "block1", "stage1")),
        ({"content": "atmodist", "variables": ["u", "v"]}, ("variables", "u, v", "divergence, vorticity")),
    ],
)
def test_errors(options, words, raw_config, normalization, fields, one_sentence):
    with pytest.raises((ConfigError, InputError)) as error:
        make_content(make_config({**raw_config, **options}), normalization, fields)
    one_sentence(error.value, *words, "expected")
