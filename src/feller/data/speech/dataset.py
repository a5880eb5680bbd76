"""Building of speech data sets from recordings or arrays: log mel spectrograms with their phones."""

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
"""Number of fields of a `MelConfig`, the length of the array `settings`."""


def speech_from_arrays(arrays: dict[str, np.ndarray], path: str) -> RawSpeech:
    """Return speech from .npz arrays, as returned by `Speech.arrays`.

    `arrays` holds `mel` [n, l, bands], the mask of real frames `valid` [n, l], `settings`, the fields of the
    `MelConfig` of `mel`, and optionally the phones. `path` is the name of the file, for errors.

    Raises:
        InputError: If the shape, dtype or values of an array are invalid.
    """
    mel, valid, settings = arrays["mel"], arrays["valid"], arrays.get("settings", np.zeros(0))
    if mel.ndim != 3 or 0 in mel.shape or mel.dtype.kind != "f":
        raise InputError(
            "an array mel [n, l, bands] of floating-point numbers", f"{list(mel.shape)} of {mel.dtype}", file=path
        )
    if valid.shape != mel.shape[:2] or valid.dtype != bool:
        raise InputError(
            f"an array valid {list(mel.shape[:2])} of booleans", f"{list(valid.shape)} of {valid.dtype}", file=path
        )
    if settings.shape != (SETTINGS,) or settings.dtype.kind not in "iu":
        raise InputError(f"an array settings of {SETTINGS} integers", list(settings.shape), file=path)
    lengths = prefix_lengths(valid, path, "frames")
    check_rows(np.isfinite(mel) | ~valid[:, :, None], path, "finite log mels")
    values = object_array([row[:length].astype(np.float32) for row, length in zip(mel, lengths, strict=True)])
    alignments = _layouts(arrays, lengths, path) if "phone" in arrays else ()
    return RawSpeech(values, alignments=tuple(alignments), settings=tuple(settings.tolist()))


def _layouts(arrays: dict[str, np.ndarray], lengths: np.ndarray, path: str) -> Sequence[PhoneAlignment]:
    """Return the phones and durations of each recording; durations must add up to the number of frames."""
    phone, duration, names = (arrays.get(name, np.zeros(0)) for name in ("phone", "duration", "phones"))
    is_valid = phone.ndim == 2 and len(phone) == len(lengths) and phone.shape == duration.shape
    if not is_valid or phone.dtype.kind not in "iu" or duration.dtype.kind not in "iu" or names.dtype.kind != "U":
        raise InputError(
            f"arrays phone and duration [{len(lengths)}, m] of integers, and phones of strings",
            f"{list(phone.shape)}, {list(duration.shape)} and {names.dtype}",
            file=path,
        )
    is_phone = phone >= 0
    prefix_lengths(is_phone, path, "phones")
    check_rows(phone < len(names), path, f"indices into the {len(names)} phones")
    check_rows((duration >= 0) & (is_phone | (duration == 0)), path, "non-negative durations")
    check_rows(duration.sum(1) == lengths, path, "durations that add up to the number of valid frames")
    return [
        PhoneAlignment(tuple(names[p[r]].tolist()), tuple(d[r].tolist()))
        for p, d, r in zip(phone, duration, is_phone, strict=True)
    ]


def speech_dataset(raw: RawSpeech) -> Dataset:
    """Build a data set of speech, with a modality that holds the statistics of the log mels and the phone inventory.

    Spectrograms are padded to at least the longest recording. If most recordings are single words and their speakers
    are known, the model is trained on chains of several recordings of one speaker; see the module `clip_chains`.

    Raises:
        InputError: If there are no transcripts.
    """
    if not raw.alignments:
        raise InputError(
            "transcripts of the recordings",
            "none",
            "Write the text of each recording into a .txt file of the same name",
        )
    mel = MelConfig(*raw.settings) if raw.settings else MelConfig.default_for(raw.values[0].sample_rate)
    mels = log_mels(raw, mel)
    num_frames, has_chains = max(map(len, mels)), can_chain(raw)
    if has_chains:
        num_frames = max(num_frames, LINKS[1] * sum(map(len, mels)) // len(mels))
    max_frames = -(-num_frames // FRAMES) * FRAMES  # rounded up to seconds
    inventory = Inventory.of({phone for alignment in raw.alignments for phone in alignment.phones})
    modality = Speech(
        mel, Statistics.of(mels), inventory, max_frames, None, has_chains, raw.classes, raw.user_pronunciations
    )
    seconds = sum(map(len, mels)) / FRAMES
    speakers_text = f" of {len(raw.classes):,} speakers" if raw.classes else ""
    note = f"{len(mels):,} sounds{speakers_text}, {seconds / 60:.1f} minutes; log mels have mean"
    note = f"{note} {modality.statistics.mean:.4f} and deviation {modality.statistics.std:.4f}"
    notes = (*raw.notes, note, *chain_notes(raw))
    analysed = replace(raw, values=object_array([log_mel.numpy() for log_mel in mels]), settings=mel.settings)
    return Dataset(
        *modality.values_from_raw(analysed),
        modality,
        notes,
        properties=property_tensors(raw),
        fingerprint=fingerprint_of(raw),
    )
