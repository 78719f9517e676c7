"""A page: whole, escaped, numbered, and without anything that it would have to load."""

import base64
import re
from html.parser import HTMLParser

import pytest

from atmoloss.verification.report.drawing import Plot
from atmoloss.verification.report.page import Table, render
from atmoloss.verification.results import Evaluation


class Parsed(HTMLParser):
    """Collects tags, pictures, addresses and texts; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.tags, self.texts = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "action", "data")]
        if tag == "img":
            self.images.append(attrs)
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.texts.append(data)


SETTINGS = {
    "grid": "8 × 8 points", "n_blocks": 12, "block_days": 2.5, "n_bootstrap": 50, "spectrum": "planar",
    "unresolved_from_degree": 40.03, "atmoloss": "1.2.3", "seed": 7,
}  # fmt: skip
TABLE = Table("A | b", ("<x>", "y"), [[("row", False), ("1 < 2", True)], [("other", False), ("3", False)]])
PLOTS = Plot("a.svg", b"<svg/>", "A plot", 'said "so"'), Plot("b.png", b"png", "Another", "alt")


def rendered(**changes):
    return render(
        title="<Title> & more",
        evaluation=Evaluation((), (), {}, ("<A>", "B"), SETTINGS | changes, ("beware of <this>",)),
        period="9 times",
        sections=[("First & only?", [TABLE, PLOTS[0]]), ("Second", [PLOTS[1]])],
        terms=[("a", "means <b>")],
        sources=[("truth", "t.nc")],
        command="atmoloss report <x>",
    )


@pytest.fixture
def text():
    return rendered()


def test_a_page_needs_nothing_else(text):
    page = Parsed(text)
    assert [link for link in page.links if link.startswith("#")] == ["#s1", "#s2", "#s3", "#s4"]
    pictures = [link.partition("base64,") for link in page.links if not link.startswith("#")]
    assert [head for head, _, _ in pictures] == ["data:image/svg+xml;", "data:image/png;"]
    assert [base64.b64decode(data) for _, _, data in pictures] == [b"<svg/>", b"png"]
    assert [image["alt"] for image in page.images] == ['said "so"', "alt"]
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import", text)
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_text_is_text_whatever_is_in_it(text):
    texts = Parsed(text).texts
    for words in ("<Title> & more", "beware of <this>", "<x>", "1 < 2", "means <b>", "atmoloss report <x>"):
        assert words in texts
    assert "<A>, B against the truth: 9 times, 8 × 8 points." in texts


def test_parts_stand_in_their_order_under_the_links_to_them(text):
    order = ["beware", "<nav", 'id="s1"', "Table 1.", "Figure 1.", 'id="s2"', "Figure 2.", "What the scores mean</h2>"]
    order += ["<dt>a</dt>", "<dt>truth</dt>", "<code>", "atmoloss 1.2.3; seed 7."]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert '<th scope="row">row</th><td><strong>1 &lt; 2</strong></td>' in text
    assert "<td>3</td>" in text


def test_the_introduction_says_how_blocks_and_scales_are_counted(text):
    texts = " ".join(Parsed(text).texts)
    assert "bootstrap over 12 blocks of 2.5 d (50 draws, the same for every model)" in texts
    assert "from equivalent degree 40.03, wavelengths below 1e+03 km" in texts
    bare = " ".join(Parsed(rendered(n_blocks=1, spectrum=None)).texts)
    assert "Intervals" not in bare
    assert "unresolved" not in bare
    assert "from degree 40.03" in " ".join(Parsed(rendered(spectrum="spherical")).texts)
