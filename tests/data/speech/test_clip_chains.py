"""Chains of clips of one speaker."""

import numpy as np
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.loading.raw import PhoneAlignment, RawSpeech, object_array
from feller.data.modality import Dataset
from feller.data.speech.clip_chains import chain_clips
from feller.data.speech.dataset import speech_dataset
from feller.data.speech.mel import MelConfig
from tests.errors import refuses

MEL = MelConfig.default_for(8000)
SETTINGS = (MEL.sample_rate, MEL.n_fft, MEL.win_length, MEL.hop_length, MEL.n_mels, MEL.f_max)
WORDS = {"two": ("T_B", "UW_E"), "eight": ("EY_B", "T_E")}


def clips(n: int = 12, speakers: int = 3, words: int = 1) -> Dataset:
    """Return clips whose log mels are the numbers of clip and frame."""
    texts = [list(WORDS)[i % 2] for i in range(n)]
    lengths = [8 + i for i in range(n)]
    mels = [(100 * i + np.arange(t, dtype=np.float32)[:, None]).repeat(MEL.n_mels, 1) for i, t in enumerate(lengths)]
    layouts = [PhoneAlignment(("SIL", *WORDS[w], "SIL"), (1, 3, t - 6, 2)) for w, t in zip(texts, lengths, strict=True)]
    raw = RawSpeech(
        object_array(mels),
        np.arange(n) % speakers,
        tuple("abcdefgh"[:speakers]),
        texts=tuple(" ".join([word] * words) for word in texts),
        alignments=tuple(layouts),
        settings=SETTINGS,
    )
    return speech_dataset(raw)


def test_clips_of_single_words_are_chained() -> None:
    data = clips()
    assert data.modality.chains
    chained = data.modality.for_training(data, Rng(0))
    assert len(chained) == len(data)
    assert (chained.given["valid"].sum(1) > data.given["valid"].sum(1).min()).all()
    texts = clips(words=2)
    assert not texts.modality.chains
    assert texts.modality.for_training(texts, Rng(0)) is texts


def test_chains_are_whole_clips_of_one_speaker() -> None:
    data = clips()
    many = chain_clips(data, 50, -1.0, Rng(3))
    seen = set()
    for row in range(50):
        frames = many.values["mel"][row, many.given["valid"][row], 0]
        numbers = [int(frame) // 100 for frame in frames[frames % 100 == 0]]
        assert len(set(numbers)) == len(numbers)
        assert 2 <= len(numbers) <= 6 or len(numbers) == 1
        assert {i % 3 for i in numbers} == {int(many.values["speaker"][row])}
        assert frames.tolist() == [100 * i + j for i in numbers for j in range(8 + i)]
        assert many.modality.texts(many.values)[row].split() == [list(WORDS)[i % 2] for i in numbers]
        seen.add(len(numbers))
    assert {2, 3, 4} <= seen
    assert (many.values["mel"][~many.given["valid"]] == -1.0).all()


def test_phones_of_chains_share_one_silence() -> None:
    data = clips(4, 1)
    many = chain_clips(data, 5, 0.0, Rng(1), (2, 2))
    names = many.modality.inventory.names
    for row in range(5):
        is_phone = many.values["phone"][row] >= 0
        phones = [names[p] for p in many.values["phone"][row, is_phone]]
        durations = many.values["duration"][row, is_phone].tolist()
        first, second = many.modality.texts(many.values)[row].split()
        assert phones == ["SIL", *WORDS[first], "SIL", *WORDS[second], "SIL"]
        assert (durations[0], durations[3], durations[-1]) == (1, 3, 2)
        assert sum(durations) == int(many.given["valid"][row].sum())
        labels = many.given["phone"][row, many.given["valid"][row]].tolist()
        repeated = [name for name, length in zip(phones, durations, strict=True) for _ in range(length)]
        assert [names[p] for p in labels] == repeated
    data = clips(12, 1)
    many = chain_clips(data, 60, 0.0, Rng(0), (6, 6))
    assert int(many.given["valid"].sum(1).max()) <= data.modality.longest


def test_speakers_without_two_clips_are_refused() -> None:
    data = clips(3, 3)
    with refuses(InputError, found="3 speakers with one clip each"):
        chain_clips(data, 4, 0.0, Rng(0))
    anonymous = Dataset({**data.values, "speaker": torch.full((3,), -1)}, data.given, data.modality)
    with refuses(InputError, found="clips without them"):
        chain_clips(anonymous, 4, 0.0, Rng(0))
