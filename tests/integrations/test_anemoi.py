"""The loss in anemoi-training: made by its factory of a configuration, of fields as it has them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atmoloss import AtmoDistLoss
from atmoloss.errors import InputError
from tests.integrations.page import blocks
from tests.labelled import GLOBE

pytest.importorskip("anemoi.training", reason="make test-integrations installs anemoi-training")
pytestmark = pytest.mark.integration

NAMES = ["2t", "v_850", "u_850"]
VARIABLES = ["u_850", "v_850"]
STATISTICS = {"mean": [1.5, -0.5], "stdev": [8.0, 5.0]}
TARGET = "atmoloss.integrations.anemoi.AtmoDistLoss"


@pytest.fixture
def context():
    """What anemoi gives its losses: indices of variables, and a graph with the coordinates of points."""
    from anemoi.models.data_indices.collection import IndexCollection
    from omegaconf import OmegaConf
    from torch_geometric.data import HeteroData

    graph = HeteroData()
    points = np.stack([p.ravel() for p in np.meshgrid(*GLOBE, indexing="ij")], -1)
    graph["data"].x = torch.from_numpy(np.deg2rad(points)).float()
    config = OmegaConf.create({"forcing": [], "diagnostic": [], "target": []})
    indices = IndexCollection(config, {name: n for n, name in enumerate(NAMES)})
    return {"data_indices": indices, "graph_data": graph, "data_node_name": "data"}


def made(context, available=None, **config):
    from anemoi.training.losses import get_loss_function
    from omegaconf import OmegaConf

    plain = {"_target_": TARGET, "variables": VARIABLES, "statistics": STATISTICS, "scalers": [], **config}
    return get_loss_function(OmegaConf.create(plain), available, **context)


@pytest.fixture
def pair():
    """Normalised (batch, time, ensemble, grid, variables); targets have one member."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, 1, 3, GLOBE[0].size * GLOBE[1].size, 3)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)[:, :, :1]


def expected(pred, target):
    """The loss of winds by hand: pairs of members and targets, in m/s, rows from the north."""
    winds = (torch.stack((8.0 * f[..., 2] + 1.5, 5.0 * f[..., 1] - 0.5), -2) for f in (pred, target))
    first, second = (f.unflatten(-1, (GLOBE[0].size, GLOBE[1].size)) for f in winds)
    weight = torch.from_numpy(np.cos(np.deg2rad(GLOBE[0]))).float()
    loss = AtmoDistLoss("winds", periodic=True)
    return torch.stack([loss(first[:, 0, m], second[:, 0, 0], weight) for m in range(3)]).mean()


def test_the_value_and_its_gradient(context, pair) -> None:
    pred, target = pair
    pred.requires_grad_(True)
    loss = made(context)
    value = loss(pred, target, pred_layout="model_output", target_layout="data_full")
    torch.testing.assert_close(value, expected(pred, target), rtol=1e-5, atol=0)
    value.backward()
    assert pred.grad[..., 0].abs().max() == 0  # the temperature takes no part
    assert pred.grad[..., 1:].abs().amax((0, 1, 2, 3)).min() > 0
    assert loss(pred, target, squash=False).shape == (3,)
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_in_a_combined_loss(context, pair) -> None:
    from anemoi.training.losses import get_loss_function
    from omegaconf import OmegaConf

    mse = {"_target_": "anemoi.training.losses.MSELoss", "scalers": []}
    ours = {"_target_": TARGET, "variables": VARIABLES, "statistics": STATISTICS, "scalers": []}
    config = {
        "_target_": "anemoi.training.losses.combined.CombinedLoss", "losses": [mse, ours], "loss_weights": [1.0, 0.5],
        "scalers": [],
    }  # fmt: skip
    layouts = {"pred_layout": "model_output", "target_layout": "data_full"}
    combined = get_loss_function(OmegaConf.create(config), {}, **context)(*pair, **layouts)
    alone = get_loss_function(OmegaConf.create(mse), {}, **context)(*pair, **layouts)
    torch.testing.assert_close(combined, alone + 0.5 * expected(*pair), rtol=1e-5, atol=0)


def test_the_configurations_of_the_page(context, pair) -> None:
    from anemoi.training.losses import get_loss_function
    from omegaconf import OmegaConf

    ones = {"pressure_level": (4, torch.ones(3)), "general_variable": (4, torch.ones(3))}
    scalers = ones | {"node_weights": (3, torch.full((864,), 1 / 864))}
    for text in blocks("anemoi-training", "yaml"):
        loss = get_loss_function(OmegaConf.create(text), scalers, **context)
        assert loss(*pair, pred_layout="model_output", target_layout="data_full") > 0


def test_scalers_of_time_weigh_and_others_are_refused(context, pair) -> None:
    pred, target = (torch.cat([f, f], 1) for f in pair)
    steps = {"time_steps": (1, torch.tensor([0.25, 0.75]))}
    scaled = made(context, steps, scalers=["time_steps"])(pred, target)
    torch.testing.assert_close(scaled, expected(*pair), rtol=1e-5, atol=0)
    with pytest.raises(InputError, match="scalers: got node_weights"):
        made(context, {"node_weights": (3, torch.ones(864))}, scalers=["node_weights"])


def test_what_does_not_fit_is_refused(context) -> None:
    with pytest.raises(Exception, match="variables: got u_500"):
        made(context, variables=["u_500", "v_850"])
    context["graph_data"]["data"].x = context["graph_data"]["data"].x[:-1]
    with pytest.raises(Exception, match="863 points"):
        made(context)


def test_statistics_of_a_data_set(context, pair, monkeypatch) -> None:
    import anemoi.datasets

    opened = SimpleNamespace(
        name_to_index={name: n for n, name in enumerate(NAMES)},
        statistics={"mean": np.array([280.0, -0.5, 1.5]), "stdev": np.array([20.0, 5.0, 8.0])},
    )
    monkeypatch.setattr(anemoi.datasets, "open_dataset", {"era5.zarr": opened}.get)
    torch.testing.assert_close(made(context, statistics="era5.zarr")(*pair), expected(*pair), rtol=1e-5, atol=0)


def test_a_validated_configuration_knows_only_its_own_losses() -> None:
    """Why the documentation says ``config_validation: False``."""
    from anemoi.training.schemas.training import BaseLossSchema

    with pytest.raises(ValueError, match=r"_target_|target_"):
        BaseLossSchema(_target_=TARGET, scalers=[])
