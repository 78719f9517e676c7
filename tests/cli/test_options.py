"""Values of options that several verbs share: what is read, and what is wrong usage."""

import pytest

from atmoloss.cli import build_parser, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["distance", "a.nc", "b.nc", "--missing", "nan"],
            "--missing: got 'nan', expected error, ignore or a finite",
        ),
        (
            ["report", "t.nc", "m=m.nc", "--missing", "drop"],
            "--missing: got 'drop', expected error, ignore or",
        ),
        (["distance", "a.nc", "b.nc", "--layers", " ,"], "--layers: got ' ,', expected names separated by commas"),
        (
            ["distance", "a.nc", "b.nc", "--scale", "large"],
            "--scale: got 'large', expected mse, none or a finite number",
        ),
        (["prepare", "a.nc", "out", "--every", "often"], "--every: got 'often', expected hours"),
        (["prepare", "a.nc", "out", "--storage", "anon"], "--storage: got 'anon', expected two texts with ="),
        (["report", "t.nc", "m.nc"], "NAME=FILE: got 'm.nc', expected two texts with ="),
        (["report", "t.nc", "=m.nc"], "NAME=FILE: got '=m.nc', expected two texts with ="),
        (["distance", "only-one.nc"], "B is missing; only --matrix does without it"),
    ],
)
def test_a_value_that_cannot_be_read_is_wrong_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["distance", "a", "b"], ["evaluate", "w", "a"], ["report", "a", "b=c"], ["prepare", "a", "b"]],
    ids=lambda words: words[0],
)
def test_whatever_reads_fields_takes_level_missing_and_group(words):
    given = build_parser().parse_args([*words, "--level", "850", "--missing", "0", "--group", "/g"])
    assert (given.level, given.missing, given.group) == (850.0, 0.0, "/g")
    default = build_parser().parse_args(words)
    assert (default.level, default.missing, default.group) == (None, "error", None)


def test_values():
    prepare = ["prepare", "a.nc", "out", "--variables", "u10, v10,", "--every", "6h", "--storage", "query=a=b"]
    given = build_parser().parse_args(prepare)
    assert given.variables == ("u10", "v10")
    assert given.every == 6
    assert given.storage == [("query", "a=b")]
    report = build_parser().parse_args(["report", "truth.nc", "A=s3://x/a.zarr?b=c"])
    assert report.variables == ("divergence", "vorticity")
    assert report.models == [("A", "s3://x/a.zarr?b=c")]
