"""Speech on the page: what is said, edited and said again."""

import pytest
import soundfile

from feller.app.cli import main
from feller.app.webui.run_request import RequestError, RequestReporter, run_tab
from feller.app.webui.tabs.speech_tabs import SPELLED
from feller.core.errors import UsageError
from tests.app.webui.asking import ask, tab_of, usual
from tests.data.speech.clip import CLIPS, TEXTS

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
        words = ("--content", CLIP, SAYS, *style, "--seed", "3", "--out", str(out))
        assert main(["sample", str(page[0].run.path), *words]) == 0
        assert found.sounds[0].read_bytes() == out.read_bytes()
        assert abs(seconds(found) - soundfile.info(CLIP).duration) < 0.1  # timed as it was
    assert plain.sounds[0].read_bytes() != styled.sounds[0].read_bytes()
    with pytest.raises(UsageError, match='into "Transcript of the style"'):
        ask(tab, content=CLIP, said=SAYS, style=OTHER)
    with pytest.raises(UsageError, match="upload a recording"):
        ask(tab, said=SAYS)


@pytest.mark.slow
def test_words_that_the_dictionary_lacks_are_said_letter_by_letter_where_that_is_wished(page):
    tab = tab_of(page, "Text to speech")
    with pytest.raises(RequestError, match='"Words missing in the dictionary"'):
        run_tab(tab, {**usual(tab), "text": "xqzt"}, RequestReporter())
    assert seconds(ask(tab, text="xqzt", spell=SPELLED)) > 0


@pytest.mark.slow
def test_what_is_missing_is_said_in_one_line(page):
    for name, sent, why in (
        ("Text to speech", {"text": " "}, "expected words"),
        ("Text to speech", {"text": "Hello", "voice": CLIP}, 'into "Transcript of the voice"'),
        ("Edit", {"text": "Hello"}, "upload a recording"),
        ("Denoise", {"denoise": CLIP, "said": SAYS, "begin": 1.0, "end": 0.5}, "ends after its start"),
        (
            "Denoise",
            {"denoise": CLIP, "said": SAYS, "begin": 1.0, "end": 99.0},
            r"recording of \d\.\d\d seconds; found a span",
        ),
        ("Denoise", {"denoise": CLIP, "begin": 1.0, "end": 99.0}, 'into "Transcript"'),
    ):
        with pytest.raises(UsageError, match=why):
            ask(tab_of(page, name), **sent)
