"""Prompts as people type them."""

import pathlib

import pytest

from feller.core.errors import InputError, UsageError
from feller.data.documents.prompt import edit, instruction_in, parse, question, question_in
from feller.data.documents.token_layout import Hole, Infill
from feller.data.loading.raw import Cut, Item, Said, Shown
from tests.data.documents.written import square


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("a red apple", (Said("a red apple"),)),
        (r"a \<mask> of \<break>", (Said("a <mask> of <break>"),)),
        ("a <b> and <Mask>", (Said("a <b> and <Mask>"),)),
        ("see <https://example.org>, <note: a cat>", (Said("see <https://example.org>, <note: a cat>"),)),
        (r"a \<imge:cat.png>", (Said("a <imge:cat.png>"),)),
        ("one<break>two", (Said("one"), Cut(), Said("two"))),
        ("a <mask> apple", (Said("a"), Hole(), Said(" apple"), Infill())),
        ("<mask>", (Hole(), Infill())),
    ],
)
def test_words(text: str, items: tuple[Item | Hole | Infill, ...]) -> None:
    assert parse(text).items == items


def test_pictures(tmp_path: pathlib.Path) -> None:
    file = square(tmp_path, "a cat.png", 1)
    caption = parse(f"<image:{file}> <infill>")
    assert caption.items == (Hole(), Shown(0), Infill())
    assert caption.pictures[0].shape == (8, 8, 3)
    stem = parse(f"Image of <mask>: <image:{file}> <infill>")
    assert stem.items == (Said("Image of"), Hole(), Said(":"), Shown(0), Infill())
    assert parse(f"<image:{file}> make it red <image:{file}>").items == (Shown(0), Said("make it red"), Shown(1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  ", "the prompt is empty"),
        ("<infill>", "the prompt is empty"),
        ("a word <infill>", "asks for the content of a <mask>"),
        ("<mask> <infill> more", "stands once, and last"),
        ("<mask> <infill> <infill>", "stands once, and last"),
        ("a <imge:cat.png>", "did you mean <image:cat.png>, got <imge:cat.png>"),
        ("a <Image:cat.png>", "did you mean <image:cat.png>, got <Image:cat.png>"),
    ],
)
def test_what_asks_for_no_one_thing_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text)


def test_pictures_that_are_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"there is no picture none\.png"):
        parse("<image:none.png> <infill>")
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read"):
        parse(f"<image:{tmp_path / 'x.png'}> <infill>")


@pytest.mark.parametrize(
    ("text", "gap"),
    [("a <mask> apple", True), ("a red <mask>", True), ("<mask>", False), ("<mask> <break> red", False), ("a", False)],
)
def test_gaps_are_inside_texts(text: str, gap: bool) -> None:
    assert parse(text).has_gap is gap


def test_what_a_document_asks() -> None:
    asked = [item for item in question("is it red?", Said("yes", hidden=True)) if not isinstance(item, Hole)]
    assert question_in(asked) == "is it red?"
    assert instruction_in([*edit("make it red"), Shown(1)]) == "make it red"
    for other in ([Said("a cat"), Shown(0)], [Shown(0)], [*edit("make it red")], []):
        assert instruction_in(other) == ""
    for other in ([Said("a cat"), Shown(0)], [Shown(0)], []):
        assert question_in(other) == ""
