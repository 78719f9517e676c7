"""Shared fixtures: a tiny encoder with weights that were never trained, and what ships: every bundled weights folder.

ATMOLOSS_TEST_SEED=n draws other weights and fields, to tell noise from a defect.
"""

import dataclasses
import os
import shutil
from pathlib import Path

import hypothesis
import pytest
import torch

from atmoloss import weights as weights_folder
from atmoloss.attention import NeighbourhoodAttention
from atmoloss.extractor import Extractor, load_extractor
from atmoloss.networks import Encoder
from atmoloss.normalization import ORIGINAL_NORMALIZATION, LogNormalization
from atmoloss.prediction import PredictionModel, build_prediction_head
from atmoloss.weights import WeightsInfo

SEED = int(os.environ.get("ATMOLOSS_TEST_SEED", "0"))
TINY = {
    "stage_channels": (4, 6, 8, 8),
    "blocks_per_stage": 1,
    "stem_kernel": 5,
    "stem_pool": False,
    "downsample": "blur",
}

TINY_ATTENTION = {
    **TINY,
    "stage_channels": (8, 16, 8, 8),  # of fewer channels, some positions have none that is not zero
    "attention": {"stage2": {"blocks": 2, "heads": 2, "radius": 1}},
}

TINY_PREDICTION = {
    "stage_channels": (8, 16),
    "blocks_per_stage": 1,
    "stem_kernel": 3,
    "stem_pool": False,
    "downsample": "blur",
    "attention": {"stage2": {"blocks": 2, "heads": 2, "radius": 1}},
}

TINY_WEIGHTS, ATTENTION_WEIGHTS = "tiny", "attention"
EVERY_WEIGHTS = (TINY_WEIGHTS, ATTENTION_WEIGHTS, *sorted(weights_folder.bundled()))

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "atmoloss",
    deadline=None,
    max_examples=25,
    derandomize="ATMOLOSS_TEST_SEED" not in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # which measures how busy the machine is
)
hypothesis.settings.load_profile("atmoloss")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Number the tests of bytes: some hold the time (gzip), and workers must collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)  # before pytest leaves the slow ones out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to make test-all what takes half a minute each and is of weights that are not shipped."""
    long = ("compiled, bands", "test_onnx", "test_compiled_gradient")
    for item in items:
        if f"[{ATTENTION_WEIGHTS}" in item.name and any(part in item.name for part in long):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(SEED)
    torch.set_flush_denormal(False)  # training turns it on for its process; other tests need subnormal numbers


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * SEED + seed)


