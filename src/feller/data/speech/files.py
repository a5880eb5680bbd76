"""Reading of speech: recordings with transcripts, speakers, and alignments that are read from files or computed."""

import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from feller.core.errors import InputError
from feller.core.migrations import repr_before
from feller.core.user_code import fingerprint
from feller.data.labels import abbreviated
from feller.data.loading.raw import RawSpeech, RawWaveforms, Waveform, object_array
from feller.data.speech.alignment_files import NAME as ALIGNMENTS
from feller.data.speech.alignment_files import fit_to_sound, read_alignments
from feller.data.speech.audio_io import ENDINGS, DecodedAudio, SilenceError, read_sound, resample, resampling_notes
from feller.data.speech.forced_alignment import MIN_SCORE, ForcedAligner, MissingWordsError
from feller.data.speech.lexicon import NAME as LEXICON
from feller.data.speech.lexicon import Lexicon, Pronunciations, cmu_entries, own_words
from feller.data.speech.phones import ARPABET, SIL, Word, align_phones
from feller.data.speech.textgrid import ENDING, read_textgrid
from feller.data.speech.utterances import (
    Utterance,
    check_link,
    holds_texts,
    is_sound,
    sounds_in,
    text_of,
    utterances_in,
)

MAX_SECONDS = 30
"""Default maximum length of a recording in seconds; longer recordings are left out."""
SHORTEST = 0.05
"""Minimum length of a recording in seconds."""
WIDE, NARROW = 16_000, 8_000
"""Sample rates in Hz to which recordings are resampled: `WIDE`, or `NARROW` if most recordings have a rate below
`WIDE`."""
MAX_NAMED, NAMED_DAMAGED, LISTED = 5, 10, 20
"""Maximum number of files, of damaged files and of words that a message lists; all others are only counted."""
NAMED_LETTERS = 40
"""Maximum number of letters of a word that a message lists."""


def load_speech(path: pathlib.Path, max_seconds: int | None = MAX_SECONDS) -> RawSpeech:
    """Read a folder of recordings with transcripts, or one recording with its transcript.

    Alignments are read from `alignments.jsonl` or from a TextGrid file per recording; otherwise they are computed. The
    file `lexicon.txt` adds pronunciations, and `speakers.csv` names the speakers.

    Args:
        path: Folder of recordings, or audio file.
        max_seconds: Maximum length of a recording; None to read generated samples, which need no transcripts.

    Raises:
        InputError: If recordings and transcripts do not match, a file is damaged, or no recording can be aligned.
    """
    if max_seconds is None and not (holds_texts(path) if path.is_dir() else path.with_suffix(".txt").is_file()):
        waveforms = load_waveforms(path)
        return RawSpeech(waveforms.values, names=waveforms.names, hashes=waveforms.hashes)
    if path.is_dir():
        folder, utterances = path, utterances_in(path)
    else:
        folder, utterances = path.parent, [Utterance(path, path.name, text_of(path))]
    loader = _SpeechLoader(folder, utterances, max_seconds)
    usable = list(loader.load())
    if not usable:
        reasons = "; ".join(loader.dropped_reasons()[:MAX_NAMED])
        raise InputError(f"none of {len(utterances):,} recordings is usable: {reasons}", file=path)
    aligned, sounds, words = zip(*usable, strict=True)
    speakers = tuple(sorted({utterance.speaker for utterance in aligned} - {""}))
    return RawSpeech(
        object_array(sounds),
        np.array([speakers.index(utterance.speaker) for utterance in aligned]) if speakers else None,
        speakers,
        notes=tuple(loader.notes()),
        names=tuple(utterance.name for utterance in aligned),
        texts=tuple(utterance.text for utterance in aligned),
        alignments=tuple(align_phones(recording_words) for recording_words in words),
        dropped=tuple(loader.dropped_reasons()),
        user_pronunciations=loader.user_lexicon,
        hashes=tuple(loader.hashes),
    )


def load_recording(
    path: pathlib.Path, text: str, rate: int, lexicon: Pronunciations, *, spelled: bool = False
) -> tuple[Waveform, tuple[Word, ...], tuple[str, ...]]:
    """Read one recording and align its text; an alignment file next to the recording is used if it exists.

    Args:
        path: Audio file.
        text: Transcript.
        rate: Sample rate in Hz to which the recording is resampled.
        lexicon: Pronunciations besides those of the built-in dictionary.
        spelled: Spell out words that are missing from the lexicon.

    Returns:
        The waveform, its words with phones and times, and notes.

    Raises:
        InputError: If the file is not audio, or the text cannot be aligned.
    """
    loader = _SpeechLoader(path.parent, [Utterance(path, path.name, text)], None, rate, spelled, lexicon)
    usable = list(loader.load())
    if loader.missing:
        listed = ", ".join(word[:NAMED_LETTERS] for word in [*loader.missing][:LISTED])
        remedy = "" if spelled else ", or spell them out with --spell"
        raise InputError("words of the pronunciation dictionary", listed, f"Replace these words{remedy}", file=path)
    if not usable:
        raise InputError(loader.dropped[0][1], file=path)
    _, sound, words = usable[0]
    score_notes = [f"{path.name}: low alignment score (below {MIN_SCORE:g}); check that the text is {text!r}"]
    return sound, words, (*loader.remarks, *(score_notes if loader.doubtful else ()))


