"""What README says must hold: its code runs, its figures are those of the bundled weights."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import pytest
import torch

import atmoloss.loss
from atmoloss.training.card import best_baseline, with_interval

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULT, WINDS = (
    json.loads((ROOT / "weights" / name / "metrics.json").read_text(encoding="utf-8")) for name in ("default", "winds")
)
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", SNIPPETS, ids=["loss", "score", "hours", "winds"])
def test_code_runs_as_it_is(code):
    names = {}
    exec(code, names)
    assert names["value"].item() > 0  # one number
    if "prediction" in names:
        assert torch.isfinite(names["prediction"].grad).all()


def rows_of(section: str) -> dict[str, list[str]]:
    """First cell → other cells of the table in a section of README, without its head."""
    return rows_in(README.split(f"## {section}\n")[1].split("\n## ")[0])


def rows_in(text: str) -> dict[str, list[str]]:
    """First cell → other cells of the one table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    table = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0]: cells[1:] for cells in table}


def test_table_is_that_of_the_weights():
    rows = rows_of("How good is it?")
    tested = [s for s in WINDS["sources"] if s["split"] == "test"]
    of_default = {s["name"]: s["lag_2afc"]["distance"] for s in DEFAULT["sources"] if s["split"] == "test"}
    assert rows.keys() == {s["name"] for s in tested}
    for source in tested:
        scores = source["lag_2afc"]
        own, default = scores["distance"], of_default[source["name"]]
        name, value = best_baseline(scores)
        assert rows[source["name"]] == [
            with_interval(own["value"], own["interval"]),
            with_interval(default["value"], default["interval"]),
            f"{scores['random weights']['value']:.3f}",
            f"{scores['MSE of winds']['value']:.3f}",
            f"{scores['MAE of winds']['value']:.3f}",
            f"{value:.3f} ({name})",
            with_interval(own["value"] - value, scores[name]["gap"], sign=True),
        ]


def test_table_of_the_page_on_the_distance_is_a_part_of_it():
    page = (ROOT / "benchmarks" / "pretext" / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert rows_in(page) == {name: [c[i] for i in (0, 1, 5, 6)] for name, c in rows_of("How good is it?").items()}


def test_table_of_content_losses_is_that_of_the_comparison():
    path = ROOT / "benchmarks" / "superres" / "results" / "test-gfs-1deg-10m.json"
    scores = {(v, m, c): x for v, m, c, *x in json.loads(path.read_text(encoding="utf-8"))["scores"]}
    columns = {"rmse": (1e5, 2), "log_spectral_distance": (1, 1), "unresolved_power": (1, 2), "local_energy": (1, 2)}
    columns |= {"upper_tail": (1, 0), "wasserstein": (1e5, 2)}
    rows = rows_of("As a loss")
    assert {"mse", "amse", "atmodist", "sharp"} <= rows.keys()
    for model, cells in rows.items():
        for cell, (metric, (factor, digits)) in zip(cells, columns.items(), strict=True):
            value, low, high = (f"{factor * x:.{digits}f}" for x in scores["vorticity", metric, model])
            assert cell.replace("−", "-") == f"{value} ({low}–{high})"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_docstring_examples():
    result = doctest.testmod(atmoloss.loss)
    assert result.attempted
    assert not result.failed
