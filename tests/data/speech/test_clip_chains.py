"""Chains: each is clips of one speaker in a row, with all that is known of them."""

import numpy as np
import pytest
import torch

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.loading.raw import PhoneAlignment, RawSpeech, object_array
from feller.data.modality import Dataset
from feller.data.speech.clip_chains import chain_clips
from feller.data.speech.dataset import speech_dataset
from feller.data.speech.mel import MelConfig

MEL = MelConfig.default_for(8000)
SETTINGS = (MEL.sample_rate, MEL.n_fft, MEL.win_length, MEL.hop_length, MEL.n_mels, MEL.f_max)
WORDS = {"two": ("T_B", "UW_E"), "eight": ("EY_B", "T_E")}


def clips(n: int = 12, speakers: int = 3, words: int = 1) -> Dataset:
    """Return clips whose log mels tell which clip and which frame they are of."""
    said = [list(WORDS)[i % 2] for i in range(n)]
    lengths = [8 + i for i in range(n)]
    mels = [(100 * i + np.arange(t, dtype=np.float32)[:, None]).repeat(MEL.n_mels, 1) for i, t in enumerate(lengths)]
    layouts = [PhoneAlignment(("SIL", *WORDS[w], "SIL"), (1, 3, t - 6, 2)) for w, t in zip(said, lengths, strict=True)]
    found = RawSpeech(
        object_array(mels),
        np.arange(n) % speakers,
        tuple("abcdefgh"[:speakers]),
        texts=tuple(" ".join([word] * words) for word in said),
        alignments=tuple(layouts),
        settings=SETTINGS,
    )
    return speech_dataset(found)


def test_clips_of_one_word_are_learned_in_chains() -> None:
    data = clips()
    assert data.modality.chains
    assert "chains" in data.notes[-1]
    learned = data.modality.for_training(data, Rng(0))
    assert len(learned) == len(data)
    assert (learned.given["valid"].sum(1) > data.given["valid"].sum(1).min()).all()
    texts = clips(words=2)
    assert not texts.modality.chains
    assert texts.modality.for_training(texts, Rng(0)) is texts


def test_each_chain_is_whole_clips_of_one_speaker() -> None:
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


def test_phones_follow_each_other_with_one_silence_between() -> None:
    data = clips(4, 1)
    many = chain_clips(data, 5, 0.0, Rng(1), (2, 2))
    names = many.modality.inventory.names
    for row in range(5):
        there = many.values["phone"][row] >= 0
        said = [names[p] for p in many.values["phone"][row, there]]
        lasts = many.values["duration"][row, there].tolist()
        first, second = many.modality.texts(many.values)[row].split()
        assert said == ["SIL", *WORDS[first], "SIL", *WORDS[second], "SIL"]
        assert (lasts[0], lasts[3], lasts[-1]) == (1, 3, 2)
        assert sum(lasts) == int(many.given["valid"][row].sum())
        labels = many.given["phone"][row, many.given["valid"][row]].tolist()
        spread = [name for name, length in zip(said, lasts, strict=True) for _ in range(length)]
        assert [names[p] for p in labels] == spread


def test_a_chain_never_outgrows_its_room() -> None:
    data = clips(12, 1)
    many = chain_clips(data, 60, 0.0, Rng(0), (6, 6))
    assert int(many.given["valid"].sum(1).max()) <= data.modality.longest


def test_chains_need_speakers_with_clips() -> None:
    data = clips(3, 3)
    with pytest.raises(InputError, match="at least two clips"):
        chain_clips(data, 4, 0.0, Rng(0))
    nobody = Dataset({**data.values, "speaker": torch.full((3,), -1)}, data.given, data.modality)
    with pytest.raises(InputError, match=r"speakers\.csv"):
        chain_clips(nobody, 4, 0.0, Rng(0))
