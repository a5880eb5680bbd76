"""Utterances that are gone on with: cut between words, and as far as a model hears and says at once."""

from dataclasses import replace

import numpy as np
import torch

from feller.app.workflows.speech.recordings import clips_of, split_utterances
from feller.data.loading.raw import PhoneAlignment, RawSpeech, object_array
from feller.data.speech.dataset import speech_dataset
from tests.data.speech.test_clip_chains import MEL, SETTINGS

PHONES = ("SIL", "T_B", "UW_E", "SIL", "EY_B", "T_E", "SIL", "EY_S", "SIL")


def data(lengths, text="two eight a", n=2):
    mel = np.arange(sum(lengths), dtype=np.float32)[:, None].repeat(MEL.n_mels, 1)
    alignments = (PhoneAlignment(PHONES, lengths),) * n
    raw = RawSpeech(object_array([mel] * n), texts=(text,) * n, alignments=alignments, settings=SETTINGS)
    return speech_dataset(raw)


def test_words_have_their_times_and_silences_without_length_are_none():
    found = data((3, 4, 5, 0, 6, 7, 2, 8, 1))
    clip = clips_of(found.modality, found)[0]
    words = [("", 0, 3), ("two", 3, 12), ("eight", 12, 25), ("", 25, 27), ("a", 27, 35), ("", 35, 36)]
    assert [(word.text, word.start, word.end) for word in clip.words] == words
    assert [spoken.phone for spoken in clip.words[1].phones] == ["T", "UW"]


def test_the_first_words_are_heard_and_the_others_said_anew():
    found = data((3, 4, 5, 0, 6, 7, 2, 8, 1))
    cut = split_utterances(found.modality, found)[0]
    assert cut.text == "eight a"
    assert cut.prompt_mel[:, 0].tolist() == list(range(3, 12))
    assert cut.target_mel[:, 0].tolist() == list(range(12, 35))
    kept = [part.phone for part in cut.script.parts if part.is_recorded]
    assert kept == ["SIL", "T_B", "UW_E"]  # a silence of no length, and a word
    assert [part.phone for part in cut.script.parts[cut.script.prompt_length :]] == [*PHONES[3:]]
    assert all(part.length is None for part in cut.script.parts[cut.script.prompt_length :])


def test_no_more_is_heard_and_said_than_a_model_does_at_once():
    found = data((3, 4, 5, 0, 6, 7, 2, 8, 1))
    small = replace(found.modality, window_frames=30)
    cut = split_utterances(small, found)[0]
    assert cut.text == "eight"
    assert not split_utterances(replace(small, window_frames=8), found)


def test_words_that_do_not_fit_their_phones_are_not_known():
    found = data((3, 4, 5, 0, 6, 7, 2, 8, 1), "two eight")
    cut = split_utterances(found.modality, found)[0]
    assert cut.text == ""
    assert torch.equal(cut.target_mel[:, 0], torch.arange(12.0, 35.0))