@pytest.fixture(scope="session")
def randomise():
    """Give every batch norm of a network statistics that look trained; returns it in eval mode."""

    def apply(module: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
        generator = _generator(seed)
        for norm in module.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                for tensor, low, high in (
                    (norm.running_mean, -0.3, 0.3),
                    (norm.running_var, 0.5, 2.0),
                    (norm.weight, 0.5, 1.5),
                    (norm.bias, -0.2, 0.4),
                ):
                    tensor.data.uniform_(low, high, generator=generator)
        return module.eval()

    return apply


@pytest.fixture(scope="session")
def encoder(randomise) -> Encoder:
    torch.manual_seed(SEED)
    return randomise(Encoder(**TINY))


@pytest.fixture(scope="session")
def info(encoder) -> WeightsInfo:
    return WeightsInfo(
        name="tiny",
        channels=(
            {"name": "divergence", "standard_name": "divergence_of_wind", "units": "s-1"},
            {"name": "vorticity", "standard_name": "atmosphere_relative_vorticity", "units": "s-1"},
        ),
        encoder=encoder.architecture,
        normalization=ORIGINAL_NORMALIZATION,
        n_lag_classes=23,
        layer_scales={"stage1": 0.5, "stage2": 0.7, "stage3": 1.5, "stage4": 2.5},
        layers={"stage2": 0.25, "stage4": 0.75},
        mse_weight=0.05,
        license="Apache-2.0",
        sha256="0123456789abcdef" * 4,
    )


@pytest.fixture(scope="session")
def gains() -> dict[str, torch.Tensor]:
    return {"stage2": torch.rand(6, generator=_generator(2)) + 0.5, "stage4": torch.rand(8, generator=_generator(3))}


@pytest.fixture(scope="session")
def extractor(encoder, info, gains) -> Extractor:
    return Extractor(encoder, LogNormalization(**ORIGINAL_NORMALIZATION), info, gains)


@pytest.fixture(scope="session")
def folder(encoder, info, gains, tmp_path_factory):
    """A weights folder of the same extractor; copy it before altering it."""
    path = tmp_path_factory.mktemp("weights") / "tiny"
    tensors = {f"encoder.{n}": t for n, t in encoder.state_dict().items()}
    tensors |= {f"gain.{n}": t for n, t in gains.items()}
    weights_folder.save(path, dataclasses.replace(info, sha256=""), tensors)
    return path


@pytest.fixture(scope="session")
def attention_folder(randomise, info, gains, tmp_path_factory):
    """A weights folder of an encoder with attention, whose biases of position look trained."""
    torch.manual_seed(SEED + 4)  # with the fields of test_modes, no ReLU so near zero that float32 opens it
    encoder = randomise(Encoder(**TINY_ATTENTION))
    for block in encoder.modules():
        if isinstance(block, NeighbourhoodAttention):
            torch.nn.init.normal_(block.position_bias, std=0.5)
    path = tmp_path_factory.mktemp("weights") / "attention"
    tensors = {f"encoder.{n}": t for n, t in encoder.state_dict().items()} | {"gain.stage2": gains["stage4"].repeat(2)}
    described = {"encoder": encoder.architecture}
    layers = {"stage1": 0.2, "stage2": 0.5, "stage4": 0.3}
    weights_folder.save(path, dataclasses.replace(info, name="attention", layers=layers, **described), tensors)
    return path


@pytest.fixture(scope="session")
def prediction_model(randomise) -> PredictionModel:
    """A tiny model that predicts, as if it were trained."""
    torch.manual_seed(SEED)
    encoder = randomise(Encoder(**TINY_PREDICTION))
    options = {"frames": 3, "width": 16, "blocks": 2, "heads": 2, "radius": 2}
    model = PredictionModel(encoder, build_prediction_head({"kind": "space_time", **options}, encoder))
    torch.nn.init.normal_(model.head.increment.weight, std=0.1)
    for block in model.head.blocks:
        torch.nn.init.normal_(block.attention.position_bias)
    return model.eval()


@pytest.fixture(scope="session")
def predicts(prediction_model, info, tmp_path_factory):
    """A weights folder of the same model."""
    path = tmp_path_factory.mktemp("weights") / "next"
    described = {"encoder": prediction_model.encoder.architecture, "head": prediction_model.head.architecture}
    info = dataclasses.replace(info, name="next", base_step_hours=6, layers={}, **described)
    weights_folder.save(path, info, prediction_model.state_dict())
    return path


@pytest.fixture(scope="session")
def draw():
    """Draw fields with the spread of divergence and vorticity near the surface, s⁻¹."""

    def sample(n: int = 2, height: int = 32, width: int = 32, *, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
        noise = torch.randn(n, 2, height, width, dtype=torch.float64, generator=_generator(seed))
        return (noise * torch.tensor([3e-5, 5e-5], dtype=torch.float64).reshape(2, 1, 1)).to(dtype)

    return sample


@pytest.fixture(scope="session")
def one_sentence():
    """Check that a message is one sentence on one line that names the argument and what is expected."""

    def check(error: BaseException, *words: str) -> None:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 600
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"

    return check


@pytest.fixture(scope="session", params=EVERY_WEIGHTS)
def every_weights(request, folder, attention_folder) -> str:
    """Tiny weights folders, and each of those that ship: for tests of modes, which must hold for all of them."""
    return str({TINY_WEIGHTS: folder, ATTENTION_WEIGHTS: attention_folder}.get(request.param, request.param))


@pytest.fixture(scope="session")
def every_extractor(every_weights) -> Extractor:
    return load_extractor(every_weights)


@pytest.fixture(scope="session")
def draw_for():
    """Draw fields in the units of an extractor, with the spread of its normalisation."""

    def sample(
        extractor: Extractor, n: int = 2, height: int = 32, width: int = 32, *, seed: int = 0, dtype=torch.float32
    ) -> torch.Tensor:
        noise = torch.randn(n, extractor.encoder.in_channels, height, width, generator=_generator(seed))
        return (extractor.normalization.std * noise).to(dtype)

    return sample


@pytest.fixture
def keras_checkpoint(tmp_path) -> Path:
    """A copy of a small checkpoint of the original Keras code, encoder and head, to be altered."""
    return shutil.copytree(Path(__file__).parent / "parity" / "small" / "tiny_n1", tmp_path / "epoch27")


@pytest.fixture(params=[True, False], ids=["oneDNN", "no oneDNN"])
def onednn(request):
    """With oneDNN and without: where a processor lacks an instruction, torch uses its own stricter kernels."""
    with torch.backends.mkldnn.flags(enabled=request.param):
        yield request.param
