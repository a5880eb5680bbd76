"""Speech on the page: what is said, edited and said again."""

import pytest
import soundfile

from feller.app.webui.run_request import RequestError, RequestReporter, run_tab
from feller.app.webui.tabs.speech_tabs import SPELLED
from feller.core.errors import UsageError
from tests.app.asked import run
from tests.app.webui.asking import ask, tab_of, usual
from tests.data.speech.clip import CLIPS, TEXTS
from tests.errors import refuses

CLIP, SAYS = str(CLIPS / "LJ001-0008.flac"), "has never been surpassed"
OTHER_NAME = "sense-0880.flac"
OTHER = str(CLIPS / OTHER_NAME)


@pytest.fixture
def page(on_page, speaking):
    return on_page(speaking)


def seconds(found):
    (sound,) = found.sounds
    return soundfile.info(sound).duration


@pytest.mark.slow
def test_a_text_is_said_also_in_a_voice(page):
    tab = tab_of(page, "Text to speech")
    found = ask(tab, text="Hello")
    assert seconds(found) > 0
    assert found.pictures[0].path.is_file()
    assert seconds(ask(tab, text="Hello", speed=2.0)) < seconds(found)
    assert seconds(ask(tab, text="Hello", voice=CLIP, said=SAYS)) > 0


@pytest.mark.slow
def test_recordings_are_edited_and_said_again(page):
    whole = soundfile.info(CLIP).duration
    found = ask(tab_of(page, "Denoise"), denoise=CLIP, said=SAYS, begin=0.5, end=0.8)
    assert abs(seconds(found) - whole) < 0.1
    assert seconds(ask(tab_of(page, "Edit"), edit=CLIP, said=SAYS, text="has always been surpassed")) > 0


@pytest.mark.slow
def test_recordings_are_said_in_another_manner_as_the_command_does(page, tmp_path):
    tab = tab_of(page, "Restyle")
    plain = ask(tab, content=CLIP, said=SAYS, seed=3)
    styled = ask(tab, content=CLIP, said=SAYS, style=OTHER, style_said=TEXTS[OTHER_NAME], seed=3)
    for found, style in ((plain, ()), (styled, ("--style", OTHER, TEXTS[OTHER_NAME]))):
        out = tmp_path / f"{len(style)}.wav"
        run("sample", page[0].run.path, "--content", CLIP, SAYS, *style, "--seed", 3, "--out", out)
        assert found.sounds[0].read_bytes() == out.read_bytes()
        assert abs(seconds(found) - soundfile.info(CLIP).duration) < 0.1  # timed as it was
    assert plain.sounds[0].read_bytes() != styled.sounds[0].read_bytes()


@pytest.mark.slow
def test_words_that_the_dictionary_lacks_are_said_letter_by_letter_where_that_is_wished(page):
    tab = tab_of(page, "Text to speech")
    with pytest.raises(RequestError, match='"Words missing in the dictionary"'):
        run_tab(tab, {**usual(tab), "text": "xqzt"}, RequestReporter())
    assert seconds(ask(tab, text="xqzt", spell=SPELLED)) > 0


@pytest.mark.slow
def test_missing_answers(page):
    for name, sent in (
        ("Text to speech", {"text": " "}),
        ("Text to speech", {"text": "Hello", "voice": CLIP}),
        ("Edit", {"text": "Hello"}),
        ("Restyle", {"content": CLIP, "said": SAYS, "style": OTHER}),
        ("Restyle", {"said": SAYS}),
        ("Denoise", {"denoise": CLIP, "said": SAYS, "begin": 1.0, "end": 0.5}),
        ("Denoise", {"denoise": CLIP, "said": SAYS, "begin": 1.0, "end": 99.0}),
        ("Denoise", {"denoise": CLIP, "begin": 1.0, "end": 99.0}),
    ):
        with refuses(UsageError):
            ask(tab_of(page, name), **sent)
