from hypothesis import given, settings
from hypothesis import strategies as st

from feller.evaluation.report.html import element, legible, prose, render
from tests.evaluation.report.reader import read

# Any code point, half of a pair too: file names may hold them.
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)


@settings(deadline=None, max_examples=200)
@given(before=TEXT, inside=TEXT, after=TEXT, attribute=TEXT)
def test_every_text_comes_back_and_makes_no_tag(before: str, inside: str, after: str, attribute: str) -> None:
    page = render(element("p", {"title": attribute}, before, element("b", None, inside), None, after))
    page.encode()  # can be written
    (p,) = read(page).all("p")
    assert [node.tag for node in p.all("")] == ["b"]
    assert p.text == legible(before) + legible(inside) + legible(after)
    assert p.attributes == {"title": legible(attribute)}


def test_characters_that_deceive_become_visible() -> None:
    assert legible("a\u202egnp.exe\x00\ud800\r") == "a\ufffdgnp.exe\ufffd\ufffd\ufffd"
    assert legible("Straße\n\t„x“ 数 🙂") == "Straße\n\t„x“ 数 🙂"


def test_flags_are_not_broken_and_words_with_hyphens_are() -> None:
    text = "where --resample 64 may help, or (--train.steps); well-known --- and a--b, not --given."
    page = read(render(element("p", None, *prose(text))))
    (p,) = page.all("p")
    assert p.text == text
    assert [node.text for node in p.all("span")] == ["--resample", "--train.steps", "--given"]
    assert {node.attributes["class"] for node in p.all("span")} == {"flag"}


def test_void_elements_are_not_closed() -> None:
    assert render(element("p", None, element("br"), "x")) == "<!doctype html>\n<p><br>x</p>\n"
