"""``atmoloss weights``: what ships, in a table."""

from atmoloss.weights import bundled, load
from tests.cli.conftest import rows


def test_every_bundled_folder_has_a_row(run):
    code, out, err = run("weights")
    assert (code, err) == (0, "")
    header, *table = rows(out)
    assert header[:2] == ["name", "variables"]
    assert [row[0] for row in table] == list(bundled())
    for line, (name, folder) in zip(out.splitlines()[1:], bundled().items(), strict=True):
        info, _ = load(folder)
        assert line.split()[0] == name
        for channel in info.channels:
            assert f"{channel['name']} [{channel['units']}]" in line
        for level in info.levels:
            assert level in line
