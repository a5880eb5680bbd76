"""Concatenation of short clips of one speaker, so that models trained on single words learn voices in context."""

from collections import defaultdict

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.core.errors import InputError
from feller.core.rng import Rng
from feller.data.loading.raw import RawSpeech
from feller.data.modality import Dataset
from feller.data.speech.phones import repeat_by_duration

LINKS = (2, 6)
"""Minimum and maximum number of clips in a chain."""
BLANK = ord(" ")


def are_single_words(raw: RawSpeech) -> bool:
    """Return True if most texts are single words."""
    return 2 * sum(len(text.split()) == 1 for text in raw.texts) > len(raw.values)


def can_chain(raw: RawSpeech) -> bool:
    """Return True if most clips are single words, and a speaker with at least two clips is known."""
    return are_single_words(raw) and raw.labels is not None and int(np.bincount(raw.labels).max()) > 1


def chain_notes(raw: RawSpeech) -> tuple[str, ...]:
    """Return a note on the treatment of single-word clips."""
    if can_chain(raw):
        return (f"most clips hold one word: chains of {LINKS[0]} to {LINKS[1]} of one speaker are learned",)
    if not are_single_words(raw):
        return ()
    return (
        "most clips hold one word, too short to hear a voice in; name in speakers.csv who speaks, and chains of the"
        " clips of a speaker are learned",
    )


def chain_clips(data: Dataset, n: int, fill: float, rng: Rng, links: tuple[int, int] = LINKS) -> Dataset:
    """Return a data set of `n` chains; each chain concatenates different clips of one speaker.

    A speaker is drawn with a probability proportional to the number of clips of the speaker.

    Args:
        data: Clips with phones and speakers, in the values of `Speech`.
        n: Number of chains.
        fill: Log mel value of the padding.
        rng: Random streams that choose the speakers and clips.
        links: Minimum and maximum number of clips in a chain; the number is drawn uniformly. Chains are truncated at
            the padded length.

    Raises:
        InputError: If speakers or phones are unknown, or no speaker has two clips.
    """
    clips_of = _by_speaker(data)
    frames, max_frames = data.given["valid"].sum(1), data.given["valid"].shape[1]
    pool = torch.cat(list(clips_of.values()))
    first_clips = pool[rng.stream("first").randint(len(pool), (n,))]
    counts = rng.stream("links").randint(links[1] - links[0] + 1, (n,)) + links[0]
    rows = []
    for i, (first_clip, num_clips) in enumerate(zip(first_clips.tolist(), counts.tolist(), strict=True)):
        candidates = clips_of[int(data.values["speaker"][first_clip])]
        candidates = candidates[torch.randperm(len(candidates), generator=rng.stream("clips", i).shared_generator())]
        row = torch.cat([first_clips[i : i + 1], candidates[candidates != first_clip][: num_clips - 1]])
        rows.append(row[: max(1, int((frames[row].cumsum(0) <= max_frames).sum()))])
    return _joined(data, rows, fill)


def _by_speaker(data: Dataset) -> dict[int, Int64[Tensor, " _"]]:
    """Return the indices of the clips of each speaker who has at least two clips."""
    if "phone" not in data.values or not (data.values["speaker"] >= 0).all():
        raise InputError(
            "phones and a speaker for every clip", "clips without them", "List the speakers in speakers.csv"
        )
    clips_of: dict[int, list[int]] = defaultdict(list)
    for i, speaker in enumerate(data.values["speaker"].tolist()):
        clips_of[speaker].append(i)
    chainable = {speaker: torch.tensor(clips) for speaker, clips in clips_of.items() if len(clips) > 1}
    if not chainable:
        raise InputError("speakers with at least two clips", f"{len(clips_of):,} speakers with one clip each")
    return chainable


def _joined(data: Dataset, rows: list[Int64[Tensor, " _"]], fill: float) -> Dataset:
    values, valid = data.values, data.given["valid"]
    mel = torch.full((len(rows), *values["mel"].shape[1:]), fill)
    for target, row in zip(mel, rows, strict=True):
        frames = torch.cat([values["mel"][i, valid[i]] for i in row])
        target[: len(frames)] = frames
    phone_durations = [_spoken(values, row) for row in rows]
    phone = pad_sequence([phones for phones, _ in phone_durations], batch_first=True, padding_value=-1)
    duration = pad_sequence([durations for _, durations in phone_durations], batch_first=True)
    joined = {
        "mel": mel,
        "phone": phone,
        "duration": duration,
        "speaker": values["speaker"][torch.stack([row[0] for row in rows])],
    }
    if "text" in values:
        joined["text"] = pad_sequence([_text(values["text"], row) for row in rows], batch_first=True, padding_value=-1)
    mask = torch.arange(valid.shape[1]) < duration.sum(1, keepdim=True)
    labels = repeat_by_duration(phone.clamp(min=0), duration, valid.shape[1])
    return Dataset(joined, {"valid": mask, "phone": labels}, data.modality, data.notes)


def _spoken(values: dict[str, Tensor], row: Int64[Tensor, " k"]) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"]]:
    """Return the phones and durations of the clips `row`, joined to one recording; adjacent silences are merged."""
    phones, durations = values["phone"][row[0], :1].tolist(), [0]
    for i in row.tolist():
        is_phone = values["phone"][i] >= 0
        leading, *inner = values["duration"][i, is_phone].tolist()
        durations[-1] += leading
        durations += inner
        phones += values["phone"][i, is_phone].tolist()[1:]
    return torch.tensor(phones), torch.tensor(durations)


def _text(text: Int64[Tensor, "n l"], row: Int64[Tensor, " k"]) -> Int64[Tensor, " _"]:
    """Return the text of a chain, with spaces between its clips."""
    characters = [text[i, text[i] >= 0].tolist() for i in row.tolist()]
    return torch.tensor([letter for clip in characters for letter in (BLANK, *clip)][1:])
