import sys
from pathlib import Path

import pytest

# The examples are packages of their own, beside atmoloss.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


@pytest.fixture(scope="session")
def winds_file(tmp_path_factory) -> Path:
    pytest.importorskip("xarray")
    from tests.training.conftest import drifting_winds

    path = tmp_path_factory.mktemp("data") / "winds.nc"
    drifting_winds().to_netcdf(path, engine="h5netcdf")
    return path


@pytest.fixture
def raw_config(winds_file, folder) -> dict:
    """A GAN of a few hundred weights; ``folder`` holds a tiny encoder."""
    return {
        "name": "tiny",
        "sources": [{"name": "winds", "path": str(winds_file)}],
        "validation": ["2026-01-09/2026-01-10"],
        "test": ["2026-01-11/2026-01-12"],
        "weights": str(folder),
        "normalization": "fit",
        "patch_size": 16,
        "batch_size": 4,
        "generator_channels": 4,
        "generator_blocks": 1,
        "discriminator_channels": [2, 4],
        "discriminator_dense": 8,
        "pretrain_steps": 3,
        "steps": 6,
        "final_steps": 2,
        "workers": 0,
        "log_every": 2,
        "validate_every": 4,
        "checkpoint_every": 2,
        "validation_batches": 1,
    }
