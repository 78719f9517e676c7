"""A page: whole, escaped, numbered, and without anything that it would have to load."""

import base64
import re
from html.parser import HTMLParser

import pytest

from atmoloss.verification.report.drawing import Plot
from atmoloss.verification.report.page import Page, Table


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


@pytest.fixture
def text():
    page = Page("<Title> & more")
    page.paragraph("before all <sections>")
    page.heading("First & only?")
    page.table(Table("A | b", ("<x>", "y"), [[("row", False), ("1 < 2", True)], [("other", False), ("3", False)]]))
    page.plot(Plot("a.svg", b"<svg/>", "A plot", 'said "so"'))
    page.heading("Second")
    page.note("beware")
    page.terms([("a", "means <b>")])
    page.code("atmoloss report <x>")
    page.plot(Plot("b.png", b"png", "Another", "alt"))
    return page.html()


def test_a_page_needs_nothing_else(text):
    page = Parsed(text)
    assert [link for link in page.links if link.startswith("#")] == ["#s1", "#s2"]
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
    for words in ("<Title> & more", "before all <sections>", "<x>", "1 < 2", "means <b>", "atmoloss report <x>"):
        assert words in texts


def test_parts_stand_in_their_order_under_the_links_to_them(text):
    places = [
        text.index(words)
        for words in ("before all", "<nav", 'id="s1"', "Table 1.", "Figure 1.", 'id="s2"', "Figure 2.")
    ]
    assert places == sorted(places)
    assert '<th scope="row">row</th><td><strong>1 &lt; 2</strong></td>' in text
    assert "<td>3</td>" in text
