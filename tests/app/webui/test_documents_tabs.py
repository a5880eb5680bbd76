"""Documents on the page: drawn from words, described, asked about, and changed."""

from dataclasses import replace

import pytest
from PIL import Image

from feller.app.webui.run_request import RequestReporter
from feller.app.webui.tabs.document_tabs import ANSWER, CAPTION, EDIT, NO, YES, escape
from feller.core.errors import UsageError
from feller.data.documents.prompt import parse_prompt
from tests.app.webui.asking import ask, tab_of
from tests.errors import refuses


@pytest.fixture
def page(on_page, documents):
    return on_page(documents)


@pytest.mark.slow
def test_words_are_drawn_and_name_no_file(page, tmp_path):
    tab = tab_of(page, "Draw")
    assert ask(tab, prompt="a circle").pictures[0].caption == "a circle"
    assert ask(tab).files[0].suffix == ".zip"
    assert escape("<image:/etc/passwd>") == r"\<image:/etc/passwd>"
    found = parse_prompt(escape("a <image:/etc/passwd> <mask>"))
    assert (found.pictures, found.has_holes, found.words) == ((), False, "a <image:/etc/passwd> <mask>")


@pytest.mark.slow
def test_a_picture_is_described_asked_about_and_changed(page, tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "own.png")
    tab, own = tab_of(page, "Ask about an image"), str(tmp_path / "own.png")
    for task, words in ((CAPTION, ""), (ANSWER, "is it red"), (EDIT, "make it red")):
        assert ask(tab, picture=own, task=task, ask=words).pictures
    with refuses(UsageError):
        ask(tab)
    with refuses(UsageError, found="no text"):
        ask(tab, picture=own, task=ANSWER)


@pytest.mark.slow
def test_a_memory_is_looked_up_where_it_was_named_and_is_wished(page, scenes, tmp_path):
    one, place = page
    Image.new("RGB", (16, 16), "red").save(tmp_path / "own.png")
    own = str(tmp_path / "own.png")
    asked = (("Draw", {"prompt": "a circle"}), ("Ask about an image", {"picture": own, "task": CAPTION}))
    with_memory = (one, replace(place, memory=str(scenes / "memory")))
    for name, sent in asked:
        assert "memory" not in tab_of(page, name).controls
        tab, told = tab_of(with_memory, name), {}
        for wish in (NO, YES):
            heard = RequestReporter()
            assert ask(tab, heard, memory=wish, **sent).pictures
            told[wish] = "\n".join(heard.lines)
        assert "retrieved: 'a " in told[YES]
        assert "retrieved" not in told[NO]
    assert ask(tab_of(with_memory, "Draw"), memory=YES).pictures  # without words nothing is looked up
    with pytest.raises(Exception, match="not in the list"):
        ask(tab_of(with_memory, "Draw"), prompt="a circle", memory="/etc")
