"""What the original Keras code computed with random weights (TensorFlow 2.15), as cases for tests.

The small networks are committed in ``small/``; the published architecture at full size (18 MB) is tested
where it lies beside the repository, in ``../shared/parity``.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from atmoloss.keras_import import load_keras

SMALL = Path(__file__).resolve().parent / "small"
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "parity"

# Of the largest value of a tensor. Rounding gives up to 4e-6 (float32 against float32, two libraries); the
# smallest mistake one can make, PyTorch's epsilon instead of Keras', gives 2.4e-5 after one batch norm and
# at least 4.8e-5 at the end of every block.
TOLERANCE = 2e-5


def assert_close_to_max(actual, expected) -> None:
    """Compare relative to the largest expected magnitude; a failure names the worst element."""
    a, b = (np.asarray(x.detach() if isinstance(x, torch.Tensor) else x, np.float64) for x in (actual, expected))
    assert a.shape == b.shape, f"shape {a.shape}, expected {b.shape}"
    error, scale = np.abs(a - b), np.abs(b).max()
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= TOLERANCE * scale, (  # false for NaN
        f"worst at {tuple(map(int, worst))}: {a[worst]:.9g}, expected {b[worst]:.9g}; off by "
        f"{error.max() / scale:.3g} of {scale:.3g}, allowed {TOLERANCE:.3g}"
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint and what the original computed with it on fields of one size."""

    name: str
    size: str

    @property
    def folder(self) -> Path:
        return (SHARED if self.name.startswith("resnet") else SMALL) / self.name

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name; NHWC ones come as NCHW."""
        if self.folder.parent == SHARED:
            arrays = dict(np.load(SHARED / f"{self.name}_{self.size}.npz"))
        else:
            with np.load(SMALL / f"{self.name}.npz") as file:
                arrays = {k.partition("/")[2]: file[k] for k in file if k.startswith(f"{self.size}/")}
        return {k: np.moveaxis(v, -1, 1) if v.ndim == 4 else v for k, v in arrays.items()}

    def fields(self, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        """The two normalised inputs (N, 2, H, W)."""
        x1, x2 = (torch.from_numpy(np.ascontiguousarray(self.arrays[k])).to(dtype) for k in ("x1", "x2"))
        return x1, x2

    def encoder(self):
        return getattr(self.pretext(), "encoder", self.pretext())

    def pretext(self):
        return _pretext(self.folder)

    def stage(self, layer: str) -> str:
        """Name of the stage whose last layer has Keras' index i, ``"layer<i>"``."""
        index = (int(layer.removeprefix("layer")) - 4) / 8
        return f"stage{round(index / self.encoder().architecture['blocks_per_stage'][0])}"

    @property
    def layers(self) -> list[str]:
        """Layers that losses were taken of, ``"layer148"`` and the like."""
        return sorted({k.split(".")[1] for k in self.arrays if k.startswith("enc_loss.")})


@functools.cache
def _pretext(folder: Path):
    """Encoder and head, or the encoder alone."""
    return load_keras(folder)[0]


_ALL = [
    Case("resnet_small_31c", "160x160"),
    Case("resnet_small_31c", "96x128"),
    Case("resnet_small_31c", "101x83"),
    Case("tiny_n6", "64x64"),
    Case("tiny_n6", "37x46"),
    Case("tiny_n1", "64x96"),
    Case("tiny_n1", "33x50"),
    Case("tiny_n1", "31x32"),
]
_ABSENT = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}: the large fixtures are not committed")


def each_case(*sizes: str) -> pytest.MarkDecorator:
    """Run a test on the cases of these sizes, or on all."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(c, id=f"{c.name}-{c.size}", marks=_ABSENT if c.folder.parent == SHARED else ())
            for c in _ALL
            if not sizes or c.size in sizes
        ],
    )


def case_of(size: str) -> Case:
    """Return the case with fields of this size."""
    return next(c for c in _ALL if c.size == size)


def edit_json(path: Path, change) -> None:
    """Rewrite a Keras JSON after ``change`` of each layer, those of the nested model included."""
    config = json.loads(path.read_text())

    def walk(layers: list) -> list:
        for layer in layers:
            if "layers" in layer["config"]:
                layer["config"]["layers"] = walk(layer["config"]["layers"])
        return [new for layer in layers for new in (change(layer) or [layer])]

    config["config"]["layers"] = walk(config["config"]["layers"])
    path.write_text(json.dumps(config))
