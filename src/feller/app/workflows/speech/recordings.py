"""Alignment of recordings with their texts, and splitting of utterances into prompt and target."""

import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feller.app.options import option_of
from feller.app.reporter import Reporter
from feller.core.errors import InputError, UsageError
from feller.data.loading.raw import Waveform
from feller.data.modality import Dataset
from feller.data.speech.files import load_recording
from feller.data.speech.lexicon import words_of
from feller.data.speech.mel import FRAMES
from feller.data.speech.modality import Speech
from feller.data.speech.phones import BEGIN, SIL, SINGLE, TimedPhone, Word
from feller.data.speech.script import AlignedRecording, Script, voice_prompt_script
from feller.data.speech.textgrid import ENDING as GRID
from feller.data.speech.utterances import TEXT, text_of

Transcriber = Callable[[pathlib.Path], str]
"""Function that returns the text spoken in an audio file."""


def recorded(
    kind: Speech,
    file_and_text: tuple[str, ...],
    flag: str,
    transcribe: Transcriber,
    reporter: Reporter,
    *,
    spells_unknown: bool,
) -> AlignedRecording:
    """Load a recording and align it with its text.

    Args:
        kind: Modality of the model.
        file_and_text: Audio file, optionally followed by its text. By default the text is read from the .txt file of
            the same name, or transcribed.
        flag: Name of the flag, for error messages.
        transcribe: Function that transcribes a file without a text.
        reporter: Log output, for notes on the recording.
        spells_unknown: True to spell words that are missing from the dictionary letter by letter.

    Raises:
        InputError: If the file is not an audio file, or the text cannot be aligned.
        UsageError: If `file_and_text` has more than two elements, or a package is missing.
    """
    if not 1 <= len(file_and_text) <= 2:
        expected = "an audio file and, in quotes, its text"
        raise UsageError(expected, " ".join(file_and_text), argument=option_of(flag))
    path = pathlib.Path(file_and_text[0])
    if not path.is_file():
        raise InputError("an audio file", "a folder" if path.is_dir() else "none", "Name a file", file=path)
    if not kind.inventory.english and not path.with_suffix(GRID).is_file():
        raise InputError(
            "an alignment (the aligner supports only English)",
            "none",
            f"Add {path.stem}{GRID} to its folder",
            file=path,
        )
    text = file_and_text[1] if len(file_and_text) == 2 else _text(path, flag, transcribe, reporter)
    sound, words, notes = load_recording(
        path, text, kind.mel.sample_rate, kind.user_pronunciations, spelled=spells_unknown
    )
    for note in notes:
        reporter.log(note)
    mel = kind.mel.log_mel(torch.from_numpy(sound.samples))
    end = len(mel) * kind.mel.hop_length
    return AlignedRecording(mel, words, replace(sound, samples=sound.samples[:end]), path.name, sound.samples[end:])


def _text(path: pathlib.Path, flag: str, transcribe: Transcriber, reporter: Reporter) -> str:
    """Return the text of a recording, from the text file of the same name or by transcription."""
    transcript_file = path.with_suffix(TEXT)
    if transcript_file.is_file():
        return text_of(path)
    try:
        text = transcribe(path)
    except UsageError as error:
        raise UsageError(
            f"the text of {path.name}",
            f"none ({error})",
            f'Give the text: {flag} {path.name} "...", or write it to {transcript_file.name} in the same folder',
        ) from error
    if not text:
        raise InputError(f"speech in {path.name}", "none recognised", f'Give the text: {flag} {path.name} "..."')
    reporter.log(f"transcript of {path.name}: {text}")
    return text


def truncate_clip(clip: AlignedRecording, frames: int, reporter: Reporter) -> AlignedRecording:
    """Truncate a recording to at most `frames` frames, at the end of a word.

    Raises:
        InputError: If the first word has more than `frames` frames.
    """
    if len(clip.mel) <= frames:
        return clip
    words = clip.words
    while words and (words[-1].is_silence or words[-1].end > frames):
        words = words[:-1]
    if not words:
        raise InputError(
            f"a first word that ends within {frames / FRAMES:g} s, the maximum prompt length",
            "a first word that ends later",
            "Cut off the beginning of the recording, or use another one",
            place=clip.name,
        )
    end = words[-1].end
    reporter.log(f"using the first {end / FRAMES:.1f} s of {clip.name}, the maximum prompt length")
    return clip.between(0, end)