def load_waveforms(path: pathlib.Path) -> RawWaveforms:
    """Read recordings of any length without transcripts, from a folder or a file.

    Raises:
        InputError: If there are no recordings, or a recording is damaged or silent.
    """
    raw = load_audible_waveforms(path)
    if raw.dropped:
        raise InputError(
            "the recording is silent", remedy="Remove the recording, or record it again", place=raw.dropped[0]
        )
    return raw


def load_audible_waveforms(path: pathlib.Path) -> RawWaveforms:
    """Read recordings as `load_waveforms` does, but leave out silent recordings with a note."""
    if not path.is_dir() and not is_sound(path):
        raise InputError(f"a folder of audio files, or one file ({', '.join(ENDINGS)})", path)
    files = sounds_in(path) if path.is_dir() else [path]
    names = tuple(file.relative_to(path).as_posix() if path.is_dir() else file.name for file in files)
    recordings = _read(files)
    decoded = {name: recording for name, recording in zip(names, recordings, strict=True) if recording is not None}
    silent = tuple(name for name in names if name not in decoded)
    audible, rate = [*decoded.values()], _rate([*decoded.values()])
    silent_notes = (
        f"left out {len(silent):,} of {len(names):,} sounds, which are nothing but silence: {abbreviated(silent)}",
    )
    return RawWaveforms(
        object_array([resample(recording.sound, rate) for recording in audible]),
        names=tuple(decoded),
        notes=(*resampling_notes(audible, [*decoded], rate), *(silent_notes if silent else ())),
        dropped=silent,
        hashes=tuple(fingerprint(file) for file, name in zip(files, names, strict=True) if name in decoded),
    )


def _read(files: Sequence[pathlib.Path]) -> list[DecodedAudio | None]:
    """Read audio files, None for silent ones; InputError, with up to ten names, if files are damaged."""
    recordings: list[DecodedAudio | None] = []
    errors: list[str] = []
    silent: list[SilenceError] = []
    for file in files:
        try:
            recordings.append(read_sound(file))
        except SilenceError as error:
            recordings.append(None)
            silent.append(error)
        except InputError as error:
            errors.append(str(error))
    if errors:
        messages = "; ".join(errors[:NAMED_DAMAGED]) + ("; ..." if len(errors) > NAMED_DAMAGED else "")
        raise InputError(
            errors[0] if len(files) == 1 else f"{len(errors):,} of {len(files):,} recordings are damaged: {messages}"
        )
    if len(silent) == len(files):
        raise silent[0]
    return recordings


def _rate(decoded: Sequence[DecodedAudio]) -> int:
    num_wide = sum(recording.sound.sample_rate >= WIDE for recording in decoded)
    return WIDE if 2 * num_wide >= len(decoded) else NARROW


