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


@pytest.mark.parametrize("code", SNIPPETS, ids=["score", "loss"])
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


def test_evidence_on_distances_is_that_of_the_weights():
    rows = list(rows_of("What it is worth").values())
    tested = {s["name"]: s["lag_2afc"] for s in WINDS["sources"] if s["split"] == "test"}
    for row, source in zip(rows, ("gfs-1deg-10m", "gfs-0.25deg-10m-japan"), strict=False):
        scores = tested[source]
        own, (_, best) = scores["distance"], best_baseline(scores)
        assert row[0] == f"`winds` {with_interval(own['value'], own['interval'])}"
        assert row[1].startswith(f"{best:.3f} the best of all pixel distances")
    scores = tested["gfs-1deg-10m"]
    assert f"{scores['random weights']['value']:.3f} the same network with random weights" in rows[0][1]
    assert rows[0][1].endswith(f"{scores['MSE of winds']['value']:.3f} MSE")


def test_table_of_the_page_on_the_distance_is_that_of_the_weights():
    rows = rows_in((ROOT / "benchmarks" / "pretext" / "README.md").read_text(encoding="utf-8").split("\n## ")[0])
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
            f"{value:.3f} ({name})",
            with_interval(own["value"] - value, scores[name]["gap"], sign=True),
        ]


def test_evidence_on_hours_is_that_of_the_benchmark():
    page = (ROOT / "benchmarks" / "pretext" / "results" / "hours.md").read_text(encoding="utf-8")
    error = dict(re.findall(r"^\| 1° 10 m \| ([^|]+) \| ([\d.]+) ", page, re.MULTILINE))
    row = list(rows_of("What it is worth").values())[2]
    assert row[:2] == [f"`winds` {error['winds']} h", f"{error['MSE of winds']} h MSE, {error['MAE of winds']} h MAE"]


def test_evidence_on_variables_of_ones_own_is_that_of_the_benchmark():
    page = (ROOT / "benchmarks" / "downstream" / "results" / "own_variables.md").read_text(encoding="utf-8")
    rows = rows_in(page.split("## sea-level pressure")[1])
    row = list(rows_of("What it is worth").values())[3]
    own, best = (rows[name][0].replace(" to ", "–") for name in ("AtmoDist", "MSE"))
    assert float(best.split()[0]) == max(float(rows[n][0].split()[0]) for n in rows if "M" in n)
    assert row[:2] == [f"own {own}", f"{best} MSE, the best pixel norm"]


def test_evidence_on_losses_is_that_of_the_comparison():
    path = ROOT / "benchmarks" / "superres" / "results" / "test-gfs-1deg-10m.json"
    scores = {(v, m, c): x for v, m, c, *x in json.loads(path.read_text(encoding="utf-8"))["scores"]}
    sharp, amse, mse = (
        "; ".join(
            "{:.2f} ({:.2f}–{:.2f})".format(*(factor * x for x in scores["vorticity", metric, model]))
            for metric, factor in (("local_energy", 1), ("rmse", 1e5))
        )
        for model in ("sharp", "amse", "mse")
    )
    assert list(rows_of("What it is worth").values())[4][:2] == [f"sharp loss {sharp}", f"{amse} AMSE, {mse} MSE"]


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_docstring_examples():
    result = doctest.testmod(atmoloss.loss)
    assert result.attempted
    assert not result.failed
