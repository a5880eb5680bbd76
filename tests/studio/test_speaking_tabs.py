"""Speech on the page: what is said, edited and said again."""

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import soundfile
from tests.data.speech.clip import CLIPS
from tests.studio.test_abilities import tab_of

from feller.errors import UsageError
from feller.studio.limits import Limits
from feller.studio.tab import Tab

CLIP, SAYS = str(CLIPS / "LJ001-0008.flac"), "has never been surpassed"


@pytest.fixture
def page(on_page: Callable[..., Any], speaking: pathlib.Path) -> Any:
    return on_page(speaking)


def ask(tab: Tab, **sent: Any) -> Any:
    usual = {name: getattr(control, "value", None) for name, control in tab.controls.items()}
    return tab.do({**usual, **sent}, Limits())


def seconds(found: Any) -> float:
    (sound,) = found.sounds
    return soundfile.info(sound).duration


@pytest.mark.slow
def test_a_text_is_said_also_in_a_voice(page: Any) -> None:
    tab = tab_of(page, "Say")
    found = ask(tab, text="Hello")
    assert seconds(found) > 0
    assert found.pictures[0].path.is_file()
    assert seconds(ask(tab, text="Hello", speed=2.0)) < seconds(found)
    assert seconds(ask(tab, text="Hello", voice=CLIP, said=SAYS)) > 0


@pytest.mark.slow
def test_recordings_are_edited_and_said_again(page: Any) -> None:
    whole = soundfile.info(CLIP).duration
    found = ask(tab_of(page, "Denoise"), recording=CLIP, said=SAYS, begin=0.5, end=0.8)
    assert abs(seconds(found) - whole) < 0.1
    assert seconds(ask(tab_of(page, "Edit"), recording=CLIP, said=SAYS, text="has always been surpassed")) > 0


@pytest.mark.slow
def test_what_is_missing_is_said_in_one_line(page: Any) -> None:
    for name, sent, why in (
        ("Say", {"text": " "}, "expected words"),
        ("Say", {"text": "Hello", "voice": CLIP}, "type what is said"),
        ("Edit", {"text": "Hello"}, "upload a recording"),
        ("Denoise", {"recording": CLIP, "said": SAYS, "begin": 1.0, "end": 0.5}, "must end after"),
    ):
        with pytest.raises(UsageError, match=why):
            ask(tab_of(page, name), **sent)
