"""``atmoloss push``: what is asked for first, and what it says; tests/test_hub.py pushes to a server."""

import pytest

from atmoloss.errors import WeightsError


@pytest.fixture
def pushed(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "atmoloss.weights.push", lambda folder, repository: calls.append((folder, repository)) or "c0ffee"
    )
    return calls


def test_a_folder_is_pushed_and_can_be_read_back(run, pushed, monkeypatch, folder):
    monkeypatch.setattr("atmoloss.hub.check_push", lambda repository: None)
    code, out, err = run("push", folder, "owner/new")
    assert (code, err) == (0, "")
    assert out == "pushed to owner/new; load with load_extractor('owner/new', revision='c0ffee')\n"
    assert pushed == [(folder, "owner/new")]


def test_nothing_is_pushed_without_leave(fails, pushed, monkeypatch, folder):
    def refuse(repository):
        raise WeightsError(f"push: {repository!r}: no token")

    monkeypatch.setattr("atmoloss.hub.check_push", refuse)
    assert "'owner/new': no token" in fails("push", folder, "owner/new")
    monkeypatch.setattr("atmoloss.hub.check_push", lambda repository: None)
    assert "no-such-weights" in fails("push", "no-such-weights", "owner/new")
    assert pushed == []
