"""Texts are said in as few pieces as the model has room for, cut between sentences where that can be."""

import pytest

from feller.app.config import SampleConfig
from feller.app.options import config_of
from feller.app.reporter import SILENT
from feller.app.workflows.speech import sample_speech
from feller.app.workflows.speech.sample_speech import utter
from feller.app.workflows.speech.speech_request import SpeechRequest, parse_request
from feller.app.workflows.speech.synthesize import (
    SpeechSynthesisConfig,
    merge_sentences,
    split_in_two,
    split_sentences,
    with_durations,
)
from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.core.run_folder import Run
from feller.data.speech.script import text_script
from feller.sampling.sampler_config import SamplerConfig
from tests.app.workflows.speech.pace import Listening
from tests.errors import refuses


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Really?! (yes) ... no", ["Really?!", "(yes) ...", "no"]),
        ("first line\n\n second; third: fourth", ["first line", "second;", "third:", "fourth"]),
        ("Dr. Smith met Mrs. Jones. They left", ["Dr. Smith met Mrs. Jones.", "They left"]),
        ("He saw 3.5 kg, no more", ["He saw 3.5 kg, no more"]),
        ("... !!! \n ?", []),
        ("one\n---\ntwo", ["one", "two"]),
        ("", []),
    ],
)
def test_sentences(text, parts):
    assert split_sentences(text) == parts


def test_halves_are_cut_between_words_near_the_middle():
    assert split_in_two("a b c d") == ("a b", "c d")
    assert split_in_two("one two three, four five six seven") == ("one two three,", "four five six seven")
    assert split_in_two("one, two three four five six seven eight") == ("one, two three four", "five six seven eight")
    assert split_in_two("one  two") == ("one", "two")
    text = " ".join("abcdefghijk")
    assert " ".join(split_in_two(text)) == text
    for endless in ("x" * 99, " word "):
        with refuses(InputError, remedy="Use shorter words"):
            split_in_two(endless)


def test_texts_are_put_together_as_long_as_they_fit():
    assert merge_sentences(["aa", "b", "cc", "dddd", "e"], lambda text: len(text) <= 5) == ["aa b", "cc", "dddd", "e"]
    assert merge_sentences(["aa", "b"], lambda text: False) == ["aa", "b"]
    assert merge_sentences([], lambda text: True) == []


def asked(model, **options):
    return parse_request(config_of(SampleConfig, **options), sample_speech.require_speech(model), str, SILENT)


def cut(model, text, n=1, *, whole=False):
    """Return the frames of each piece of a text, in each of n."""
    asks = asked(model, text=text, spell=True)
    config = SpeechSynthesisConfig(sampling=SamplerConfig(), samples_durations=n > 1)
    pieces = sample_speech._pieces(model, asks, n, config, Rng(0), is_single_piece=whole)
    return [[sum(script.lengths) for script in piece] for piece in pieces]


@pytest.mark.slow
def test_as_much_is_said_at_once_as_there_is_room_for(even):
    """A phone lasts 10 frames, a silence 2 or at the ends none; the model says 3 s at once."""
    assert cut(even, "hello world") == [[8 * 10 + 3 * 2]]
    assert cut(even, "Hello. World! Hello?") == [[12 * 10 + 4 * 2]]
    pieces = cut(even, "Hello world. " * 6, 2)
    assert [len(piece) for piece in pieces] == [2, 2]
    assert pieces == [[24 * 10 + 7 * 2] * 2] * 2


def test_a_sentence_without_an_end_is_cut_between_words(even):
    pieces = cut(even, "hello " * 20)
    assert sum(frames for piece in pieces for frames in piece) == 80 * 10 + (20 + len(pieces)) * 2
    assert all(frames <= 300 for piece in pieces for frames in piece)
    with refuses(InputError, remedy="Use shorter words"):
        cut(even, "hello " + "x" * 50)


@pytest.mark.slow
def test_a_text_without_an_end_is_cut_before_a_network_sees_it(even, monkeypatch):
    """At a frame for each phone, no more is asked for than the 3 s that the model says at once."""
    seen: list[int] = []

    def timed(model, scripts, *how):
        seen.append(scripts[0].shortest)
        return with_durations(model, scripts, *how)

    monkeypatch.setattr(sample_speech, "with_durations", timed)
    pieces = cut(even, "hello " * 1000)
    assert sum(frames for piece in pieces for frames in piece) == 4000 * 10 + (1000 + len(pieces)) * 2
    assert max(seen) <= 300


def test_an_edited_recording_does_not_grow_without_end(even):
    script = text_script([("HH",)] * 601)
    with refuses(InputError, expected="at most 6.0 s of speech", found="6.0 s or more"):
        config = SpeechSynthesisConfig(sampling=SamplerConfig())
        sample_speech._pieces(even, SpeechRequest(lambda text: script), 1, config, Rng(0), is_single_piece=False)


def test_missing_words_of_all_sentences_are_listed(even):
    with refuses(InputError, found="2 unknown words: zyqqxv, wuggle"):
        asked(even, text="Hello zyqqxv. Hello! A wuggle?")


def test_durations_of_a_table_are_not_cut(even):
    with refuses(InputError, argument="durations"):
        cut(even, "hello " * 20, whole=True)


def test_pieces_fade_into_each_other(even, speaking, tmp_path):
    tell = Listening()
    options = {"text": "Hello world. " * 6, "out": str(tmp_path / "a.npz"), "vocoder": "griffin-lim:1"}
    uttered, _ = utter(Run(speaking), config_of(SampleConfig, **options), reporter=tell)
    frames = int(uttered.data.given["valid"].sum())
    assert frames == 2 * (24 * 10 + 7 * 2)
    assert len(uttered.sounds[0].samples) == 160 * frames - 480
    assert tell.lines == ["the text is synthesised in 2 segments with cross-fades"]
    assert int(uttered.data.values["duration"].sum()) == frames
