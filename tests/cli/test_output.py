"""Tables, files and the line of progress."""

import contextlib

import pytest

from atmoloss.cli.output import check_folders, print_table, progress, write_csv
from atmoloss.errors import InputError


def test_columns_are_aligned(capsys):
    print_table(["time", "distance"], [["2026-05-01T00:00", 0.123456789], ["x", 12]])
    assert capsys.readouterr().out.splitlines() == [
        "            time  distance",
        "2026-05-01T00:00   0.12346",
        "               x        12",
    ]


def test_csv(tmp_path):
    write_csv(tmp_path / "a.csv", ["name", "value"], [["a,b", 0.1], ["°", None]])
    assert (tmp_path / "a.csv").read_bytes().decode() == 'name,value\n"a,b",0.1\n°,\n'


def test_folders_are_checked_by_the_name_of_their_option(tmp_path):
    check_folders(csv=None, plot=str(tmp_path / "a.png"), json="a.json")
    with pytest.raises(InputError, match=r"--plot: got 'no/a.png', expected a file in a folder that exists"):
        check_folders(csv="a.csv", plot="no/a.png")


def test_progress_on_a_terminal_and_elsewhere(monkeypatch, capsys):
    with progress() as show:
        assert show is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with contextlib.suppress(KeyboardInterrupt), progress("24 h: ") as show:
        show("half")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\r24 h: half\x1b[K\r\x1b[K"  # whatever comes next finds an empty line