@dataclass(frozen=True, eq=False)
class SplitUtterance:
    """An utterance, split into a prompt and the target that continues it."""

    script: Script
    """Recorded prompt, followed by the phones of the target without durations."""
    text: str
    """Text of the target; empty if it is unknown."""
    prompt_mel: Float[Tensor, "frames bands"]
    """Log mel spectrogram of the prompt."""
    target_mel: Float[Tensor, "more bands"]
    """Log mel spectrogram of the target, as recorded."""


def split_utterances(kind: Speech, data: Dataset) -> list[SplitUtterance]:
    """Split each utterance between two words near its middle, into a voice prompt and the target that continues it.

    Both parts are truncated at word boundaries to at most half of the model's maximum length.

    Utterances with fewer than two words are omitted.
    """
    cuts = (_cut(clip, kind.room // 2) for clip in clips_of(kind, data))
    return [cut for cut in cuts if cut is not None]


def _cut(clip: AlignedRecording, max_frames: int) -> SplitUtterance | None:
    """Split a recording in the middle of its words into a prompt and the speech that follows.

    Both parts have at most `max_frames` frames; None if a part has no words.
    """
    words = clip.spoken_words
    if not words:
        return None
    prompt_words, target_words = words[: len(words) // 2], words[len(words) // 2 :]
    prompt_words = [word for word in prompt_words if prompt_words[-1].end - word.start <= max_frames]
    target_words = [word for word in target_words if word.end - target_words[0].start <= max_frames]
    if not prompt_words or not target_words:
        return None
    prompt = clip.between(prompt_words[0].start, prompt_words[-1].end)
    script = voice_prompt_script(prompt, [[timed_phone.phone for timed_phone in word.phones] for word in target_words])
    target_mel = clip.mel[target_words[0].start : target_words[-1].end]
    text = " ".join(word.text for word in target_words) if all(word.text for word in target_words) else ""
    return SplitUtterance(script, text, prompt.mel, target_mel)


def clips_of(kind: Speech, data: Dataset) -> list[AlignedRecording]:
    """Convert training examples to aligned recordings: log mel spectrogram, and words with their phones and times.

    The recordings have no audio, because examples do not store it. Words have no text if the text of the example does
    not match its phones.
    """
    values, valid = data.values, data.given["valid"]
    clips = []
    for i, text in enumerate(kind.texts(values)):
        is_phone = values["phone"][i] >= 0
        names = [kind.inventory.names[p] for p in values["phone"][i, is_phone].tolist()]
        words = _words(names, values["duration"][i, is_phone].tolist(), text)
        clips.append(
            AlignedRecording(
                values["mel"][i, valid[i]], words, Waveform(np.zeros(0, dtype=np.float32), kind.mel.sample_rate)
            )
        )
    return clips


def _words(names: Sequence[str], lengths: Sequence[int], text: str) -> tuple[Word, ...]:
    """Group phones into words and silences, and return them with their start frames and lengths.

    `names` and `lengths` are those of the phones, and `text` gives the text of the words.
    """
    word_index, word_indices = 0, []
    for name in names:
        word_index += (
            name == SIL
            or name.endswith((BEGIN, SINGLE))
            or (bool(word_indices) and names[len(word_indices) - 1] == SIL)
        )
        word_indices.append(word_index)
    frame, groups = 0, []
    for _, group in groupby(zip(word_indices, names, lengths, strict=True), key=lambda entry: entry[0]):
        phones = []
        for _, name, length in group:
            phones.append(TimedPhone(name if name == SIL else name[: -len(BEGIN)], frame, length))
            frame += length
        if phones[0].phone != SIL or phones[0].length:
            groups.append(phones)
    n_words = sum(phones[0].phone != SIL for phones in groups)
    texts = iter(_words_if_aligned(text, n_words))
    return tuple(Word("" if phones[0].phone == SIL else next(texts), tuple(phones)) for phones in groups)


def _words_if_aligned(text: str, count: int) -> Sequence[str]:
    """Return the words of a text if there are `count` of them; otherwise `count` empty strings."""
    try:
        words = words_of(text)
    except InputError:
        words = ()
    return words if len(words) == count else [""] * count
