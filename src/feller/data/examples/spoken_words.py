"""Sentences read aloud, in a folder as a user's own would be."""

import pathlib
from dataclasses import replace

from feller.data.files.data_plain_text import rows_in
from feller.data.loading.raw import FoundSpeech
from feller.data.modality import Dataset
from feller.data.speech.files import find_speech
from feller.data.speech.speech_dataset import speech
from feller.data.speech.utterances import SPEAKERS

FOLDER = pathlib.Path(__file__).with_name("spoken_words")
"""174 sounds with texts beside them, speakers, words that the dictionary lacks, and alignments that are ready."""


def spoken_words_found(part: str) -> FoundSpeech:
    """Return the 162 sentences of `train` or the 12 of `test`, said by 11 of its 79 speakers.

    Raises:
        UsageError: If what reads sounds is not installed.
    """
    return _part(find_speech(FOLDER), part)


def spoken_words(part: str) -> Dataset:
    """Return log mels of the same, with the phone of each frame."""
    whole = find_speech(FOLDER)
    train = speech(_part(whole, "train"))
    if part == "train":
        return train
    return train.modality.read(_part(whole, part))


def _part(whole: FoundSpeech, part: str) -> FoundSpeech:
    """Keep one part, as the last column of the table of speakers has it."""
    parts = {cells[0]: cells[-1] for _, cells in rows_in(FOLDER / SPEAKERS)}
    kept = [i for i, name in enumerate(whole.names) if parts[name] == part]
    return replace(
        whole,
        values=whole.values[kept],
        labels=None if whole.labels is None else whole.labels[kept],
        names=tuple(whole.names[i] for i in kept),
        texts=tuple(whole.texts[i] for i in kept),
        hashes=tuple(whole.hashes[i] for i in kept),
        alignments=tuple(whole.alignments[i] for i in kept),
        notes=(f"{len(kept)} of the {len(whole.names)} sounds, whose alignments came with them",),
    )
