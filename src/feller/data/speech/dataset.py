"""Recordings with phones as a data set of log mels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from feller.core.errors import InputError
from feller.data.fingerprints import fingerprint_of
from feller.data.loading.raw import PhoneAlignment, RawSpeech, check_rows, object_array, prefix_lengths
from feller.data.modality import Dataset, property_tensors
from feller.data.speech.clip_chains import LINKS, can_chain, chain_notes
from feller.data.speech.mel import FRAMES, MelConfig, Statistics, log_mels
from feller.data.speech.modality import Speech
from feller.data.speech.phones import Inventory

SETTINGS = 6
"""Numbers that tell how log mels were made."""


def speech_from_arrays(arrays: dict[str, np.ndarray], path: str) -> RawSpeech:
    """Read `mel` [n, l, bands], `valid` [n, l], `settings`, and `phone` and `duration` [n, m] of `phones`, if any.

    Raises:
        InputError: If a shape, type or number is wrong.
    """
    mel, valid, settings = arrays["mel"], arrays["valid"], arrays.get("settings", np.zeros(0))
    if mel.ndim != 3 or 0 in mel.shape or mel.dtype.kind != "f":
        raise InputError("mel [n, l, bands] of real numbers", f"{list(mel.shape)} of {mel.dtype}", file=path)
    if valid.shape != mel.shape[:2] or valid.dtype != bool:
        raise InputError(f"valid {list(mel.shape[:2])} of bool", f"{list(valid.shape)} of {valid.dtype}", file=path)
    if settings.shape != (SETTINGS,) or settings.dtype.kind not in "iu":
        raise InputError(f"{SETTINGS} whole numbers in settings", list(settings.shape), file=path)
    lengths = prefix_lengths(valid, path, "frames")
    check_rows(np.isfinite(mel) | ~valid[:, :, None], path, "finite log mels")
    values = object_array([row[:length].astype(np.float32) for row, length in zip(mel, lengths, strict=True)])
    alignments = _layouts(arrays, lengths, path) if "phone" in arrays else ()
    return RawSpeech(values, alignments=tuple(alignments), settings=tuple(settings.tolist()))


def _layouts(arrays: dict[str, np.ndarray], lengths: np.ndarray, path: str) -> Sequence[PhoneAlignment]:
    """Return phones and durations, which fill their sounds."""
    phone, duration, names = (arrays.get(name, np.zeros(0)) for name in ("phone", "duration", "phones"))
    right = phone.ndim == 2 and len(phone) == len(lengths) and phone.shape == duration.shape
    if not right or phone.dtype.kind not in "iu" or duration.dtype.kind not in "iu" or names.dtype.kind != "U":
        raise InputError(
            f"phone and duration [{len(lengths)}, m] of whole numbers, and words in phones",
            f"{list(phone.shape)}, {list(duration.shape)} and {names.dtype}",
            file=path,
        )
    real = phone >= 0
    prefix_lengths(real, path, "phones")
    check_rows(phone < len(names), path, f"positions in the {len(names)} phones")
    check_rows((duration >= 0) & (real | (duration == 0)), path, "durations that are not negative")
    check_rows(duration.sum(1) == lengths, path, "durations that fill the valid frames")
    return [
        PhoneAlignment(tuple(names[p[r]].tolist()), tuple(d[r].tolist()))
        for p, d, r in zip(phone, duration, real, strict=True)
    ]


def speech_dataset(raw: RawSpeech) -> Dataset:
    """Make a data set of speech, with its own statistics and inventory, and room for the longest sound.

    Where most clips hold one word, chains of them are learned, if it is known who speaks.

    Raises:
        InputError: If no texts were found.
    """
    if not raw.alignments:
        raise InputError("nothing is known of what these sounds say", remedy="Write a text beside each of them")
    mel = MelConfig(*raw.settings) if raw.settings else MelConfig.default_for(raw.values[0].sample_rate)
    mels = log_mels(raw, mel)
    frames, chains = max(map(len, mels)), can_chain(raw)
    if chains:
        frames = max(frames, LINKS[1] * sum(map(len, mels)) // len(mels))
    longest = -(-frames // FRAMES) * FRAMES  # whole seconds
    inventory = Inventory.of({phone for layout in raw.alignments for phone in layout.phones})
    modality = Speech(mel, Statistics.of(mels), inventory, longest, None, chains, raw.classes, raw.user_pronunciations)
    seconds = sum(map(len, mels)) / FRAMES
    speakers_text = f" of {len(raw.classes):,} speakers" if raw.classes else ""
    note = f"{len(mels):,} sounds{speakers_text}, {seconds / 60:.1f} minutes; log mels have mean"
    note = f"{note} {modality.statistics.mean:.4f} and deviation {modality.statistics.std:.4f}"
    notes = (*raw.notes, note, *chain_notes(raw))
    analysed = replace(raw, values=object_array([one.numpy() for one in mels]), settings=mel.settings)
    return Dataset(
        *modality.values_from_raw(analysed),
        modality,
        notes,
        properties=property_tensors(raw),
        fingerprint=fingerprint_of(raw),
    )
