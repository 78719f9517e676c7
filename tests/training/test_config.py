from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from atmoloss.errors import ConfigError
from atmoloss.training.config import MachineConfig, TrainConfig, keys_help, make_config, read_config
from atmoloss.training.config_reading import describe_keys

ROOT = Path(__file__).resolve().parents[2]


def test_committed_configurations_read():
    for path in sorted((ROOT / "configs").glob("*.toml")):
        config = read_config(path)
        assert config.sources
        assert all(Path(s.path).is_absolute() for s in config.sources)


def test_recipe_then_file_then_overrides(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('recipe = "paper"\nbatch_size = 8\nseed = 3\n[[sources]]\nname = "a"\npath = "a.nc"\n')
    config = read_config(file, {"seed": 4})
    assert (config.head, config.n_times, config.batch_size, config.seed) == ("published", 2, 8, 4)
    assert config.sources[0].path == str(tmp_path / "a.nc")
    assert config.patch_sizes == (160,)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"stepz": 3}, r"stepz: is no key of the configuration; did you mean steps\?"),
        ({"qqq": 3}, "qqq: is no key of the configuration; expected one of .*steps"),
        ({"steps": "many"}, "steps: got 'many', expected a whole number"),
        ({"steps": True}, "steps"),
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"mirror": 1}, "mirror"),
        ({"recipe": "slow"}, "recipe: got 'slow', expected one of fast, paper"),
        ({"head": "x"}, "head: got 'x', expected one of metric, published"),
        ({"precision": "half"}, "precision"),
        ({"patch_sizes": 64}, "patch_sizes: got 64, expected a list"),
        ({"latitude_band": [1.0]}, "latitude_band: got .* expected a list of 2 values"),
        ({"sources": [{"name": "a"}]}, r"sources\.path: is missing"),
        ({"sources": [{"name": "a", "path": "b", "lvl": 1}]}, r"sources\.lvl: is no key .*; did you mean level\?"),
        ({"sources": ["a.nc"]}, "sources: got 'a.nc', expected a table"),
        ({"sources": [{"name": "a", "path": "b", "missing": "drop"}]}, "expected 'error', 'ignore' or a number"),
        ({"sources": [{"name": "a", "path": "b", "level": "high"}]}, "sources.level: got 'high', expected a number"),
        ({"log_every": 0}, "log_every: got 0"),
        ({"variables": []}, "variables"),
        ({"head": "published", "patch_sizes": [64, 96]}, "one size"),
        *(
            (
                {"head": "published", key: 0.5},
                f"{key}: got 0.5, which would do nothing; expected 0.0, or head = 'metric'",
            )
            for key in ("ranking_weight", "artefact_weight", "detail_weight")
        ),
        ({"recipe": "paper", "ranking_weight": 1.0}, "ranking_weight: got 1.0, which would do nothing"),
        ({"ranking_weight": 1.0, "n_times": 2}, "n_times of at least 3"),
        ({"detail_coherence": 0.2, "artefact_weight": 1.0}, "or a detail_weight"),
        ({"epoch_steps": 10}, "optimizer = 'sgd'"),
        ({"subset_steps": 10}, "subset_batches"),
        ({"subset_batches": 10}, "subset_steps"),
        ({"low_pass_share": 0.1}, "low_pass in encoder_options"),
    ],
)
def test_bad_values_name_the_key(raw, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_config(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("share", "options"), [(0.2, {}), (1.0, {"low_pass": 16}), (-0.1, {"low_pass": 16})])
def test_low_pass_share_needs_the_layer(share, options, one_sentence):
    with pytest.raises(ConfigError) as error:
        TrainConfig(low_pass_share=share, encoder_options=options)
    one_sentence(error.value, "low_pass_share", "got", "expected")


def test_not_toml(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("steps = = 3")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "absent.toml")


def test_defaults_stand():
    assert make_config({}) == TrainConfig()


def test_every_key_is_described_once_and_in_the_documentation():
    keys = {key.name: key for key in describe_keys(TrainConfig)}
    assert {name for name in keys if "." not in name} == {field.name for field in dataclasses.fields(TrainConfig)}
    assert all(key.meaning for key in keys.values())
    # Type, default and meaning of one of each kind.
    assert (keys["patch_sizes"].type, keys["patch_sizes"].default) == ("a list of whole numbers", "[64]")
    assert (keys["sources.level"].type, keys["sources.level"].default) == ("a number", "none")
    assert keys["sources.path"].default == "must be given"
    assert keys["sources.path"].meaning.startswith("what `open_fields` reads, or a prepared store")
    assert keys["steps"].default == "2000"  # of the class itself, though a base describes it
    text = keys_help()
    assert all(f"  {name} ({key.type}; {key.default})\n" in text for name, key in keys.items())
    tables = []
    for section, rows in itertools.groupby(keys.values(), lambda key: key.section):
        lines = [f"| `{k.name}` | {k.type} | `{k.default}` | {k.meaning} |" for k in rows]
        head = "| key | type | default | meaning |\n|---|---|---|---|"
        tables.append("\n".join([f"**{section.rstrip('.')}**\n", head, *lines, ""]))
    assert "\n".join(tables) in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_help_is_made_without_torch():
    code = """
import sys
from atmoloss.training import config
print(config.keys_help())
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "learning_rate" in done.stdout


def test_what_a_machine_decides_may_differ():
    machine = {field.name for field in dataclasses.fields(MachineConfig)}
    assert machine < set(TrainConfig.MAY_DIFFER)
    recommended = {"mse_weight", "low_pass_share", "license"}
    assert set(TrainConfig.MAY_DIFFER) - machine == {"validation_patches", *recommended}
