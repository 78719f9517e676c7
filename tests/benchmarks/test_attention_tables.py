"""The tables of the benchmark of attention."""

from .loading import load


def test_heads_are_chosen_on_validation_dates():
    tables = load("attention", "tables")
    scores = {("validation", 0): -0.1, ("validation", 1): -0.5, ("test", 0): -0.9, ("test", 1): -0.4}
    entries = [{"seed": 0, "split": split, "head": h, "removed": [s]} for (split, h), s in scores.items()]
    assert [e["removed"] for e in tables.chosen(entries, "removed")] == [[-0.4]]
    assert tables.over_seeds([[0.5, 0.4, 0.7], [0.7, 0.3, 0.8]]) == "0.600 ± 0.141 [0.300, 0.800]"
    assert tables.over_seeds([[0.5, None, None]]) == "0.500"


def test_each_way_to_count_an_advection_score_has_a_row():
    tables = load("attention", "tables")
    common = {"arm": "winds", "seed": 0, "source": "globe", "method": "head", "field": -1, "split": "test", "head": 0}
    heads = ({"removed": [-0.5, -0.6, -0.4, -0.1, -0.7], "all": [-0.2, -0.3, -0.1, -0.2, -0.2]},)
    heads += ({"removed": [-0.4, -0.5, -0.3, -0.1, -0.6], "all": [-0.8, -0.9, -0.7, -0.2, -0.9]},)
    trained = [{**common, "head": h, "weights": "trained", **scores} for h, scores in enumerate(heads)]
    random = [{**common, "weights": "random", "removed": [0.1, 0.0, 0.2, 0.3, 0.4], "all": [0.2, 0.1, 0.3, 0.4, 0.5]}]
    entries = [*trained, *random]
    validation = [{**entry, "split": "validation"} for entry in entries]
    text = tables.advection_table([{"arm": "winds", "seed": 0, "advection": entries + validation}])
    assert text.splitlines()[2:] == [
        "| winds | globe | head | t−1 | latitude means removed | -0.500 [-0.600, -0.400] | -0.700 | -0.100 "
        "| 0.100 [0.000, 0.200] | 0.10 to 0.10 |",
        "| winds | globe | head | t−1 | as it is | -0.800 [-0.900, -0.700] | -0.900 | -0.200 "
        "| 0.200 [0.100, 0.300] | 0.20 to 0.20 |",
    ]
