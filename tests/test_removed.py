"""Files of earlier versions: what is gone is named, with the last commit that has it."""

import json

import pytest

from atmoloss.errors import ConfigError
from atmoloss.removed import describe_removed
from atmoloss.training.config import TrainConfig, make_config, read_config
from atmoloss.training.config_reading import build_dataclass

OLD = {"seed": 3, "ranking_temperature": 0.1, "channels_last": True, "coarsen": [1]}


def test_all_keys_that_are_gone_are_named_with_the_commit_that_has_them(one_sentence) -> None:
    with pytest.raises(ConfigError) as error:
        build_dataclass(TrainConfig, {**OLD, "zoom": 1.5})  # as the record of a run is read
    words = ("ranking_temperature = 0.1", "channels_last = true", "coarsen = [1]", "zoom = 1.5", "commit 8a98d61")
    one_sentence(error.value, *words)
    assert "seed" not in str(error.value)
    assert "remove" not in str(error.value)  # fields were zoomed into: without the key the run is another
    with pytest.raises(ConfigError, match="no effect there: remove from the file"):
        make_config(OLD)


def test_the_configuration_of_old_metrics(tmp_path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"config": OLD}))
    with pytest.raises(ConfigError, match=r"ranking_temperature = 0\.1.*commit 8a98d61"):
        read_config(tmp_path / "metrics.json")


def test_entries_that_are_there_still() -> None:
    assert describe_removed("head", {"kind": "metric", "n_classes": 8}) is None
    assert describe_removed("encoder", {"zoom": 2.0, "stage_channels": [4]}) is None
    assert describe_removed("head", {"kind": "difference"}) is not None