@dataclass(eq=False)
class _SpeechLoader:
    folder: pathlib.Path
    utterances: list[Utterance]
    max_seconds: int | None
    rate: int | None = None
    """Target sample rate; default: chosen by the rates of the files."""
    spelled: bool = False
    """Spell out words that are missing from the lexicon."""
    lexicon: Pronunciations = field(default_factory=dict)
    user_lexicon: Pronunciations = field(default_factory=dict)
    """Pronunciations from the user's lexicon file."""
    dropped: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of each unusable recording."""
    missing: dict[str, None] = field(default_factory=dict)
    doubtful: list[str] = field(default_factory=list)
    malformed: dict[str, str] = field(default_factory=dict)
    """Error of each invalid alignment, by the name of its recording."""
    remarks: list[str] = field(default_factory=list)
    absent: int = 0
    """Number of alignments without a recording."""
    ready: int = 0
    num_aligned: int = 0
    hashes: list[str] = field(default_factory=list)
    """Hash of each usable recording, including its alignment if that was read."""

    def load(self) -> Iterator[tuple[Utterance, Waveform, tuple[Word, ...]]]:
        """Yield the usable recordings with their alignments."""
        recordings = _read([utterance.path for utterance in self.utterances])
        decoded = {
            utterance.name: recording
            for utterance, recording in zip(self.utterances, recordings, strict=True)
            if recording is not None
        }
        rate = self.rate or _rate([*decoded.values()])
        self.remarks += resampling_notes([*decoded.values()], [*decoded], rate)
        alignments = self._read_alignments()
        aligner = self._aligner(alignments)
        for utterance in self.utterances:
            if utterance.name not in decoded:
                self.dropped.append((utterance.name, "it is nothing but silence"))
                continue
            sound = resample(decoded[utterance.name].sound, rate)
            try:
                self._check(sound)
                self._check_given(utterance)
                words = self._align(utterance, sound, alignments.get(utterance.name), aligner)
                self.hashes.append(f"{fingerprint(utterance.path)} {repr_before(alignments.get(utterance.name))}")
                yield utterance, sound, words
            except InputError as error:
                self.missing |= dict.fromkeys(error.words if isinstance(error, MissingWordsError) else ())
                self.dropped.append((utterance.name, str(error)))

    def _aligner(self, alignments: dict[str, tuple[Word, ...]]) -> ForcedAligner | None:
        """Return the forced aligner of recordings without an alignment file.

        None if every recording has one, or the files have phones that are not English.
        """
        check_link(self.folder / LEXICON, self.folder)
        phones = {timed.phone for words in alignments.values() for word in words for timed in word.phones}
        self.user_lexicon = own_words(self.folder / LEXICON, phones)
        if not phones <= {*ARPABET, SIL} or not self._unaligned(alignments):
            return None
        return ForcedAligner(Lexicon(cmu_entries(), {**self.lexicon, **self.user_lexicon}), self.spelled)

    def _unaligned(self, alignments: dict[str, tuple[Word, ...]]) -> bool:
        return any(utterance.name not in alignments for utterance in self.utterances)

    def _check(self, sound: Waveform) -> None:
        if sound.seconds < SHORTEST:
            raise InputError(f"at least {SHORTEST:g} s", f"{sound.seconds:.3f} s", "Use a longer recording")
        if self.max_seconds is not None and sound.seconds > self.max_seconds:
            raise InputError(f"at most {self.max_seconds} s", f"{sound.seconds:.1f} s", "Split the recording at pauses")

    def _check_given(self, utterance: Utterance) -> None:
        if utterance.name in self.malformed:
            raise InputError(self.malformed[utterance.name])

    def _read_alignments(self) -> dict[str, tuple[Word, ...]]:
        """Return the existing alignments by utterance name."""
        path = self.folder / ALIGNMENTS
        check_link(path, self.folder)
        file_alignments = read_alignments(path) if path.is_file() else {}
        by_file: dict[str, list[str]] = {}
        for utterance in self.utterances:
            by_file.setdefault(utterance.path.name, []).append(utterance.name)
        alignments: dict[str, tuple[Word, ...]] = {}
        for name, words in file_alignments.items():
            names = by_file.get(pathlib.PurePosixPath(name).name, [])
            matches = [name] if name in names else [candidate for candidate in names if candidate.endswith(f"/{name}")]
            self.absent += not matches
            alignments |= dict.fromkeys(matches[:1], words)
        for utterance in self.utterances:
            textgrid = utterance.path.with_suffix(ENDING)
            if textgrid.is_file():
                check_link(textgrid, self.folder)
                try:
                    alignments[utterance.name] = read_textgrid(textgrid)
                except InputError as error:
                    self.malformed[utterance.name] = str(error)
        return alignments

    def _align(
        self, utterance: Utterance, sound: Waveform, alignment: tuple[Word, ...] | None, aligner: ForcedAligner | None
    ) -> tuple[Word, ...]:
        """Return the words of an utterance, from its alignment or by forced alignment."""
        if alignment is not None:
            words = fit_to_sound(alignment, sound.frames)
            self.ready += 1
            return words
        if aligner is None:
            raise InputError(
                "an alignment file (the aligner supports only English; other languages have different phones)", "none"
            )
        aligned = aligner.align(sound, utterance.text)
        self.num_aligned += 1
        if not aligned.fits:
            self.doubtful.append(f"{utterance.name} ({aligned.score:.1f})")
        return aligned.words

    def dropped_reasons(self) -> list[str]:
        """Return each dropped recording with its reason."""
        return [f"{name} ({reason})" for name, reason in self.dropped]

    def _grouped(self) -> Iterator[str]:
        """Yield, for each reason, the names of the recordings that were dropped for it, as text."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.dropped:
            by_reason.setdefault(reason, []).append(name)
        yield from (f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())

    def notes(self) -> Iterator[str]:
        """Yield notes on what was read; runs of older versions are matched by them, so keep the wording."""
        yield from self.remarks
        if self.absent:
            yield f"{ALIGNMENTS} names {self.absent:,} sounds that are not here"
        yield f"{self.ready:,} alignments were read, {self.num_aligned:,} were made"
        if self.doubtful:
            yield (
                f"{len(self.doubtful):,} texts hardly fit their sounds (a score below {MIN_SCORE:g}), check them:"
                f" {abbreviated(self.doubtful, MAX_NAMED)}"
            )
        if self.dropped:
            yield f"{len(self.dropped):,} of {len(self.utterances):,} sounds left out: {'; '.join(self._grouped())}"
        if self.missing:
            yield (
                f"{len(self.missing):,} words are missing in the dictionary: {abbreviated([*self.missing], LISTED)};"
                f" write each with its phones on a line of {LEXICON}"
            )
